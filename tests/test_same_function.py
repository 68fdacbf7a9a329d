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
import unittest
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest
from threads import collect, server

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


class Lazy:
    """A proxy that loads what it stands for when it is used, and says that it is that."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._load())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._load()(*args, **kwargs)


def generating(a: int) -> Generator[list[int], None, None]:
    """Makes a list."""
    yield [a]


async def awaited(a: int) -> list[int]:
    """Makes a list."""
    return [a]


async def generating_awaited(a: int) -> AsyncGenerator[list[int], None]:
    """Makes a list."""
    yield [a]


MOCKS: dict[str, Callable[[], Any]] = {
    "Mock": lambda: Mock(return_value=[1]),
    "MagicMock": lambda: MagicMock(return_value=[1]),
    "Mock of a function": lambda: Mock(spec=plain, return_value=[1]),
    "MagicMock of a function": lambda: MagicMock(spec=plain, return_value=[1]),
    "Mock that wraps one": lambda: Mock(wraps=plain),
    "autospec": lambda: create_autospec(plain, return_value=[1]),
    "method of a Mock": lambda: Mock(**{"connect.return_value": [1]}).connect,
}


class TestWhatAnswersEveryQuestion:
    @pytest.mark.parametrize("kind", MOCKS)
    def test_mocks(self, kind: str, ran: list[str]) -> None:
        """Promise 21: a mock, which has every attribute and may lie about its class, is memoized as
        what is called, and is called once; with a key once for each, with a `finalizer=` too."""
        mock = MOCKS[kind]()
        thing = memoize(mock)
        assert thing(1) is thing(1)
        assert thing(1) == [1]
        assert mock.call_count == 1
        reset(thing)
        assert thing(1) == [1]
        assert mock.call_count == 2
        keyed = memoize(mock, key=lambda *args: args)
        assert keyed(1) is keyed(1)
        assert mock.call_count == 3
        torn_down = memoize(mock, finalizer=lambda value: ran.append(f"{value} gone"))
        torn_down(1)
        reset(torn_down)
        assert ran == ["[1] gone"]

    def test_a_mock_as_an_option(self) -> None:
        """Promise 21: a mock as `finalizer=` or `key=` is called as what it stands for."""
        finalizer, key = Mock(return_value=None), Mock(side_effect=lambda a: a % 2)
        thing = memoize(plain, finalizer=finalizer, key=key)
        assert thing(1) is thing(3) is not thing(2)
        reset(thing)
        assert [call.args for call in finalizer.call_args_list] == [([2],), ([1],)]

    def test_an_async_mock(self) -> None:
        """Promises 16 and 21: a mock of a coroutine function is one, by its type."""
        mock = AsyncMock(return_value=[1])
        thing = memoize(mock)

        async def main() -> None:
            assert await thing(1) is await thing(1)

        asyncio.run(main())
        assert mock.await_count == 1

    @pytest.mark.parametrize(
        ("function", "how"),
        [
            *itertools.product([plain, generating], ["Lazy", "LocalProxy"]),
            *itertools.product(
                [plain, generating, awaited, generating_awaited],
                ["CallableObjectProxy", "decorator"],
            ),
        ],
    )
    def test_proxies(self, function: Any, how: str) -> None:
        """Promise 21: a proxy is memoized as what it stands for, with its signature, and called
        once: those of wrapt for any of the four kinds of function, and for plain ones Werkzeug's
        and one that loads late, which by their types are no coroutine functions."""
        if how == "Lazy":
            proxy: Any = Lazy(lambda: function)
        elif how == "LocalProxy":
            proxy = pytest.importorskip("werkzeug.local").LocalProxy(lambda: function)
        elif how == "CallableObjectProxy":
            proxy = pytest.importorskip("wrapt").CallableObjectProxy(function)
        else:
            decorate = pytest.importorskip("wrapt").decorator
            proxy = decorate(lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs))(function)
        thing: Any = memoize(proxy)

        async def call() -> Any:
            result = thing(1)
            return await result if inspect.isawaitable(result) else result

        async def calls() -> bool:
            return (await call()) is (await call()) and (await call()) == [1]

        assert asyncio.run(calls())
        assert inspect.iscoroutinefunction(thing) is (function in (awaited, generating_awaited))
        assert inspect.signature(thing) == inspect.signature(proxy)
        assert thing.__name__ == function.__name__
        reset(thing)

    def test_a_decorator_that_supplies_an_argument(self) -> None:
        """Promise 21: a decorator of wrapt shows its function's signature, and may give it an
        argument of its own: the call gives what the decorator takes, and is not checked before."""
        wrapt = pytest.importorskip("wrapt")

        def supply(wrapped: Any, instance: object, args: Any, kwargs: Any) -> Any:
            return wrapped("session", *args, **kwargs)

        def original(session: str, name: str = "default") -> list[str]:
            return [session, name]

        thing: Any = memoize(wrapt.decorator(supply)(original))
        assert thing() is thing("late") is thing(name="late")
        assert thing() == ["session", "default"]
        reset(thing)
        assert thing("name") == ["session", "name"]


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


class TestCacheClear:
    @pytest.mark.parametrize("key", [None, lambda: 1], ids=["single", "keyed"])
    def test_of_a_function_that_has_gone(self, key: Any, ran: list[str]) -> None:
        """Promises 5 and 10: `cache_clear` does nothing when its local function has gone, as where
        a test hands it to `addCleanup`; an object with a teardown keeps its function, and is torn
        down."""

        class Test(unittest.TestCase):
            def test(self) -> None:
                @memoize(key=key)
                def settings() -> object:
                    return object()

                @memoize(key=key)
                def thing() -> Generator[int, None, None]:
                    yield 1
                    ran.append("down")

                for function in (settings, thing):
                    clear: Any = function
                    self.addCleanup(clear.cache_clear)
                    self.addCleanup(collect)
                    assert function() is function()

        result = unittest.TestResult()
        Test("test").run(result)
        assert result.errors == result.failures == []
        assert ran == ["down"]


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
