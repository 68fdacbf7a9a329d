"""Promises 20, 21 and 23: the same function to everyone else."""

from __future__ import annotations

import asyncio
import copy
import datetime
import doctest
import functools
import inspect
import itertools
import pickle
import pydoc
import re
import sys
import traceback
import typing
import warnings
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest

from memoize_once import DeadlockError, memoize, reset

ONE, TWO = object(), object()


def every_kind(a: int, /, b: Decimal, c: object = ONE, *args: str, d: int, e: object = TWO, **kwargs: object) -> tuple[object, ...]:
    """Takes every kind of parameter."""
    return a, b, c, args, d, e, kwargs


def only_keywords(*, a: int, b: object = ONE) -> object:
    return a, b


def reserved(self: int, once: int, key: int, function: int, defaults: int, __tracebackhide__: int, making: int, twin: int) -> object:
    return self, once, key, function, defaults, __tracebackhide__, making, twin


def generating(a: int, b: Decimal | None = None) -> Generator[Decimal, None, None]:
    """Yields once."""
    yield Decimal()


every_kind.attribute = []  # type: ignore[attr-defined]

from decimal import Decimal  # noqa: E402  annotations are resolved when they are asked for

FUNCTIONS: list[Any] = [every_kind, only_keywords, reserved, generating]


@memoize
def at_module_level(a: int) -> Generator[int, None, None]:
    """Has a doctest.

    >>> callable(at_module_level)
    True
    """
    yield a


