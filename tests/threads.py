"""Threads for tests: what they return or raise, and whether they wait for memoize_once."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

LIMIT = 30  # seconds, for what would otherwise hang


def collect() -> None:
    """Collects all garbage."""
    for _ in range(5):  # PyPy finds in one round what the last has left
        gc.collect()


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
        self.join(LIMIT)
        assert not self.is_alive(), "the call hangs"
        value, error = self._outcome
        if error is not None:
            raise error
        return value

    def error(self) -> BaseException | None:
        self.join(LIMIT)
        assert not self.is_alive(), "the call hangs"
        return self._outcome[1]

    def stands_in(self, function: str) -> FrameType | None:
        """The frame of the innermost Python function, if that has this name."""
        frame = sys._current_frames().get(self.ident or 0)
        return frame if frame and frame.f_code.co_name == function else None

    def until_it_waits(self) -> Call:
        """Returns when the thread waits for another one's object."""
        while self.is_alive():
            if (frame := self.stands_in("wait")) and "gate" in frame.f_locals:
                return self
            time.sleep(0.001)
        raise AssertionError(f"it does not wait, it ended with {self._outcome}")


class Point:
    """A place in a body where the test can hold it: the body `pass_`es, the test waits for it to be `reached` and lets it `go`."""

    def __init__(self) -> None:
        self._reached, self._go = threading.Event(), threading.Event()

    def pass_(self) -> None:
        self._reached.set()
        assert self._go.wait(LIMIT), "nobody let it go"

    def reached(self) -> None:
        assert self._reached.wait(LIMIT), "it was not reached"

    def go(self) -> None:
        self._go.set()
