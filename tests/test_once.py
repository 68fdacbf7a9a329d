"""Promises 1 to 5: made once."""

from __future__ import annotations

import functools
import itertools
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from processes import PRELUDE, run_all, said
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

    def test_any_value_is_kept(self) -> None:
        """Promise 1: None, False, an exception and every other value is kept, also one that minds
        being looked at, such as a dead proxy."""

        class Lazy:
            @property  # type: ignore[misc]
            def __class__(self) -> Any:
                raise ReferenceError("it is looked at")

        for value in (None, False, ValueError("kept"), NotImplemented, Lazy()):
            made: list[object] = []
            thing: Any = memoize(lambda value=value, made=made: (made.append(1), value)[1])
            assert thing() is thing() is value
            assert made == [1]

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
        """What is memoized already is given back as it is; with other options that is a TypeError
        that names it, and with the same ones it is not."""

        @memoize(inherit=True)
        def thing() -> object:
            return object()

        assert memoize(thing) is memoize(thing, inherit=True) is memoize()(thing) is thing
        with pytest.raises(TypeError, match=r"thing is memoized already: .*finalizer="):
            memoize(thing, finalizer=print)


class TestThreads:
    @pytest.mark.parametrize("fails", [False, True])
    def test_concurrent_callers(self, fails: bool) -> None:
        """Promises 2 and 3: callers that arrive while the object is being made wait for it, and get
        it; an error goes to the caller of the body alone, and one of those who wait makes anew."""
        point, made = Point(), itertools.count()

        @memoize
        def thing() -> list[int]:
            number = next(made)
            if number == 0:
                point.pass_()
                if fails:
                    raise ValueError("first")
            return [number]

        maker = Call(thing)
        point.reached()
        waiters = [Call(thing).until_it_waits() for _ in range(8)]
        point.go()
        assert isinstance(maker.error(), ValueError) is fails
        assert all(waiter.result() is thing() for waiter in waiters)
        assert thing() == [int(fails)]

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
