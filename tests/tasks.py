"""Event loops for tests: one in a thread of its own, one that rests, and places to hold a task."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from typing import Any, ParamSpec

import pytest
from threads import LIBRARY, LIMIT, Call

from memoize_once import memoize

Run = Callable[[Coroutine[Any, Any, Any]], Any]
P = ParamSpec("P")


def on_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test runs on an event loop of its own, for which it has a time limit."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), LIMIT))

    return run


async def waiting(*tasks: asyncio.Future[Any]) -> None:
    """Returns when the tasks wait for memoize_once."""
    for task in tasks:
        async with asyncio.timeout(LIMIT):
            while not _waits(task):
                assert not task.done(), "it does not wait"
                await asyncio.sleep(0)


def _waits(task: Any) -> bool:
    inner = task.get_coro()
    while inner is not None:
        code = getattr(inner, "cr_code", None)
        if code and code.co_filename.startswith(LIBRARY):
            return True  # it runs no body, those have tasks of their own
        inner = getattr(inner, "cr_await", None)
    return False


class Place:
    """A place in an async body where the test can hold it, from any loop: the body `pass_`es, the
    test waits for it to be `reached` and lets it `go`."""

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


async def begun(work: Coroutine[Any, Any, Any], place: Place | None = None) -> asyncio.Task[Any]:
    """A task that does the work, and has come to the place, or else waits for memoize_once."""
    task = asyncio.create_task(work)
    await (place.reached() if place else waiting(task))
    return task


async def result_of(task: asyncio.Task[Any]) -> Any:
    """To be run on the task's own loop."""
    return await task


async def turns(number: int) -> None:
    """The loop goes on for this many turns."""
    for _ in range(number):
        await asyncio.sleep(0)


@contextmanager
def loop_in_a_thread() -> Iterator[Run]:
    """Gives what runs a coroutine on a loop that runs in another thread, and waits for it; the
    loop shuts down in the end."""
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
    """Gives what runs a coroutine on a loop that rests in between, as those of pytest-asyncio."""
    with asyncio.Runner() as runner:
        yield runner.run


def by_run(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """As `asyncio.run`, on this loop."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)


def by_close(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """As programs that know nothing of `shutdown_asyncgens()`."""
    with closing(loop):
        return loop.run_until_complete(main)


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """A loop of asyncio or uvloop."""
    if kind == "uvloop":
        loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
        return loop
    return asyncio.new_event_loop()


async def attempt(awaitable: Awaitable[Any]) -> Any:
    """What it returns or raises."""
    try:
        return await awaitable
    except BaseException as error:
        return error


def told() -> list[str]:
    """What the exception handler of the running loop is told from now on, errors one by one."""
    texts: list[str] = []

    def tell(error: object) -> None:
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                tell(each)
        else:
            texts.append(str(error))

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: tell(context.get("exception", context)))
    return texts


def both(
    body: Callable[..., Coroutine[Any, Any, Any]],
) -> list[Callable[..., Coroutine[Any, Any, Any]]]:
    """The body as a memoized coroutine function and as a memoized async generator function."""

    async def generating(*args: Any) -> AsyncGenerator[Any, None]:
        yield await body(*args)

    return [memoize(body), memoize(generating)]


def logged(ran: list[str], name: str) -> Callable[[], Coroutine[Any, Any, str]]:
    """A memoized async generator function that logs its teardown, which awaits."""

    @memoize
    async def thing() -> AsyncGenerator[str, None]:
        yield name
        await asyncio.sleep(0)
        ran.append(name)

    return thing
