"""The decorator: what kind of function it is given, and the twin that it writes for it.

The twin is what users call: a real function with the parameters of the original, whose hit is one attribute read and a return. It is
compiled once for each number of parameters; their names and kinds are put into its code afterwards. It carries the file and the line of
the original, and calls the body itself, so that tracebacks and warnings point to the user's code.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Generator, Hashable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from decorator import FunctionMaker

from ._finalizers import ALIVE
from ._once import Keyed, Once, Parameters, innermost, namespace, placed

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")


# What kind of function it is given ------------------------------------------------------------------------------------------------

# On 3.14 and later annotations may name what is not defined yet
_ANNOTATIONS: Any = {"annotation_format": inspect.signature.__globals__["Format"].FORWARDREF} if sys.version_info >= (3, 14) else {}
_NO_CODE = compile("", "<memoize_once>", "exec")


def _code(function: Any) -> types.CodeType:
    """The code that stands for an innermost function in the user's file."""
    for candidate in (function, getattr(function, "__init__" if isinstance(function, type) else "__call__", None)):
        code = getattr(candidate, "__code__", None)
        if type(code) is types.CodeType:
            return code
    return _NO_CODE


def _parameters(function: Any) -> tuple[Parameters, Sequence[Any], dict[str, Any]]:
    """What the function's own code checks, which for a wrapper is not what it is a wrapper of; and the defaults.

    The code of a function is read faster than its signature, and without a look at annotations.
    """
    if isinstance(function, types.FunctionType):
        code = function.__code__
        stars = bool(code.co_flags & inspect.CO_VARARGS), bool(code.co_flags & inspect.CO_VARKEYWORDS)
        count = code.co_argcount + code.co_kwonlyargcount + sum(stars)
        parameters = Parameters(code.co_varnames[:count], code.co_posonlyargcount, code.co_argcount, code.co_kwonlyargcount, *stars, {})
        given = function.__kwdefaults__ or {}
        return parameters, function.__defaults__ or (), {name: given[name] for name in parameters.names if name in given}
    found = _signature(function).parameters.values()
    only, either, args, keyword, kwargs = [[p for p in found if p.kind == kind] for kind in inspect._ParameterKind]
    names = tuple([p.name for p in (*only, *either, *keyword, *args, *kwargs)])
    declared = {p.name: p.default for p in found if p.default is not p.empty}
    parameters = Parameters(names, len(only), len(only) + len(either), len(keyword), bool(args), bool(kwargs), declared)
    keyword_defaults = {p.name: declared[p.name] for p in keyword if p.name in declared}
    return parameters, [declared[p.name] for p in (*only, *either) if p.name in declared], keyword_defaults


def _signature(function: Any) -> inspect.Signature:
    try:
        return inspect.signature(function, **_ANNOTATIONS)
    except (TypeError, ValueError):  # a builtin that does not say
        kinds = {"args": inspect.Parameter.VAR_POSITIONAL, "kwargs": inspect.Parameter.VAR_KEYWORD}
        return inspect.Signature([inspect.Parameter(name, kind) for name, kind in kinds.items()])


# Keys -----------------------------------------------------------------------------------------------------------------------------


def _injected(key: Callable[..., Any], name: str, names: Collection[str]) -> Collection[str] | None:
    """The parameters that the key function is given by name; None where it gets all arguments as they stand."""
    try:
        wanted = inspect.signature(key, **_ANNOTATIONS).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) for p in wanted):
        return None
    if any(p.kind == p.VAR_KEYWORD for p in wanted):
        return names
    lacking = [p.name for p in wanted if p.name not in names and p.default is p.empty]
    if lacking:
        raise TypeError(f"the key function names {', '.join(lacking)}, and {name}({', '.join(names)}) has none such: name those it has")
    return [p.name for p in wanted if p.name in names]


def _key(key: Callable[..., Any], function: Any, name: str, parameters: Parameters) -> tuple[Callable[..., Any], str]:
    """What the twin calls for the key, and with which arguments, in its source."""
    names = parameters.names
    as_they_stand = ", ".join(parameters.handed_on([f"p{i}" for i in range(len(names))]))
    if not hasattr(function, "__wrapped__"):
        chosen = _injected(key, name, names)
        return key, as_they_stand if chosen is None else ", ".join(f"p{names.index(name)}=p{names.index(name)}" for name in chosen)

    # a wrapper takes any arguments but declares those of what it wraps, and a key function names those
    declared = inspect.signature(function, **_ANNOTATIONS)
    chosen = _injected(key, name, declared.parameters)

    def bound(*args: Any, **kwargs: Any) -> Any:
        call = declared.bind(*args, **kwargs)
        call.apply_defaults()
        return key(*call.args, **call.kwargs) if chosen is None else key(**{name: call.arguments[name] for name in chosen})

    return bound, as_they_stand


