"""Promises 20 and 21 in their corners, for all four kinds of function."""

import abc
import asyncio
import contextlib
import copy
import functools
import inspect
import pickle
import pydoc
import re
import sys
import types
import typing
import weakref
from collections.abc import AsyncGenerator, Generator, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest

from memoize_once import finalizers, memoize, reset

FIRST, SECOND = [1], [2]


def plain(a: "Later", /, b: int, c: "list[Later]" = FIRST, *args: str, d: "Later", e: Any = SECOND, **kwargs: "Later") -> "Later":
    """Is plain.

    >>> callable(memoized["plain"])
    True
    """
    return a, b, c, args, d, e, kwargs


def generator(
    a: "Later", /, b: int, c: "list[Later]" = FIRST, *args: str, d: "Later", e: Any = SECOND, **kwargs: "Later"
) -> "Generator[Later, None, None]":
    """Is a generator function."""
    yield a, b, c, args, d, e, kwargs


async def coroutine(a: "Later", /, b: int, c: "list[Later]" = FIRST, *args: str, d: "Later", e: Any = SECOND, **kwargs: "Later") -> "Later":
    """Is a coroutine function."""
    return a, b, c, args, d, e, kwargs


async def async_generator(
    a: "Later", /, b: int, c: "list[Later]" = FIRST, *args: str, d: "Later", e: Any = SECOND, **kwargs: "Later"
) -> "AsyncGenerator[Later, None]":
    """Is an async generator function."""
    yield a, b, c, args, d, e, kwargs


Later = Annotated[Any, "defined after the functions that name it"]

FUNCTIONS: list[Any] = [plain, generator, coroutine, async_generator]
memoized = {function.__name__: memoize(function) for function in FUNCTIONS}
four_kinds = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)


def call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """The object, of an async function too."""
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


