"""Promises 6 to 11: torn down once."""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from threads import LIMIT, Call, Point, collect

from memoize_once import DeadlockError, areset, finalizers, memoize, reset


@pytest.fixture
def ran() -> list[str]:
    return []


class TestGenerators:
    def test_the_rest_is_the_teardown(self, ran: list[str]) -> None:
        """Promise 6: a generator function makes what it yields, and what comes after is its teardown."""

        @memoize
        def thing() -> Generator[str, None, None]:
            ran.append("up")
            yield "object"
            ran.append("down")

        assert thing() == thing() == "object"
        assert ran == ["up"]
        reset(thing)
        assert ran == ["up", "down"]
        thing()
        assert ran == ["up", "down", "up"]

    def test_a_decorated_generator_function(self, ran: list[str]) -> None:
        """Promise 6: a function that returns a generator is a generator function, whatever stands between."""

        def original() -> Generator[str, None, None]:
            yield "object"
            ran.append("down")

        @functools.wraps(original)
        def wrapper() -> Generator[str, None, None]:
            return original()

        for function in (wrapper, functools.partial(original), lambda: original()):
            thing = memoize(function)
            assert thing() == "object"
            reset(thing)
            assert ran.pop() == "down"

    def test_one_that_never_yields(self, ran: list[str]) -> None:
        """Promise 6: a generator that never yields raises RuntimeError that names function, file and line, and leaves nothing behind."""

        @memoize
        def barren() -> Generator[str, None, None]:
            finalizers.register(barren, ran.append, "finalizer")
            if ran == ["never"]:
                yield "object"

        line = barren.__code__.co_firstlineno
        with pytest.raises(RuntimeError, match=rf"barren yields no object \(.*test_teardown\.py:{line}\).*yields it once"):
            barren()
        assert ran == ["finalizer"]
        assert barren not in finalizers

    def test_one_that_yields_twice(self, ran: list[str]) -> None:
        """Promise 6: one that yields again raises RuntimeError from its teardown, which names the same, and is closed."""

        @memoize
        def fertile() -> Generator[int, None, None]:
            try:
                yield 1
                yield 2
            finally:
                ran.append("closed")

        line = fertile.__code__.co_firstlineno
        assert fertile() == 1
        with pytest.raises(ExceptionGroup) as raised:
            reset(fertile)
        assert pytest.RaisesGroup(
            pytest.RaisesExc(RuntimeError, match=rf"fertile yields more than once \(.*test_teardown\.py:{line}\)")
        ).matches(raised.value)
        assert ran == ["closed"]

    def test_one_that_yields_twice_and_fails(self) -> None:
        """Promise 6: it is told that it yields twice, and its own error comes along."""

        @memoize
        def thing() -> Generator[int, None, None]:
            try:
                yield 1
                yield 2
            finally:
                raise OSError("in finally")

        thing()
        with pytest.raises(ExceptionGroup) as raised:
            reset(thing)
        (error,) = raised.value.exceptions
        assert "yields more than once" in str(error)
        assert isinstance(error.__context__, OSError)


