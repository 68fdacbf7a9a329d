"""Promises 1 to 5: made once."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from processes import PRELUDE, run, run_all, said
from threads import LIMIT, Call, Point, busy, collect, server, until_it_waits

from memoize_once import DeadlockError, finalizers, memoize, reset


class Thing:
    """What can be referred to weakly."""


class TestFirstCall:
    def test_every_call_returns_the_first_object(self) -> None:
        """Promise 1: the first call runs the body, and every later one returns the same object,
        whatever its arguments. The decorator takes parentheses or none."""
        made = itertools.count()

        def thing(port: int, host: str = "here") -> list[int]:
            return [next(made)]

        for number, memoized in enumerate((memoize(thing), memoize()(thing))):
            first = memoized(1)
            assert memoized(2) is memoized(port=3, host="there") is first == [number]

    @pytest.mark.parametrize("switch", [gc.enable, gc.disable])
    def test_the_collector_stays_as_it_is(self, switch: Callable[[], None]) -> None:
        """Promise 1: to make an object, also one with threads of its own, changes nothing else: the
        collector of garbage stays on, or off."""

        @memoize
        def thing() -> Generator[None, None, None]:
            stop = threading.Event()
            thread = threading.Thread(target=stop.wait)
            thread.start()
            yield
            stop.set()
            thread.join()

        switch()
        try:
            thing()
            assert gc.isenabled() == (switch is gc.enable)
        finally:
            gc.enable()
            reset(thing)

    def test_any_value_is_kept(self) -> None:
        """Promise 1: None, False, an exception and every other value is kept, also one that minds
        being looked at, such as a dead proxy, or whose class cannot be hashed; of coroutine
        functions too."""

        class Lazy:
            @property  # type: ignore[misc]
            def __class__(self) -> Any:
                raise ReferenceError("it is looked at")

        class Unhashable(type):
            def __eq__(cls, other: object) -> bool:
                return NotImplemented

            __hash__ = None  # type: ignore[assignment]

        class Odd(metaclass=Unhashable): ...

        for value in (None, False, ValueError("kept"), NotImplemented, Lazy(), Odd(), Odd):
            made: list[object] = []
            thing: Any = memoize(lambda value=value, made=made: (made.append(1), value)[1])
            assert thing() is thing() is value
            assert made == [1]

            async def coroutine(value: Any = value) -> object:
                return value

            def generator(value: Any = value) -> Generator[object, None, None]:
                yield value

            assert asyncio.run(memoize(coroutine)()) is memoize(generator)() is value
            returning: Any = lambda _, value=value: value  # noqa: E731  its type is odd
            torn_down = memoize(Thing, finalizer=returning)
            torn_down()
            reset(torn_down)

    @pytest.mark.parametrize("made", [False, True])
    def test_arguments_are_checked(self, made: bool) -> None:
        """Promise 1: a wrong call raises the TypeError of the function's own code, whether the
        object is there or not."""

        def thing(a: int, /, b: int = 2, *, c: int) -> object:
            return object()

        memoized: Callable[..., object] = memoize(thing)
        if made:
            memoized(1, c=3)
        wrong: list[tuple[Any, Any]] = [((), {}), ((1,), {}), ((1, 2, 3), {"c": 3})]
        for args, kwargs in [*wrong, ((1,), {"c": 3, "d": 4}), ((), {"a": 1, "c": 3})]:
            with pytest.raises(TypeError) as expected:
                thing(*args, **kwargs)
            with pytest.raises(TypeError) as raised:
                memoized(*args, **kwargs)
            assert str(raised.value) == str(expected.value)

    def test_memoized_already(self) -> None:
        """Promise 21: what is memoized already is given back as it is; with other options that is a
        TypeError that names it, and with the same ones it is not."""

        @memoize(inherit=True)
        def thing() -> object:
            return object()

        assert memoize(thing) is memoize(thing, inherit=True) is memoize()(thing) is thing
        with pytest.raises(TypeError, match=r"thing is memoized already: .*finalizer="):
            memoize(thing, finalizer=print)


class TestThreads:
    @pytest.mark.parametrize("key", [None, lambda: 1], ids=["single", "keyed"])
    def test_concurrent_callers(self, key: Any) -> None:
        """Promise 2: callers that arrive while the object is being made wait for it, and get it."""
        point, made = Point(), itertools.count()

        @memoize(key=key)
        def thing() -> list[int]:
            number = next(made)
            point.pass_()
            return [number]

        maker = busy(thing, point, "made")
        waiters = [Call(thing).until_it_waits() for _ in range(8)]
        point.go()
        assert all(call.result() is thing() for call in (maker, *waiters))
        assert thing() == [0]

    def test_a_cached_call_takes_no_lock(self) -> None:
        """Promise 2: a cached call calls nothing, no lock either."""
        events: list[str] = []
        thing = memoize(lambda: object())
        thing()
        sys.setprofile(lambda frame, event, argument: events.append(event))
        thing()
        sys.setprofile(None)
        calls = [event for event in events if event.endswith("call")]
        assert calls == ["call", "c_call"]  # of `thing` and of `setprofile`

    def test_a_race_has_one_winner(self) -> None:
        """Promise 2: however many threads call at the same instant, the body runs once."""

        def call(thing: Callable[[], object], barrier: threading.Barrier) -> object:
            barrier.wait(LIMIT)
            return thing()

        for _ in range(20):
            made: list[int] = []
            thing, barrier = memoize(functools.partial(made.append, 1)), threading.Barrier(8)
            for each in [Call(call, thing, barrier) for _ in range(8)]:
                each.result()
            assert made == [1]

    @pytest.mark.parametrize("held", ["made", "torn down"])
    def test_objects_do_not_block_each_other(self, held: str, ran: list[str]) -> None:
        """Promise 2: while one object is made or torn down, another is made, used and torn down."""
        point = Point()
        slow, quick = server(ran, "slow", point, held), server(ran, "quick")
        other = busy(slow, point, held)
        assert quick() is quick()
        reset(quick)
        assert quick() == "quick"
        assert ran == ["quick"]
        point.go()
        other.result()

    @pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no pthread_kill")
    def test_a_waiting_main_thread_can_be_interrupted(self, ran: list[str]) -> None:
        """Promises 2 and 3: Ctrl-C reaches a main thread that waits for the object that another
        thread makes, which goes on unharmed."""
        point, main = Point(), threading.get_ident()
        thing = server(ran, "object", point, "made")

        def interrupt() -> None:
            until_it_waits(main)
            signal.pthread_kill(main, signal.SIGINT)

        maker = busy(thing, point, "made")
        interrupter = Call(interrupt)
        with pytest.raises(KeyboardInterrupt):
            thing()
        interrupter.result()
        point.go()
        assert maker.result() is thing()


KINDS = [ValueError, StopIteration, KeyboardInterrupt, SystemExit, GeneratorExit]


class TestFailure:
    @pytest.mark.parametrize("kind", [ValueError, StopIteration, DeadlockError])
    @pytest.mark.parametrize("key", [None, lambda: 1], ids=["single", "keyed"])
    def test_who_waits_gets_the_error(self, key: Any, kind: type[Exception]) -> None:
        """Promise 3: who waits for a making that fails gets its very error, as it was raised; the
        body has run once for all of them, the traceback tells of one way out of it and does not
        grow with their number, and the next caller tries again."""
        error, point, tries, count = kind("is down"), Point(), itertools.count(), 30

        @memoize(key=key)
        def database() -> list[int]:
            number = next(tries)
            if number == 0:
                point.pass_()
                raise error
            return [number]

        maker = busy(database, point, "made")
        waiters = [Call(database).until_it_waits() for _ in range(count)]
        point.go()
        assert all(call.error() is error for call in (maker, *waiters))
        assert next(tries) == 1
        assert (error.__context__, error.__cause__, vars(error)) == (None, None, {})
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert names.count("database") == 1
        assert len(names) < count
        assert database() is database()
        assert database() == [2]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
    @pytest.mark.parametrize("key", [None, lambda: 1], ids=["single", "keyed"])
    def test_an_interrupt_is_its_callers_own(self, key: Any, kind: type[BaseException]) -> None:
        """Promise 3: an interrupt of the body goes to its own caller alone; one of those who wait
        tries again, and all get what that makes."""
        error, point, tries = kind(), Point(), itertools.count()

        @memoize(key=key)
        def thing() -> list[int]:
            number = next(tries)
            if number == 0:
                point.pass_()
                raise error
            return [number]

        maker = busy(thing, point, "made")
        waiters = [Call(thing).until_it_waits() for _ in range(8)]
        point.go()
        assert maker.error() is error
        assert all(waiter.result() is thing() for waiter in waiters)
        assert thing() == [1]

    def test_first_an_interrupt_and_then_an_error(self) -> None:
        """Promise 3: where the one who tries again fails, those who still wait get that error."""
        points, tries = [Point(), Point()], itertools.count()
        errors: list[BaseException] = [KeyboardInterrupt(), ValueError("is down")]

        @memoize
        def thing() -> int:
            number = next(tries)
            if number < 2:
                points[number].pass_()
                raise errors[number]
            return number

        maker = busy(thing, points[0], "made")
        waiters = [Call(thing).until_it_waits() for _ in range(8)]
        points[0].go()
        assert maker.error() is errors[0]
        points[1].reached()
        late = Call(thing).until_it_waits()
        points[1].go()
        assert {call.error() for call in (late, *waiters)} <= {errors[1], None}
        assert late.error() is errors[1]
        assert thing() == 2

    def test_a_reset_that_waits_for_a_failing_body(self) -> None:
        """Promises 3 and 10: a `reset` that waits for a making which fails has nothing to tear
        down, and raises nothing: the error is the callers'."""
        point = Point()

        @memoize
        def thing() -> int:
            point.pass_()
            raise ValueError("fails")

        maker = busy(thing, point, "made")
        resetters = [Call(reset, thing).until_it_waits(), Call(reset).until_it_waits()]
        point.go()
        assert isinstance(maker.error(), ValueError)
        assert [resetter.error() for resetter in resetters] == [None, None]

    def test_a_finalizer_whose_error_cannot_be_printed(self) -> None:
        """Promise 3: the body's error reaches its caller also where a finalizer fails with an error
        whose `repr` fails; a note says that it did."""

        class Unprintable(Exception):
            def __repr__(self) -> str:
                raise ArithmeticError("has none")

            __str__ = __repr__

        def fail() -> None:
            raise Unprintable

        @memoize
        def thing() -> None:
            finalizers.register(thing, fail)
            raise ValueError("body")

        with pytest.raises(ValueError, match="body") as raised:
            thing()
        (note,) = raised.value.__notes__
        assert "thing" in note
        assert "Unprintable" in note
        assert raised.value.__context__ is None

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_failure_leaves_nothing_behind(self, kind: type[BaseException]) -> None:
        """Promise 3: the error reaches its caller as it was raised, nothing is kept, and the next
        caller tries again."""
        error, tries = kind("as raised"), itertools.count()

        @memoize
        def thing() -> int:
            if next(tries) == 0:
                raise error
            return 42

        with pytest.raises(kind) as raised:
            thing()
        assert raised.value is error
        assert (error.__context__, error.__cause__) == (None, None)
        assert not hasattr(error, "__notes__")
        assert thing() == 42

    def test_finalizers_of_a_failed_body_run_first(self, ran: list[str]) -> None:
        """Promise 3: what the failed body registered runs first, last in first out, and a note on
        its error says what failed there."""

        def fail() -> None:
            ran.append("failing")
            raise KeyboardInterrupt("port still bound")

        @memoize
        def thing() -> Generator[int, None, None]:
            finalizers.register(thing, ran.append, "first")
            finalizers.register(thing, fail)
            finalizers.register(thing, ran.append, "last")
            raise ValueError("body")
            yield 1

        with pytest.raises(ValueError, match="body") as raised:
            thing()
        assert ran == ["last", "failing", "first"]
        (note,) = raised.value.__notes__
        assert "thing" in note
        assert "port still bound" in note
        assert len(finalizers) == 0