@four_kinds
class TestFourKinds:
    def test_defaults(self, function: Any) -> None:
        """Promise 20: defaults are the very objects of the original, in the function and in its signature."""
        twin: Any = memoize(function)
        assert twin.__defaults__[0] is FIRST
        assert twin.__kwdefaults__["e"] is SECOND
        parameters = inspect.signature(twin).parameters
        assert parameters["c"].default is FIRST
        assert parameters["e"].default is SECOND

    def test_every_kind_of_parameter(self, function: Any) -> None:
        """Promise 20: every kind of parameter is there, and what a call gives for it reaches the body."""
        twin: Any = memoize(function)
        assert inspect.signature(twin) == inspect.signature(function)
        assert inspect.getfullargspec(twin) == inspect.getfullargspec(function)
        for name in ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount"):
            assert getattr(twin.__code__, name) == getattr(function.__code__, name)
        assert call(twin, 1, 2, 3, "4", d=5, a=6, once=7) == (1, 2, 3, ("4",), 5, SECOND, {"a": 6, "once": 7})
        for wrong in ((), (1,), (1, 2)):
            with pytest.raises(TypeError, match=rf"{function.__name__}\(\) missing 1? ?(\d )?required"):
                call(twin, *wrong)

    def test_annotations(self, function: Any) -> None:
        """Promise 20: annotations, quoted ones too, are the original's, and are resolved where the original is defined."""
        twin = memoize(function)
        assert twin.__annotations__ == function.__annotations__
        assert inspect.get_annotations(twin) == inspect.get_annotations(function)
        assert typing.get_type_hints(twin, include_extras=True) == typing.get_type_hints(function, include_extras=True)

    def test_names_and_places(self, function: Any) -> None:
        """Promise 20: names, documentation and place in the file are the original's."""
        twin: Any = memoize(function)
        for name in ("__name__", "__qualname__", "__module__", "__doc__", "__globals__"):
            assert getattr(twin, name) == getattr(function, name)
        for name in ("co_name", "co_qualname", "co_filename", "co_firstlineno"):
            assert getattr(twin.__code__, name) == getattr(function.__code__, name)
        assert inspect.getsourcelines(twin) == inspect.getsourcelines(function)
        assert inspect.getsourcefile(twin) == __file__
        assert inspect.getmodule(twin) is sys.modules[__name__]
        assert inspect.getdoc(twin) == inspect.getdoc(function)
        assert function.__doc__.splitlines()[0] in pydoc.plain(pydoc.render_doc(twin))
        assert repr(twin).startswith(f"<function {function.__qualname__} at ")

    def test_attributes(self, function: Any) -> None:
        """Promise 20: attributes are the original's, and stay apart from it."""
        function.tags = tags = ["one"]
        try:
            twin: Any = memoize(function)
            assert twin.tags is tags
            twin.own = True
            assert not hasattr(function, "own")
            assert not hasattr(function, "cache_clear")
        finally:
            del function.tags

    def test_what_frameworks_ask(self, function: Any) -> None:
        """Promises 16 and 20: it is no generator function, and a coroutine function where the original is async, unwrapped or not."""
        twin = memoize(function)
        is_async = function in (coroutine, async_generator)
        for candidate in (twin, inspect.unwrap(twin)):
            assert inspect.isfunction(candidate)
            assert not inspect.isgeneratorfunction(candidate)
            assert not inspect.isasyncgenfunction(candidate)
            assert inspect.iscoroutinefunction(candidate) is is_async
        assert hasattr(twin, "__wrapped__") is (function in (plain, coroutine))

    def test_references(self, function: Any) -> None:
        """Promise 20: it is pickled by reference, copied as a function is, compared by identity, and referred to weakly."""
        twin = memoize(function)
        module = types.ModuleType("somewhere_else")
        vars(module)[function.__name__] = twin
        sys.modules["somewhere_else"] = module
        try:
            twin.__module__ = "somewhere_else"
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                assert pickle.loads(pickle.dumps(twin, protocol)) is twin
        finally:
            del sys.modules["somewhere_else"]
        assert copy.copy(twin) is copy.deepcopy([twin])[0] is twin
        assert weakref.ref(twin)() is twin
        assert {twin: 1}[twin] == 1

    def test_partial(self, function: Any) -> None:
        """Promise 21: `functools.partial` works above and below, where its twin is named for the function."""
        above = functools.partial(memoize(function), 1, d=2)
        assert call(above, 3)[:2] == (1, 3)
        below: Any = memoize(functools.partial(function, 1, d=2))
        assert call(below, 3)[:2] == (1, 3)
        assert inspect.signature(below) == inspect.signature(functools.partial(function, 1, d=2))
        assert below.__name__ == function.__name__

    def test_wrappers_below(self, function: Any) -> None:
        """Promise 20: a stack of `functools.wraps` below shows the innermost function, and what it returns decides of its kind."""

        def wrap(wrapped: Any) -> Any:
            @functools.wraps(wrapped)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return wrapped(*args, **kwargs)

            @functools.wraps(wrapped)
            async def coroutine_wrapper(*args: Any, **kwargs: Any) -> Any:
                return await wrapped(*args, **kwargs)

            @functools.wraps(wrapped)
            async def async_generator_wrapper(*args: Any, **kwargs: Any) -> Any:
                async for value in wrapped(*args, **kwargs):
                    yield value

            return {coroutine: coroutine_wrapper, async_generator: async_generator_wrapper}.get(function, wrapper)

        stack = wrap(wrap(function))
        twin = memoize(stack)
        assert inspect.signature(twin) == inspect.signature(function)
        assert twin.__name__ == function.__name__
        assert twin.__doc__ == function.__doc__
        assert inspect.getsource(twin) == inspect.getsource(function)
        assert call(twin, 1, 2, d=3) == (1, 2, FIRST, (), 3, SECOND, {})

    def test_wrappers_above(self, function: Any) -> None:
        """Promises 10 and 20: a wrapper above looks like the original, and stands for it in `reset` and `finalizers`."""
        twin = memoize(function)

        @functools.wraps(twin)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return twin(*args, **kwargs)

        assert inspect.signature(wrapper) == inspect.signature(function)
        assert inspect.getsource(wrapper) == inspect.getsource(function)
        if function is plain:
            first = call(wrapper, 1, 2, d=3)
            finalizers.register(wrapper, lambda: None)
            assert wrapper in finalizers
            reset(wrapper)
            assert wrapper not in finalizers
            assert call(wrapper, 1, 2, d=3) is not first

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="no syntax for type parameters")
    def test_type_parameters(self, function: Any) -> None:
        """Promise 20: type parameters are the original's."""
        async_, name = "async " * inspect.iscoroutinefunction(memoize(function)), function.__name__
        gives = "yield" if "generator" in name else "return"
        namespace: dict[str, Any] = {}
        exec(compile(f"{async_}def {name}[T: int](a: T, b: list[T]) -> T:\n    {gives} a", "typed.py", "exec"), namespace)
        twin = memoize(namespace[name])
        assert twin.__type_params__ == namespace[name].__type_params__
        assert typing.get_type_hints(twin) == typing.get_type_hints(namespace[name])
        assert call(twin, 1, []) == 1


