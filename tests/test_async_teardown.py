"""Promise 18, and 6, 7 and 11 for tasks: torn down on their own loop."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Any

import anyio
import pytest
from tasks import (
    Place,
    attempt,
    by_close,
    by_run,
    logged,
    new_loop,
    on_a_loop,
    told,
    turns,
    waiting,
)
from threads import Call, collect

from memoize_once import DeadlockError, areset, finalizers, memoize, reset


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


KINDS_OF_LOOPS = ["asyncio", "uvloop"]
# a loop closed without `shutdown_asyncgens()` is one of them
ENDS = [by_run, by_close]
End = Callable[[asyncio.AbstractEventLoop, Coroutine[Any, Any, Any]], Any]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", KINDS_OF_LOOPS)
def test_objects_live_as_long_as_their_loop(kind: str, end: End, ran: list[str]) -> None:
    """Promise 18: when the loop ends, what has a teardown is torn down there, be that the rest of a
    generator, a `finalizer=` or a callback, in the reverse of the order in which it was finished;
    the next loop makes new ones. What has none is kept, and cannot be given one any more."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def down(name: str) -> None:
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is loops[-1]
        ran.append(name)

    @memoize
    async def generator() -> AsyncGenerator[int, None]:
        await with_finalizer()
        yield 1
        await down("generator")

    @memoize(finalizer=down)
    async def with_finalizer() -> str:
        return "finalizer="

    @memoize
    async def with_callback() -> None:
        finalizers.register(with_callback, down, "callback")

    @memoize
    async def late() -> None:
        pass

    @memoize
    async def settings() -> object:
        return object()

    async def main() -> object:
        loops.append(asyncio.get_running_loop())
        await generator()
        await with_callback()
        await late()
        finalizers.register(late, down, "late callback")
        return await settings()

    assert end(new_loop(kind), main()) is end(new_loop(kind), main())
    assert ran == ["late callback", "callback", "generator", "finalizer="] * 2
    assert list(finalizers) == []
    with pytest.raises(LookupError, match="settings"):
        finalizers.register(settings, print)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", KINDS_OF_LOOPS)
def test_what_is_wrapped_of_the_loop(kind: str, end: End, ran: list[str]) -> None:
    """Promise 19: of the loop, `shutdown_asyncgens` and `close` are wrapped on the instance, from
    its first object on, and given back when it has closed; nothing else of it is replaced, and
    nothing of its class."""
    thing = logged(ran, "thing")

    def methods(loop: object) -> dict[str, object]:
        public = (name for name in dir(loop) if not name.startswith("_"))
        return {name: getattr(loop, name, None) for name in public}

    async def main() -> None:
        assert methods(loop) == before
        await thing()
        now = methods(loop)
        changed = {name for name in now if now[name] != before[name]}
        assert changed == {"shutdown_asyncgens", "close"}

    loop = new_loop(kind)
    names, before, of_its_class = set(vars(loop)), methods(loop), methods(type(loop))
    end(loop, main())
    assert loop.is_closed()
    assert ran == ["thing"]
    assert methods(loop) == before
    assert set(vars(loop)) == names
    assert methods(type(loop)) == of_its_class


