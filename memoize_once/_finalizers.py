"""The public registry of finalizers, and the search for the record of a memoized function."""

import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from ._entries import ALIVE, TEARING_DOWN, Finalizer, Record, entries_with_finalizers
from ._waiting import owned_here

__tracebackhide__ = True

P = ParamSpec("P")
R = TypeVar("R")

_MAX_LAYERS = 100  # how many decorators and methods `find_record` looks through


def record_of(function: object) -> Any:
    """Return the record of a memoized function; None for anything else.

    Look for it in the closure, since functools.wraps copies attributes to other functions.
    """
    if type(function) is types.FunctionType:
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # the cell is still empty
                if issubclass(type(cell.cell_contents), Record):
                    return cell.cell_contents
    return None


def find_record(function: Any) -> Any:
    """Return the record of a memoized function or of what wraps one; raise TypeError for others."""
    layer = function
    for _ in range(_MAX_LAYERS):
        record = record_of(layer)
        if record is not None:
            return record
        # `__func__` first: a bound method also has the `__wrapped__` of its function
        layer = getattr(layer, "__func__", None) or getattr(layer, "__wrapped__", None)
    raise TypeError(
        f"{function!r} is not memoized: decorate it with @memoize, or pass the memoized function "
        "itself, as the first argument"
    )


class Finalizers:
    """The registry of pending finalizers, of all objects.

    A finalizer is a callback that was registered here, a `finalizer=`, or the code of a generator
    after its `yield`. It is pending until it begins. The registry has five uses:

      finalizers.register(function, callback, *args, **kwargs)   add a callback
      finalizers.unregister(function, callback)                  remove it
      len(finalizers)          the number of pending finalizers
      iter(finalizers)         the function of each, in the order in which they would run
      function in finalizers   whether the function has one; False for what is not memoized

    `repr(finalizers)` names the functions and keys, with the number of finalizers of each. New in
    0.1.0.
    """

    def register(
        self,
        function: Callable[..., object],
        callback: Callable[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Callable[P, R]:
        """Call `callback(*args, **kwargs)` when the object of `function` is torn down.

        In a thread or task that makes or tears down an object of `function`, the callback is added
        to that object; elsewhere, to the only object of `function`. The finalizers of an
        object run once each, the last registered first. A finalizer may register others on its own
        object; they run too. An error in one does not stop the others: `reset` raises all errors
        together. If `function` is async, the callback may return an awaitable, which the teardown
        awaits.

        Returns `callback`, as `atexit.register` does. Raises LookupError if `function` has no
        object, or several under different keys, or if the object has been torn down or its event
        loop is closed. Raises TypeError if `function` is not memoized or `callback` is not
        callable. New in 0.1.0.
        """
        record = find_record(function)
        if not callable(callback):
            raise TypeError(
                f"{callback!r}, to be registered on {record.name}, is not callable: "
                "pass the callback and its arguments separately"
            )
        entries = list(record.entries.values())
        own = [entry for entry in owned_here() if entry in entries][-1:]
        candidates = own or [entry for entry in entries if entry.state in (ALIVE, TEARING_DOWN)]
        if not candidates:
            raise LookupError(
                f"{record.name} has no object: call it first, or register in its own body"
            )
        if len(candidates) > 1:
            raise LookupError(
                f"{record.name} has {len(candidates)} objects under different keys: "
                "register in its own body"
            )
        candidates[0].add_finalizer(Finalizer(callback, *args, **kwargs))
        return callback

    def unregister(
        self, function: Callable[..., object], callback: Callable[..., object], /
    ) -> None:
        """Remove `callback` from the pending finalizers of all objects of `function`.

        Compares callbacks with `==`, as `atexit.unregister` does, and removes each that is equal,
        also a `finalizer=`. Does nothing if there is none; does not stop a callback that has begun.
        Raises TypeError if `function` is not memoized. New in 0.1.0.
        """
        for entry in list(find_record(function).entries.values()):
            for finalizer in list(entry.finalizers):
                if finalizer.callback == callback:
                    entry.remove_finalizer(finalizer)

    def __len__(self) -> int:
        return sum(len(entry.finalizers) for entry in entries_with_finalizers())

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        entries = entries_with_finalizers()
        return iter([entry.record.wrapper() for entry in entries for _ in list(entry.finalizers)])

    def __contains__(self, function: object) -> bool:
        with suppress(TypeError):
            return any(entry.finalizers for entry in list(find_record(function).entries.values()))
        return False

    def __repr__(self) -> str:
        entries = entries_with_finalizers()
        counts = [f"{entry.name} ({len(entry.finalizers)})" for entry in entries]
        return f"<finalizers of {'; '.join(counts) or 'no object'}>"

    def __reduce__(self) -> str:
        return "finalizers"


finalizers = Finalizers()
