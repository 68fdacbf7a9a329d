"""Threads for tests: what they return or raise, and whether they wait for memoize_once."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any

import memoize_once

LIMIT = 30  # seconds, for what would otherwise hang
LIBRARY = os.path.dirname(memoize_once.__file__)


def collect() -> None:
    """Collects all garbage."""
    for _ in range(1 if sys.implementation.name == "cpython" else 5):  # PyPy needs several rounds
        gc.collect()


def _waiting(frame: FrameType | None) -> bool:
    """Whether the innermost frame waits for another thread's object."""
    while frame and frame.f_globals.get("__name__") in ("queue", "threading"):  # PyPy's are Python
        frame = frame.f_back
    return (
        frame is not None
        and frame.f_code.co_name == "wait"
        and frame.f_code.co_filename.startswith(LIBRARY)
        and "woken" in frame.f_locals
    )


def until_it_waits(thread: int) -> None:
    """Returns when the thread with this number waits for another one's object."""
    gc.disable()  # 3.11 may wait for ever where it collects within `sys._current_frames`
    try:
        while not _waiting(sys._current_frames()[thread]):
            time.sleep(0.001)
    finally:
        gc.enable()


class Call(threading.Thread):
    """A call in a thread of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__(daemon=True)
        self._call = (function, args)
        self._outcome: tuple[Any, BaseException | None] = (None, None)
        self.start()

    def run(self) -> None:
        function, args = self._call
        try:
            self._outcome = (function(*args), None)
        except BaseException as error:
            self._outcome = (None, error)

    def result(self) -> Any:
        """What it returned; raises what it raised."""
        if (error := self.error()) is not None:
            raise error
        return self._outcome[0]

    def error(self) -> BaseException | None:
        self.join(LIMIT)
        assert not self.is_alive(), "the call hangs"
        return self._outcome[1]

    def until_it_waits(self) -> Call:
        """Returns when the thread waits for another one's object."""
        try:
            until_it_waits(self.ident or 0)
        except KeyError:
            raise AssertionError(f"it does not wait, it ended with {self._outcome}") from None
        return self


class Point:
    """Where a body can be held: it has to `pass_`, the test waits until it is `reached`."""

    def __init__(self) -> None:
        self._reached, self._go = threading.Event(), threading.Event()

    def pass_(self) -> None:
        self._reached.set()
        assert self._go.wait(LIMIT), "nobody let it go"

    def reached(self) -> None:
        assert self._reached.wait(LIMIT), "it was not reached"

    def go(self) -> None:
        self._go.set()


def server(
    ran: list[str], name: str = "down", point: Point | None = None, held: str = ""
) -> Callable[[], str]:
    """A memoized function whose object says when it is torn down, and which can be held at the
    point while the object is made or torn down."""

    @memoize_once.memoize
    def thing() -> Generator[str, None, None]:
        if point and held == "made":
            point.pass_()
        yield name
        if point and held == "torn down":
            point.pass_()
        ran.append(name)

    return thing


def busy(thing: Callable[[], object], point: Point, held: str) -> Call:
    """A thread that makes its object, or tears it down, and has reached the point."""
    if held == "torn down":
        thing()
    call = Call(thing) if held == "made" else Call(memoize_once.reset, thing)
    point.reached()
    return call
