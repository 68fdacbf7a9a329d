"""Promise 19, and 7 to 10 for tasks: torn down on demand."""

from __future__ import annotations

import _thread
import asyncio
import itertools
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import closing
from typing import Any

import pytest
from tasks import (
    Place,
    attempt,
    begun,
    logged,
    loop_in_a_thread,
    on_a_loop,
    resting_loop,
    result_of,
    told,
    turns,
    waiting,
)
from threads import LIMIT, Call, Point

from memoize_once import DeadlockError, areset, finalizers, memoize, reset


@on_a_loop
@pytest.mark.parametrize("everything", [False, True], ids=["areset of all three", "areset()"])
async def test_areset(everything: bool, ran: list[str]) -> None:
    """Promises 7, 8 and 19: `areset` tears down objects of every kind, in the reverse of the order
    in which they were finished, and awaits what is to be awaited. All errors come in one group,
    each with a note that names its function, and stop nothing."""
    first = logged(ran, "first")

    async def end(text: str) -> None:
        await asyncio.sleep(0)
        ran.append(text)
        raise asyncio.CancelledError(text)

    @memoize(finalizer=end)
    async def second() -> str:
        await first()
        finalizers.register(second, end, "callback")
        return "second"

    @memoize(finalizer=ran.append)
    def plain() -> str:
        return "plain"

    await second()
    plain()
    with pytest.raises(BaseExceptionGroup) as raised:
        await (areset() if everything else areset(first, plain, second))
    assert ran == ["plain", "second", "callback", "first"]
    assert [str(error) for error in raised.value.exceptions] == ["second", "callback"]
    assert all("second" in error.__notes__[0] for error in raised.value.exceptions)
    await areset(first, second)


@pytest.mark.parametrize("where", ["its own loop", "another loop"])
def test_reset_under_a_running_loop(where: str, ran: list[str]) -> None:
    """Promise 19: where this thread runs an event loop, `reset` of an async object, with a teardown
    or without, raises RuntimeError that says `await areset`, with the name, and tears nothing
    down. A plain object it resets as ever."""
    thing = logged(ran, "thing")

    @memoize
    async def settings() -> object:
        return object()

    @memoize(key=lambda key: key)
    async def keyed(key: str) -> str:
        return key

    @memoize(finalizer=ran.append)
    def plain() -> str:
        return "plain"

    async def use() -> object:
        await thing()
        await keyed("a")
        return await settings()

    async def main() -> None:
        value = run(use()) if where == "another loop" else await use()
        for name, functions in {"thing": (plain, thing), "settings": (plain, settings)}.items():
            plain()
            with pytest.raises(RuntimeError, match=rf"await areset\(\S*{name}"):
                reset(*functions)
        with pytest.raises(RuntimeError, match=r"await areset\("):
            reset()
        with pytest.raises(RuntimeError, match=r"await areset\(\S*keyed"):
            reset(keyed, key="a")
        reset(keyed, key="b")
        assert await settings() is value
        assert ran == []
        reset(plain)
        assert ran == ["plain"]

    with loop_in_a_thread() as run:
        asyncio.run(main())


def in_a_foreign_thread(work: Callable[[], object]) -> None:
    """Does it in a thread that `threading` has not started, as those of C code, and returns when
    the thread has ended."""
    done: list[int] = []

    def run() -> None:
        work()
        done.append(threading.get_ident())

    _thread.start_new_thread(run, ())
    deadline = time.monotonic() + LIMIT
    while not done or done[0] in sys._current_frames():
        assert time.monotonic() < deadline, "the thread hangs"
        time.sleep(0.001)


@pytest.mark.parametrize("asker", ["reset", "areset"])
@pytest.mark.parametrize(
    "where",
    ["it runs elsewhere", "it rests here", "its thread has ended", "its foreign thread has ended"],
)
@pytest.mark.parametrize("kind", ["finalizer=", "async generator"])
def test_from_outside_of_the_loop(asker: str, where: str, kind: str, ran: list[str]) -> None:
    """Promise 19: objects are torn down on their own loop, which may run in another thread, rest in
    this one, or be left by a thread that has ended, be that one of `threading` or another. Their
    finalizers get the object that is being torn down."""
    loops: list[object] = []

    async def end(value: object) -> None:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())
        assert await thing() is value
        ran.append("down")

    async def plain() -> object:
        loops.append(asyncio.get_running_loop())
        return object()

    async def generating() -> AsyncGenerator[object, None]:
        value = await plain()
        yield value
        await end(value)

    def ask() -> None:
        reset(thing) if asker == "reset" else asyncio.run(areset(thing))
        assert ran == ["down"]
        assert loops[0] is loops[1]
        assert thing not in finalizers

    thing: Callable[[], Coroutine[Any, Any, object]]
    thing = memoize(finalizer=end)(plain) if kind == "finalizer=" else memoize(generating)
    if where.endswith("thread has ended"):
        with closing(asyncio.new_event_loop()) as loop:
            if where == "its thread has ended":
                Call(loop.run_until_complete, thing()).result()
            else:
                in_a_foreign_thread(lambda: loop.run_until_complete(thing()))
            ask()
    else:
        with loop_in_a_thread() if where == "it runs elsewhere" else resting_loop() as run:
            run(thing())
            ask()