class TestDeadlock:
    def test_a_function_that_calls_itself_with_other_arguments(self) -> None:
        """Promise 4: the message names `key=` then, with which the function works."""

        def factorial(n: int) -> int:
            return n * product(n - 1) if n else 1

        product = memoize(factorial)
        with pytest.raises(DeadlockError, match=r"factorial.*key="):
            product(5)
        product = memoize(factorial, key=lambda n: n)
        assert product(5) == 120

    def test_a_ring_in_one_thread(self) -> None:
        """Promise 4: the message names the functions of the cycle, and only those; there is no
        other error behind it, and nothing is left behind."""

        @memoize
        def outside() -> object:
            return chicken()

        @memoize
        def chicken() -> object:
            return egg()

        @memoize
        def egg() -> object:
            return chicken()

        for _ in range(2):
            with pytest.raises(DeadlockError, match=r"\.chicken\b.*\.egg\b") as raised:
                outside()
            assert isinstance(raised.value, RuntimeError)
            assert ".outside" not in str(raised.value)
            assert raised.value.__context__ is None

    @pytest.mark.parametrize("closed", [True, False], ids=["ring", "chain"])
    def test_a_ring_across_threads(self, closed: bool) -> None:
        """Promise 4: of threads that need each other's objects in a ring exactly one is told; with
        one link fewer, nobody is."""
        count = 6
        barrier = threading.Barrier(count)
        told: list[BaseException] = []
        functions: list[Callable[[], int]] = []

        def member(i: int) -> int:
            barrier.wait(LIMIT)
            if closed or i < count - 1:
                try:
                    functions[(i + 1) % count]()
                except DeadlockError as error:
                    told.append(error)
            return i

        for _ in range(20):
            told.clear()
            functions[:] = [memoize(functools.partial(member, i)) for i in range(count)]
            results = [call.result() for call in [Call(f) for f in functions]]
            assert results == list(range(count))
            assert len(told) == closed
            assert all("member" in str(error) for error in told)

    def test_waiting_for_each_others_objects(self, ran: list[str]) -> None:
        """Promise 4: threads that merely wait for each other's different objects go on."""
        points = [Point(), Point()]
        one, other = [server(ran, str(i), point, "made") for i, point in enumerate(points)]
        first = Call(lambda: (one(), other()))
        second = Call(lambda: (other(), one()))
        for point in points:
            point.reached()
        points[0].go()
        first.until_it_waits()
        points[1].go()
        assert first.result() == second.result()[::-1] == ("0", "1")