class TestIntrospection:
    @pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
    def test_it_looks_like_the_original(self, function: Any) -> None:
        """Promise 20: names, module, docstring, defaults, attributes and parameters are the original's, in the code object too."""
        twin: Any = memoize(function)
        for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__globals__"):
            assert getattr(twin, name) == getattr(function, name)
        assert inspect.signature(twin) == inspect.signature(function)
        given, expected = inspect.signature(twin).parameters.values(), inspect.signature(function).parameters.values()
        assert all(a.default is b.default for a, b in zip(given, expected, strict=True))
        code, original = twin.__code__, function.__code__
        for name in ("co_name", "co_qualname", "co_filename", "co_firstlineno", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount"):
            assert getattr(code, name) == getattr(original, name)
        variadic = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
        assert code.co_flags & variadic == original.co_flags & variadic
        count = len(inspect.signature(function).parameters)
        assert code.co_varnames[:count] == original.co_varnames[:count]
        assert {name: value for name, value in vars(twin).items() if name not in ("cache_clear", "__wrapped__")} == vars(function)
        assert typing.get_type_hints(twin) == typing.get_type_hints(function)
        assert inspect.getsource(twin) == inspect.getsource(function)
        assert not inspect.isgeneratorfunction(inspect.unwrap(twin))

    def test_wrapped(self) -> None:
        """Promise 20: `__wrapped__` is the original, except where that is a generator function, which the memoized one is not."""
        assert memoize(every_kind).__wrapped__ is every_kind  # type: ignore[attr-defined]
        assert not hasattr(memoize(generating), "__wrapped__")

        @functools.wraps(generating)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return generating(*args, **kwargs)

        @functools.wraps(every_kind)
        def generator(*args: Any, **kwargs: Any) -> Any:
            yield every_kind(*args, **kwargs)

        for function in (wrapper, generator):
            twin = memoize(function)
            assert not hasattr(twin, "__wrapped__")
            assert inspect.signature(twin) == inspect.signature(function)

    def test_arguments_arrive(self) -> None:
        """Promise 20: no parameter name is reserved, and each kind of argument reaches the body."""
        assert memoize(every_kind)(1, Decimal(2), 3, "4", d=5, self=6, once=7) == (1, 2, 3, ("4",), 5, TWO, {"self": 6, "once": 7})
        reset()
        assert memoize(every_kind)(1, b=Decimal(2), d=3) == (1, 2, ONE, (), 3, TWO, {})
        assert memoize(only_keywords)(a=1) == (1, ONE)
        assert memoize(reserved)(*range(8)) == tuple(range(8))
        assert memoize(key=lambda self, making: (self, making))(reserved)(*range(8)) == tuple(range(8))

    def test_by_reference(self) -> None:
        """Promise 20: it is pickled by reference, copied as a function is, and can be referred to weakly."""
        assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
        assert copy.copy(at_module_level) is copy.deepcopy(at_module_level) is at_module_level
        assert weakref.ref(at_module_level)() is at_module_level

    def test_documentation(self) -> None:
        """Promise 20: `help()` shows it, and doctest collects its examples."""
        text = pydoc.plain(pydoc.render_doc(at_module_level))
        assert re.search(r"at_module_level\(a: '?int'?\)", text)
        assert "Has a doctest." in text
        [found] = [test for test in doctest.DocTestFinder().find(sys.modules[__name__]) if test.examples]
        assert found.name.endswith("at_module_level")
        assert doctest.DocTestRunner().run(found) == (0, 1)

    @pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once")
    def test_annotations_that_are_not_defined_yet(self) -> None:
        """Promise 20: decorating does not evaluate annotations, which may name what is defined later."""
        namespace: dict[str, Any] = {"memoize": memoize}
        source = "def function(a: Later) -> Later:\n    return a\nplain = memoize(function)\nclass Later: ..."
        exec(compile(source, "later.py", "exec", dont_inherit=True), namespace)
        assert namespace["plain"].__annotations__ == {"a": namespace["Later"], "return": namespace["Later"]}


class TestKindsOfCallables:
    def test_methods(self) -> None:
        """Promise 21: a method in a class body has one object, for the function and not for the instance; below a class method too."""
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
            def class_method(cls) -> type:
                return cls

            @staticmethod
            @memoize
            def static_method(a: int) -> int:
                return a

        one, other = Owner(), Owner()
        assert one.method(10) == other.method() == Owner.method(one) == 10
        assert one.attribute == other.attribute == 1
        assert one.class_method() is Owner.class_method() is Owner
        assert one.static_method(5) == Owner.static_method(6) == 5

    def test_other_callables(self) -> None:
        """Promise 21: partial functions, classes, callable instances, bound methods, builtins, closures and lambdas can be memoized."""
        numbers = itertools.count()

        class Thing:
            """A thing."""

            def __init__(self, size: int, *, name: str = "x") -> None:
                self.size = size

            def __call__(self, more: int) -> int:
                return self.size + more + next(numbers)

        thing = memoize(Thing)(3)
        assert memoize(functools.partial(Thing, 1))().size == 1
        partial: Any = memoize(functools.partial(Thing, name="y"))
        assert partial(2) is partial(5)
        class_: Any = memoize(Thing)
        assert class_(4) is class_(5)
        assert (class_.__name__, class_.__doc__, str(inspect.signature(class_))) == ("Thing", "A thing.", str(inspect.signature(Thing)))
        assert not hasattr(class_, "__call__".strip("_"))
        with pytest.raises(TypeError):
            class_()
        instance: Any = memoize(thing)
        assert instance(1) == instance(2) == 4
        for twin, method in ((class_, Thing.__init__), (instance, Thing.__call__)):
            assert twin.__code__.co_firstlineno == method.__code__.co_firstlineno
        bound = memoize(thing.__call__)
        assert bound(1) == bound(2) == 5
        assert memoize(max)(3, 4) == 4
        builtin = memoize(object)
        assert builtin() is builtin()
        assert memoize(lambda a: str(a + thing.size))(1) == "4"

    def test_code_that_imports(self) -> None:
        """Promise 21: callables written in C may import something, for which they look in the globals of their caller."""
        assert memoize(functools.partial(pickle.loads, pickle.dumps(print)))() is print
        assert memoize(datetime.date.today)() == datetime.date.today()

    def test_declared_defaults(self) -> None:
        """Promise 21: what a class declares as a default is not handed on: it may look elsewhere for what is not given."""

        class Settings:
            __signature__ = inspect.Signature(
                [
                    inspect.Parameter("name", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="declared"),
                    inspect.Parameter("more", inspect.Parameter.VAR_POSITIONAL),
                    inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False),
                ]
            )

            def __init__(self, *args: str, **given: bool) -> None:
                self.given = (args, given)

        for arguments, given in (((), {}), (("a",), {}), ((), {"debug": True}), (("a",), {"debug": True}), (("declared", "b"), {})):
            assert memoize(Settings)(*arguments, **given).given == (arguments, given)

    def test_lazy_objects(self) -> None:
        """Promise 1: an object that is made when it is looked at is only handed on; a dead proxy too."""

        class Lazy:
            @property  # type: ignore[misc]
            def __class__(self) -> Any:
                raise ReferenceError("it is looked at")

        lazy = Lazy()

        @memoize
        def thing() -> Lazy:
            return lazy

        assert thing() is thing()
        assert memoize(lambda: lazy)() is lazy

    def test_a_partial_coroutine_function(self) -> None:
        """Promise 21: partials of whatever gives a coroutine are coroutine functions, callable instances included."""

        class Connect:
            async def __call__(self, port: int) -> list[int]:
                return [port]

        connect = memoize(functools.partial(Connect(), 80))
        assert inspect.iscoroutinefunction(connect)
        assert asyncio.run(connect()) == [80]

    def test_a_signature_of_its_own(self) -> None:
        """Promise 20: where a function declares another signature, its annotations are still its own."""

        def function(*args: int) -> None: ...

        function.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
        twin = memoize(function)
        assert inspect.signature(twin) == inspect.Signature()
        assert twin.__annotations__ == function.__annotations__

    def test_annotations_that_were_replaced(self) -> None:
        """Promise 20: annotations that somebody has set are the function's."""

        def function(a: Any) -> None: ...

        function.__annotations__ = {"a": int}
        assert memoize(function).__annotations__ == {"a": int}

    def test_annotations_of_bound_methods_and_partials(self) -> None:
        """Promise 20: annotations are the original's, that of the result too; a partial is of its function's module."""

        class Owner:
            def method(self, a: int = 1, b=2) -> str:  # type: ignore[no-untyped-def]
                return ""

        assert typing.get_type_hints(memoize(Owner().method)) == {"a": int, "return": str}
        partial = memoize(functools.partial(Owner().method, 2))
        assert partial.__module__ == __name__
        assert partial.__annotations__ == {"return": "str"}

    @pytest.mark.parametrize("kind", [staticmethod, classmethod, property], ids=lambda kind: kind.__name__)
    def test_above_a_descriptor(self, kind: Any) -> None:
        """Promise 21: `@memoize` above a descriptor raises TypeError that says what to write instead."""
        with pytest.raises(TypeError, match=f"write @{kind.__name__} above @memoize"):
            memoize(kind(lambda: 1))

    @pytest.mark.parametrize("wrong", [1, "name", [], object()], ids=lambda wrong: type(wrong).__name__)
    def test_what_is_not_callable(self, wrong: Any) -> None:
        """Promise 21: what is not callable raises TypeError, as function and as option."""
        with pytest.raises(TypeError, match=r"is not callable: decorate the function that makes it"):
            memoize(wrong)
        with pytest.raises(TypeError, match=r"finalizer= takes a function"):
            memoize(finalizer=wrong)
        with pytest.raises(TypeError, match=r"key= takes a function"):
            memoize(key=wrong)