@pytest.mark.parametrize("kind", KINDS_OF_LOOPS)
def test_close_while_it_runs(kind: str, ran: list[str]) -> None:
    """Promise 18: a loop that runs refuses to be closed with Python's own error, and tears nothing
    down then. Where nothing lives, a coroutine may close another loop."""
    thing = logged(ran, "thing")

    async def close() -> str:
        asyncio.get_running_loop().close()
        return "closed"

    async def main() -> None:
        without = await attempt(close())
        await thing()
        error = await attempt(close())
        assert type(error) is type(without) is RuntimeError
        assert str(error) == str(without)
        await turns(3)
        assert ran == []
        assert await thing() == "thing"
        other = asyncio.new_event_loop()
        await asyncio.to_thread(other.run_until_complete, memoize(turns)(1))
        other.close()
        assert other.is_closed()

    by_run(new_loop(kind), main())
    assert ran == ["thing"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", KINDS_OF_LOOPS)
@pytest.mark.parametrize("what", ["nothing", "generator", "finalizer=", "key=", "failed"])
def test_a_closed_loop_is_freed(what: str, kind: str, end: End) -> None:
    """Promise 18: a loop that has closed is freed when its last user lets go of it, without a
    garbage collection where it is so without the library; neither an object that was torn down, nor
    one that is kept over loops, nor a key, nor an error keeps it alive."""

    @memoize
    async def generator(number: int) -> AsyncGenerator[int, None]:
        yield number
        await asyncio.sleep(0)

    @memoize(finalizer=turns)
    async def function(number: int) -> int:
        return number

    @memoize(key=lambda number: number)
    async def keyed(number: int) -> int:
        await asyncio.sleep(0)
        return number

    @memoize
    async def failing(number: int) -> int:
        await asyncio.sleep(0)
        raise ValueError(number)

    async def main(number: int) -> None:
        with suppress(ValueError):
            await things[what](number)

    things: dict[str, Callable[[int], Coroutine[Any, Any, object]]] = {
        "nothing": turns,
        "generator": generator,
        "finalizer=": function,
        "key=": keyed,
        "failed": failing,
    }

    def use(number: int) -> weakref.ref[object]:
        loop = new_loop(kind)
        end(loop, main(number))
        return weakref.ref(loop)

    gc.disable()
    try:
        refs = [use(number) for number in range(3)]
        if sys.implementation.name != "cpython":
            collect()
        assert [ref() for ref in refs] == [None] * 3
    finally:
        gc.enable()


class Connection:
    """What a body enters by the managers that people write."""

    def __init__(self, ran: list[str]) -> None:
        self.ran = ran
        self.is_open = True

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.is_open = False
        self.ran.append("closed")

    @classmethod
    @asynccontextmanager
    async def without_finally(cls, ran: list[str]) -> AsyncGenerator[Connection, None]:
        connection = cls(ran)
        yield connection
        await connection.close()

    @classmethod
    @asynccontextmanager
    async def transaction(cls, ran: list[str]) -> AsyncGenerator[Connection, None]:
        """As that of a database: it rolls back where anything is thrown into it."""
        connection = cls(ran)
        try:
            yield connection
        except BaseException:
            ran.append("rolled back")
            raise
        await connection.close()

    @classmethod
    @asynccontextmanager
    async def with_a_group(cls, ran: list[str]) -> AsyncGenerator[Connection, None]:
        connection = cls(ran)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(asyncio.sleep(3600))
            try:
                yield connection
            finally:
                watch.cancel()
        await connection.close()

    @classmethod
    @asynccontextmanager
    async def with_a_group_of_anyio(cls, ran: list[str]) -> AsyncGenerator[Connection, None]:
        connection = cls(ran)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            yield connection
            group.cancel_scope.cancel()
        await connection.close()

    async def stream(self) -> AsyncGenerator[bool, None]:
        try:
            while True:
                yield self.is_open
                await asyncio.sleep(0)
        finally:
            await self.close()


Body = Callable[[list[str]], AsyncGenerator[Connection, None]]


def entering(manager: Callable[[list[str]], AbstractAsyncContextManager[Connection]]) -> Body:
    async def body(ran: list[str]) -> AsyncGenerator[Connection, None]:
        async with manager(ran) as connection:
            yield connection
            await asyncio.sleep(0)
            ran.append(f"down, open: {connection.is_open}")

    return body


async def exit_stack(ran: list[str]) -> AsyncGenerator[Connection, None]:
    stack = AsyncExitStack()
    connection = await stack.enter_async_context(Connection.transaction(ran))
    yield connection
    await asyncio.sleep(0)
    ran.append(f"down, open: {connection.is_open}")
    await stack.aclose()


async def aclosing_a_stream(ran: list[str]) -> AsyncGenerator[Connection, None]:
    connection = Connection(ran)
    async with aclosing(connection.stream()) as stream:
        await anext(stream)
        yield connection
        ran.append(f"down, open: {await anext(stream)}")


async def a_task_that_reads(ran: list[str]) -> AsyncGenerator[Connection, None]:
    connection = Connection(ran)

    async def read() -> None:
        async with aclosing(connection.stream()) as stream:
            async for _ in stream:
                pass

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    yield connection
    await turns(3)
    ran.append(f"down, open: {connection.is_open}")
    reader.cancel()
    await asyncio.wait([reader])


async def by_hand(ran: list[str]) -> AsyncGenerator[Connection, None]:
    manager = Connection.without_finally(ran)
    connection = await manager.__aenter__()
    yield connection
    await asyncio.sleep(0)
    ran.append(f"down, open: {connection.is_open}")
    await manager.__aexit__(None, None, None)


BODIES: dict[str, Body] = {
    "a manager without `finally`": entering(Connection.without_finally),
    "a transaction": entering(Connection.transaction),
    "a task group in a manager": entering(Connection.with_a_group),
    "anyio's task group in a manager": entering(Connection.with_a_group_of_anyio),
    "an exit stack": exit_stack,
    "aclosing": aclosing_a_stream,
    "a task that reads a stream": a_task_that_reads,
    "a manager entered by hand": by_hand,
}


@pytest.mark.parametrize("end", [*ENDS, areset, reset], ids=lambda end: end.__name__)
@pytest.mark.parametrize("kind", KINDS_OF_LOOPS)
@pytest.mark.parametrize("body", BODIES)
def test_what_a_body_has_entered(
    body: str, kind: str, end: Callable[..., Any], ran: list[str]
) -> None:
    """Promise 18: into nothing that a body has entered anything is thrown, and nothing of it is
    closed, before the object's own teardown, and before that of what was built on it."""

    @memoize
    async def base() -> AsyncGenerator[Connection, None]:
        generator = BODIES[body](ran)  # delegated, as none of them is memoized itself
        async with asynccontextmanager(lambda: generator)() as connection:
            yield connection

    @memoize
    async def built() -> AsyncGenerator[None, None]:
        connection = await base()
        yield
        await asyncio.sleep(0)
        ran.append(f"built down, open: {connection.is_open}")

    async def use() -> None:
        await built()
        await turns(3)
        if end is areset:
            await areset()

    def main() -> None:
        loop = new_loop(kind)
        if end is reset:
            loop.run_until_complete(use())
            reset()
            loop.close()
        elif end is areset:
            by_run(loop, use())
        else:
            end(loop, use())

    Call(main).result()
    assert ran == ["built down, open: True", "down, open: True", "closed"]


def test_a_keeper_is_not_thrown_into_by_shutdown_asyncgens(ran: list[str]) -> None:
    """Promise 18: also where a program calls `shutdown_asyncgens()` itself, objects are torn down
    first, and async generators of others, begun before them or after them, are closed next."""
    thing = logged(ran, "thing")

    async def others() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            ran.append("others")

    async def main() -> None:
        before, after = others(), others()
        await anext(before)
        await thing()
        await anext(after)
        await asyncio.get_running_loop().shutdown_asyncgens()
        assert ran == ["thing", "others", "others"]

    asyncio.run(main())
    assert ran == ["thing", "others", "others"]


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


@on_a_loop
async def test_one_that_fails() -> None:
    """Promise 18: a task of the body that fails, and that nobody awaits, is reported by asyncio
    when it fails, and not when its object or the program ends."""
    crash = asyncio.Event()

    async def read() -> None:
        await crash.wait()
        raise ValueError("connection lost")

    @memoize
    async def connection() -> AsyncGenerator[int, None]:
        asyncio.create_task(read())  # noqa: RUF006
        yield 1

    errors = told()
    await connection()
    await turns(3)
    crash.set()
    await turns(5)
    if sys.implementation.name != "cpython":
        collect()
    assert errors == ["connection lost"]
    assert connection in finalizers


@on_a_loop
async def test_one_that_uses_another_object_during_the_teardown(ran: list[str]) -> None:
    """Promises 4 and 18: a task of the body for which the teardown does not wait may wait for
    another object meanwhile, even one that waits for the end of the teardown: that is no ring."""
    wanted, needs, place = asyncio.Event(), Place(), Place()

    async def serve() -> object:
        await wanted.wait()
        return await attempt(built())

    @memoize
    async def base() -> AsyncGenerator[asyncio.Task[object], None]:
        task = asyncio.create_task(serve())
        yield task
        await place.pass_()
        ran.append("down")

    @memoize
    async def built() -> str:
        await needs.pass_()
        await base()
        return "built"

    task = await base()
    making = asyncio.create_task(attempt(built()))
    await needs.reached()
    resetting = asyncio.create_task(areset(base))
    await place.reached()
    needs.go()
    await waiting(making)
    await turns(3)
    wanted.set()
    await turns(3)
    assert not task.done()
    place.go()
    await resetting
    assert await making == "built"
    assert not isinstance(await task, DeadlockError)
    assert ran == ["down"]
