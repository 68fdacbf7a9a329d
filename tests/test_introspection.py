"""Promise 20: the same function to everyone else, for all four kinds of function."""

import asyncio
import copy
import importlib
import inspect
import itertools
import pickle
import pydoc
import re
import sys
import traceback
import typing
import warnings
from typing import Annotated, Any

import pytest

from memoize_once import memoize

ONE, TWO = [1], [2]


def plain(a: "Later", /, b: int = 0, c: Any = ONE, *args: str, d: "Later", e: Any = TWO) -> Any:
    """Is plain."""
    return locals()


def generator(a: "Later", /, b: int = 0, c: Any = ONE, *, d: "Later", **kwargs: Any) -> Any:
    """Is a generator function."""
    yield locals()


async def coroutine(a: "Later", /, b: int = 0, c: Any = ONE, *args: int, d: "Later" = TWO) -> Any:
    """Is a coroutine function."""
    return locals()


async def async_generator(a: "Later", b: int, *, d: "Later", e: Any = TWO, **kwargs: Any) -> Any:
    """Is an async generator function."""
    yield locals()


Later = Annotated[Any, "defined after the functions that name it"]

FUNCTIONS: list[Any] = [plain, generator, coroutine, async_generator]
four_kinds = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)

FORMS = {
    "plain": "def {name}({parameters}):\n    return {values}",
    "generator": "def {name}({parameters}):\n    yield {values}",
    "coroutine": "async def {name}({parameters}):\n    return {values}",
    "async_generator": "async def {name}({parameters}):\n    yield {values}",
}


def defined(form: str, name: str, parameters: str, values: str, /, **namespace: Any) -> Any:
    """A function of this form, compiled without `from __future__ import annotations`."""
    source = FORMS[form].format(name=name, parameters=parameters, values=values)
    exec(compile(source, "defined.py", "exec", dont_inherit=True), namespace)
    return namespace[name]


def call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """The object, of an async function too."""
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