def fail(*_: object) -> object:
    raise ValueError("in the body")


def fail_generating() -> Generator[int, None, None]:
    fail()
    yield 1


class TestTracebacks:
    @pytest.mark.parametrize("function", [lambda: fail(), fail_generating], ids=["function", "generator"])
    def test_out_of_a_body(self, function: Callable[[], object]) -> None:
        """Promise 23: between the caller and the body of a plain function stands one frame, which shows the user's file and the function's
        first line; a generator is resumed by one more, behind a frame of the library."""
        with pytest.raises(ValueError, match="in the body") as raised:
            memoize(function)()
        first, *between, body, last = traceback.extract_tb(raised.value.__traceback__)
        assert [frame.name for frame in (first, body, last)] == ["test_out_of_a_body", function.__name__, "fail"]
        ours = [frame for frame in between if frame.filename == __file__]
        assert [frame.name for frame in ours] == [function.__name__] * (1 if len(between) == 1 else 2)
        if sys.implementation.name == "cpython":
            assert {frame.lineno for frame in ours} == {function.__code__.co_firstlineno}
        assert len(between) == (1 if function is not fail_generating else 3)

    @pytest.mark.skipif(sys.implementation.name != "cpython", reason="where lines of code stand elsewhere is its own affair")
    def test_every_instruction_is_on_the_first_line(self) -> None:
        """Promise 20: debuggers and profilers find all of the function on the first line of the original, under its name."""

        def original(a: int, b: int = 1, *args: int, c: int = 2, **kwargs: int) -> None: ...

        def another_name(*args: int) -> None: ...

        another_name.__wrapped__ = original  # type: ignore[attr-defined]
        keys = [eval(f"lambda {', '.join('abc'[:count])}: 1") for count in range(4)]
        for function in (original, another_name):
            for key in (None, *keys):  # codes of several lengths
                code = memoize(function, key=key).__code__
                lines = list(code.co_lines())
                assert {line for _, _, line in lines} == {original.__code__.co_firstlineno}
                assert lines[-1][1] == len(code.co_code)
                assert code.co_name == function.__name__

    def test_pytest_hides_them(self, pytester: pytest.Pytester) -> None:
        """Promise 23: pytest shows no frame of the library, be the error raised in a body or by the library itself."""
        pytester.makepyfile(
            """
            from memoize_once import memoize, reset

            @memoize
            def thing():
                raise ValueError("in the body")

            @memoize
            def ring():
                return ring()

            @memoize
            def generating():
                raise ValueError("in the generator")
                yield

            def test_body():
                thing()

            def test_ring():
                ring()

            def test_generating():
                generating()

            def test_reset():
                reset(1)
            """
        )
        result = pytester.runpytest("-p", "no:cacheprovider", "-p", "no:asyncio", "--tb=short")
        result.assert_outcomes(failed=4)
        places = re.findall(r"^\S+:\d+: in (\w+)$", "\n".join(result.outlines), re.MULTILINE)
        assert places == ["test_body", "thing", "test_ring", "ring", "test_generating", "generating", "test_reset"]

    def test_no_chained_error(self) -> None:
        """Promise 23: an error that the library raises itself has no internal context either."""

        @memoize
        def ring() -> object:
            return ring()

        with pytest.raises(DeadlockError) as raised:
            ring()
        assert raised.value.__context__ is None

    def test_warnings_blame_the_users_file(self) -> None:
        """A warning with stacklevel=2 out of a body is blamed on the user's file and module and not on the library's."""

        @memoize
        def function() -> int:
            warnings.warn("old", DeprecationWarning, stacklevel=2)
            return 1

        @memoize
        def generator() -> Generator[int, None, None]:
            warnings.warn("old", DeprecationWarning, stacklevel=2)
            yield 1

        for thing in (function, generator):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("error")
                warnings.filterwarnings("always", "old", module=__name__)
                thing()
            assert caught[0].filename == __file__
