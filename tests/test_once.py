"""Promises 1 to 5: made once."""

from __future__ import annotations

import asyncio
import gc
import itertools
import signal
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from threads import LIMIT, Call, Point, collect

from memoize_once import DeadlockError, areset, finalizers, memoize, reset


def until_it_waits(thread: int) -> None:
    """Returns when the thread waits for another one's object."""
    while (frame := sys._current_frames()[thread]).f_code.co_name != "wait" or "gate" not in frame.f_locals:
        time.sleep(0.001)


class Thing:
    """What can be referred to weakly."""


class TestFirstCall:
    def test_every_call_returns_the_first_object(self) -> None:
        """Promise 1: the first call runs the body, and every later one returns the same object, whatever its arguments."""
        made = itertools.count()

        @memoize
        def thing(port: int, host: str = "here") -> list[int]:
            return [next(made)]

        first = thing(1)
        assert thing(2) is thing(port=3, host="there") is first == [0]

    @pytest.mark.parametrize("value", [None, False, 0, "", ValueError("kept"), StopIteration(), NotImplemented], ids=repr)
    def test_any_value_is_kept(self, value: object) -> None:
        """Promise 1: None, False, an exception and every other value is kept."""
        made = []

        @memoize
        def thing() -> object:
            made.append(1)
            return value

        assert thing() is thing() is value
        assert made == [1]

    @pytest.mark.parametrize("hit", [False, True], ids=["miss", "hit"])
    def test_arguments_are_checked(self, hit: bool) -> None:
        """Promise 1: a wrong call raises the TypeError of the function's own code, whether the object is there or not."""

        def thing(a: int, /, b: int = 2, *, c: int) -> object:
            return object()

        memoized: Callable[..., object] = memoize(thing)
        if hit:
            memoized(1, c=3)
        for args, kwargs in [((), {}), ((1,), {}), ((1, 2, 3), {"c": 3}), ((1,), {"c": 3, "d": 4}), ((), {"a": 1, "c": 3})]:
            with pytest.raises(TypeError) as expected:
                thing(*args, **kwargs)
            with pytest.raises(TypeError) as raised:
                memoized(*args, **kwargs)
            assert str(raised.value) == str(expected.value)

    def test_parentheses_are_optional(self) -> None:
        """The decorator works with and without parentheses."""

        @memoize()
        def thing() -> object:
            return object()

        assert thing() is thing()

    def test_what_would_have_to_be_awaited(self) -> None:
        """A plain function that returns a coroutine, or an async generator, raises TypeError that says what to write: who awaits it second
        would get nothing."""

        async def coroutine() -> int:
            return 1

        async def async_generator() -> AsyncGenerator[int, None]:
            yield 1

        for inner in (coroutine, async_generator):

            @memoize
            def outer(inner: Callable[[], object] = inner) -> object:
                return inner()

            instead = "write it, or what wraps it, with `async def`"
            with pytest.raises(
                TypeError, match=rf"outer is no async function but returns <{inner.__name__.replace('_', '.')} .*: {instead}"
            ):
                outer()

    def test_memoized_already(self) -> None:
        """What is memoized already is given back as it is; other options raise TypeError that names it, and the same ones do not."""

        @memoize(inherit=True)
        def thing() -> object:
            return object()

        assert memoize(thing) is memoize(thing, inherit=True) is memoize()(thing) is thing
        with pytest.raises(TypeError, match=r"thing is memoized already: give finalizer= where it is memoized first"):
            memoize(thing, finalizer=print)


