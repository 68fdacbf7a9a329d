"""Promise 17: who is cancelled while an object is made."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable

import anyio
import pytest
from tasks import Place, loop_in_a_thread, on_a_loop, resting_loop, told, turns, waiting
from threads import LIMIT, Call, Point

from memoize_once import finalizers, memoize, reset


@on_a_loop
@pytest.mark.parametrize("which", [0, 1], ids=["the first", "another"])
async def test_one_of_several(which: int) -> None:
    """Promise 17: cancelling one of several waiting tasks, the first included, cancels only that
    task."""
    place = Place()

    @memoize
    async def thing() -> str:
        await place.pass_()
        return "made"

    tasks = [asyncio.ensure_future(thing()) for _ in range(3)]
    await place.reached()
    await waiting(*tasks)
    cancelled = tasks.pop(which)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    place.go()
    assert await asyncio.gather(*tasks) == ["made"] * 2


@pytest.mark.parametrize("where", ["one loop", "another loop"])
def test_the_last(where: str, ran: list[str]) -> None:
    """Promises 16 and 17: with the last caller the body is cancelled, and that caller goes on when
    it has cleaned up. Who arrives meanwhile waits for that, and makes anew; an error of the
    cleaning up goes to the loop's exception handler. Who leaves meanwhile does so at once."""
    busy, cleaning = Place(), Place()

    @memoize
    async def thing() -> str:
        if ran:
            return "made anew"
        try:
            await busy.pass_()
        finally:
            await cleaning.pass_()
            ran.append("cleaned up")
            raise ValueError("of the cleaning up")

    async def first() -> tuple[list[str], asyncio.Future[str]]:
        task = asyncio.ensure_future(thing())
        await busy.reached()
        return told(), task

    async def leave(task: asyncio.Future[str]) -> None:
        task.cancel()
        await asyncio.wait([task])

    async def last() -> list[str]:
        errors, task = run(first()) if where == "another loop" else await first()
        mine = asyncio.ensure_future(thing())
        await waiting(mine)
        run(leave(task)) if where == "another loop" else await leave(task)
        mine.cancel()
        await cleaning.reached()
        late, leaving = asyncio.ensure_future(thing()), asyncio.ensure_future(thing())
        await waiting(late, leaving)
        await leave(leaving)
        assert not mine.done()
        cleaning.go()
        await asyncio.wait([mine])
        assert mine.cancelled()
        assert ran == ["cleaned up"]
        assert await late == "made anew"
        return errors

    with loop_in_a_thread() as run:
        errors = asyncio.run(last())
    assert errors == ["of the cleaning up"]


@on_a_loop
@pytest.mark.parametrize("how", ["cancelled again and again", "in a scope of anyio"])
async def test_somebody_arrives_before_the_last_goes_on(how: str, ran: list[str]) -> None:
    """Promise 17: the last caller goes on when the body has cleaned up, also where somebody arrives
    meanwhile, and where the cancel is repeated, as a scope of anyio does in every turn."""
    busy, cleaning = Place(), Place()

    @memoize
    async def thing() -> str:
        if ran:
            return "made anew"
        try:
            await busy.pass_()
        finally:
            await cleaning.pass_()
            ran.append("cleaned up")
        return ""

    async def call() -> None:
        try:
            with scope:
                await thing()
        finally:
            ran.append("goes on")

    scope = anyio.CancelScope()
    caller = asyncio.create_task(call())
    cancel: Callable[[], object] = scope.cancel if how == "in a scope of anyio" else caller.cancel
    await busy.reached()
    cancel()
    await cleaning.reached()
    late = asyncio.create_task(thing())
    await waiting(late)
    for _ in range(3):
        cancel()
        await turns(5)
    assert ran == []
    cleaning.go()
    await asyncio.wait([caller])
    assert ran == ["cleaned up", "goes on"]
    assert await late == "made anew"


@on_a_loop
async def test_the_last_in_a_scope_while_others_are_there(ran: list[str]) -> None:
    """Promise 17: a scope of anyio that cancels one of several callers cancels that alone, at once,
    and the body goes on."""
    place = Place()
    thing = memoize(place.pass_)

    async def call() -> None:
        with scope:
            await thing()
        ran.append("goes on")

    scope = anyio.CancelScope()
    caller = asyncio.create_task(call())
    await place.reached()
    other = asyncio.create_task(thing())
    await waiting(other)
    scope.cancel()
    await caller
    assert ran == ["goes on"]
    assert not other.done()
    place.go()
    await other


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_handler_of_the_loop_that_raises(kind: type[BaseException], ran: list[str]) -> None:
    """Promises 3 and 16: what a body raises when all its callers have gone is told to the loop's
    exception handler; where that ends the program, nothing is left half-made behind it."""
    busy, cleaning = Place(), Place()

    @memoize
    async def thing() -> str:
        if ran:
            return "made anew"
        try:
            await busy.pass_()
        finally:
            await cleaning.pass_()
            raise ValueError("of the cleaning up")

    def handle(_: object, context: dict[str, object]) -> None:
        ran.append(str(context.get("exception")))
        if len(ran) == 1:
            raise kind

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(handle)
        task = asyncio.create_task(thing())
        await busy.reached()
        task.cancel()
        await cleaning.reached()
        cleaning.go()
        await asyncio.wait([task])
        await asyncio.Event().wait()

    with resting_loop() as run:
        with pytest.raises(kind):
            run(leave())
        assert ran[0] == "of the cleaning up"
        assert run(asyncio.wait_for(thing(), LIMIT)) == "made anew"
        reset(thing)


def test_the_last_while_the_loop_rests() -> None:
    """Promise 17: where the loop on which the object is being made rests, the last caller, on
    another loop, does not wait for it when it is cancelled."""
    place, point = Place(), Point()
    thing = memoize(place.pass_)

    async def first() -> Call:
        task = asyncio.ensure_future(thing())
        await place.reached()
        call = Call(asyncio.run, last())
        point.reached()
        task.cancel()
        await asyncio.wait([task])
        return call

    async def last() -> None:
        task = asyncio.ensure_future(thing())
        await waiting(task)
        point.pass_()
        task.cancel()
        await asyncio.wait([task])

    with resting_loop() as run:
        call = run(first())
        point.go()
        call.result()


@on_a_loop
async def test_the_body_is_told_once(ran: list[str]) -> None:
    """Promise 17: a cancel scope of anyio repeats its cancel in every turn of the loop; the body is
    told once, and cleans up in peace."""
    busy, scope = Place(), anyio.CancelScope()

    @memoize
    async def thing() -> None:
        try:
            await busy.pass_()
        except asyncio.CancelledError:
            ran.append("cancelled")
            await turns(5)
            ran.append("cleaned up")
            raise

    async def call() -> None:
        with scope:
            await thing()

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await busy.reached()
        scope.cancel()
    assert scope.cancelled_caught
    assert ran == ["cancelled", "cleaned up"]


@on_a_loop
async def test_a_body_that_makes_its_object_all_the_same() -> None:
    """Promise 17: a body that swallows its cancel makes the object, and the next caller gets it."""
    busy, made = Place(), itertools.count()

    @memoize
    async def thing() -> AsyncGenerator[int, None]:
        try:
            await busy.pass_()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        yield next(made)

    task = asyncio.ensure_future(thing())
    await busy.reached()
    await waiting(task)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert thing in finalizers
    assert await thing() == 0