# The same function when its module is executed again ------------------------------------------------------------------------------

# By module, file and qualified name: the records of each execution, with their numbers in it
_defined: dict[tuple[str, str, str], list[tuple[int, weakref.ref[Any]]]] = {}


def _taken_over(once: Once) -> Once:
    """The record that an earlier execution of the file left of the function, if it holds an object with a teardown; else this one.

    A name may be defined more than once in one execution: the n-th definition follows the n-th.
    """
    function, original = once.function, innermost(once.function)
    if (
        not isinstance(function, types.FunctionType)
        or not isinstance(original, types.FunctionType)
        or function.__closure__
        or original.__closure__
        or "<locals>" in function.__qualname__
        or once.code.co_filename.startswith("<")
    ):
        return once
    place = (function.__module__, once.code.co_filename, function.__qualname__)
    known = [(number, old) for number, ref in _defined.get(place, ()) if (old := ref()) is not None]
    earlier = [(number, old) for number, old in known if namespace(old.function) is not original.__globals__]
    mine = len(known) - len(earlier)
    for number, old in earlier:
        holds = number == mine and any(life.finalizers and life.state == ALIVE for life in list(old.lives.values()))
        if holds and type(old) is type(once) and (old.function.__code__, old.code) == (function.__code__, once.code):
            old.define(once)
            return old
    _defined[place] = [*((number, old.ref) for number, old in known), (mine, once.ref)]
    return once


# The twin -------------------------------------------------------------------------------------------------------------------------

# The record stands in a closure. As a constant of the code it would be read a little faster, but what only a code object refers to is
# never collected when it is part of a cycle (the collector does not look into code), nor ever on a free-threaded build. As a global it
# would need a dictionary in place of the user's, which string annotations and warnings refer to. The object itself in a closure would be
# read faster still, and cloudpickle would send it along.
_SOURCE = """\
def factory({factory}):
 {async_}def twin({parameters}):
  {key}
  try: return once.{hit}
  except once.missing: t = once.making(once.locals(){k})
  {miss}
 return twin
"""
_MISS = """\
with t, t: t.fresh and t.keep(t.body())
  return t.value"""
_ASYNC_MISS = "return await t.make()"

# Names and kinds of parameters are fields of the code object, so a twin is compiled for their number alone. A factory is compiled for the
# numbers of its defaults, positional and keyword-only; these are constants in it, and the names that they have there stand beside it.
_twins: dict[object, types.CodeType] = {}
_factories: dict[object, tuple[types.CodeType, list[str]]] = {}


def _compiled(
    count: int, defaults: int, keyword_defaults: int, key: str | None, is_async: bool
) -> tuple[types.CodeType, types.CodeType, list[str]]:
    """The codes of a twin, and of a factory for it."""
    numbers, kind = (defaults, keyword_defaults), (count, key, is_async)
    if numbers not in _factories or kind not in _twins:
        names = [f"p{i}" for i in range(count)]
        values = [f"d{i}" for i in range(defaults + keyword_defaults)]
        plain = count - len(values)
        parameters = names[:plain] + [f"{name}={value}" for name, value in zip(names[plain:], values, strict=True)]
        if keyword_defaults:
            parameters.insert(count - keyword_defaults, "*")
        signature = ", ".join(["once", *values])
        source = _SOURCE.format(
            factory=signature,
            async_="async " * is_async,
            parameters=", ".join(parameters),
            key="" if key is None else f"k = once.key({key})",
            hit="value" if key is None else "values[k]",
            k="" if key is None else ", k",
            miss=_ASYNC_MISS if is_async else _MISS,
        )
        factory = FunctionMaker(name="factory", signature=signature).make(source, {}).__code__
        _factories[numbers] = factory, names[count - keyword_defaults :]
        _twins[kind] = next(const for const in factory.co_consts if isinstance(const, types.CodeType))
    return _twins[kind], *_factories[numbers]


