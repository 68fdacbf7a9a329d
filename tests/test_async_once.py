"""Promises 1 to 5 and 16, for tasks: made once."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import traceback
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from tasks import (
    Place,
    attempt,
    begun,
    both,
    loop_in_a_thread,
    on_a_loop,
    result_of,
    turns,
    waiting,
)
from threads import Call, Point, collect

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
async def test_who_waits_gets_the_very_error(gone: int) -> None:
    """Promise 3: hundreds of tasks, on this loop and on another, that wait for a body that fails
    get its error together, after one attempt, and its traceback does not grow with their number;
    the next caller tries again."""
    place, tries, error = Place(), itertools.count(), ValueError("the database is down")
    frames: list[int] = []

    @memoize
    async def database() -> str:
        if next(tries) == 0:
            await place.pass_()
            raise error
        return "second try"

    async def call() -> object:
        try:
            return await database()
        except ValueError as raised:
            frames.append(len(list(traceback.walk_tb(raised.__traceback__))))
            return raised

    async def begin(number: int) -> list[asyncio.Task[object]]:
        tasks = [asyncio.create_task(call()) for _ in range(number)]
        await waiting(*tasks)
        return tasks

    async def outcomes(tasks: list[asyncio.Task[object]]) -> list[object]:
        return await asyncio.gather(*tasks)

    with loop_in_a_thread() as run:
        tasks = await begin(200)
        await place.reached()
        elsewhere = run(begin(200))
        for task in tasks[:gone]:
            task.cancel()
            await asyncio.wait([task])
        place.go()
        results = [*await outcomes(tasks[gone:]), *run(outcomes(elsewhere))]
    assert all(result is error for result in results)
    assert max(frames) < 20
    assert error.__context__ is error.__cause__ is None
    assert next(tries) == 1
    assert await database() == "second try"


@on_a_loop
@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
async def test_an_interrupt_is_its_own_callers_alone(kind: type[BaseException]) -> None:
    """Promise 3: an interrupt that a body raises goes to its own caller alone; one of those who
    wait tries again, and all of them get what it makes."""
    place, tries = Place(), itertools.count()

    @memoize
    async def thing() -> int:
        number = next(tries)
        if number == 0:
            await place.pass_()
            raise kind("as raised")
        return number

    first = asyncio.create_task(attempt(thing()))
    await place.reached()
    others = [asyncio.create_task(attempt(thing())) for _ in range(20)]
    await waiting(first, *others)
    place.go()
    assert type(await first) is kind
    assert await asyncio.gather(*others) == [1] * 20


class Left:
    """A making on a loop that was stopped, and whose thread ends when it is told to."""

    def __init__(self) -> None:
        self.place, self.point, tries = Place(), Point(), itertools.count()
        self.loop = asyncio.new_event_loop()

        @memoize
        async def thing() -> str:
            if next(tries) == 0:
                await self.place.pass_()
                return "made after all"
            return "made anew"

        self.thing = thing
        self.owner = Call(self.run)
        self.point.reached()

    def run(self) -> None:
        self.task = self.loop.run_until_complete(begun(attempt(self.thing()), self.place))
        self.point.pass_()

    def leave(self, closed: bool) -> None:
        self.point.go()
        self.owner.result()
        if closed:
            self.loop.close()

    def end(self) -> None:
        if not self.loop.is_closed():
            self.task.cancel()
            self.loop.run_until_complete(asyncio.wait([self.task]))
            self.loop.close()


@pytest.mark.parametrize("closed", [False, True], ids=["stopped", "closed"])
def test_a_making_that_nobody_goes_on_with(closed: bool) -> None:
    """Promise 16: a making whose loop has closed, or was stopped and rests in a thread that has
    ended, is forgotten: who waits on another loop makes anew, and so does who comes later."""
    left = Left()
    with loop_in_a_thread() as run:
        early = run(begun(attempt(left.thing())))
        left.leave(closed)
        assert run(result_of(early)) == "made anew"
        assert Call(asyncio.run, left.thing()).result() == "made anew"
    left.end()


@pytest.mark.parametrize("closed", [False, True], ids=["stopped", "closed"])
def test_a_reset_of_a_making_that_nobody_goes_on_with(closed: bool) -> None:
    """Promises 10 and 16: a `reset` of it does not hang, and the next caller makes anew."""
    left = Left()
    left.leave(closed)
    if not closed:
        left.place.go()  # since reset may run it, until it has torn down
    Call(reset, left.thing).result()
    assert Call(asyncio.run, left.thing()).result() == "made anew"
    left.end()


@on_a_loop
async def test_the_task_of_a_body_has_a_name(ran: list[str]) -> None:
    """Promise 16: the task in which a body runs, and tears its object down, carries the name of the
    function, for whoever looks at tasks in a debugger or a log."""

    def note() -> None:
        task = asyncio.current_task()
        ran.append(task.get_name() if task else "")

    @memoize
    async def settings() -> None:
        note()

    @memoize
    async def connection() -> AsyncGenerator[None, None]:
        note()
        yield
        note()

    await settings()
    await connection()
    await areset()
    assert "settings" in ran[0]
    assert all("connection" in name for name in ran[1:])


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
async def test_keys(ran: list[str]) -> None:
    """Promise 26 for tasks: one object for each key, made side by side; what one of them raises is
    the outcome of those alone who wait for it; `areset(f, key=k)` takes the object of that key, and
    needs exactly one function that has a `key=`."""
    place = Place()

    @memoize(key=lambda tenant: tenant.lower())
    async def schema(tenant: str, timeout: float = 1) -> AsyncGenerator[list[str], None]:
        if tenant == "slow":
            await place.pass_()
            raise ValueError("slow")
        yield [tenant]
        await asyncio.sleep(0)
        ran.append(f"{tenant} down")

    @memoize
    async def settings() -> int:
        return 1

    slow = [asyncio.create_task(attempt(schema("slow"))) for _ in range(2)]
    await place.reached()
    first = await schema("a")
    assert await schema(tenant="A", timeout=2) is first
    assert await schema("b") == ["b"]
    place.go()
    assert [str(await task) for task in slow] == ["slow"] * 2
    await areset(schema, key="a")
    await areset(schema, key="there is none")
    assert ran == ["a down"]
    assert await schema("a") is not first
    wrong: list[tuple[Callable[..., object], ...]] = [(settings,), (schema, schema), ()]
    for functions in wrong:
        with pytest.raises(TypeError, match="key="):
            await areset(*functions, key="a")
    await areset(schema)
    assert ran == ["a down", "a down", "b down"]


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


@on_a_loop
@pytest.mark.parametrize("kind", [0, 1], ids=["coroutine function", "async generator function"])
async def test_what_others_do_is_not_kept(kind: int) -> None:
    """Promise 18: tasks and threads that an object does not own are not kept by it, though they
    were at work when it was made: neither a request, nor its result, nor a thread."""
    go, point = asyncio.Event(), Point()

    async def body() -> object:
        finalizers.register(thing, int)
        return object()

    thing = both(body)[kind]

    async def request() -> Thing:
        await go.wait()
        return Thing()

    async def serve() -> list[weakref.ref[object]]:
        requests = [asyncio.create_task(request()) for _ in range(3)]
        thread = Call(point.pass_)
        await turns(2)
        await asyncio.create_task(thing())
        go.set()
        point.go()
        thread.result()
        results = await asyncio.gather(*requests)
        return [weakref.ref(each) for each in [*requests, *results, thread]]

    refs = await asyncio.create_task(serve())
    await turns(5)
    collect()
    assert [ref() for ref in refs] == [None] * 7
    assert thing in finalizers


def test_loops_of_others_are_not_kept() -> None:
    """Promise 18: an object keeps neither the loop of a caller that has waited for it, nor that of
    one who has used it, though it lives on."""
    place = Place()

    @memoize
    async def thing() -> AsyncGenerator[object, None]:
        await place.pass_()
        yield object()

    async def wait(point: Point) -> object:
        task = await begun(thing())
        point.pass_()
        return await task

    def use(point: Point) -> weakref.ref[object]:
        with asyncio.Runner() as runner:
            assert runner.run(wait(point)) is runner.run(thing())
            return weakref.ref(runner.get_loop())

    with loop_in_a_thread() as run:
        making, point = run(begun(thing(), place)), Point()
        other = Call(use, point)
        point.reached()
        place.go()
        run(result_of(making))
        point.go()
        ref = other.result()
        del other
        collect()
        assert ref() is None
        assert thing in finalizers


@on_a_loop
async def test_an_error_is_not_kept() -> None:
    """Promise 3: nothing is kept of a making that has failed, when all who have waited for it have
    heard of its error."""
    place = Place()

    class DownError(Exception):
        pass

    @memoize
    async def database() -> None:
        await place.pass_()
        raise DownError

    async def outage() -> weakref.ref[object]:
        tasks = [asyncio.create_task(attempt(database())) for _ in range(5)]
        await place.reached()
        await waiting(*tasks)
        place.go()
        errors = await asyncio.gather(*tasks)
        assert [type(error) for error in errors] == [DownError] * 5
        return weakref.ref(errors[0])

    ref = await asyncio.create_task(outage())
    await turns(5)
    collect()
    assert ref() is None
