"""The decorator: what it is given, and what users see of it."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Generator, Hashable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from ._again import innermost, met_again, place_of
from ._finalizers import P, R, memoized_by
from ._once import Once
from ._wrapper import Shape, read, write

S = TypeVar("S")
T = TypeVar("T")


def signature(function: Any) -> inspect.Signature | None:
    """Its signature, if it has one."""
    kwargs: Any = {}
    if sys.version_info >= (3, 14):  # annotations may name what is not defined yet
        from annotationlib import Format

        kwargs["annotation_format"] = Format.FORWARDREF
    try:
        return inspect.signature(function, **kwargs)
    except (TypeError, ValueError):  # a builtin that does not say
        return None


def _is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine or an async generator."""
    instance = function.func if isinstance(function, functools.partial) else function
    method = getattr(type(instance), "__call__", None)  # noqa: B004  it may be callable
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, method)
    )


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


# Keys ---------------------------------------------------------------------------------------------


def _injected(
    key: Callable[..., Any], name: str, parameters: Collection[str]
) -> Collection[str] | None:
    """The parameters that the key function is given by name; None where it gets all arguments."""
    declared = signature(key)
    wanted = declared.parameters.values() if declared else ()
    if not declared or any(p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) for p in wanted):
        return None
    if any(p.kind == p.VAR_KEYWORD for p in wanted):
        return parameters
    lacking = [p.name for p in wanted if p.name not in parameters and p.default is p.empty]
    if lacking:
        raise TypeError(
            f"the key function names {', '.join(lacking)}, which {name}({', '.join(parameters)}) "
            "has not: name those it has"
        )
    return [p.name for p in wanted if p.name in parameters]


def _key(
    key: Callable[..., Any], function: Any, name: str, shape: Shape
) -> tuple[Callable[..., Any], str]:
    """What the wrapper calls for the key, and with which arguments, in its source."""
    declared = signature(function)
    own = isinstance(function, types.FunctionType) and not hasattr(function, "__wrapped__")
    if own or declared is None:
        chosen = _injected(key, name, shape.names)
        return key, shape.arguments if chosen is None else ", ".join(f"{p}={p}" for p in chosen)

    # what it declares is not what its code takes
    chosen = _injected(key, name, declared.parameters)

    def key_of(*args: Any, **kwargs: Any) -> Any:
        call = declared.bind(*args, **kwargs)
        call.apply_defaults()
        if chosen is None:
            return key(*call.args, **call.kwargs)
        return key(**{parameter: call.arguments[parameter] for parameter in chosen})

    return key_of, shape.arguments


# Bad use ------------------------------------------------------------------------------------------


def _refuse(function: Any, options: dict[str, Any]) -> None:
    """Raises TypeError, which says what to write instead."""
    for option in ("key", "finalizer"):
        if options[option] is not None and not callable(options[option]):
            raise TypeError(f"{option}= takes a function, not {options[option]!r}")
    above = type(function).__name__
    # pytest's mark before 8.4, and its class since
    if any(
        hasattr(function, mark) for mark in ("_pytestfixturefunction", "_fixture_function_marker")
    ):
        above = "pytest.fixture"
    if above in ("staticmethod", "classmethod", "property", "pytest.fixture"):
        raise TypeError(f"@memoize cannot stand above @{above}: write @{above} above @memoize")
    if function is not None and not callable(function):
        raise TypeError(
            f"@memoize takes a function, and {function!r} is not callable: "
            "decorate the function that makes it"
        )


def _refuse_finalizer(finalizer: Any, name: str, is_async: bool) -> None:
    if not is_async and _is_async(finalizer):
        raise TypeError(
            f"finalizer= of {name} is async, and {name} is not, so nobody can await it: "
            f"write {name} with `async def`, or a plain finalizer"
        )
    takes = signature(finalizer)
    try:
        if takes is not None:
            takes.bind(None)
    except TypeError as error:
        raise TypeError(
            f"finalizer= of {name} is called with the object ({error}): write one that takes it, "
            "such as `finalizer=lambda it: it.close()`"
        ) from None


def _refuse_other_options(memoized: Once, options: dict[str, Any]) -> None:
    given = {option: value for option, value in options.items() if value}
    if any(memoized.options[option] != value for option, value in given.items()):
        raise TypeError(
            f"{memoized.name} is memoized already: "
            f"give {', '.join(f'{option}=' for option in given)} where it is memoized first"
        )


# The decorator ------------------------------------------------------------------------------------

if TYPE_CHECKING:

    class _Nothing:
        """Only what is Any, or never returns, fits it: the last overload is for functions that
        return Any, between whose overloads a type checker cannot choose."""

    class _Decorator(Protocol):
        @overload
        def __call__(self, function: Callable[P, Generator[T, S, R]], /) -> Callable[P, T]:
            """For a generator function."""

        @overload
        def __call__(
            self, function: Callable[P, AsyncGenerator[T, S]], /
        ) -> Callable[P, Coroutine[Any, Any, T]]:
            """For an async generator function."""

        @overload
        def __call__(self, function: Callable[P, T], /) -> Callable[P, T]:
            """For a function, and for a coroutine function."""

        @overload
        def __call__(  # type: ignore[overload-cannot-match]
            self, function: Callable[..., _Nothing], /
        ) -> Any:
            """For a function that returns Any."""