class TestOrder:
    def test_finalizers_of_one_object(self, ran: list[str]) -> None:
        """Promise 7: last in first out, where the rest of a generator counts as registered at its `yield` and `finalizer=` right after."""

        @memoize(finalizer=lambda value: ran.append(f"finalizer= of {value}"))
        def thing() -> Generator[str, None, None]:
            finalizers.register(thing, ran.append, "registered in the body")
            yield "object"
            ran.append("rest of the generator")

        thing()
        finalizers.register(thing, ran.append, "registered afterwards")
        assert len(finalizers) == 4
        reset(thing)
        assert ran == ["registered afterwards", "finalizer= of object", "rest of the generator", "registered in the body"]

    def test_what_was_built_on_another_goes_first(self, ran: list[str]) -> None:
        """Promise 7: objects go in the reverse of the order in which their making finished; a later registration does not move one."""

        @memoize
        def base() -> Generator[str, None, None]:
            yield "base"
            ran.append("base")

        @memoize
        def top() -> Generator[str, None, None]:
            base()
            yield "top"
            ran.append("top")

        @memoize
        def alone() -> Generator[str, None, None]:
            yield "alone"
            ran.append("alone")

        top()
        alone()
        finalizers.register(base, ran.append, "registered late on base")
        assert list(finalizers) == [alone, top, base]
        reset(base, alone, top, base)
        assert ran == ["alone", "top", "registered late on base", "base"]
        assert list(finalizers) == []

    def test_each_finalizer_runs_once(self) -> None:
        """Promise 7: however many threads reset at the same instant, each finalizer runs exactly once."""
        for _ in range(30):
            count, barrier = itertools.count(), threading.Barrier(8)

            @memoize
            def thing(count: Iterator[int] = count) -> Generator[object, None, None]:
                yield object()
                next(count)

            def end(i: int, thing: Any = thing, barrier: threading.Barrier = barrier) -> None:
                barrier.wait(LIMIT)
                reset(thing) if i % 2 else reset()

            thing()
            for call in [Call(end, i) for i in range(8)]:
                call.result()
            assert next(count) == 1


class TestErrors:
    def test_one_failing_finalizer_stops_no_other(self, ran: list[str]) -> None:
        """Promise 8: the rest still runs, and `reset` raises all errors in an ExceptionGroup, each with a note that names its function."""

        @memoize
        def first() -> Generator[int, None, None]:
            yield 1
            ran.append("first")
            raise ValueError("of first")

        @memoize
        def second() -> int:
            finalizers.register(second, ran.append, "second")
            finalizers.register(second, int, "of second")
            return first()

        second()
        with pytest.raises(ExceptionGroup) as raised:
            reset()
        assert ran == ["second", "first"]
        of_second, of_first = raised.value.exceptions
        assert "of second" in str(of_second)
        assert "second" in of_second.__notes__[0]
        assert str(of_first) == "of first"
        assert "of first" in repr(raised.value)
        assert "first" in of_first.__notes__[0]
        reset()

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_errors_that_are_no_exceptions(self, ran: list[str], kind: type[BaseException]) -> None:
        """Promise 8: a BaseException stops no other finalizer either, and comes in a BaseExceptionGroup."""

        @memoize
        def thing() -> int:
            finalizers.register(thing, ran.append, "first")
            finalizers.register(thing, next, iter(()))
            return 1

        def fail() -> None:
            raise kind

        thing()
        finalizers.register(thing, fail)
        with pytest.raises(BaseExceptionGroup) as raised:
            reset(thing)
        assert not isinstance(raised.value, ExceptionGroup)
        assert [type(error) for error in raised.value.exceptions] == [kind, StopIteration]
        assert ran == ["first"]

    def test_errors_that_take_no_notes(self, ran: list[str]) -> None:
        """Promises 3 and 8: an error whose attributes are frozen is raised as it is, by a reset and by a failed body."""

        class Frozen(Exception):
            def __setattr__(self, name: str, value: object) -> None:
                raise AttributeError("frozen")

        @memoize
        def thing() -> None:
            finalizers.register(thing, fail)
            if not ran:
                raise Frozen("of the body")

        def fail() -> None:
            raise Frozen("of a finalizer")

        with pytest.raises(Frozen, match="of the body"):
            thing()
        ran.append("again")
        thing()
        with pytest.raises(ExceptionGroup) as raised:
            reset(thing)
        assert [str(error) for error in raised.value.exceptions] == ["of a finalizer"]