@four_kinds
class TestFourKinds:
    def test_names_and_places(self, function: Any) -> None:
        """Promise 20: names, documentation and place in the file are the original's."""
        wrapper: Any = memoize(function)
        for name in ("__name__", "__qualname__", "__module__", "__doc__", "__globals__"):
            assert getattr(wrapper, name) == getattr(function, name)
        assert wrapper.__code__.co_name == f"{function.__name__} (memoized)"
        assert wrapper.__code__.co_filename == function.__code__.co_filename
        assert wrapper.__code__.co_firstlineno == function.__code__.co_firstlineno
        assert inspect.getsourcelines(wrapper) == inspect.getsourcelines(function)
        assert inspect.getsourcefile(wrapper) == __file__
        assert inspect.getmodule(wrapper) is sys.modules[__name__]
        assert function.__doc__ in pydoc.plain(pydoc.render_doc(wrapper))

    def test_parameters(self, function: Any) -> None:
        """Promise 20: parameters of every kind, their defaults and annotations are the original's,
        in the code object too, and what a call gives for them reaches the body."""
        wrapper: Any = memoize(function)
        assert inspect.signature(wrapper) == inspect.signature(function)
        assert inspect.getfullargspec(wrapper) == inspect.getfullargspec(function)
        for name, parameter in inspect.signature(function).parameters.items():
            assert inspect.signature(wrapper).parameters[name].default is parameter.default
        code, original = wrapper.__code__, function.__code__
        for name in ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount"):
            assert getattr(code, name) == getattr(original, name)
        given = inspect.signature(function).bind(1, 2, d=5)
        given.apply_defaults()
        count = len(given.arguments)
        assert code.co_varnames[:count] == original.co_varnames[:count]
        assert wrapper.__annotations__ == function.__annotations__
        hints = typing.get_type_hints(wrapper, include_extras=True)
        assert hints == typing.get_type_hints(function, include_extras=True)
        assert call(wrapper, 1, 2, d=5) == given.arguments
        with pytest.raises(TypeError, match=rf"{function.__name__}\(\) missing"):
            call(wrapper)

    def test_attributes(self, function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Promise 20: attributes are the original's, and stay apart from it."""
        monkeypatch.setattr(function, "tags", ["one"], raising=False)
        wrapper: Any = memoize(function)
        assert wrapper.tags is function.tags
        wrapper.own = True
        assert not hasattr(function, "own")
        assert not hasattr(function, "cache_clear")

    def test_what_frameworks_ask(self, function: Any) -> None:
        """Promises 16 and 20: it is no generator function, and a coroutine function where the
        original is async, unwrapped or not; `__wrapped__` is the original unless that is a
        generator function."""
        wrapper = memoize(function)
        is_async = function in (coroutine, async_generator)
        for candidate in (wrapper, inspect.unwrap(wrapper)):
            assert inspect.isfunction(candidate)
            assert not inspect.isgeneratorfunction(candidate)
            assert not inspect.isasyncgenfunction(candidate)
            assert inspect.iscoroutinefunction(candidate) is is_async
        expected = function if function in (plain, coroutine) else None
        assert getattr(wrapper, "__wrapped__", None) is expected

    def test_references(self, function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Promise 20: it is pickled by reference, and copied as a function is."""
        wrapper = memoize(function)
        monkeypatch.setattr(sys.modules[__name__], function.__name__, wrapper)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(wrapper, protocol)) is wrapper
        assert copy.copy(wrapper) is copy.deepcopy([wrapper])[0] is wrapper

    @pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once")
    def test_annotations_that_are_not_defined_yet(self, function: Any) -> None:
        """Promise 20: an annotation may name what is defined later, and is that from then on."""
        original = defined(function.__name__, "later", "a: Sooner, *, b: list[Sooner] = 2", "a")
        wrapper: Any = memoize(original)
        assert call(wrapper, 1) == 1
        wrapper.__globals__["Sooner"] = int
        expected = {"a": int, "b": list[int]}
        assert wrapper.__annotations__ == typing.get_type_hints(wrapper) == expected


class TestProfilers:
    @pytest.mark.parametrize("module", ["cProfile", "profile"])
    @pytest.mark.parametrize("form", ["plain", "generator"])
    @pytest.mark.parametrize("options", [{}, {"key": lambda a: a}], ids=["single", "keyed"])
    def test_rows(self, module: str, form: str, options: Any) -> None:
        """Promise 20: profilers, which tell functions apart by file, line and name, have a row for
        the body and one for the calls, by the names that users look for."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of `profile`, from 3.15 on
            profile = importlib.import_module(module).Profile()
        expensive = memoize(**options)(defined(form, "expensive", "a", "[a]"))

        def work() -> None:
            for _ in range(10):
                expensive(1)

        profile.runcall(work)
        profile.create_stats()
        calls = {
            name: row[1] for (file, _, name), row in profile.stats.items() if file == "defined.py"
        }
        # a generator is resumed once: not before its teardown, and profilers count each
        assert calls == {"expensive": 1, "expensive (memoized)": 10}

    def test_tracebacks(self) -> None:
        """Promise 20: a traceback names the calls apart from the body."""

        @memoize
        def failing() -> int:
            return 1 // 0

        with pytest.raises(ZeroDivisionError) as raised:
            failing()
        names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
        assert [name for name in names if "failing" in name] == ["failing (memoized)", "failing"]


# names that the library or the interpreter may well use itself
NAMES = re.findall(
    r"\w+",
    """self cls once key keys default defaults factory function wrapper body make value values t k
    args kwargs request finalizer inherit code wait missing memoize reset AttributeError TypeError
    object type func _func_ _call_ p0 d0 __tracebackhide__ __class__ __name__ __builtins__""",
)
SHAPES = ("{0}", "{0}=1", "*, {0}", "a, *, {0}=1", "**{0}")


@pytest.mark.parametrize("options", [{}, {"key": lambda **given: repr(given)}], ids=["", "key="])
@pytest.mark.parametrize("form", FORMS)
def test_no_name_is_reserved(form: str, options: Any) -> None:
    """Promise 20: no name of a parameter is reserved, of whatever kind it is and whatever the other
    ones are named, nor is the function's own or that of a global that it reads."""
    for name, shape in itertools.product(NAMES, SHAPES):
        values = f"{name}[{name!r}]" if shape.startswith("**") else name
        function = memoize(**options)(defined(form, "function", shape.format(name), values))
        assert call(function, *([1] if shape.startswith("a") else []), **{name: 5}) == 5
    everything = ", ".join(NAMES)
    function = memoize(**options)(defined(form, "function", everything, f"[{everything}]"))
    assert call(function, *range(len(NAMES))) == list(range(len(NAMES)))
    for name in NAMES:
        named = memoize(**options)(defined(form, name, "a", f"(a, {name} is not None)"))
        assert (named.__name__, call(named, 1)) == (name, (1, True))
        if not name.startswith("__"):
            reader = memoize(**options)(defined(form, "reader", "a", name, **{name: "global"}))
            assert call(reader, 1) == "global"


FIXTURES = '''
import pytest
from memoize_once import memoize

@pytest.fixture(scope="session")
@memoize
def port() -> int:
    """The port to listen at."""
    return 80

@pytest.fixture(name="renamed")
@memoize(key=lambda port: port)
def server(port, *, timeout=10):
    """The server that listens."""
    yield port, timeout

def test_all(port, renamed):
    assert (port, renamed) == (80, (80, 10))
'''


@pytest.mark.usefixtures("plain_pytest")
class TestTools:
    def test_doctest(self, pytester: pytest.Pytester) -> None:
        """Promise 20: doctest collects the examples of all four kinds, at their lines."""
        source = "from memoize_once import memoize\n"
        for name, form in FORMS.items():
            head, body = form.format(name=name, parameters="", values="1").split("\n")
            example = f"    >>> {name}.__name__\n    {name!r}"
            source += f'\n\n@memoize\n{head}\n    """Has one.\n\n{example}\n    """\n{body}\n'
        path = pytester.makepyfile(documented=source)
        options = ("-p", "no:cacheprovider", "--doctest-modules", path)
        pytester.runpytest_inprocess(*options).assert_outcomes(passed=4)
        path.write_text(source.replace("    'coroutine'", "    'another'"))
        result = pytester.runpytest_inprocess(*options)
        line = source.splitlines().index("    >>> coroutine.__name__") + 1
        result.stdout.fnmatch_lines([f"*documented.py:{line}: DocTestFailure"])

    def test_pytest(self, pytester: pytest.Pytester) -> None:
        """Promise 20: pytest injects by name, `--fixtures` shows names, documentation and lines."""
        path = pytester.makepyfile(test_fixtures=FIXTURES)
        options = ("-p", "no:cacheprovider", path)
        pytester.runpytest_inprocess(*options).assert_outcomes(passed=1)
        shown = pytester.runpytest_inprocess("--fixtures", *options).stdout
        renamed = ["renamed -- test_fixtures.py:10", "*The server that listens."]
        port = ["port [[]session scope] -- test_fixtures.py:4", "*The port to listen at."]
        shown.fnmatch_lines([*renamed, *port])
