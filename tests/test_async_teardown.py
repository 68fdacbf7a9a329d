"""Promise 18, and 6, 7 and 11 for tasks: torn down on their own loop."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from tasks import Place, logged, on_a_loop, told, turns
from threads import collect

from memoize_once import areset, finalizers, memoize


def test_a_generator_is_entered_and_exited_in_one_task() -> None:
    """Promise 18: task groups, timeouts and cancel scopes around the `yield` work, since one task
    enters and exits them, by `areset` and where the loop ends."""
    tasks: list[object] = []

    @memoize
    async def thing() -> AsyncGenerator[int, None]:
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(1000), asyncio.TaskGroup(), anyio.create_task_group() as group:
            with anyio.CancelScope():
                group.start_soon(anyio.sleep, 0)
                yield 1
        tasks.append(asyncio.current_task())

    async def use() -> None:
        await thing()
        await asyncio.create_task(areset(thing))
        await thing()

    asyncio.run(use())
    assert len(tasks) == 4
    assert tasks[::2] == tasks[1::2]


@contextmanager
def seen(ran: list[str]) -> Iterator[None]:
    try:
        yield
    except asyncio.CancelledError:
        ran.append("cancelled")
        raise


@on_a_loop
@pytest.mark.parametrize(
    ("scope", "reported"),
    [("task group", ["of a child"]), ("timeout", [""]), ("cancel", []), ("cancel, areset", [])],
)
async def test_a_scope_that_is_cancelled(scope: str, reported: list[str], ran: list[str]) -> None:
    """Promise 18: where a scope around the `yield` is cancelled the generator sees it there, its
    object is forgotten, for which an `areset` waits, the next caller makes anew, and errors go to
    the loop's exception handler."""

    async def fail() -> None:
        raise ValueError("of a child")

    @memoize
    async def thing() -> AsyncGenerator[Callable[[], object], None]:
        if scope == "task group":
            async with asyncio.TaskGroup() as group:
                with seen(ran):
                    yield lambda: group.create_task(fail())
        elif scope == "timeout":
            async with asyncio.timeout(None) as timeout:
                with seen(ran):
                    yield lambda: timeout.reschedule(0)
        else:
            with anyio.CancelScope() as cancelled, seen(ran):
                yield cancelled.cancel

    errors = told()
    cancel = await thing()
    cancel()
    if scope == "cancel, areset":
        await areset(thing)
    while thing in finalizers:
        await asyncio.sleep(0)
    assert await thing() is not cancel
    assert errors == reported
    assert ran == ["cancelled"]


@on_a_loop
async def test_generators_that_do_not_yield_once(ran: list[str]) -> None:
    """Promise 6: a generator that never yields raises RuntimeError that names function, file and
    line; one that yields again raises it from its teardown, and is closed. One that yields what can
    be entered once only raises TypeError (promise 21), and is torn down."""

    @memoize
    async def barren() -> AsyncGenerator[int, None]:
        if ran:
            yield 1

    @memoize
    async def fertile() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
            ran.append("resumed")
        finally:
            await asyncio.sleep(0)
            ran.append("closed")

    @memoize
    async def refused() -> AsyncGenerator[object, None]:
        yield seen(ran)
        await asyncio.sleep(0)
        ran.append("torn down")

    with pytest.raises(RuntimeError, match=rf"barren.*{Path(__file__).name}:\d+"):
        await barren()
    await fertile()
    with pytest.raises(ExceptionGroup) as raised:
        await areset(fertile)
    (error,) = raised.value.exceptions
    assert re.search(rf"fertile.*{Path(__file__).name}:\d+", str(error))
    with pytest.raises(TypeError, match="refused"):
        await refused()
    assert ran == ["closed", "torn down"]


def by_close(main: Coroutine[Any, Any, Any]) -> Any:
    with closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(main)