# Names ----------------------------------------------------------------------------------------------------------------------------

INTERNAL = re.findall(
    r"\w+",
    """self cls once key defaults factory twin function making value values hit missing fresh keep open next step make args kwargs request
    awaitable generator finalizer inherit code error check default name placed once_ once__ key_ defaults_ __tracebackhide__
    __tracebackhide___ memoize reset AttributeError KeyError TypeError object type func _func_ _call_ __class__ __name__ __builtins__""",
)

FORMS = {
    "function": "def {name}({parameters}):\n    return {values}",
    "generator": "def {name}({parameters}):\n    yield {values}",
    "coroutine": "async def {name}({parameters}):\n    return {values}",
    "async_generator": "async def {name}({parameters}):\n    yield {values}",
}


def defined(form: str, name: str, parameters: str, values: str, /, **namespace: Any) -> Any:
    exec(FORMS[form].format(name=name, parameters=parameters, values=values), namespace)
    return namespace[name]


@pytest.mark.parametrize("options", [{}, {"key": lambda **given: repr(given)}], ids=["without key", "with key"])
@pytest.mark.parametrize("form", FORMS)
class TestNamesOfOurOwn:
    def test_as_parameters(self, form: str, options: Any) -> None:
        """Promise 20: no parameter name is reserved, of whatever kind the parameter is, and whatever the other parameters are named."""
        for name in INTERNAL:
            for parameters, values in (
                (name, name),
                (f"{name}=1", name),
                (f"*, {name}", name),
                (f"a, *, {name}=1", name),
                (f"*{name}", name),
                (f"**{name}", f"{name}[{name!r}]"),
            ):
                twin = memoize(**options)(defined(form, "function", parameters, f"({values},)"))
                variadic = parameters == f"*{name}"
                given = {} if variadic else {name: 5}
                positional = [1] if parameters.startswith("a,") else []
                assert call(twin, *positional, **given) == (() if variadic else 5,), parameters

    def test_all_at_once(self, form: str, options: Any) -> None:
        """Promise 20: nor are they when they come together."""
        function = defined(form, "function", ", ".join(INTERNAL), f"[{', '.join(INTERNAL)}]")
        assert call(memoize(**options)(function), *range(len(INTERNAL))) == list(range(len(INTERNAL)))

    def test_as_the_functions_own_name(self, form: str, options: Any) -> None:
        """Promise 20: nor is the name of the function, or a global that it reads."""
        for name in INTERNAL:
            twin = memoize(**options)(defined(form, name, "a", f"(a, {name} is not None)"))
            assert twin.__name__ == name
            assert call(twin, 1) == (1, True)
            if not name.startswith("__"):
                reader = memoize(**options)(defined(form, "reader", "a", f"(a, {name})", **{name: "global"}))
                assert call(reader, 1) == (1, "global")


# Other callables ------------------------------------------------------------------------------------------------------------------


class AsyncCallable:
    """Is awaited when it is called."""

    async def __call__(self, a: int, *, b: int = 2) -> list[int]:
        return [a, b]


class AsyncGeneratorCallable:
    async def __call__(self, a: int) -> AsyncGenerator[list[int], None]:
        yield [a]