class TestThreads:
    def test_concurrent_callers_share_one_making(self) -> None:
        """Promise 2: callers that arrive while the object is being made wait for it, and get it."""
        point, made = Point(), itertools.count()

        @memoize
        def thing() -> list[int]:
            point.pass_()
            return [next(made)]

        maker = Call(thing)
        point.reached()
        waiters = [Call(thing).until_it_waits() for _ in range(8)]
        point.go()
        first = maker.result()
        assert first == [0]
        assert all(waiter.result() is first for waiter in waiters)

    @pytest.mark.parametrize("key", [None, lambda: 1], ids=["single", "keyed"])
    def test_a_hit_takes_no_lock(self, key: Callable[[], int] | None) -> None:
        """Promise 2: a hit calls nothing, no lock either, but the key function."""
        called: list[str] = []

        def profile(frame: FrameType, event: str, argument: Any) -> None:
            if event.endswith("call"):
                called.append(frame.f_code.co_name if event == "call" else argument.__name__)

        @memoize(key=key)
        def thing() -> object:
            return object()

        thing()
        sys.setprofile(profile)
        try:
            thing()
        finally:
            sys.setprofile(None)
        assert called == ["thing", *["<lambda>"] * (key is not None), "setprofile"]

    def test_a_race_has_one_winner(self) -> None:
        """Promise 2: however many threads call at the same instant, the body runs once."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(50):
                made: list[int] = []
                barrier = threading.Barrier(8)

                @memoize
                def thing(made: list[int] = made) -> object:
                    made.append(1)
                    return object()

                def call(thing: Callable[[], object] = thing, barrier: threading.Barrier = barrier) -> object:
                    barrier.wait(LIMIT)
                    return thing()

                assert len({id(each.result()) for each in [Call(call) for _ in range(8)]}) == 1
                assert made == [1]
        finally:
            sys.setswitchinterval(interval)

    @pytest.mark.parametrize("busy", ["making", "teardown"])
    def test_objects_do_not_block_each_other(self, busy: str) -> None:
        """Promise 2: making or tearing down one object blocks neither the making, the use nor the teardown of another."""
        point = Point()

        @memoize
        def slow() -> Generator[int, None, None]:
            if busy == "making":
                point.pass_()
            yield 1
            if busy == "teardown":
                point.pass_()

        @memoize
        def quick() -> Generator[int, None, None]:
            yield 2

        if busy == "teardown":
            slow()
        call = Call(slow) if busy == "making" else Call(reset, slow)
        point.reached()
        assert quick() == quick() == 2
        reset(quick)
        assert quick() == 2
        point.go()
        call.result()

    @pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no pthread_kill")
    def test_a_waiting_main_thread_can_be_interrupted(self) -> None:
        """Promise 2: Ctrl-C reaches a main thread that waits for another thread's making, which goes on unharmed."""
        point, main = Point(), threading.get_ident()

        @memoize
        def thing() -> object:
            point.pass_()
            return object()

        def interrupt() -> None:
            until_it_waits(main)
            signal.pthread_kill(main, signal.SIGINT)

        maker = Call(thing)
        point.reached()
        interrupter = Call(interrupt)
        with pytest.raises(KeyboardInterrupt):
            thing()
        interrupter.result()
        point.go()
        assert maker.result() is thing()


