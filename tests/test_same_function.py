"""Promises 21 and 23: what can be memoized, what is refused, and what a traceback shows."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import inspect
import itertools
import pickle
import re
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from threads import server

from memoize_once import finalizers, memoize, reset


class Generating:
    """Makes a list."""

    def __call__(self, a: int, *, b: int = 2) -> Generator[list[int], None, None]:
        yield [a, b]


class Awaited:
    """Makes a list for a coroutine."""

    async def __call__(self, a: int, *, b: int = 2) -> list[int]:
        return [a, b]


def plain(a: int) -> list[int]:
    """Makes a list."""
    return [a]


@functools.cache
def cached(a: int, b: int = 2) -> int:
    """Is cached."""
    return a + b


class TestKindsOfCallables:
    def test_methods(self) -> None:
        """Promise 21: a method in a class body has one object, for the function and not for the
        instance, below a property, class or static method too."""
        numbers = itertools.count()

        class Owner:
            @memoize
            def method(self, base: int = 0) -> int:
                return base + next(numbers)

            @property
            @memoize
            def attribute(self) -> int:
                return next(numbers)

            @classmethod
            @memoize
            async def class_method(cls) -> type:
                return cls

            @staticmethod
            @memoize
            def static_method(a: int) -> Generator[int, None, None]:
                yield a

        class Heir(Owner): ...

        one, other = Owner(), Heir()
        assert one.method(10) == other.method() == Owner.method(one) == 10
        assert one.attribute == other.attribute == 1
        assert one.static_method(5) == Owner.static_method(6) == 5
        assert asyncio.run(Heir.class_method()) is asyncio.run(one.class_method()) is Heir

    @pytest.mark.parametrize("kind", [Generating, Awaited])
    @pytest.mark.parametrize("how", ["instance", "bound method", "partial"])
    def test_instances(self, kind: Any, how: str) -> None:
        """Promise 21: callable instances, bound methods and partials are memoized as what they are
        or call, with their signatures."""
        made: Any = kind()
        others = {"bound method": made.__call__, "partial": functools.partial(made, b=3)}
        function = others.get(how, made)
        wrapper: Any = memoize(function)
        assert inspect.signature(wrapper) == inspect.signature(function)
        assert inspect.iscoroutinefunction(wrapper) is (kind is Awaited)
        value = asyncio.run(wrapper(1)) if kind is Awaited else wrapper(1)
        assert value == [1, 3 if how == "partial" else 2]
        if how == "instance":
            assert (wrapper.__name__, wrapper.__doc__) == (kind.__name__, kind.__doc__)

    def test_classes(self) -> None:
        """Promises 1 and 21: of a class the first instance is kept, its signature is shown, a wrong
        call is refused where it makes, and only what the call gives is handed on, not what is
        declared as a default."""

        class Settings:
            """Some settings."""

            __signature__ = inspect.signature(lambda name="declared", *more, debug=False: None)

            def __init__(self, *args: str, **given: bool) -> None:
                self.given = (args, given)
                if "wrong" in given:
                    raise TypeError("wrong")

        for args, kwargs in (((), {}), (("a",), {"debug": True}), (("declared", "b"), {})):
            assert memoize(Settings)(*args, **kwargs).given == (args, kwargs)
        wrapper: Any = memoize(Settings)
        with pytest.raises(TypeError):
            wrapper(wrong=True)
        assert wrapper("a") is wrapper("b")
        assert inspect.signature(wrapper) == inspect.signature(Settings)
        assert (wrapper.__name__, wrapper.__doc__) == ("Settings", "Some settings.")

    @pytest.mark.parametrize(
        ("function", "args"),
        [
            (len, ["ab"]),
            (dict, [[(1, 2)]]),
            (max, [1, 2]),
            ("x".join, ["ab"]),
            (cached, [1]),
            (lambda a, *, b=2: a + b, [1]),
            (plain, [1]),
            # written in C, these import something, for which they look in their caller's globals
            (functools.partial(pickle.loads, pickle.dumps(print)), []),
            (datetime.date.today, []),
        ],
    )
    def test_other_callables(self, function: Any, args: Any) -> None:
        """Promise 21: builtins, partials, lambdas, cached functions and others can be memoized, and
        keep their documentation and names, that of a lambda too, which is no identifier."""
        wrapper: Any = memoize(function)
        assert wrapper(*args) == function(*args)
        assert wrapper(*args) is wrapper(*args)
        assert wrapper.__doc__ == function.__doc__
        assert wrapper.__name__ == getattr(function, "__name__", "loads")
        with contextlib.suppress(ValueError):  # of a builtin that does not say
            assert inspect.signature(wrapper) == inspect.signature(function)


async def close(thing: object) -> None:
    """Would have to be awaited."""


def manager() -> Iterator[int]:
    yield 1


async def coroutine() -> int:
    return 1


class TestRefused:
    @pytest.mark.parametrize("kind", [staticmethod, classmethod, property, pytest.fixture])
    def test_above(self, kind: Any) -> None:
        """Promise 21: `@memoize` above `@staticmethod` and the like, or above `@pytest.fixture`,
        raises TypeError that says what to write."""
        with pytest.raises(TypeError, match=rf"@(pytest\.)?{kind.__name__} above @memoize"):
            memoize(kind(lambda: 1))

    @pytest.mark.parametrize("wrong", [1, "name", []], ids=repr)
    def test_what_is_not_callable(self, wrong: Any) -> None:
        """Promise 21: what is not callable raises TypeError, as function and as option."""
        with pytest.raises(TypeError, match="not callable"):
            memoize(wrong)
        for option in ("finalizer", "key"):
            with pytest.raises(TypeError, match=f"{option}="):
                memoize(**{option: wrong})

    @pytest.mark.parametrize("finalizer", [lambda: None, contextlib.ExitStack().close])
    def test_a_finalizer_that_takes_no_argument(self, finalizer: Any) -> None:
        """Promise 21: a `finalizer=` that takes no argument raises TypeError when decorating; one
        whose signature is unknown may take one."""
        for function in (plain, coroutine):
            with pytest.raises(TypeError, match=rf"(?s){function.__name__}.*finalizer="):
                memoize(function, finalizer=finalizer)
            memoize(function, finalizer=max)

    @pytest.mark.parametrize("finalizer", [close, functools.partial(close), Awaited()])
    def test_a_finalizer_that_would_have_to_be_awaited(self, finalizer: Any) -> None:
        """Promise 19: a coroutine function as `finalizer=` of a plain function raises TypeError
        when decorating, which says to write `async def`; of an async one it is awaited."""
        for function in (plain, Generating()):
            with pytest.raises(TypeError, match=r"(?s)(plain|Generating).*async def"):
                memoize(function, finalizer=finalizer)
        assert asyncio.run(memoize(coroutine, finalizer=finalizer)()) == 1

    @pytest.mark.parametrize("kind", [contextlib.contextmanager, contextlib.asynccontextmanager])
    def test_a_context_manager(self, kind: Any) -> None:
        """Promise 21: where what is made is a context manager of `@contextmanager`, which can be
        entered only once, that is a TypeError that names the function."""
        thing = memoize(kind(manager))
        for _ in range(2):
            with pytest.raises(TypeError, match=r"manager\b"):
                thing()
        assert thing not in finalizers

    def test_copied_attributes(self, ran: list[str]) -> None:
        """Promise 21: what is memoized is told by the function itself: attributes that others have
        copied from it memoize nothing, and do not change what `reset` resets."""
        old: Any = server(ran, "old")
        new = server(ran, "new")
        old.__dict__.update(new.__dict__)  # as autoreload does
        old()
        new()
        reset(old)
        assert ran == ["old"]
        functools.update_wrapper(old, new)  # whose `__wrapped__` leads to the other now
        old()
        reset(old)
        assert ran == ["old", "old"]
        assert memoize(old) is old
        copy = functools.update_wrapper(lambda: "copy", new)
        memoized = memoize(copy, finalizer=ran.append)
        assert memoized is not copy
        assert [memoized(), new()] == ["copy", "new"]
        reset(memoized)
        assert ran == ["old", "old", "copy"]


def fail(*_: object) -> object:
    raise ValueError("in the body")


def fail_generating() -> Generator[int, None, None]:
    fail()
    yield 1


class TestTracebacks:
    @pytest.mark.parametrize("key", [None, lambda: 1], ids=["single", "keyed"])
    @pytest.mark.parametrize("function", [lambda: fail(), fail_generating])
    def test_out_of_a_body(self, function: Callable[[], object], key: Any) -> None:
        """Promise 23: between the caller and the body stand at most two frames of the library, that
        of the wrapper included."""
        with pytest.raises(ValueError, match="in the body") as raised:
            memoize(function, key=key)()
        first, *between, body, last = traceback.extract_tb(raised.value.__traceback__)
        names = [frame.name for frame in (first, body, last)]
        assert names == ["test_out_of_a_body", function.__name__, "fail"]
        assert len(between) <= 2

    @pytest.mark.usefixtures("plain_pytest")
    def test_pytest_hides_them(self, pytester: pytest.Pytester) -> None:
        """Promise 23: pytest shows no frame of the library, be the error raised in a body or by the
        library itself."""
        pytester.makepyfile(
            """
            from memoize_once import memoize, reset

            @memoize
            def thing():
                raise ValueError("in the body")

            @memoize
            def ring():
                return ring()

            def test_body(): thing()
            def test_ring(): ring()
            def test_reset(): reset(1)
            """
        )
        result = pytester.runpytest("-p", "no:cacheprovider", "--tb=short")
        result.assert_outcomes(failed=3)
        shown = re.findall(r"^\S+:\d+: in (\w+)$", "\n".join(result.outlines), re.MULTILINE)
        assert shown == ["test_body", "thing", "test_ring", "ring", "test_reset"]