class GeneratorCallable:
    def __call__(self, a: int) -> Generator[list[int], None, None]:
        yield [a]


class TestCallables:
    @pytest.mark.parametrize("made", [AsyncCallable(), AsyncGeneratorCallable(), GeneratorCallable()], ids=lambda made: type(made).__name__)
    def test_instances(self, made: Any) -> None:
        """Promise 21: an instance is memoized by what its `__call__` is, with its signature."""
        twin: Any = memoize(made)
        assert inspect.signature(twin) == inspect.signature(made)
        assert inspect.iscoroutinefunction(twin) is not isinstance(made, GeneratorCallable)
        assert call(twin, 1)[0] == 1
        assert twin.__name__ == type(made).__name__
        assert twin.__doc__ == made.__doc__
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
            call(twin)

    @pytest.mark.parametrize("made", [AsyncCallable(), AsyncGeneratorCallable(), GeneratorCallable()], ids=lambda made: type(made).__name__)
    def test_bound_methods(self, made: Any) -> None:
        """Promise 21: so is a bound method, whose first parameter is given."""
        twin: Any = memoize(made.__call__)
        assert str(inspect.signature(twin)) == str(inspect.signature(made))
        assert call(twin, 1)[0] == 1

    @pytest.mark.parametrize(
        "builtin", [len, sorted, dict, int, print, "x".join, [].append, str.upper, max], ids=lambda builtin: builtin.__qualname__
    )
    def test_builtins(self, builtin: Any) -> None:
        """Promise 21: builtins can be memoized, those without a signature too, and keep their names and documentation."""
        twin: Any = memoize(builtin)
        assert (twin.__name__, twin.__doc__) == (builtin.__name__, builtin.__doc__)
        arguments: Any = {"int": ("3",), "print": (), "dict": ([(1, 2)],), "str.upper": ("a",), "max": (1, 2)}
        given = arguments.get(builtin.__qualname__, (["b", "a"],))
        assert twin(*given) == builtin(*given)

    def test_lambda(self) -> None:
        """Promise 21: a lambda keeps its name, which is no identifier, its defaults and its closure."""
        size = [3]
        twin = memoize(lambda a, *, b=FIRST: (a, b, size))
        assert twin.__name__ == twin.__code__.co_name == "<lambda>"
        assert twin(1) == (1, FIRST, size)  # type: ignore[call-arg, unused-ignore]

    def test_cached_below(self) -> None:
        """Promise 21: a function with `functools.cache` is memoized as what it is, with the signature of what it wraps."""

        @functools.cache
        def cached(a: int, b: int = 2) -> list[int]:
            """Is cached."""
            return [a, b]

        twin: Any = memoize(cached)
        assert twin(1) is twin(5)
        assert inspect.signature(twin) == inspect.signature(cached)
        assert (twin.__doc__, twin.__name__) == ("Is cached.", "cached")
        if sys.implementation.name == "cpython":  # elsewhere functools.cache is written in Python, and takes any arguments
            with pytest.raises(TypeError):
                twin()
        twin.cache_clear()
        assert twin(5) == [5, 2]

    def test_context_manager_below(self) -> None:
        """Promise 6: a context manager function is no generator function; what it returns is the object."""

        @contextlib.contextmanager
        def manager() -> Iterator[str]:
            yield "entered"

        twin = memoize(manager)
        assert twin() is twin()
        with twin() as entered:
            assert entered == "entered"

    def test_classes(self) -> None:
        """Promise 21: of a class the first instance is kept; calls take what its metaclass or `__new__` takes."""

        class Meta(type):
            def __call__(cls, a: int, *, meta: int) -> Any:
                return super().__call__()

        class ByMeta(metaclass=Meta):
            ATTRIBUTE: ClassVar[int] = 1

        class ByNew:
            def __new__(cls, a: int, /, b: int = 1) -> "ByNew":
                return super().__new__(cls)

        twin: Any = memoize(ByMeta)
        assert isinstance(twin(1, meta=2), ByMeta)
        assert twin(1, meta=2) is twin(3, meta=4)
        assert not hasattr(twin, "ATTRIBUTE")
        by_new: Any = memoize(ByNew)
        assert by_new(1) is by_new(2, b=3)
        assert str(inspect.signature(by_new)) == str(inspect.signature(ByNew))
        with pytest.raises(TypeError):
            by_new(a=1)
        assert twin.__doc__ == ByMeta.__doc__

    def test_mangled_names(self) -> None:
        """Promise 21: methods and parameters with mangled names work in a class body."""

        class Owner:
            __size = 3

            @memoize
            def __hidden(self, __a: int, *, __b: int = 2) -> list[int]:
                return [self.__size, __a, __b]

            @memoize
            async def __hidden_async(self, __a: int = 1) -> AsyncGenerator[list[int], None]:
                yield [self.__size, __a]

            def hidden(self) -> list[int]:
                return self.__hidden(1)

            async def hidden_async(self) -> list[int]:
                return await self.__hidden_async()

        owner = Owner()
        assert owner.hidden() is owner.hidden() == [3, 1, 2]
        assert asyncio.run(owner.hidden_async()) == [3, 1]

    def test_methods_of_all_kinds(self) -> None:
        """Promise 21: methods, class methods and static methods of all four kinds have one object each, for all instances."""

        class Owner:
            @memoize
            def generator(self) -> Generator[object, None, None]:
                yield object()

            @classmethod
            @memoize
            async def coroutine(cls) -> type:
                return cls

            @staticmethod
            @memoize
            async def async_generator(a: int) -> AsyncGenerator[int, None]:
                yield a

        class Heir(Owner): ...

        async def both(*made: Any) -> list[Any]:
            return [await each for each in made]

        assert Owner().generator() is Heir().generator()
        assert asyncio.run(both(Owner.coroutine(), Heir.coroutine(), Heir().coroutine())) == [Owner] * 3
        assert asyncio.run(both(Owner.async_generator(1), Heir().async_generator(2))) == [1, 1]
        assert inspect.iscoroutinefunction(Owner.coroutine)
        assert str(inspect.signature(Owner().generator)) == str(inspect.signature(Owner.coroutine)).replace("type", GENERATOR)

    def test_abstract_methods(self) -> None:
        """Promise 20: the mark of `abc.abstractmethod` below is kept."""

        class Base(abc.ABC):
            @memoize
            @abc.abstractmethod
            def method(self) -> int: ...

        with pytest.raises(TypeError, match="abstract"):
            Base()  # type: ignore[abstract]


