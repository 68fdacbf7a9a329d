"""Event loops for tests: one in a thread of its own, one that rests, places to hold a task, and whole scripts without any noise."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from threads import LIMIT, Call

Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def waiting(*tasks: asyncio.Task[Any]) -> None:
    """Returns when the tasks wait for memoize_once."""
    for task in tasks:
        async with asyncio.timeout(LIMIT):
            while not _waits(task):
                assert not task.done(), "it does not wait"
                await asyncio.sleep(0)


def _waits(task: asyncio.Task[Any]) -> bool:
    inner: Any = task.get_coro()
    while inner is not None:
        if getattr(inner, "__name__", "") == "_changed":
            return True
        inner = getattr(inner, "cr_await", None)
    return False


class Place:
    """A place in an async body where the test can hold it, from any loop: the body `pass_`es, the test waits for it to be `reached`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._here, self._gone = asyncio.Event(), asyncio.Event()

    async def pass_(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._here.set()
        async with asyncio.timeout(LIMIT):
            await self._gone.wait()

    async def reached(self) -> None:
        async with asyncio.timeout(LIMIT):
            while not self._here.is_set():
                await asyncio.sleep(0)

    def go(self) -> None:
        if self._loop is None:
            self._gone.set()
        else:
            self._loop.call_soon_threadsafe(self._gone.set)


@contextmanager
def loop_in_a_thread() -> Iterator[Run]:
    """Gives what runs a coroutine on a loop that runs in another thread, and waits for it; the loop shuts down in the end."""
    loop = asyncio.new_event_loop()
    thread = Call(_serve, loop)
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(LIMIT)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.result()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()


@contextmanager
def resting_loop() -> Iterator[Run]:
    """Gives what runs a coroutine on a loop that rests in between, as those of pytest-asyncio do."""
    with asyncio.Runner() as runner:
        yield runner.run


async def attempt(awaitable: Awaitable[Any]) -> Any:
    """What it returns or raises."""
    try:
        return await awaitable
    except BaseException as error:
        return error


PRELUDE = """\
import asyncio, atexit, gc, os, signal, sys, threading
from memoize_once import DeadlockError, areset, finalizers, memoize, reset

"""


def script(source: str, folder: Path, prelude: str = PRELUDE) -> tuple[str, str, int]:
    """Runs the source in asyncio's debug mode, where every warning is an error; gives what it printed, its stderr and its status."""
    file = folder / "script.py"
    file.write_text(prelude + textwrap.dedent(source))
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(file)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.stdout, ended.stderr, ended.returncode
