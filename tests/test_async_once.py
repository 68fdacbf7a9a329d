"""Promises 1 to 5 and 16, for tasks: made once."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from tasks import (
    Place,
    attempt,
    both,
    loop_in_a_thread,
    on_a_loop,
    turns,
    waiting,
)
from threads import Call, collect

from memoize_once import DeadlockError, areset, finalizers, memoize, reset


class Thing:
    """What can be referred to weakly."""


async def held(place: Place) -> object:
    await place.pass_()
    return object()


@on_a_loop
@pytest.mark.parametrize("value", [[], None, False, ValueError("kept")], ids=repr)
async def test_every_await_returns_the_first_object(value: object) -> None:
    """Promise 1: the first call runs the body, and every later one returns the same object,
    whatever its arguments, and whatever that object is."""
    made: list[int] = []

    async def body(number: int) -> object:
        made.append(number)
        return value

    for thing in both(body):
        assert await thing(1) is await thing(2) is await thing(3) is value
    assert made == [1, 1]


@on_a_loop
async def test_tasks_share_one_object() -> None:
    """Promise 16: tasks that arrive while the object is being made, on whichever event loop, wait
    for it, and get it."""
    for thing in both(held):
        place = Place()
        with loop_in_a_thread() as run:
            elsewhere = Call(run, thing(place))
            await place.reached()
            tasks = [asyncio.ensure_future(thing(place)) for _ in range(8)]
            await waiting(*tasks)
            place.go()
            values = [elsewhere.result(), run(thing(place)), *await asyncio.gather(*tasks)]
        assert len({id(value) for value in values}) == 1


@on_a_loop
async def test_the_context_of_the_first_caller() -> None:
    """Promise 16: the body runs in a copy of the first caller's context: it sees what is set there,
    and sets nothing there."""
    variable = contextvars.ContextVar("variable", default="unset")

    async def body() -> str:
        seen = variable.get()
        variable.set("set in the body")
        return seen

    for thing in both(body):
        variable.set("the caller's")
        assert await thing() == variable.get() == "the caller's"


@on_a_loop
async def test_a_task_of_the_body() -> None:
    """Promise 16: a task that a body starts may ask for the object, and waits for it; during the
    teardown it gets what is being torn down."""
    seen: list[object] = []

    async def ask() -> None:
        seen.append(await thing())

    @memoize
    async def thing() -> AsyncGenerator[object, None]:
        async with asyncio.TaskGroup() as group:
            early = group.create_task(ask())
            await waiting(early)
            yield object()
            group.create_task(ask())
            seen.append(await thing())

    value = await thing()
    await areset(thing)
    assert seen == [value] * 3


@on_a_loop
async def test_an_object_that_is_reset_before_its_callers_go_on() -> None:
    """Promise 16: who waits for the object gets it, even where it has been reset meanwhile."""
    for thing in both(held):
        place = Place()
        with loop_in_a_thread() as run:
            elsewhere = Call(run, thing(place))
            await place.reached()
            caller = asyncio.ensure_future(thing(place))
            await waiting(caller)
            place.go()
            first = elsewhere.result()  # this loop can hear of nothing meanwhile
            Call(reset, thing).result()
            assert await caller is first


KINDS = [ValueError, StopAsyncIteration, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt]


@on_a_loop
@pytest.mark.parametrize("kind", KINDS)
async def test_a_failure_leaves_nothing_behind(kind: type[BaseException]) -> None:
    """Promise 3: the error reaches the caller as it was raised, nothing is kept, and the next
    caller tries again."""
    error, tries = kind("as raised"), itertools.count()

    @memoize
    async def thing() -> int:
        if next(tries) == 0:
            raise error
        return 42

    assert await attempt(thing()) is error
    assert error.__context__ is error.__cause__ is None
    assert not hasattr(error, "__notes__")
    assert await thing() == 42


@on_a_loop
@pytest.mark.parametrize("gone", [0, 1], ids=["the first is there", "the first has gone"])
async def test_one_gets_the_error_and_the_rest_try_again(gone: int) -> None:
    """Promise 16: the error goes to the first caller, or, if that has gone, to the one who has
    waited longest; the rest try again."""
    place, tries = Place(), itertools.count()

    @memoize
    async def thing() -> str:
        if next(tries) == 0:
            await place.pass_()
            raise ValueError("first try")
        return "second try"

    tasks = [asyncio.ensure_future(thing()) for _ in range(4)]
    await place.reached()
    await waiting(*tasks)
    for task in tasks[:gone]:
        task.cancel()
        await asyncio.wait([task])
    place.go()
    results = await asyncio.gather(*tasks[gone:], return_exceptions=True)
    assert [str(result) for result in results] == ["first try", *["second try"] * (3 - gone)]
    assert next(tries) == 2


@on_a_loop
async def test_finalizers_of_a_failed_body_run_first(ran: list[str]) -> None:
    """Promise 3: what the failed body registered runs first, awaited, last in first out; a note on
    its error says what failed there."""

    async def clean(text: str) -> None:
        await asyncio.sleep(0)
        ran.append(text)
        if text == "failing":
            raise OSError("port still bound")

    async def body() -> None:
        for text in ("first", "failing", "last"):
            finalizers.register(current, clean, text)
        raise ValueError("body")

    for current in both(body):
        error = await attempt(current())
        assert isinstance(error, ValueError)
        assert ran == ["last", "failing", "first"]
        assert "port still bound" in error.__notes__[0]
        ran.clear()


@on_a_loop
async def test_a_traceback_shows_the_users_frames() -> None:
    """Promise 23: between the caller's and the body's frame are at most two of the library's, that
    of the wrapper included, and pytest hides them."""

    @memoize
    async def thing() -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here") as raised:
        await thing()
    assert len(raised.traceback) <= 4
    *_, caller, last = raised.traceback.filter(raised)
    assert "await thing()" in str(caller.statement)
    assert "raise ValueError" in str(last.statement)


@on_a_loop
async def test_an_object_that_needs_itself() -> None:
    """Promise 4: recursion raises DeadlockError that names the function, and `key=` where the
    arguments are others, and leaves nothing behind."""

    @memoize
    async def ouroboros() -> AsyncGenerator[object, None]:
        yield await ouroboros()

    @memoize
    async def factorial(n: int) -> int:
        return n * await factorial(n - 1)

    for _ in range(2):
        with pytest.raises(DeadlockError, match=r"ouroboros -> .*ouroboros"):
            await ouroboros()
        with pytest.raises(DeadlockError, match=r"(?s)factorial.*key="):
            await factorial(3)


@pytest.mark.parametrize("closed", [True, False], ids=["ring", "chain"])
@pytest.mark.parametrize("loops", [1, 2], ids=["one loop", "two loops"])
def test_a_ring_of_tasks(closed: bool, loops: int) -> None:
    """Promise 4: of tasks that need each other's objects in a ring exactly one is told, over loops
    too; in a chain nobody is."""
    count = 4
    told: list[str] = []
    begun: list[int] = []
    functions: list[Callable[[], Awaitable[int]]] = []

    def function(i: int) -> Callable[[], Awaitable[int]]:
        @memoize
        async def member() -> int:
            begun.append(i)
            while len(begun) < count:
                await asyncio.sleep(0)
            if closed or i < count - 1:
                try:
                    await functions[(i + 1) % count]()
                except DeadlockError as error:
                    told.append(str(error))
            return i

        return member

    async def some(which: range) -> list[int]:
        return await asyncio.gather(*(functions[i]() for i in which))

    functions += [function(i) for i in range(count)]
    calls = [Call(asyncio.run, some(range(i, count, loops))) for i in range(loops)]
    assert sorted(i for call in calls for i in call.result()) == list(range(count))
    assert [text.count("member") for text in told] == [count + 1] * closed


def test_a_ring_through_a_plain_function() -> None:
    """Promise 4: a ring may run through a plain body, and the loop that it runs; the message names
    all of it."""

    @memoize
    async def chicken() -> str:
        return egg()

    @memoize
    def egg() -> str:
        return asyncio.run(chicken())

    with pytest.raises(DeadlockError, match=r"egg -> \S*chicken -> \S*egg"):
        egg()


@on_a_loop
async def test_areset_in_a_ring() -> None:
    """Promises 4 and 10: an `areset` of what waits for who asks raises DeadlockError."""

    @memoize
    async def first() -> None:
        await second()

    @memoize
    async def second() -> None:
        await areset(first)

    with pytest.raises(DeadlockError, match=r"second -> .*first -> .*second"):
        await first()


@on_a_loop
async def test_arguments_are_not_kept() -> None:
    """Promise 5: nothing keeps the arguments of the call that made the object alive, nor what the
    context of its caller held; the object dies with its function."""
    variable: contextvars.ContextVar[Thing] = contextvars.ContextVar("variable")

    async def call(function: Callable[[Thing], Awaitable[Thing]]) -> list[weakref.ref[Thing]]:
        things = [Thing(), Thing()]
        variable.set(things[0])
        return [weakref.ref(await function(things[1])), *map(weakref.ref, things)]

    @memoize
    async def function(argument: Thing) -> Thing:
        return Thing()

    refs = await asyncio.create_task(call(function))
    await turns(5)
    collect()
    assert [ref() is None for ref in refs] == [False, True, True]
    del function
    collect()
    assert refs[0]() is None