GENERATOR = "collections.abc.Generator[object, None, None]"


# Tools ----------------------------------------------------------------------------------------------------------------------------

FIXTURES = '''
"""Fixtures."""

import pytest
from memoize_once import memoize


@pytest.fixture(scope="session")
@memoize
def port() -> int:
    """The port to listen at."""
    return 80


@pytest.fixture(scope="session", name="renamed")
@memoize(key=lambda port: port)
def server(port, *, timeout=10):
    """The server that listens."""
    yield port, timeout


@pytest.fixture(params=["one", "two"])
@memoize(key=lambda request: request.param)
def each(request, renamed):
    """One and the other."""
    yield request.param, renamed


class TestInjection:
    @pytest.fixture
    @memoize
    def method(self, port):
        """A method as a fixture."""
        return port + 1

    def test_all(self, port, each, method, renamed):
        assert (port, each[1], method, renamed) == (80, renamed, 81, (80, 10))
'''


class TestTools:
    @pytest.fixture(autouse=True)
    def plain_pytest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The pytest that these tests run has no plugins, which cost seconds."""
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def test_doctest(self, pytester: pytest.Pytester) -> None:
        """Promise 20: doctest, pytest's and the standard one's, collects the examples of all four kinds, at their lines."""
        kinds = {"plain": "def", "generating": "def", "coroutine": "async def", "async_generating": "async def"}
        source = "from memoize_once import memoize\n"
        for name, how in kinds.items():
            gives = "yield" if name.endswith("generating") else "return"
            source += f'\n\n@memoize\n{how} {name}():\n    """Has one.\n\n    >>> {name}.__name__\n    {name!r}\n    """\n    {gives} 1\n'
        path = pytester.makepyfile(documented=source)
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--doctest-modules", path)
        result.assert_outcomes(passed=4)
        standard = pytester.run(sys.executable, "-m", "doctest", "-v", path)
        assert standard.ret == 0
        standard.stdout.fnmatch_lines(["*4 passed*"])
        path.write_text(source.replace("    'coroutine'", "    'another'"))
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--doctest-modules", path)
        line = source.splitlines().index("    >>> coroutine.__name__") + 1
        result.stdout.fnmatch_lines([f"*documented.py:{line}: DocTestFailure"])

    def test_pytest(self, pytester: pytest.Pytester) -> None:
        """Promise 20: pytest injects by name, and `--fixtures` and `--setup-show` show the original's names, documentation and lines."""
        path = pytester.makepyfile(test_fixtures=FIXTURES)
        options = ("-p", "no:cacheprovider", path)
        pytester.runpytest_inprocess(*options).assert_outcomes(passed=2)
        lines = FIXTURES.lstrip().splitlines()
        shown = pytester.runpytest_inprocess("--fixtures", *options)
        text = "\n".join(shown.outlines)
        for name, original, doc in (
            ("port [session scope]", "port", "The port to listen at."),
            ("renamed [session scope]", "server", "The server that listens."),
            ("each", "each", "One and the other."),
            ("method", "method", "A method as a fixture."),
        ):
            [place] = [line for line in shown.outlines if line.startswith(f"{name} -- ")]
            number = int(place.rpartition(":")[2])  # of the first decorator, where the function begins
            assert f"def {original}(" in "".join(lines[number - 1 : number + 2])
            assert doc in text

        shown = pytester.runpytest_inprocess("--setup-show", *options)
        shown.stdout.fnmatch_lines(
            ["SETUP    S port", "SETUP    S renamed (fixtures used: port)", "*SETUP    F each (fixtures used: renamed)?'one'?"]
        )

    def test_help(self) -> None:
        """Promise 20: `help()` of a module and of a class shows what is memoized among its functions."""
        module = types.ModuleType("helpful")
        exec(
            "from memoize_once import memoize\n"
            "__all__ = ['Owner', 'pool']\n"
            "class Owner:\n"
            "    @memoize\n"
            "    def method(self, size=1):\n"
            "        '''Is a method.'''\n"
            "@memoize\n"
            "async def pool(size: int = 2):\n"
            "    '''Is a pool.'''\n"
            "    yield size\n",
            vars(module),
        )
        text = pydoc.plain(pydoc.render_doc(module))
        for expected in ("method(self, size=1)", "Is a method.", "pool(size: int = 2)", "Is a pool."):
            assert expected in text


def test_future_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 20: under `from __future__ import annotations` hints are resolved in the original's module, for all four kinds."""
    source = "from __future__ import annotations\n" + "".join(
        FORMS[form].format(name=form, parameters="a: Later, *, b: Later | None = None", values="a") + "\n" for form in FORMS
    )
    (tmp_path / "postponed.py").write_text(source + "class Later: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    postponed: Any = __import__("postponed")
    for form in FORMS:
        twin: Any = memoize(getattr(postponed, form))
        assert twin.__annotations__ == {"a": "Later", "b": "Later | None"}
        assert typing.get_type_hints(twin) == {"a": postponed.Later, "b": postponed.Later | None}
        assert inspect.signature(twin, eval_str=True).parameters["a"].annotation is postponed.Later


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once")
@pytest.mark.parametrize("form", FORMS)
def test_annotations_that_are_not_defined_yet(form: str) -> None:
    """Promise 20: an annotation may name what is defined later, and is that from then on."""
    twin: Any = memoize(defined(form, "function", "a: Sooner, *, b: list[Sooner] = 2", "a"))
    assert call(twin, 1) == 1
    twin.__globals__["Sooner"] = int
    assert twin.__annotations__ == typing.get_type_hints(twin) == {"a": int, "b": list[int]}