def _renamed(const: Any, names: dict[str, str]) -> Any:
    """A constant of code: the keywords of a call or of defaults are a tuple, or strings on 3.14 and later."""
    if isinstance(const, tuple):
        return tuple([names.get(name, name) for name in const])
    return names.get(const, const)


def _write(
    once: Once, function: Any, original: Any, defaults: Sequence[Any], keyword_defaults: dict[str, Any], key: str | None, is_async: bool
) -> Any:
    """The twin of the function, which asks the record first."""
    parameters = once.parameters
    names, count = parameters.names, len(parameters.names)
    twin, factory, keywords = _compiled(count, len(defaults), len(keyword_defaults), key, is_async)
    # pytest hides frames that have a variable of this name; other names are such as no parameter has
    hide = "__tracebackhide__"
    variables = {"t": "<making>" if hide in names else hide, "k": "<key>", **{f"p{i}": name for i, name in enumerate(names)}}
    code = placed(
        twin,
        function,
        once.code,
        co_varnames=tuple([variables[name] for name in twin.co_varnames]),
        co_freevars=("<once>",),
        co_consts=tuple([_renamed(const, variables) for const in twin.co_consts]),
        co_posonlyargcount=parameters.positional_only,
        co_argcount=parameters.positional,
        co_kwonlyargcount=parameters.keyword_only,
        co_flags=twin.co_flags | inspect.CO_VARARGS * parameters.args | inspect.CO_VARKEYWORDS * parameters.kwargs,
    )
    # a `def` makes faster functions than types.FunctionType does of finished code, so it is the factory's constants that change
    given = dict(zip(keywords, keyword_defaults, strict=True))
    consts = tuple([code if isinstance(const, types.CodeType) else _renamed(const, given) for const in factory.co_consts])
    twin = types.FunctionType(factory.replace(co_consts=consts), namespace(function))(once, *defaults, *keyword_defaults.values())
    functools.update_wrapper(twin, function, updated=() if isinstance(function, type) else ("__dict__",))
    if not isinstance(function, types.FunctionType):
        twin.__module__ = _module(function)
        declared = _signature(function)
        annotations = {p.name: p.annotation for p in declared.parameters.values()} | {"return": declared.return_annotation}
        twin.__annotations__ = {name: annotation for name, annotation in annotations.items() if annotation is not declared.empty}
    # where there is one (3.14 on) it is copied, and may name what is not defined yet
    elif not getattr(function, "__annotate__", None):  # pragma: no branch
        twin.__annotations__ = function.__annotations__
    if _is_generator(inspect.unwrap(function, stop=_is_generator)):
        # frameworks unwrap to ask whether a function is a generator, and this one no longer is
        del twin.__wrapped__
        if hasattr(function, "__wrapped__"):
            twin.__signature__ = inspect.signature(function, **_ANNOTATIONS)
    twin.cache_clear = once.cache_clear
    return twin


def _module(function: Any) -> Any:
    """The module that defines it, which of a partial is not functools."""
    return getattr(innermost(function) if isinstance(function, functools.partial) else function, "__module__", None)


def _is_async(function: object) -> bool:
    """Whether calling it gives a coroutine or an async generator."""
    while isinstance(function, functools.partial):
        function = function.func
    method = getattr(type(function), "__call__", None)  # noqa: B004  of a callable instance
    return any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in (function, method))


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


# The decorator --------------------------------------------------------------------------------------------------------------------


