"""Promise 19, and 7 to 10 for tasks: torn down on demand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any

import pytest
from tasks import (
    Place,
    attempt,
    logged,
    loop_in_a_thread,
    on_a_loop,
    resting_loop,
    told,
    turns,
    waiting,
)
from threads import Call, Point

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

    @memoize(finalizer=ran.append)
    def plain() -> str:
        return "plain"

    async def use() -> object:
        await thing()
        return await settings()

    async def main() -> None:
        value = run(use()) if where == "another loop" else await use()
        for name, functions in {"thing": (plain, thing), "settings": (plain, settings)}.items():
            plain()
            with pytest.raises(RuntimeError, match=rf"await areset\(\S*{name}"):
                reset(*functions)
        with pytest.raises(RuntimeError, match=r"await areset\("):
            reset()
        assert await settings() is value
        assert ran == []
        reset(plain)
        assert ran == ["plain"]

    with loop_in_a_thread() as run:
        asyncio.run(main())


@pytest.mark.parametrize("asker", ["reset", "areset"])
@pytest.mark.parametrize("where", ["it runs elsewhere", "it rests here", "its thread has ended"])
@pytest.mark.parametrize("kind", ["finalizer=", "async generator"])
def test_from_outside_of_the_loop(asker: str, where: str, kind: str, ran: list[str]) -> None:
    """Promise 19: objects are torn down on their own loop, which may run in another thread, rest in
    this one, or be left by a thread that has ended. Their finalizers get the object that is being
    torn down."""
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
    if where == "its thread has ended":
        loop = asyncio.new_event_loop()
        Call(loop.run_until_complete, thing()).result()
        ask()
        loop.close()
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