def test_a_loop_that_rests_elsewhere(ran: list[str]) -> None:
    """Promise 19: an object whose loop rests in another thread that is alive, be it finished or
    not, is an error after a while, in the group, that says to reset it there; the others are torn
    down."""
    place, point = Place(), Point()
    first, second, *others = (logged(ran, name) for name in ("first", "second", *["other"] * 3))

    @memoize
    async def thing() -> None:
        await place.pass_()

    async def begin() -> None:
        caller = asyncio.ensure_future(thing())
        await place.reached()
        assert not caller.done()

    def rest() -> None:
        with resting_loop() as run:
            run(first())
            run(second())
            run(begin())
            point.pass_()
            reset(first, second)

    owner = Call(rest)
    point.reached()
    with loop_in_a_thread() as run:
        for other in others:
            run(other())
        calls = [
            Call(reset, first, others[0]),
            Call(asyncio.run, areset(second)),
            Call(reset, thing, others[1]),
            Call(asyncio.run, areset(thing, others[2])),
        ]
        groups = [call.error() for call in calls]
        point.go()
        owner.result()
        assert ran == [*["other"] * 3, "second", "first"]
    for group in groups:
        assert isinstance(group, ExceptionGroup)
        (error,) = group.exceptions
        assert "reset" in str(error)
        assert "thing" in "".join([str(error), *getattr(error, "__notes__", [])])


def test_a_loop_between_two_phases(ran: list[str]) -> None:
    """Promise 19: a `reset` in another thread lets a loop that rests for a moment go on, and has
    the teardown run there."""
    thing = logged(ran, "thing")
    with resting_loop() as run:
        run(thing())
        resetting = Call(reset, thing).until_it_waits()
        run(asyncio.to_thread(resetting.result))
        assert ran == ["thing"]


@on_a_loop
@pytest.mark.parametrize("busy", ["made", "torn down"])
async def test_it_waits(busy: str, ran: list[str]) -> None:
    """Promise 10: `areset`, and `reset` in another thread, waits for who makes the object or tears
    it down."""
    place = Place()

    @memoize
    async def thing() -> AsyncGenerator[int, None]:
        if busy == "made":
            await place.pass_()
        yield 1
        if busy == "torn down":
            await place.pass_()
        ran.append("down")

    work = asyncio.ensure_future(thing())
    if busy == "torn down":
        await work
        work = asyncio.ensure_future(attempt(areset(thing)))
    await place.reached()
    other = Call(reset, thing).until_it_waits()
    resetting = asyncio.ensure_future(areset(thing))
    await turns(10)
    assert not resetting.done()
    place.go()
    await resetting
    await asyncio.to_thread(other.result)
    assert ran == ["down"]
    await work


@on_a_loop
@pytest.mark.parametrize("busy", ["made", "torn down"])
async def test_it_waits_for_another_thread(busy: str, ran: list[str]) -> None:
    """Promise 10: an `areset` of a plain object waits, without blocking its loop, for the thread
    that makes it or tears it down."""
    point = Point()

    @memoize
    def thing() -> Generator[int, None, None]:
        if busy == "made":
            point.pass_()
        yield 1
        if busy == "torn down":
            point.pass_()
        ran.append("down")

    if busy == "torn down":
        thing()
    call = Call(thing) if busy == "made" else Call(reset, thing)
    await asyncio.to_thread(point.reached)
    resetting = asyncio.ensure_future(areset(thing))
    await turns(10)
    assert not resetting.done()
    point.go()
    await resetting
    assert ran == ["down"]
    call.result()