@overload
def memoize(
    function: Callable[P, Generator[T, S, R]],
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Callable[P, T]:
    """For a generator function."""


@overload
def memoize(
    function: Callable[P, AsyncGenerator[T, S]],
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Callable[P, Coroutine[Any, Any, T]]:
    """For an async generator function."""


@overload
def memoize(
    function: Callable[P, T],
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Callable[P, T]:
    """For a function, and for a coroutine function."""


@overload
def memoize(  # type: ignore[overload-cannot-match]
    function: Callable[..., _Nothing],
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Any:
    """For a function that returns Any."""


@overload
def memoize(
    function: None = None,
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> _Decorator:
    """With parentheses."""


def memoize(
    function: Any = None,
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Any:
    """Keep the first result of the function for the rest of the process, for every caller.

    The first call runs the body, and callers that arrive meanwhile wait for it. Every later call
    returns the same object, whatever its arguments, which are still checked. A body that raises
    leaves nothing behind: the error reaches its caller, and the next one tries again. A function
    that returns a generator makes the object that the generator yields; what comes after the
    `yield` is its teardown. Teardowns run once, at `reset()` or at the end of the process, in the
    reverse of the order in which the objects were finished; those of async functions also when
    their event loop ends. A forked child makes its own objects.

    Arguments:
      function: what makes the object: a function, a method in a class body, a class, any callable.
      key: a function that names those of the parameters that it needs and returns something
        hashable; there is one object for each key.
      finalizer: is called with the object when it is torn down.
      inherit: a forked child keeps using the object of its parent; it never tears it down.

    Returns a function with the same name, parameters and documentation; its `cache_clear()` is
    `reset` of it. What is memoized already is given back as it is.

    Raises TypeError for what is not callable or stands above a decorator that has to stand above
    it, for a key function that names a parameter that is not there, for a finalizer that takes
    no argument, and for other options on what is memoized already. Calls raise DeadlockError where
    an object needs itself, RuntimeError where a generator never yields, TypeError where a key is
    not hashable or where the result could be used once only. New in 0.1.0.
    """
    options = {"key": key, "finalizer": finalizer, "inherit": inherit}
    _refuse(function, options)
    if function is None:
        return functools.partial(memoize, **options)
    memoized = memoized_by(function)
    if memoized is not None:
        _refuse_other_options(memoized, options)
        return function
    return _memoized(function, options)


def _memoized(function: Any, options: dict[str, Any]) -> Any:
    """The memoized function."""
    inner = innermost(function)
    candidates = function, inner, type(inner)
    named = next(each for each in candidates if hasattr(each, "__qualname__"))
    defined = inner if isinstance(function, functools.partial) else function
    module = getattr(defined, "__module__", None)
    name = f"{module}.{named.__qualname__}"
    is_async, kind = _is_async(function), Once
    if is_async:  # asyncio is not imported before
        from ._aonce import AsyncOnce as kind  # noqa: N813
    _refuse_finalizer(options["finalizer"], name, is_async)
    shape, defaults = read(function, is_async)
    key_of = key_arguments = None
    if options["key"] is not None:
        key_of, key_arguments = _key(options["key"], function, named.__qualname__, shape)
    memoized = met_again(kind(name, {**options, "function": function, "key_of": key_of}))
    file, line = place_of(function)
    wrapper = write(
        memoized,
        shape,
        defaults,
        key_arguments,
        {
            "co_name": named.__name__,
            "co_qualname": named.__qualname__,
            "co_filename": file,
            "co_firstlineno": line,
        },
        getattr(inner, "__globals__", None) or {"__name__": module},
    )
    _dress(wrapper, function, module)
    wrapper.cache_clear = memoized.cache_clear
    memoized.wrapper = weakref.ref(wrapper)
    for entry in list(memoized.entries.values()):
        entry.hold()  # what an earlier execution of the file has left
    return wrapper


def _dress(wrapper: Any, function: Any, module: Any) -> None:
    """Makes the wrapper look like the function."""
    functools.update_wrapper(
        wrapper, function, updated=() if isinstance(function, type) else ("__dict__",)
    )
    wrapper.__module__ = module
    if not isinstance(function, types.FunctionType):
        wrapper.__signature__ = signature(function)
    elif not getattr(function, "__annotate__", None):  # 3.14 on; it may name what is not there yet
        wrapper.__annotations__ = function.__annotations__
    if _is_generator(inspect.unwrap(function, stop=_is_generator)):
        # frameworks unwrap to ask whether a function is a generator, and this one no longer is
        del wrapper.__wrapped__
        if hasattr(function, "__wrapped__"):
            wrapper.__signature__ = signature(function)


async def areset(*functions: Callable[..., object]) -> None:
    """The same as `reset`, from a coroutine, for objects of every kind.

    Takes what `reset` takes, raises what it raises, and waits without blocking the event loop, on
    whichever loop it is awaited. Objects of async functions are torn down on their own loop. A
    caller that is cancelled does not stop a teardown that has begun: its errors go to the loop's
    exception handler. Raises RuntimeError where no asyncio loop runs. New in 0.1.0.
    """
    from ._aonce import areset

    await areset(*functions)