class TestFailure:
    @pytest.mark.parametrize("kind", [ValueError, StopIteration, KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
    @pytest.mark.parametrize("generator", [False, True], ids=["function", "generator"])
    def test_a_failure_leaves_nothing_behind(self, kind: type[BaseException], generator: bool) -> None:
        """Promise 3: the error reaches its caller as it was raised, nothing is kept, and the next caller tries again."""
        if generator and kind is StopIteration:
            pytest.skip("Python itself turns it into a RuntimeError")
        error, tries = kind("as raised"), itertools.count()

        def body() -> int:
            if next(tries) == 0:
                raise error
            return 42

        def generating() -> Generator[int, None, None]:
            yield body()

        thing: Callable[[], Any] = memoize(generating if generator else body)
        with pytest.raises(kind) as raised:
            thing()
        assert raised.value is error
        assert error.__context__ is None
        assert error.__cause__ is None
        assert not hasattr(error, "__notes__")
        assert len(finalizers) == 0
        assert thing() == 42

    def test_one_of_those_waiting_tries_again(self) -> None:
        """Promise 3: the error goes to the caller of the body alone; one of those who wait makes anew, and the others get that."""
        point, tries = Point(), itertools.count()

        @memoize
        def thing() -> object:
            if next(tries) == 0:
                point.pass_()
                raise ValueError("first")
            return object()

        maker = Call(thing)
        point.reached()
        waiters = [Call(thing).until_it_waits() for _ in range(4)]
        point.go()
        assert isinstance(maker.error(), ValueError)
        assert len({id(waiter.result()) for waiter in waiters}) == 1
        assert next(tries) == 2

    def test_finalizers_of_a_failed_body_run_first(self) -> None:
        """Promise 3: what the failed body registered runs first, last in first out, and a note on its error says what failed there."""
        ran: list[str] = []

        def fail() -> None:
            ran.append("failing")
            raise OSError("port still bound")

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


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts no frames")
class TestRecursionLimit:
    """Promises 3 and 10: a RecursionError, wherever it comes in the library, leaves a function that works."""

    @staticmethod
    def at_every_depth(call: Callable[[], object]) -> Iterator[None]:
        """To be checked after each call."""

        def deep(frames: int) -> object:
            return deep(frames - 1) if frames else call()

        limit = sys.getrecursionlimit()
        refused = 0
        for frames in range(limit - 150, limit):
            try:
                deep(frames)
            except (RecursionError, ExceptionGroup):
                refused += 1
            yield
        assert 0 < refused < 150

    def test_calls(self) -> None:
        @memoize
        def thing() -> Generator[int, None, None]:
            yield 1

        for _ in self.at_every_depth(thing):
            assert Call(thing).result() == 1
            reset(thing)

    def test_resets(self) -> None:
        torn_down: list[int] = []

        @memoize
        def thing() -> Generator[int, None, None]:
            yield 1
            torn_down.append(1)

        thing()
        for _ in self.at_every_depth(lambda: reset(thing)):
            Call(reset, thing).result()
            assert torn_down == [1]
            torn_down.clear()
            thing()
        reset(thing)

    def test_resets_of_what_a_loop_keeps(self) -> None:
        torn_down: list[int] = []

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            torn_down.append(1)

        with asyncio.Runner() as runner:
            runner.run(thing())
            for _ in self.at_every_depth(lambda: reset(thing)):
                reset(thing)
                assert torn_down == [1]
                torn_down.clear()
                runner.run(thing())
            reset(thing)

    def test_awaited_calls(self) -> None:
        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1

        def call() -> None:
            coroutine = thing()
            try:
                coroutine.send(None)
            finally:
                coroutine.close()

        async def main() -> None:
            for _ in self.at_every_depth(call):
                async with asyncio.timeout(LIMIT):
                    assert await thing() == 1
                    await areset(thing)

        asyncio.run(main())


class TestDeadlock:
    def test_an_object_that_needs_itself(self) -> None:
        """Promise 4: direct recursion raises DeadlockError, a RuntimeError that names the function, and leaves nothing behind."""

        @memoize
        def ouroboros() -> object:
            return ouroboros()

        for _ in range(2):
            with pytest.raises(DeadlockError, match=r"ouroboros -> .*ouroboros") as raised:
                ouroboros()
            assert isinstance(raised.value, RuntimeError)

    def test_a_ring_in_one_thread(self) -> None:
        """Promise 4: the message names the functions of the cycle, and only those."""

        @memoize
        def outside() -> object:
            return chicken()

        @memoize
        def chicken() -> object:
            return egg()

        @memoize
        def egg() -> object:
            return chicken()

        with pytest.raises(DeadlockError, match=r"chicken -> \S*egg -> \S*chicken\.") as raised:
            outside()
        assert "outside" not in str(raised.value).replace("test_a_ring_in_one_thread", "")

    @pytest.mark.parametrize("closed", [True, False], ids=["ring", "chain"])
    def test_a_ring_across_threads(self, closed: bool) -> None:
        """Promise 4: of threads that need each other's objects in a ring exactly one is told; with one link fewer, nobody is."""
        count = 6
        barrier = threading.Barrier(count)
        told: list[BaseException] = []
        functions: list[Callable[[], int]] = []

        def function(i: int) -> Callable[[], int]:
            @memoize
            def member() -> int:
                barrier.wait(LIMIT)
                if closed or i < count - 1:
                    try:
                        functions[(i + 1) % count]()
                    except DeadlockError as error:
                        told.append(error)
                return i

            return member

        for _ in range(20):
            told.clear()
            functions[:] = [function(i) for i in range(count)]
            assert [call.result() for call in [Call(f) for f in functions]] == list(range(count))
            assert len(told) == closed
            if closed:
                assert str(told[0]).count("member") == count + 1

    def test_waiting_for_each_others_objects(self) -> None:
        """Promise 4: threads that merely wait for each other's different objects go on."""
        one_point, other_point = Point(), Point()

        @memoize
        def one() -> str:
            one_point.pass_()
            return "one"

        @memoize
        def other() -> str:
            other_point.pass_()
            return "other"

        first = Call(lambda: (one(), other()))
        second = Call(lambda: (other(), one()))
        one_point.reached()
        other_point.reached()
        one_point.go()
        first.until_it_waits()
        other_point.go()
        assert first.result() == second.result()[::-1] == ("one", "other")

    def test_a_wait_that_is_over(self) -> None:
        """Promise 4: a body that has waited for an object no longer does: the teardown of that one may wait for this body."""
        in_needed, in_needing = Point(), Point()

        @memoize
        def needed() -> Generator[str, None, None]:
            in_needed.pass_()
            yield "needed"
            assert needing() == "needed for needing"

        @memoize
        def needing() -> str:
            value = needed()
            in_needing.pass_()
            return value + " for needing"

        maker = Call(needed)
        in_needed.reached()
        waiter = Call(needing).until_it_waits()
        in_needed.go()
        maker.result()
        in_needing.reached()
        resetter = Call(reset, needed).until_it_waits()
        in_needing.go()
        waiter.result()
        resetter.result()

    @pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no pthread_kill")
    def test_a_wait_that_was_refused(self) -> None:
        """Promise 4: nor does a body that was told of a deadlock, and goes on without the object."""
        begun, refused, interrupted = Point(), Point(), threading.Event()

        @memoize
        def body() -> str:
            begun.pass_()
            with pytest.raises(DeadlockError):
                other()
            refused.pass_()
            return "body"

        @memoize
        def other() -> str:
            with pytest.raises(KeyboardInterrupt):
                body()
            interrupted.set()
            return body()

        def interrupt(main: int = threading.get_ident()) -> None:
            until_it_waits(main)
            begun.go()
            refused.reached()
            signal.pthread_kill(main, signal.SIGINT)
            assert interrupted.wait(LIMIT)
            until_it_waits(main)
            refused.go()

        maker = Call(body)
        begun.reached()
        interrupter = Call(interrupt)
        assert other() == maker.result() == "body"
        interrupter.result()

    def test_a_teardown_in_the_ring(self) -> None:
        """Promise 4: a ring may run through a reset and a teardown, too."""
        in_body, in_teardown = Point(), Point()

        @memoize
        def torn() -> Generator[int, None, None]:
            yield 1
            in_teardown.pass_()
            waiting()

        @memoize
        def waiting() -> int:
            in_body.pass_()
            return torn()

        torn()
        maker = Call(waiting)
        resetter = Call(reset, torn)
        in_body.reached()
        in_teardown.reached()
        in_body.go()
        maker.until_it_waits()
        in_teardown.go()
        error = resetter.error()
        assert isinstance(error, ExceptionGroup)
        assert isinstance(error.exceptions[0], DeadlockError)
        assert maker.result() == 1


class TestReferences:
    def test_arguments_are_not_kept(self) -> None:
        """Promise 5: nothing keeps the arguments of the call that made the object alive."""

        @memoize
        def thing(argument: Thing) -> object:
            return object()

        argument = Thing()
        ref = weakref.ref(argument)
        thing(argument)
        del argument
        collect()
        assert ref() is None

    @pytest.mark.skipif(sys.implementation.name != "cpython", reason="elsewhere everything waits for a collection")
    def test_arguments_are_not_kept_under_a_tracer(self) -> None:
        """Promise 5: nor does a debugger, which looks at the variables of every frame, keep them until the next collection."""

        @memoize
        def thing(argument: Thing) -> object:
            return object()

        def trace(frame: FrameType, event: str, _: object) -> Any:
            assert frame.f_locals is not None
            return trace

        argument = Thing()
        ref = weakref.ref(argument)
        tracer = sys.gettrace()
        gc.disable()
        try:
            sys.settrace(trace)
            thing(argument)
            sys.settrace(tracer)
            del argument
            assert ref() is None
        finally:
            sys.settrace(tracer)
            gc.enable()

    @pytest.mark.parametrize("recursive", [False, True], ids=["plain", "in its own closure"])
    def test_an_object_dies_with_its_local_function(self, recursive: bool) -> None:
        """Promise 5: an object without teardown dies with its function when that is collected."""

        def make() -> tuple[Callable[[], Thing], weakref.ref[Thing]]:
            @memoize
            def thing() -> Thing:
                return Thing() if callable(thing) or not recursive else None

            return thing, weakref.ref(thing())

        thing, ref = make()
        collect()
        assert ref() is thing()
        del thing
        collect()
        assert ref() is None

    @pytest.mark.parametrize("keyed", [False, True], ids=["one", "for each key"])
    def test_an_object_that_refers_to_its_function(self, keyed: bool) -> None:
        """Promise 5: so does one that refers to that function, directly or not."""

        def make() -> weakref.ref[Thing]:
            @memoize(key=(lambda: 1) if keyed else None)
            def thing() -> Thing:
                made = Thing()
                vars(made)["again"] = lambda: reset(thing)
                return made

            return weakref.ref(thing())

        ref = make()
        collect()
        assert ref() is None

    def test_an_object_with_teardown_outlives_its_local_function(self) -> None:
        """Promise 5: an object that has a teardown is kept until it is torn down, and so is its function."""
        ran: list[str] = []

        def make() -> None:
            @memoize
            def thing() -> Generator[int, None, None]:
                yield 1
                ran.append("torn down")

            thing()

        make()
        collect()
        assert len(list(finalizers)) == 1
        reset()
        assert ran == ["torn down"]

    def test_without_its_last_finalizer_it_dies_with_its_function(self) -> None:
        """Promise 5: an object whose finalizers were all removed is one without teardown; the rest of a generator cannot be removed."""

        def make(*callbacks: Callable[..., object], generator: bool = False) -> weakref.ref[Thing]:
            @memoize
            def thing() -> Thing:
                return Thing()

            @memoize
            def generating() -> Generator[Thing, None, None]:
                yield Thing()

            function = generating if generator else thing
            ref = weakref.ref(function())
            for callback in callbacks:
                finalizers.register(function, callback)
            finalizers.unregister(function, next)
            return ref

        refs = [make(next), make(next, int), make(next, generator=True)]
        assert len(finalizers) == 2
        collect()
        assert [ref() is not None for ref in refs] == [False, True, True]

    @pytest.mark.skipif(sys.implementation.name != "cpython", reason="nothing dies without the collector")
    def test_no_garbage_of_functions(self) -> None:
        """Promise 5: a local function and its object need no collector to die."""

        @memoize
        def thing() -> Thing:
            return Thing()

        collect()
        gc.disable()
        try:
            ref = weakref.ref(thing())
            del thing
            assert ref() is None
        finally:
            gc.enable()

    def test_no_garbage_of_failures(self) -> None:
        """Promise 5: nor does a making that has failed, together with a finalizer."""
        ref: list[weakref.ref[Thing]] = []

        def fail() -> None:
            local = Thing()
            ref.append(weakref.ref(local))
            raise OSError

        @memoize
        def thing() -> Thing:
            finalizers.register(thing, fail)
            raise ValueError

        collect()
        gc.disable()
        try:
            with suppress(ValueError):
                thing()
            if sys.implementation.name == "cpython":
                assert ref[0]() is None
        finally:
            gc.enable()

    def test_no_garbage(self) -> None:
        """Promise 5: a life that is over leaves no cycle for the collector, not after failures either."""
        ref: list[weakref.ref[Thing]] = []

        @memoize(finalizer=lambda thing: 1 / 0)
        def thing() -> Thing:
            made = Thing()
            ref.append(weakref.ref(made))
            return made

        collect()
        gc.disable()
        try:
            thing()
            with pytest.raises(ExceptionGroup):
                reset(thing)
            if sys.implementation.name == "cpython":
                assert ref[0]() is None
        finally:
            gc.enable()