class TestWhileItEnds:
    def test_callers_wait_and_make_anew(self, ran: list[str]) -> None:
        """Promise 9: while the object is torn down callers wait, then one makes a new one and all get that."""
        point, numbers = Point(), itertools.count()

        @memoize
        def port() -> Generator[int, None, None]:
            number = next(numbers)
            ran.append(f"bind {number}")
            yield number
            if number == 0:
                point.pass_()
            ran.append(f"free {number}")

        port()
        resetter = Call(reset, port)
        point.reached()
        callers = [Call(port).until_it_waits() for _ in range(4)]
        point.go()
        resetter.result()
        assert {caller.result() for caller in callers} == {1}
        assert ran == ["bind 0", "free 0", "bind 1"]

    def test_its_own_finalizers_get_it(self, ran: list[object]) -> None:
        """Promise 9: a finalizer that calls the function gets the object that is being torn down."""

        @memoize
        def thing() -> Generator[object, None, None]:
            finalizers.register(thing, lambda: ran.append(thing()))
            yield object()
            ran.append(thing())

        value = thing()
        reset(thing)
        assert ran == [value, value]


class TestReset:
    def test_it_waits_for_another_threads_making(self, ran: list[str]) -> None:
        """Promise 10: when `reset(f)` returns f's object is gone, also where another thread was just making it."""
        point = Point()

        @memoize
        def thing() -> Generator[int, None, None]:
            point.pass_()
            yield 1
            ran.append("down")

        for everything in (False, True):
            maker = Call(thing)
            point.reached()
            resetter = Call(reset) if everything else Call(reset, thing)
            resetter.until_it_waits()
            point.go()
            resetter.result()
            assert maker.result() == 1
            assert ran.pop() == "down"
            assert thing not in finalizers
            point.__init__()  # type: ignore[misc]

    @pytest.mark.parametrize("everything", [False, True])
    def test_it_waits_for_another_threads_teardown(self, everything: bool, ran: list[str]) -> None:
        """Promise 10: it also waits for another thread that tears it down."""
        point = Point()

        @memoize
        def thing() -> Generator[int, None, None]:
            yield 1
            point.pass_()
            ran.append("down")

        def work() -> list[str]:
            reset(*functions)
            return list(ran)

        thing()
        functions = () if everything else (thing,)
        first = Call(reset, thing)
        point.reached()
        second = Call(work).until_it_waits()
        point.go()
        first.result()
        assert second.result() == ["down"]

    def test_after_a_wait(self, ran: list[str]) -> None:
        """Promise 10: a thread that has waited for an object is inside of no body: its `reset()` waits for what others make."""
        in_thing, waited, in_slow = Point(), Point(), Point()

        @memoize
        def thing() -> int:
            in_thing.pass_()
            return 1

        @memoize
        def slow() -> Generator[int, None, None]:
            in_slow.pass_()
            yield 2
            ran.append("slow")

        def work() -> list[str]:
            thing()
            waited.pass_()
            reset()
            return list(ran)

        maker = Call(thing)
        in_thing.reached()
        worker = Call(work).until_it_waits()
        in_thing.go()
        maker.result()
        waited.reached()
        slow_maker = Call(slow)
        in_slow.reached()
        waited.go()
        worker.until_it_waits()
        in_slow.go()
        assert worker.result() == ["slow"]
        slow_maker.result()

    @pytest.mark.parametrize("where", ["making", "teardown"])
    def test_inside(self, where: str, ran: list[str]) -> None:
        """Promise 10: inside f's making or teardown `reset(f)` raises DeadlockError and tears nothing down, and `reset()` leaves f out."""

        @memoize
        def other() -> Generator[int, None, None]:
            yield 1
            ran.append("other")

        def inside() -> None:
            other()
            with pytest.raises(DeadlockError, match="thing"):
                reset(other, thing)
            assert ran == []
            reset()
            assert ran == ["other"]

        @memoize
        def thing() -> Generator[int, None, None]:
            if where == "making":
                inside()
            yield 2
            if where == "teardown":
                inside()

        assert thing() == 2
        assert thing in finalizers
        reset(thing)
        assert thing not in finalizers

    def test_everything_inside_leaves_out_what_others_make(self) -> None:
        """Promise 10: `reset()` inside a body waits for nobody: it leaves out what another thread is making."""
        point = Point()

        @memoize
        def slow() -> int:
            point.pass_()
            return 1

        @memoize
        def thing() -> int:
            reset()
            return 2

        maker = Call(slow)
        point.reached()
        assert Call(thing).result() == 2
        point.go()
        assert maker.result() == slow() == 1

    def test_everything_inside_leaves_out_what_others_tear_down(self, ran: list[str]) -> None:
        """Promise 10: `reset()` inside a body waits for nobody, not for one who begins a teardown while it is on its way there either."""
        point = Point()
        others: list[Call] = []

        @memoize
        def low() -> Generator[int, None, None]:
            yield 1
            point.pass_()
            ran.append("low")

        @memoize
        def high() -> Generator[int, None, None]:
            yield 2
            others.append(Call(reset, low))
            point.reached()
            ran.append("high")

        @memoize
        def thing() -> list[str]:
            low()
            high()
            reset()
            return list(ran)

        assert Call(thing).result() == ["high"]
        point.go()
        others[0].result()
        assert ran == ["high", "low"]

    def test_a_finalizer_that_resets_another(self, ran: list[str]) -> None:
        """Promise 7: a reset finds gone what a finalizer of its own has reset before, and goes on."""

        @memoize
        def low() -> Generator[int, None, None]:
            yield 1
            ran.append("low")

        @memoize
        def high() -> Generator[int, None, None]:
            yield 2
            reset(low)
            ran.append("high")

        low()
        high()
        reset(high, low)
        assert ran == ["low", "high"]

    @pytest.mark.parametrize("how", [reset, lambda: asyncio.run(areset())], ids=["reset", "areset"])
    def test_a_finalizer_that_drops_another_function(self, how: Callable[[], None], ran: list[str]) -> None:
        """Promise 7: a reset of everything goes on where a function without a teardown is gone, with its object, when its turn comes."""
        lows = [memoize(lambda: "low")]
        lows[0]()

        @memoize
        def high() -> Generator[int, None, None]:
            yield 1
            lows.clear()
            collect()
            ran.append("high")

        high()
        how()
        assert ran == ["high"]

    def test_resets_that_wait_for_each_other(self, ran: list[str]) -> None:
        """Promises 4 and 10: of two resets whose finalizers reset each other's object one is told, and both tear down all they have to."""
        one_point, other_point = Point(), Point()

        @memoize
        def last() -> Generator[int, None, None]:
            yield 0
            ran.append("last")

        @memoize
        def one() -> Generator[int, None, None]:
            yield 1
            one_point.pass_()
            reset(last, other)

        @memoize
        def other() -> Generator[int, None, None]:
            yield 2
            other_point.pass_()
            reset(one)

        for function in (last, one, other):
            function()
        waiting = Call(reset, other)
        other_point.reached()
        told = Call(reset, one)
        one_point.reached()
        other_point.go()
        waiting.until_it_waits()
        one_point.go()
        error = told.error()
        assert pytest.RaisesGroup(pytest.RaisesGroup(pytest.RaisesExc(DeadlockError, match="one -> .*other -> .*one"))).matches(error)
        assert waiting.error() is None
        assert ran == ["last"]
        assert len(finalizers) == 0

    def test_nothing_to_do(self) -> None:
        """Promise 10: `reset` of what holds no object does nothing, nor does `reset()` where nothing is alive."""

        @memoize
        def thing() -> int:
            return 1

        reset(thing)
        reset(thing, thing)
        reset()
        thing()
        reset(thing)
        reset(thing)

    def test_it_takes_whatever_wraps_a_memoized_function(self) -> None:
        """Promise 10: x"""
        numbers = itertools.count()

        class Owner:
            @memoize
            def method(self) -> int:
                return next(numbers)

            @staticmethod
            @memoize
            def static() -> int:
                return next(numbers)

            @classmethod
            @memoize
            def class_(cls) -> int:
                return next(numbers)

            @property
            @memoize
            def property_(self) -> int:
                return next(numbers)

        @memoize
        def plain() -> int:
            return next(numbers)

        @functools.wraps(plain)
        def wrapper() -> int:
            return plain()

        @functools.wraps(plain, updated=())
        def sparse() -> int:
            return plain()

        fixture: Any = pytest.fixture(plain)
        cases: list[tuple[Callable[[], int], Any]] = [
            (plain, plain),
            (plain, wrapper),
            (plain, sparse),
            (plain, fixture),
            (Owner().method, Owner().method),
            (Owner().method, Owner.method),
            (Owner.static, Owner.static),
            (Owner.static, vars(Owner)["static"]),
            (Owner.class_, Owner.class_),
            (Owner.class_, Owner().class_),
            (lambda: Owner().property_, Owner.property_),
        ]
        for call, wrapping in cases:
            before = call()
            assert call() == before
            reset(wrapping)
            assert call() == next(numbers) - 1 != before

    @pytest.mark.parametrize("wrong", [None, 1, "thing", len, lambda: 1, object(), int], ids=lambda wrong: type(wrong).__name__)
    def test_anything_else(self, wrong: Any, ran: list[str]) -> None:
        """Promise 10: of anything that is not memoized `reset` raises TypeError that names it, and tears nothing down."""

        @memoize
        def thing() -> Generator[int, None, None]:
            yield 1
            ran.append("down")

        thing()
        with pytest.raises(TypeError, match="is not memoized: decorate it with @memoize"):
            reset(thing, wrong)
        assert ran == []
        assert thing in finalizers

    def test_cache_clear(self, ran: list[str]) -> None:
        """A memoized function has `cache_clear()`, the same as `reset` of it."""

        @memoize
        def thing() -> Generator[int, None, None]:
            yield 1
            ran.append("down")

        thing()
        thing.cache_clear()  # type: ignore[attr-defined]
        assert ran == ["down"]
        with pytest.raises(AttributeError):
            thing.cache_info  # type: ignore[attr-defined]  # noqa: B018


