"""The decorator: check its arguments, build the wrapper, and make it look like the function."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Hashable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from ._again import reuse_record, source_location, unwrap_all
from ._entries import Options, Record
from ._finalizers import P, R, record_of
from ._once import SyncRecord
from ._reset import ALL_KEYS, reset_record
from ._wrapper import build_wrapper, key_call, shape_of, signature_of

S = TypeVar("S")
T = TypeVar("T")


def _has_name(value: Any) -> bool:
    names = getattr(value, "__name__", None), getattr(value, "__qualname__", None)
    return [type(name) for name in names] == [str, str]  # the names of a mock are mocks


def _to_inspect(function: Any) -> Any:
    """Return what tells whether the function is async or a generator function.

    A proxy lies about its class, and so does a mock: return the function below the proxy, and None
    for the mock.
    """
    inner = function if function.__class__ is type(function) else unwrap_all(function)
    return inner if inner.__class__ is type(inner) else None


def _is_async(function: Any) -> bool:
    """Return whether a call returns a coroutine or an async generator."""
    is_partial = issubclass(type(function), functools.partial)
    instance = _to_inspect(function.func if is_partial else function)
    method = getattr(type(instance), "__call__", None)  # noqa: B004  an instance may be callable
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (instance, method)
    )


def _is_generator(function: object) -> bool:
    inspected = _to_inspect(function)
    return inspect.isgeneratorfunction(inspected) or inspect.isasyncgenfunction(inspected)


# Bad use ------------------------------------------------------------------------------------------

# Attributes of a fixture before pytest 8.4, and since
_PYTEST_MARKS = "_pytestfixturefunction", "_fixture_function_marker"


def _refuse_bad_options(key: Any, finalizer: Any) -> None:
    for option, value in {"key": key, "finalizer": finalizer}.items():
        if value is not None and not callable(value):
            raise TypeError(f"{option}= takes a function, not {value!r}")
    if key is not None and _is_async(key):
        raise TypeError("key= takes a function that is not async: nobody would await it")


def _refuse_bad_function(function: Any) -> None:
    above = type(function).__name__
    # a mock answers every `hasattr`
    if any(inspect.getattr_static(function, mark, None) is not None for mark in _PYTEST_MARKS):
        above = "pytest.fixture"
    if above in ("staticmethod", "classmethod", "property", "pytest.fixture"):
        raise TypeError(f"@memoize does not work above @{above}: write @{above} above @memoize")
    if not callable(function):
        raise TypeError(
            f"@memoize takes a function, and {function!r} is not callable: "
            "decorate the function that returns it"
        )


def _refuse_bad_finalizer(finalizer: Any, name: str, is_async: bool) -> None:
    if not is_async and _is_async(finalizer):
        raise TypeError(
            f"finalizer= of {name} is async, and {name} is not, so nobody can await it: "
            f"write {name} with `async def`, or a plain finalizer"
        )
    signature = signature_of(finalizer)
    try:
        if signature is not None:
            signature.bind(None)
    except TypeError as error:
        raise TypeError(
            f"finalizer= of {name} is called with the object ({error}): "
            "write one that takes it, such as `finalizer=lambda obj: obj.close()`"
        ) from None


def _refuse_other_options(record: Record, options: dict[str, Any]) -> None:
    given = {option: value for option, value in options.items() if value}
    if any(getattr(record.options, option) != value for option, value in given.items()):
        raise TypeError(
            f"{record.name} is memoized already: "
            f"pass {', '.join(f'{option}=' for option in given)} to the first @memoize"
        )


# The decorator ------------------------------------------------------------------------------------


if TYPE_CHECKING:

    class _OnlyAny:
        """A type that only Any and NoReturn match.

        A function that returns Any matches all overloads: the one with this type is meant for it.
        """

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
            self, function: Callable[..., _OnlyAny], /
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
    function: Callable[..., _OnlyAny],
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
    """For `@memoize(...)`, with parentheses."""


def memoize(
    function: Any = None,
    /,
    *,
    key: Callable[..., Hashable] | None = None,
    finalizer: Callable[[Any], object] | None = None,
    inherit: bool = False,
) -> Any:
    """Make one object on the first call, and return it from every call until it is torn down.

    The first call runs the body; callers that arrive meanwhile wait, and get the object. If the
    body raises an Exception, all these callers get it, and the next call runs the body once more.
    Only one caller gets an interrupt, such as KeyboardInterrupt; the others try again. Later calls
    return the same object, whatever their arguments. (Arguments that a Python function does not
    accept still raise TypeError.) If the body returns a generator, the object is what the generator
    yields, and the code after the `yield` is the teardown. A teardown runs once: at `reset()`, at
    the end of the process or, if the function is async, at the end of its event loop. An async
    object without a teardown is kept for later loops. Objects are torn down in the reverse of the
    order in which they were made. A forked child makes its own.

    Arguments:
      function: a function, a method in a class body, or any callable, async or not.
      key: a function that returns a hashable key; there is one object for each key. It takes some
        of the parameters by name, as `lambda region: region` does, or all by position, as `str`
        does.
      finalizer: is called with the object when it is torn down; `async` for async functions only.
      inherit: if True, a forked child uses the object of its parent, without its teardown.

    Returns a function with the same name, parameters and documentation; `f.cache_clear()` does what
    `reset(f)` does. A memoized function is returned unchanged. Without `function`, returns a
    decorator.

    Raises TypeError if an argument is not callable, if @memoize is above a decorator that belongs
    above it, if a key function is async or requires a parameter that `function` does not have, if a
    finalizer cannot be called with the object or is async and `function` is not, or if a memoized
    function gets other options. A call raises DeadlockError if an object needs itself, RuntimeError
    if a generator never yields or if the function is async and no asyncio loop runs, TypeError if a
    key cannot be hashed or if the result can be used only once. New in 0.1.0.
    """
    options = {"key": key, "finalizer": finalizer, "inherit": inherit}
    _refuse_bad_options(key, finalizer)
    if function is None:
        return functools.partial(memoize, **options)
    record = record_of(function)
    if record is not None:
        _refuse_other_options(record, options)
        return function
    _refuse_bad_function(function)
    return _memoize_callable(Options(function, key, finalizer, inherit))


def _memoize_callable(options: Options) -> Any:
    """Return the wrapper of a callable that is not memoized yet."""
    function, inner = options.function, unwrap_all(options.function)
    named = next(each for each in (function, inner, type(inner)) if _has_name(each))
    is_partial = issubclass(type(function), functools.partial)
    module = getattr(inner if is_partial else function, "__module__", None)
    name = f"{module}.{named.__qualname__}"
    is_async = _is_async(function)
    record_type = SyncRecord
    if is_async:
        from ._aonce import AsyncRecord as record_type  # noqa: N813  it imports asyncio
    if options.finalizer is not None:
        _refuse_bad_finalizer(options.finalizer, name, is_async)
    shape, defaults = shape_of(function, is_async)
    find_key = key_arguments = None
    if options.key is not None:
        find_key, key_arguments = key_call(options.key, function, named.__qualname__, shape)
    record = reuse_record(record_type(name, options))
    file, line = source_location(function)
    code_attributes = {
        # not the name of the body: profilers, which identify code by name, would merge the two
        "co_name": f"{named.__name__} (memoized)",
        "co_qualname": f"{named.__qualname__} (memoized)",
        "co_filename": file,
        "co_firstlineno": line,
    }
    is_function = type(inner) is types.FunctionType
    namespace = inner.__globals__ if is_function else {"__name__": module}
    wrapper = build_wrapper(
        record, shape, defaults, find_key, key_arguments, code_attributes, namespace
    )
    _copy_metadata(function, wrapper, named)
    wrapper.cache_clear = functools.partial(reset_record, record)
    record.wrapper = weakref.ref(wrapper)
    for entry in list(record.entries.values()):  # from an earlier execution of the file
        entry.update_hold()
    return wrapper


def _copy_metadata(function: Any, wrapper: Any, named: Any) -> None:
    """Make the wrapper look like the function."""
    if type(function) is not types.FunctionType:
        functools.update_wrapper(wrapper, function, ("__doc__",), ())
        wrapper.__signature__ = signature_of(function)
    else:
        functools.update_wrapper(wrapper, function)
        if not getattr(function, "__annotate__", None):
            # not if they are lazy (3.14 and later): they may use names that are not defined yet
            wrapper.__annotations__ = function.__annotations__
    wrapper.__name__, wrapper.__qualname__ = named.__name__, named.__qualname__
    if _is_generator(inspect.unwrap(function, stop=_is_generator)):
        # frameworks unwrap functions to find generator functions, and the wrapper is not one
        del wrapper.__wrapped__
        if hasattr(function, "__wrapped__"):
            wrapper.__signature__ = signature_of(function)


@overload
async def areset(*functions: Callable[..., object]) -> None:
    """For all keys."""


@overload
async def areset(function: Callable[..., object], /, *, key: Hashable) -> None:
    """For one key."""


async def areset(*functions: Callable[..., object], key: Any = ALL_KEYS) -> None:
    """Do the same as `reset`, from a coroutine, for objects of every kind.

    The arguments and errors are those of `reset`, without its RuntimeError. Waiting does not block
    the event loop. Objects of async functions are torn down on their own loop; finalizers of other
    functions run in this thread, and block it. If a task that belongs to an object resets that
    object, `areset` returns when the teardown has begun, because the teardown may wait for the
    task. Cancelling `areset` does not stop a teardown that has begun; its errors then go to the
    exception handler of the loop. Raises RuntimeError if no asyncio loop runs. New in 0.1.0.
    """
    from ._aonce import reset_from_task

    await reset_from_task(*functions, key=key)