@on_a_loop
async def test_callers_wait_and_make_anew(ran: list[str]) -> None:
    """Promise 9: while the object is torn down callers wait, then one makes a new one and all get
    that."""
    place, numbers = Place(), itertools.count()

    @memoize
    async def port() -> AsyncGenerator[int, None]:
        number = next(numbers)
        ran.append(f"bind {number}")
        yield number
        if number == 0:
            await place.pass_()
        ran.append(f"free {number}")

    await port()
    resetting = asyncio.ensure_future(areset(port))
    await place.reached()
    callers = [asyncio.ensure_future(port()) for _ in range(3)]
    await waiting(*callers)
    place.go()
    await resetting
    assert await asyncio.gather(*callers) == [1, 1, 1]
    assert ran == ["bind 0", "free 0", "bind 1"]


@on_a_loop
@pytest.mark.parametrize("when", ["made", "torn down"])
async def test_inside(when: str, ran: list[str]) -> None:
    """Promise 10: where f's object is made, or torn down, `areset(f)` raises DeadlockError, and
    tears nothing down; `areset()` leaves out what is being made, or torn down."""
    other, place = logged(ran, "other"), Place()
    busy = memoize(place.pass_)

    async def inside() -> None:
        await other()
        with pytest.raises(DeadlockError, match="thing"):
            await areset(other, thing)
        assert ran == []
        await areset()
        assert ran == ["other"]

    @memoize
    async def thing() -> AsyncGenerator[int, None]:
        if when == "made":
            await inside()
        yield 2
        if when == "torn down":
            await inside()

    other_task = asyncio.ensure_future(busy())
    await place.reached()
    assert await thing() == 2
    await areset(thing)
    assert ran == ["other"]
    place.go()
    await other_task


@pytest.mark.parametrize("rest", ["the loop goes on", "the loop ends"])
def test_a_cancelled_areset(rest: str, ran: list[str]) -> None:
    """Promise 19: a cancelled `areset` stops no teardown that has begun, nor does the loop's end;
    its errors go to the loop's exception handler, and callers wait for it."""
    place = Place()

    async def end(_: object) -> None:
        if not ran:
            await place.pass_()
            ran.append("down")
            raise ValueError("of the teardown")

    @memoize(finalizer=end)
    async def thing() -> int:
        return 1

    async def main() -> list[str]:
        errors = told()
        await thing()
        task = asyncio.ensure_future(areset(thing))
        await place.reached()
        task.cancel()
        await asyncio.wait([task])
        asyncio.get_running_loop().call_soon(place.go)
        if rest == "the loop goes on":
            await thing()
            assert ran == ["down"]
        return errors

    assert asyncio.run(main()) == ["of the teardown"]
    assert ran == ["down"]


@on_a_loop
async def test_by_key(ran: list[str]) -> None:
    """Promises 10 and 26: `areset(f, key=k)` tears down the object of that key alone, and waits for
    who makes it; other keys it neither takes nor waits for. Plain functions it takes as well."""
    places = {"a": Place(), "b": Place()}

    @memoize(key=lambda key: key)
    async def thing(key: str) -> AsyncGenerator[str, None]:
        await places[key].pass_()
        yield key
        ran.append(f"{key} down")

    @memoize(key=lambda key: key, finalizer=ran.append)
    def plain(key: str) -> str:
        return key

    for key in "ab":
        plain(key)
    making = [asyncio.create_task(thing(key)) for key in "ab"]
    for place in places.values():
        await place.reached()
    resetting = asyncio.create_task(areset(thing, key="a"))
    await turns(10)
    assert not resetting.done()
    places["a"].go()
    await resetting
    await areset(plain, key="b")
    assert ran == ["a down", "b"]
    places["b"].go()
    assert await asyncio.gather(*making) == ["a", "b"]


@on_a_loop
@pytest.mark.parametrize("of", ["the object", "everything"])
async def test_a_second_areset(of: str, ran: list[str]) -> None:
    """Promises 10 and 18: the task of a body that has asked for the teardown is not cancelled after
    it, also where another `areset` comes meanwhile, which goes on when the object is gone; what the
    task calls then is made anew."""
    renew, place = asyncio.Event(), Place()

    async def watch() -> None:
        await renew.wait()
        await areset(connection)
        await asyncio.sleep(0)
        ran.append(await connection())

    @memoize
    async def connection() -> AsyncGenerator[str, None]:
        watcher = None if ran else asyncio.create_task(watch())
        watchers.append(watcher)
        yield "connection"
        await place.pass_()
        ran.append("down")

    watchers: list[asyncio.Task[None] | None] = []
    await connection()
    renew.set()
    await place.reached()
    seconds = [
        asyncio.create_task(areset(*([connection] if of == "the object" else []))) for _ in range(2)
    ]
    await turns(10)
    assert ran == []
    assert not any(second.done() for second in seconds)
    place.go()
    await asyncio.gather(*seconds)
    assert watchers[0]
    await watchers[0]
    assert ran == ["down", "connection"]


