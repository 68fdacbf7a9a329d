"""Promises 6 to 11: torn down once."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Generator
from typing import Any, cast

import pytest
from threads import Call, Point, busy, server

from memoize_once import DeadlockError, finalizers, memoize, reset


class TestGenerators:
    @pytest.mark.parametrize("how", ["itself", "wraps", "partial"])
    def test_the_rest_is_the_teardown(self, how: str, ran: list[str]) -> None:
        """Promise 6: a generator function makes what it yields, and what comes after is its
        teardown; a function that returns a generator is one, whatever stands between."""

        def original() -> Generator[str, None, None]:
            ran.append("up")
            yield "object"
            ran.append("down")

        @functools.wraps(original)
        def wrapper() -> Any:
            return original()

        others: dict[str, Any] = {"wraps": wrapper, "partial": functools.partial(original)}
        thing: Any = memoize(others.get(how, original))
        assert thing() == thing() == "object"
        assert ran == ["up"]
        reset(thing)
        assert ran == ["up", "down"]
        thing()
        assert ran == ["up", "down", "up"]

    def test_one_that_never_yields(self, ran: list[str]) -> None:
        """Promise 6: a generator that never yields raises RuntimeError that names function, file
        and line, and leaves nothing behind."""

        @memoize
        def barren() -> Generator[str, None, None]:
            finalizers.register(barren, ran.append, "finalizer")
            yield from ()

        line = barren.__code__.co_firstlineno
        with pytest.raises(RuntimeError, match=rf"(?s)barren.*test_teardown\.py\D+{line}\b"):
            barren()
        assert ran == ["finalizer"]
        assert barren not in finalizers

    def test_one_that_yields_twice(self, ran: list[str]) -> None:
        """Promise 6: one that yields again raises RuntimeError from its teardown, which names the
        same, and is closed."""

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
        pattern = rf"(?s)fertile.*more than once.*test_teardown\.py\D+{line}\b"
        expected = pytest.RaisesExc(RuntimeError, match=pattern)
        assert pytest.RaisesGroup(expected).matches(raised.value)
        assert ran == ["closed"]


class TestOrder:
    def test_finalizers_of_one_object(self, ran: list[str]) -> None:
        """Promise 7: last in first out, where the rest of a generator counts as registered at its
        `yield` and `finalizer=` right after."""

        @memoize(finalizer=lambda value: ran.append(f"finalizer= of {value}"))
        def thing() -> Generator[str, None, None]:
            finalizers.register(thing, ran.append, "registered in the body")
            yield "object"
            ran.append("rest of the generator")

        thing()
        finalizers.register(thing, ran.append, "registered afterwards")
        assert len(finalizers) == 4
        reset(thing)
        in_order = ["rest of the generator", "registered in the body"]
        assert ran == ["registered afterwards", "finalizer= of object", *in_order]

    def test_what_was_built_on_another_goes_first(self, ran: list[str]) -> None:
        """Promise 7: objects go in the reverse of the order in which their making finished; a later
        registration does not move one."""
        base, alone = server(ran, "base"), server(ran, "alone")

        @memoize
        def top() -> Generator[str, None, None]:
            base()
            yield "top"
            ran.append("top")

        top()
        alone()
        finalizers.register(base, ran.append, "registered late on base")
        assert list(finalizers) == [alone, top, base]
        reset(base, alone, top, base)
        assert ran == ["alone", "top", "registered late on base", "base"]
        assert list(finalizers) == []


class TestErrors:
    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
    def test_one_failing_finalizer_stops_no_other(
        self, kind: type[BaseException], ran: list[str]
    ) -> None:
        """Promises 3 and 8: the rest still runs, and `reset` raises all errors in an
        ExceptionGroup, or a BaseExceptionGroup, each with a note that names its function."""

        @memoize
        def first() -> Generator[int, None, None]:
            yield 1
            ran.append("first")
            raise kind("of first")

        @memoize
        def second() -> int:
            finalizers.register(second, ran.append, "second")
            finalizers.register(second, next, iter(()))
            return first()

        second()
        with pytest.raises(BaseExceptionGroup) as raised:
            reset()
        assert isinstance(raised.value, ExceptionGroup) is issubclass(kind, Exception)
        assert ran == ["second", "first"]
        errors = raised.value.exceptions
        assert [str(error) for error in errors] == ["", "of first"]
        for error, name in zip(errors, (".second", ".first"), strict=True):
            assert name in error.__notes__[0]
        reset()

    def test_a_finalizer_that_would_have_to_be_awaited(self, ran: list[str]) -> None:
        """Promise 19: a finalizer or callback of a plain object that returns an awaitable is a
        TypeError of the teardown, which says to write `async def`; the others run."""

        async def close() -> None:
            ran.append("closed")

        @memoize(finalizer=lambda value: close())
        def thing() -> Generator[int, None, None]:
            yield 1
            ran.append("down")

        thing()
        finalizers.register(thing, close)
        with pytest.raises(ExceptionGroup) as raised:
            reset(thing)
        expected = pytest.RaisesExc(TypeError, match=r"(?s)thing.*async def")
        assert pytest.RaisesGroup(expected, expected).matches(raised.value)
        assert ran == ["down"]


class TestWhileItEnds:
    def test_callers_wait_and_make_anew(self, ran: list[str]) -> None:
        """Promise 9: while the object is torn down callers wait, then one makes a new one and all
        get that."""
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


class TestReset:
    @pytest.mark.parametrize("everything", [False, True])
    @pytest.mark.parametrize("held", ["made", "torn down"])
    def test_it_waits_for_another_thread(self, held: str, everything: bool, ran: list[str]) -> None:
        """Promise 10: when `reset` returns f's object is gone, also where another thread was just
        making it, or tearing it down."""
        point = Point()
        thing = server(ran, "down", point, held)

        def work() -> list[str]:
            reset(*(() if everything else (thing,)))
            return list(ran)

        other = busy(thing, point, held)
        resetter = Call(work).until_it_waits()
        point.go()
        assert resetter.result() == ["down"]
        other.result()
        assert thing not in finalizers

    @pytest.mark.parametrize("where", ["body", "finalizer"])
    def test_inside(self, where: str, ran: list[str]) -> None:
        """Promises 9 and 10: inside f's body or finalizer `reset(f)` raises DeadlockError and tears
        nothing down, and `reset()` leaves f out; f() in a finalizer gives the old object."""
        other = server(ran, "other")

        def inside() -> None:
            other()
            with pytest.raises(DeadlockError, match="thing"):
                reset(other, thing)
            assert ran == []
            reset()
            assert ran == ["other"]

        @memoize
        def thing() -> Generator[int, None, None]:
            if where == "body":
                inside()
            yield 2
            if where == "finalizer":
                inside()
                assert thing() == 2

        assert thing() == 2
        assert thing in finalizers
        reset(thing)
        assert thing not in finalizers

    @pytest.mark.parametrize("held", ["made", "torn down"])
    def test_everything_inside(self, held: str, ran: list[str]) -> None:
        """Promise 10: `reset()` inside a body waits for nobody: it leaves out what another thread
        is making or tearing down."""
        point = Point()
        slow, quick = server(ran, "slow", point, held), server(ran, "quick")

        @memoize
        def thing() -> list[str]:
            quick()
            reset()
            return list(ran)

        other = busy(slow, point, held)
        assert Call(thing).result() == ["quick"]
        point.go()
        other.result()
        assert (slow in finalizers) is (held == "made")

    def test_it_takes_whatever_wraps_a_memoized_function(self) -> None:
        """Promise 10: `reset` takes what leads to a memoized function by `__wrapped__`, a method, a
        pytest fixture; `cache_clear()` does the same, and where no object is held neither does
        anything."""
        numbers = itertools.count()

        class Owner:
            @memoize
            def method(self) -> int:
                return next(numbers)

            @classmethod
            @memoize
            def class_(cls) -> int:
                return next(numbers)

        @memoize
        def plain() -> int:
            return next(numbers)

        @functools.wraps(plain, updated=())
        def wrapper() -> int:
            return plain()

        cases: list[tuple[Callable[[], int], Any]] = [
            (plain, plain),
            (plain, functools.wraps(plain)(lambda: plain())),
            (plain, wrapper),
            (plain, pytest.fixture(plain)),
            (plain, staticmethod(plain)),
            (Owner().method, Owner().method),
            (Owner().method, Owner.method),
            (Owner.class_, Owner.class_),
        ]
        clear: Any = plain
        for call, how in [
            *((call, functools.partial(reset, wrapping)) for call, wrapping in cases),
            (plain, clear.cache_clear),
        ]:
            before = call()
            assert call() == before
            how()
            how()
            assert call() == next(numbers) - 1 != before

    @pytest.mark.parametrize("wrong", [None, 1, len, int], ids=repr)
    def test_anything_else(self, wrong: Any, ran: list[str]) -> None:
        """Promises 10 and 11: of anything that is not memoized `reset` raises TypeError that says
        so, and tears nothing down; `register` and `unregister` do, and of no callback."""
        thing, callback = server(ran), cast(Any, None)
        thing()
        for function, args in (
            (reset, (thing, wrong)),
            (finalizers.register, (wrong, print)),
            (finalizers.unregister, (wrong, print)),
        ):
            with pytest.raises(TypeError, match=r"not memoized.*@memoize"):
                function(*args)
        with pytest.raises(TypeError, match="not callable"):
            finalizers.register(thing, callback)
        assert ran == []
        assert len(finalizers) == 1


class TestRegister:
    def test_where_it_binds(self, ran: list[str]) -> None:
        """Promise 11: in f's body it binds to the object being made, elsewhere, in the body of
        another too, to the one that f holds; it returns the callback."""

        @memoize
        def thing() -> int:
            helper()
            return 1

        def helper() -> None:
            assert finalizers.register(thing, ran.append, "in the body") == ran.append

        @memoize
        def other() -> int:
            finalizers.register(thing, ran.append, "in the body of another")
            return 2

        thing()
        other()
        reset(other)
        assert ran == []
        call = Call(finalizers.register, thing, ran.append, "in another thread")
        assert call.result() == ran.append
        finalizers.register(thing, lambda **given: ran.append(str(given)), function=2, callback=3)
        reset(thing)
        in_order = ["in another thread", "in the body of another", "in the body"]
        assert ran == ["{'function': 2, 'callback': 3}", *in_order]

    def test_no_object(self, ran: list[str]) -> None:
        """Promise 11: where f holds no object, before or after its life or while another thread
        makes it, that is a LookupError."""
        point = Point()
        thing = server(ran, "down", point, "made")

        def refused() -> None:
            with pytest.raises(LookupError, match="thing"):
                finalizers.register(thing, print)

        refused()
        maker = busy(thing, point, "made")
        refused()
        point.go()
        maker.result()
        reset(thing)
        refused()

    def test_in_a_finalizer(self, ran: list[str]) -> None:
        """Promise 11: what a finalizer registers on its own object runs or is refused, and is never
        lost."""
        thing = server(ran)
        thing()
        finalizers.register(thing, finalizers.register, thing, ran.append, "registered")
        try:
            reset(thing)
        except* LookupError:
            ran.append("registered")
        assert sorted(ran) == ["down", "registered"]
        assert len(finalizers) == 0

    def test_against_a_teardown(self, ran: list[str]) -> None:
        """Promise 11: whatever is registered while another thread tears down runs or is refused,
        and is never lost."""

        def register(thing: Any) -> int:
            for accepted in range(1000):
                try:
                    finalizers.register(thing, ran.append, "registered")
                except LookupError:
                    return accepted
            return 1000

        for _ in range(20):
            ran.clear()
            thing = server(ran)
            thing()
            call = Call(register, thing)
            reset(thing)
            accepted = call.result()
            reset(thing)
            assert ran.count("registered") == accepted

    def test_unregister(self, ran: list[str]) -> None:
        """`unregister` removes every registration of a callback, compared with `==`, and nothing
        where there is none."""
        thing = server(ran, "rest")
        finalizers.unregister(thing, ran.append)
        thing()
        finalizers.register(thing, ran.append, "once")
        finalizers.register(thing, ran.extend, ["kept"])
        finalizers.register(thing, ran.append, "twice")
        finalizers.unregister(thing, ran.append)
        assert len(finalizers) == 2
        reset(thing)
        assert ran == ["kept", "rest"]


class TestRegistry:
    def test_what_it_shows(self) -> None:
        """`len` counts pending finalizers, iterating yields functions in the order of teardown,
        one for each object, and `in` is False for anything else."""

        @memoize
        def plain() -> int:
            return 1

        @memoize
        def generator() -> Generator[int, None, None]:
            finalizers.register(generator, int)
            yield 1

        @memoize(finalizer=repr, key=lambda key: key)
        def keyed(key: int) -> int:
            return key

        assert (len(finalizers), list(finalizers)) == (0, [])
        plain()
        generator()
        keyed(1)
        keyed(2)
        assert (len(finalizers), list(finalizers)) == (4, [keyed, keyed, generator])
        shown = [function in finalizers for function in (generator, keyed, plain)]
        assert shown == [True, True, False]
        finalizers.register(plain, repr, 1)
        assert (len(finalizers), list(finalizers)) == (5, [keyed, keyed, generator, plain])
        others: list[object] = [len, 1, None, [], "generator"]
        assert not any(other in finalizers for other in others)

    def test_a_finalizer_that_runs(self, ran: list[object]) -> None:
        """Promise 11: a finalizer that runs is pending no more: the registry leaves it out from the
        moment when it begins."""

        def look() -> None:
            ran.append((len(finalizers), list(finalizers), thing in finalizers))

        @memoize
        def thing() -> Generator[int, None, None]:
            finalizers.register(thing, look)
            yield 1
            look()

        thing()
        reset(thing)
        assert ran == [(1, [thing], True), (0, [], False)]