class TestReferences:
    def test_arguments_are_not_kept(self) -> None:
        """Promise 5: nothing keeps the arguments of the call that made the object alive."""
        thing = memoize(lambda argument: [bool(argument)])
        argument = Thing()
        ref = weakref.ref(argument)
        thing(argument)
        del argument
        collect()
        assert ref() is None

    @pytest.mark.parametrize("key", [None, lambda: 1], ids=["single", "keyed"])
    @pytest.mark.parametrize("how", ["plain", "a cycle"])
    def test_an_object_dies_with_its_local_function(self, how: str, key: Any) -> None:
        """Promise 5: an object without teardown dies with its local function when that is
        collected, also where they refer to each other."""

        def make() -> tuple[Callable[[], Thing], weakref.ref[Thing]]:
            @memoize(key=key)
            def thing() -> Thing:
                made = Thing()
                if how == "a cycle":
                    vars(made)["again"] = thing
                return made

            return thing, weakref.ref(thing())

        thing, ref = make()
        collect()
        assert ref() is thing()
        del thing
        collect()
        assert ref() is None

    def test_an_object_with_teardown_outlives_its_local_function(self) -> None:
        """Promise 5: an object that has a teardown is kept until it is torn down, and so is its
        function; where the last finalizer was removed it has none any more."""

        def make(*, generator: bool = False, unregister: bool = False) -> weakref.ref[Thing]:
            @memoize
            def thing() -> Any:
                return (each for each in [Thing()]) if generator else Thing()

            ref = weakref.ref(thing())
            finalizers.register(thing, repr, ref)
            if unregister:
                finalizers.unregister(thing, repr)
            return ref

        refs = [make(), make(unregister=True), make(generator=True, unregister=True)]
        collect()
        assert [ref() is not None for ref in refs] == [True, False, True]
        assert len(finalizers) == 2

    @pytest.mark.skipif(sys.implementation.name != "cpython", reason="needs reference counts")
    def test_what_others_use_is_not_kept(self) -> None:
        """Promise 5: an object with a thread keeps nothing that other threads used meanwhile."""
        point = Point()

        def work() -> weakref.ref[Thing]:
            local = Thing()
            point.pass_()
            return weakref.ref(local)

        @memoize
        def thing() -> Generator[None, None, None]:
            Call(point.pass_)  # a thread, which is alive when the body ends
            yield

        call = Call(work)
        point.reached()
        thing()
        point.go()
        assert call.result()() is None