@pytest.mark.parametrize("where", ["it runs elsewhere", "it rests here"])
def test_a_reset_while_it_is_made(where: str, ran: list[str]) -> None:
    """Promises 10 and 19: `reset` waits for the making on another thread's loop; where the loop
    rests in this thread it runs it, until the object is made, and torn down."""
    place = Place()

    @memoize
    async def base() -> AsyncGenerator[str, None]:
        yield "base"
        ran.append("base down")

    @memoize
    async def thing() -> AsyncGenerator[str, None]:
        await base()
        await place.pass_()
        ran.append("made")
        yield "thing"
        ran.append("down")

    with loop_in_a_thread() if where == "it runs elsewhere" else resting_loop() as run:
        task = run(begun(thing(), place))
        if where == "it rests here":
            place.go()
            reset()
        else:
            resetting = Call(reset).until_it_waits()
            place.go()
            resetting.result()
        assert ran == ["made", "down", "base down"]
        assert run(result_of(task)) == "thing"


@pytest.mark.parametrize("kind", ["function", "generator"])
def test_an_async_finalizer_of_a_plain_function(kind: str) -> None:
    """Promise 19: a plain function with an async `finalizer=` is refused when decorating, by a
    message that says to write `async def`."""

    async def close(_: object) -> None: ...

    def function() -> object: ...

    def generator() -> Generator[object, None, None]:
        yield 1

    with pytest.raises(TypeError, match=rf"(?s){kind}.*async def"):
        memoize(finalizer=close)(function if kind == "function" else generator)


@on_a_loop
async def test_plain_finalizers_of_others(ran: list[str]) -> None:
    """Promise 19: plain finalizers run in the thread that asks, on the loop that runs there if one
    does: they may belong to that thread."""
    asking: list[object] = []

    @memoize(finalizer=lambda _: asking.append(asyncio.get_running_loop()))
    def plain() -> int:
        return threading.get_ident()

    with loop_in_a_thread() as run:
        run(asyncio.to_thread(plain))
    await areset(plain)
    plain()
    reset(plain)
    assert asking == [asyncio.get_running_loop()] * 2


@on_a_loop
async def test_errors_of_a_cancelled_areset_from_another_loop() -> None:
    """Promise 19: a cancelled `areset` from another loop stops no teardown either; its errors go to
    a loop's exception handler, sooner or later."""
    place, errors = Place(), list[str]()

    @memoize
    async def thing() -> AsyncGenerator[int, None]:
        errors.append("made")
        yield 1
        await place.pass_()
        raise ValueError("of the teardown")

    async def make() -> list[str]:
        await thing()
        return told()

    with loop_in_a_thread() as run:
        theirs, mine = run(make()), told()
        task = asyncio.create_task(areset(thing))
        await place.reached()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        place.go()
        async with asyncio.timeout(LIMIT):
            while not theirs + mine:
                await asyncio.sleep(0.001)
        assert theirs + mine == ["of the teardown"]
        assert thing not in finalizers


@on_a_loop
@pytest.mark.parametrize("who", ["task", "thread"])
async def test_by_whom_the_teardown_waits_for(who: str, ran: list[str]) -> None:
    """Promise 9: a task or a thread of the object, for which its teardown waits, gets the object
    from its function, and a full reset from there leaves the object out and takes all others."""
    other, stop, point = logged(ran, "other"), asyncio.Event(), Point()

    async def serve() -> object:
        await stop.wait()
        await areset()
        return await thing()

    def serve_in_a_thread() -> object:
        point.pass_()
        reset()
        return asyncio.run(thing())

    @memoize
    async def thing() -> AsyncGenerator[object, None]:
        value = object()
        task, thread = None, None
        if who == "task":
            task = asyncio.create_task(serve())
        else:
            thread = Call(serve_in_a_thread)
            await asyncio.to_thread(point.reached)
        yield value
        stop.set()
        point.go()
        got = await task if task else thread and await asyncio.to_thread(thread.result)
        assert got is value
        ran.append("down")

    await thing()
    await other()
    await areset(thing)
    assert ran == ["other", "down"]