class TestRegister:
    def test_where_it_binds(self, ran: list[str]) -> None:
        """Promise 11: in f's body it binds to the object being made, elsewhere to the one that f holds; it returns the callback."""

        @memoize
        def thing() -> int:
            helper()
            return 1

        def helper() -> None:
            assert finalizers.register(thing, ran.append, "in the body") == ran.append

        thing()
        assert Call(finalizers.register, thing, ran.append, "in another thread").result() == ran.append
        finalizers.register(thing, lambda *args, **kwargs: ran.append(f"{args} {kwargs}"), 1, function=2, callback=3)
        reset(thing)
        assert ran == ["(1,) {'function': 2, 'callback': 3}", "in another thread", "in the body"]

    def test_in_the_body_of_another(self, ran: list[str]) -> None:
        """Promise 11: in the body of g it binds to the object that f holds, not to that which is being made."""

        @memoize
        def base() -> int:
            return 1

        @memoize
        def top() -> int:
            finalizers.register(base, ran.append, "of base")
            return base()

        base()
        top()
        reset(top)
        assert ran == []
        reset(base)
        assert ran == ["of base"]

    def test_no_object(self) -> None:
        """Promise 11: where f holds no object, before or after its life or while another thread makes it, it raises LookupError."""
        point = Point()

        @memoize
        def thing() -> int:
            point.pass_()
            return 1

        with pytest.raises(LookupError, match="thing holds no object: call it first, or register in its own body"):
            finalizers.register(thing, print)
        maker = Call(thing)
        point.reached()
        with pytest.raises(LookupError):
            finalizers.register(thing, print)
        point.go()
        maker.result()
        reset(thing)
        with pytest.raises(LookupError):
            finalizers.register(thing, print)

    def test_wrong_arguments(self) -> None:
        """Promise 11: of what is not memoized, or with what is not callable, it raises TypeError that says what to write."""

        @memoize
        def thing() -> int:
            return 1

        thing()
        with pytest.raises(TypeError, match="not memoized"):
            finalizers.register(len, print)
        with pytest.raises(TypeError, match="None is not callable"):
            finalizers.register(thing, None)  # type: ignore[type-var]
        with pytest.raises(TypeError, match="not memoized"):
            finalizers.unregister(len, print)
        assert len(finalizers) == 0

    def test_in_a_finalizer(self, ran: list[str]) -> None:
        """Promise 11: what a finalizer registers on its own object still runs."""

        @memoize
        def thing() -> Generator[int, None, None]:
            yield 1
            finalizers.register(thing, finalizers.register, thing, ran.append, "down")

        thing()
        reset(thing)
        assert ran == ["down"]
        assert len(finalizers) == 0

    def test_against_a_teardown(self) -> None:
        """Promise 11: whatever is registered while another thread tears down runs or is refused, and is never lost."""
        for _ in range(50):
            accepted, ran = itertools.count(), itertools.count()
            started = threading.Event()

            @memoize
            def thing(started: threading.Event = started) -> Generator[int, None, None]:
                yield 1
                started.set()

            def register(thing: Any = thing, accepted: Iterator[int] = accepted, ran: Iterator[int] = ran) -> None:
                try:
                    for _ in range(1000):
                        finalizers.register(thing, next, ran)
                        next(accepted)
                except LookupError:
                    pass

            thing()
            call = Call(register)
            reset(thing)
            call.result()
            reset(thing)
            assert next(accepted) == next(ran)

    def test_unregister(self, ran: list[str]) -> None:
        """`unregister` removes every registration of a callback, compared with `==`, and nothing where there is none."""

        @memoize
        def thing() -> Generator[int, None, None]:
            yield 1
            ran.append("rest")

        finalizers.unregister(thing, ran.append)
        thing()
        finalizers.register(thing, ran.append, "once")
        finalizers.register(thing, ran.extend, ["kept"])
        finalizers.register(thing, ran.append, "twice")
        finalizers.register(thing, ran.append, "in a row")
        finalizers.unregister(thing, ran.append)
        finalizers.unregister(thing, print)
        assert len(finalizers) == 2
        reset(thing)
        assert ran == ["kept", "rest"]

    def test_unregister_while_another_object_is_made(self) -> None:
        """`unregister` compares with `==`, which may itself make an object under a new key."""

        class Callback:
            def __call__(self, *_: object) -> None: ...

            def __eq__(self, other: object) -> bool:
                thing("another")
                return True

        @memoize(key=lambda key: key, finalizer=Callback())
        def thing(key: str) -> str:
            return key

        thing("one")
        finalizers.unregister(thing, print)
        assert len(finalizers) == 1


class TestRegistry:
    def test_what_it_shows(self) -> None:
        """`len` counts pending finalizers, iterating yields functions in the order of teardown, `in` is False for anything else."""

        @memoize
        def plain() -> int:
            return 1

        @memoize
        def generator() -> Generator[int, None, None]:
            finalizers.register(generator, int)
            assert (len(finalizers), list(finalizers)) == (1, [])  # there is no object yet
            finalizers.unregister(generator, int)
            yield 1

        @memoize(finalizer=print, key=lambda key: key)
        def keyed(key: int) -> int:
            return key

        assert (len(finalizers), list(finalizers)) == (0, [])
        plain()
        generator()
        keyed(1)
        keyed(2)
        assert (len(finalizers), list(finalizers)) == (3, [keyed, keyed, generator])
        assert generator in finalizers
        assert keyed in finalizers
        assert plain not in finalizers
        finalizers.register(plain, print)
        finalizers.register(plain, print)
        assert (len(finalizers), list(finalizers)) == (5, [keyed, keyed, generator, plain])
        others: list[object] = [len, 1, None, [], {}, "generator"]
        for other in others:
            assert other not in finalizers
        assert repr(finalizers) == "<finalizers of memoize_once: 5 pending>"