GREENLETS = """
from greenlet import getcurrent, greenlet

def pause():
    if getcurrent().parent is not None:  # the other one goes on
        getcurrent().parent.switch()

@memoize(key=lambda name: name)
def thing(name):
    pause()
    yield name
    pause()
    say(f"{name} gone")

reset_one = lambda name: reset(thing, key=name)
for action in [thing, reset_one] * 2:
    both = [greenlet(partial(action, name)) for name in "ab"]
    for each in [*both, *both]:  # both begin, and the first one ends first
        each.switch()
    say([each.dead for each in both])
for name in "ab":
    say(outcome(partial(thing, name)))
    say(outcome(partial(reset_one, name)))
say(len(finalizers))
"""


@pytest.mark.skipif(find_spec("greenlet") is None, reason="no greenlets here")
def test_greenlets_that_end_out_of_order(tmp_path: Path) -> None:
    """Promise 4: greenlets of one thread, without gevent, may make and tear down their objects in
    turns and end in any order: neither is taken for what the thread is at from then on."""
    ended = run(GREENLETS, tmp_path, ("-W", "ignore", "script.py"))  # that they need the GIL
    both = "[True, True]"
    turns = [both, "a gone", "b gone", both] * 2
    assert ended == said([*turns, "a", "a gone", "None", "b", "b gone", "None", "0"])