@pytest.mark.parametrize("run", [asyncio.run, by_close])
def test_objects_live_as_long_as_their_loop(
    run: Callable[[Coroutine[Any, Any, Any]], Any], ran: list[str]
) -> None:
    """Promise 18: when the loop ends, what has a teardown is torn down there, be that the rest of a
    generator, a `finalizer=` or a callback, in the reverse of the order in which it was finished;
    the next loop makes new ones. What has none is kept, and cannot be given one any more."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def end(name: str) -> None:
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is loops[-1]
        ran.append(name)

    @memoize
    async def generator() -> AsyncGenerator[int, None]:
        await with_finalizer()
        yield 1
        await end("generator")

    @memoize(finalizer=end)
    async def with_finalizer() -> str:
        return "finalizer="

    @memoize
    async def with_callback() -> None:
        finalizers.register(with_callback, end, "callback")

    @memoize
    async def late() -> None:
        pass

    @memoize
    async def settings() -> object:
        return object()

    async def main() -> object:
        loops.append(asyncio.get_running_loop())
        for each in (generator, with_callback, late):
            await each()
        finalizers.register(late, end, "late callback")
        return await settings()

    assert run(main()) is run(main())
    assert ran == ["late callback", "callback", "generator", "finalizer="] * 2
    assert list(finalizers) == []
    with pytest.raises(LookupError, match="settings"):
        finalizers.register(settings, print)


def test_what_is_left_of_the_loop(ran: list[str]) -> None:
    """Promises 18 and 19: of the loop nothing is replaced but its `close`, which refuses while it
    runs as ever, and tears nothing down then. Where nothing lives, a coroutine may close another
    loop."""
    thing = logged(ran, "thing")

    def methods(loop: asyncio.AbstractEventLoop) -> list[object]:
        public = (name for name in dir(loop) if not name.startswith("_"))
        return [getattr(loop, name) for name in public if name != "close"]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = methods(loop)
        await thing()
        assert methods(loop) == before
        with pytest.raises(RuntimeError, match="running"):
            loop.close()
        await asyncio.sleep(0)
        assert ran == []
        other = asyncio.new_event_loop()
        await asyncio.to_thread(other.run_until_complete, memoize(turns)(1))
        other.close()

    asyncio.run(main())
    assert ran == ["thing"]


@on_a_loop
async def test_register_in_the_body_and_elsewhere(ran: list[str]) -> None:
    """Promise 11: in the body `register` binds to the object being made, elsewhere to the one that
    the function holds; where it holds none, or several, that is a LookupError."""

    @memoize(key=lambda key: key)
    async def thing(key: str) -> str:
        await asyncio.sleep(0)
        finalizers.register(thing, ran.append, key)
        return key

    with pytest.raises(LookupError, match="thing"):
        finalizers.register(thing, ran.append, "none")
    await thing("a")
    finalizers.register(thing, ran.append, "a again")
    await thing("b")
    with pytest.raises(LookupError, match="thing"):
        finalizers.register(thing, ran.append, "several")
    assert len(finalizers) == 3
    await areset(thing)
    assert ran == ["b", "a again", "a"]


@pytest.mark.parametrize("how", ["TaskGroup", "finalizer="])
def test_they_live_through_the_teardown(how: str, ran: list[str]) -> None:
    """Promise 18: tasks that a body has started are not cancelled by the loop's end, but alive in
    the teardown: a writer writes what is queued."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def write() -> None:
        while (item := await queue.get()) != "end":
            await asyncio.sleep(0)
            ran.append(item)

    async def end(writer: asyncio.Task[None]) -> None:
        queue.put_nowait("end")
        await writer

    @memoize
    async def generator() -> AsyncGenerator[object, None]:
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(write())
            yield writer
            await end(writer)

    @memoize(finalizer=end)
    async def function() -> asyncio.Task[None]:
        return asyncio.create_task(write())

    async def main() -> None:
        await (generator() if how == "TaskGroup" else function())
        for item in "abc":
            queue.put_nowait(item)

    asyncio.run(main())
    assert ran == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("how", "order"),
    [
        ("the loop ends", ["other True", "other True", "teardown", "own False"]),
        ("areset", ["teardown", "own False", "other False", "other False"]),
    ],
)
def test_what_is_left_of_them(how: str, order: list[str], ran: list[str]) -> None:
    """Promise 18: what is left of them after the teardown is cancelled then. Tasks that others
    start meanwhile, and those of a body without teardown, are the loop's, which cancels them before
    it, and lets them finish with the object."""
    place = Place()

    async def endless(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await turns(5)
            ran.append(f"{name} {thing in finalizers}")

    @memoize
    async def thing() -> AsyncGenerator[asyncio.Task[None], None]:
        task = asyncio.create_task(endless("own"))
        await place.pass_()
        yield task
        await asyncio.sleep(0)
        ran.append("teardown")

    @memoize
    async def settings() -> asyncio.Task[None]:
        return asyncio.create_task(endless("other"))

    async def main() -> list[asyncio.Task[None]]:
        made = asyncio.ensure_future(thing())
        await place.reached()
        tasks = [asyncio.create_task(endless("other"))]
        await asyncio.sleep(0)
        place.go()
        tasks += [await made, await settings()]
        await asyncio.sleep(0)
        if how == "areset":
            await areset(thing)
            assert [task.cancelled() for task in tasks] == [False, True, False]
        return tasks

    assert all(task.cancelled() for task in asyncio.run(main()))
    assert ran == order


@on_a_loop
async def test_one_that_renews_its_object() -> None:
    """Promise 18: the task that asks for the teardown is not cancelled after it, so a task of a
    body may renew the object, two hundred times, and nothing grows meanwhile."""

    made: list[int] = []
    sizes: list[int] = []
    done = asyncio.Event()

    async def renew() -> None:
        if len(made) % 100 == 0:
            collect()
            sizes.append(len(gc.get_objects()))
        if len(made) == 200:
            done.set()
        else:
            await areset(connection)
            await connection()

    @memoize
    async def connection() -> AsyncGenerator[int, None]:
        made.append(1)
        task = asyncio.create_task(renew())
        yield len(made)
        del task

    await connection()
    await done.wait()
    assert await connection() == 200
    if sys.implementation.name == "cpython":  # PyPy counts what is no garbage of ours
        assert sizes[1] - sizes[0] < 50