if TYPE_CHECKING:

    class _Nothing:
        """Only what is Any, or never returns, fits it, so that the last overload is for functions that return Any. Between the others
        mypy cannot choose then, and without this one it would give a function that its strict mode forbids to call."""

    class _Decorator(Protocol):
        @overload
        def __call__(self, function: Callable[P, Generator[T, S, R]], /) -> Callable[P, T]: ...
        @overload
        def __call__(self, function: Callable[P, AsyncGenerator[T, S]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
        @overload
        def __call__(self, function: Callable[P, T], /) -> Callable[P, T]: ...
        @overload
        def __call__(self, function: Callable[..., _Nothing], /) -> Any: ...  # type: ignore[overload-cannot-match]


@overload
def memoize(
    function: Callable[P, Generator[T, S, R]],
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Callable[P, T]: ...
@overload
def memoize(
    function: Callable[P, AsyncGenerator[T, S]],
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def memoize(
    function: Callable[P, T],
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Callable[P, T]: ...
@overload
def memoize(  # type: ignore[overload-cannot-match]
    function: Callable[..., _Nothing],
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Any: ...
@overload
def memoize(
    function: None = None,
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> _Decorator: ...
def memoize(
    function: Any = None,
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Any:
    """Keep the first result of the function for the rest of the process, and hand it to every caller.

    The first call runs the body, and callers that arrive meanwhile, in other threads, wait for it. Every later call returns the same
    object, whatever its arguments, which are still checked. A body that raises leaves nothing behind: the error reaches its caller,
    and the next one tries again. A function that returns a generator makes the object that the generator yields; what comes after
    the `yield` is its teardown. Teardowns run once, at `reset()` or at the exit of the process, in the reverse of the order in which
    the objects were finished. A forked child makes its own objects.

    Arguments:
      function: what makes the object: a function, a method in a class body, a class, any callable. With or without parentheses.
      key: a function that names those of the parameters that it needs and returns something hashable; there is one object for each key.
      finalizer: is called with the object when it is torn down.
      inherit: a forked child keeps using the object of its parent; it never tears it down.

    Returns a function with the same name, parameters and documentation; its `cache_clear()` is `reset` of it. What is memoized
    already is given back as it is.

    Raises TypeError for what is not callable, for `@memoize` above `@staticmethod`, `@classmethod` or `@property`, for a key function
    that names a parameter that is not there, and for other options on what is memoized already. Calls raise DeadlockError where an
    object needs itself, RuntimeError where a generator never yields, and TypeError where a key is not hashable. New in 0.1.0.
    """
    for option, value in (("key", key), ("finalizer", finalizer)):
        if value is not None and not callable(value):
            raise TypeError(f"{option}= takes a function, not {value!r}")
    if function is None:
        return functools.partial(memoize, key=key, finalizer=finalizer, inherit=inherit)
    if isinstance(function, staticmethod | classmethod | property):
        kind = type(function).__name__
        raise TypeError(f"@memoize cannot stand above @{kind}: write @{kind} above @memoize")
    if not callable(function):
        raise TypeError(f"@memoize takes a function, and {function!r} is not callable: decorate the function that makes it")
    record = _record_of(function)
    if record is not None:
        given = {name: value for name, value in (("key", key), ("finalizer", finalizer), ("inherit", inherit)) if value}
        if any(getattr(record, name, None) != value for name, value in given.items()):
            raise TypeError(f"{record.name} is memoized already: give {', '.join(f'{name}=' for name in given)} where it is memoized first")
        return function
    original = innermost(function)
    name: str = getattr(function, "__qualname__", "") or getattr(original, "__qualname__", type(original).__qualname__)
    parameters, defaults, keyword_defaults = _parameters(function)
    is_async = _is_async(function)
    kinds: tuple[Any, Any] = (Once, Keyed)
    if is_async:  # asyncio is not imported before, and nothing is while an object is made
        from ._aonce import AsyncKeyed, AsyncOnce

        kinds = (AsyncOnce, AsyncKeyed)
    once = kinds[key is not None](f"{_module(function)}.{name}", _code(original), function, finalizer, inherit)
    once.parameters = parameters
    call = None
    if key is not None:
        once.key, call = _key(key, function, name, parameters)
    once = _taken_over(once)
    twin = _write(once, function, original, defaults, keyword_defaults, call, is_async)
    once.twin = weakref.ref(twin)
    for life in list(once.lives.values()):
        life.hold()
    return twin


def _record_of(function: Any) -> Once | None:
    """The record of the very function that `memoize` gave; a wrapper of that is something else."""
    if isinstance(function, types.FunctionType):
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # a cell that is empty yet
                if issubclass(type(cell.cell_contents), Once):  # isinstance() would ask a lazy object for its class
                    return cell.cell_contents  # type: ignore[no-any-return]
    return None


async def areset(*functions: Any) -> None:
    """The same as `reset`, from a coroutine, for objects of every kind.

    Takes what `reset` takes, raises what it raises, and waits without blocking the event loop, on whichever loop it is awaited.
    Objects of async functions are torn down on their own loop. A caller that is cancelled does not stop a teardown that has begun.
    New in 0.1.0.
    """
    from ._aonce import areset

    await areset(*functions)