DEPTHS = """
class Key:
    def __hash__(self):
        return 1

    def __eq__(self, other):
        return type(other) is Key

class Other:
    def __hash__(self):
        return 1

@memoize(key=KEY)
def thing(key=Key()):
    begun.append("begun")
    finalizers.register(thing, gone.append, "gone")
    yield object()

def at_depth(depth, operation):
    return at_depth(depth - 1, operation) if depth else operation()

def prepare(made):
    if KEY:
        thing(Other())
    if made:
        thing()

def check(where):
    results = within(lambda: thing() is thing()), within(lambda: reset(thing)), within(reset)
    if (*results, len(finalizers)) != ("True", "None", "None", 0) or len(begun) < len(gone):
        say(f"{where}: {results} {len(finalizers)} {len(begun)} begun {len(gone)} gone")

begun, gone, errors = [], [], 0
limit = 150
sys.setrecursionlimit(limit)
for made, operation in ((False, thing), (True, partial(reset, thing)), (True, reset)):
    for depth in range(limit - 50, limit):
        prepare(made)
        try:
            at_depth(depth, operation)
        except BaseException as error:
            kept = error  # with the frames that it has come through
            errors += 1
        check(f"{operation} at {depth}")
say(errors > 20)
"""


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="its limit is one of bytes")
def test_recursion_errors(tmp_path: Path) -> None:
    """Promise 3: a RecursionError at any depth of the library, in a making or a teardown, leaves
    nothing half made or half torn down: the next call and the next reset work."""
    sources = {key: DEPTHS.replace("KEY", key) for key in ("None", "lambda key: key")}
    for ended in run_all(sources, tmp_path, measured=False).values():
        # Python may tell of a weak reference whose object has gone before it was stored
        assert ended == said(["True"])._replace(stderr=ended.stderr)


STOPPED = "import time; time.time = time.monotonic = time.perf_counter = lambda: 1.0\n"
FROZEN = "from freezegun import freeze_time; freeze_time('2026-01-01').start()\n"
WAITS = """
import asyncio
from threads import Call, Point

@memoize
async def connection():
    yield 1

def own_a_loop(point, blocked):
    with asyncio.Runner() as runner:
        runner.run(connection())
        if blocked:
            runner.get_loop().call_soon(point.pass_)
            runner.get_loop().run_forever()
        point.pass_()

for blocked in (False, True):
    point = Point()
    owner = Call(own_a_loop, point, blocked)
    point.reached()
    if not blocked:
        say(type(Call(reset, connection).error()).__name__)
        point.go()
        owner.join()
"""


@pytest.mark.skipif(sys.implementation.name == "pypy", reason="its SimpleQueue asks these clocks")
def test_clocks_that_stand_still(tmp_path: Path) -> None:
    """Promises 12 and 19: where the clocks that Python shows stand still, as under freezegun, no
    wait is endless: not for a loop that rests elsewhere, nor at exit for one that is blocked."""
    pytest.importorskip("freezegun")
    sources = {
        "patched before": STOPPED + PRELUDE + WAITS,
        "patched afterwards": PRELUDE + STOPPED + WAITS,
        "freezegun": PRELUDE + FROZEN + WAITS,
    }
    for ended in run_all(sources, tmp_path, prelude="").values():
        assert ended == said(["ExceptionGroup"])._replace(stderr=ended.stderr)
        assert "connection" in "".join(ended.stderr)
