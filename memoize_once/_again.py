"""The same function met again: its file executed anew, or sent by value to another process.

Two functions are then one: both wrappers stand before one `Memoized`, and so before one object.
"""

import functools
import inspect
import types
import weakref
from typing import Any

from ._finalizers import ALIVE


def innermost(function: Any) -> Any:
    """What is left without functools.wraps and functools.partial."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    return function


def place_of(function: Any) -> tuple[str, int]:
    """The file and the line of the function, as far as it has any."""
    inner = innermost(function)
    method = getattr(inner, "__init__" if isinstance(inner, type) else "__call__", None)
    for candidate in (inner, method):
        code = getattr(candidate, "__code__", None)
        if isinstance(code, types.CodeType):
            return code.co_filename, code.co_firstlineno
    return "<unknown>", 1


# A file that is executed anew ---------------------------------------------------------------------

# By module, file and qualified name, what was defined there last
_defined: weakref.WeakValueDictionary[tuple[str, str, str], Any] = weakref.WeakValueDictionary()


def met_again(memoized: Any) -> Any:
    """What an earlier execution of the file has left of the function, if that holds an object with
    a teardown: it goes on under the new definition. Otherwise what is given."""
    function = memoized.options["function"]
    if not _is_of_a_module(function):
        return memoized
    place = (function.__module__, function.__code__.co_filename, function.__qualname__)
    old: Any = _defined.get(place)
    entries = [] if old is None else list(old.entries.values())
    holds = any(entry.finalizers and entry.state == ALIVE for entry in entries)
    if holds and _executed_again(old, memoized):
        old.options = memoized.options
        return old
    _defined[place] = memoized
    return memoized


def _is_of_a_module(function: Any) -> bool:
    """Whether it is a function of a module in a file, and no closure."""
    both = function, innermost(function)
    if not all(isinstance(each, types.FunctionType) and not each.__closure__ for each in both):
        return False
    local = "<locals>" in function.__qualname__
    return not local and not function.__code__.co_filename.startswith("<")


def _executed_again(old: Any, new: Any) -> bool:
    """Whether the code is the same, and the namespace another."""
    before, after = old.options, new.options
    inner_before, inner_after = innermost(before["function"]), innermost(after["function"])
    return (
        inner_before.__code__ == inner_after.__code__
        and before["function"].__code__ == after["function"].__code__
        and inner_before.__globals__ is not inner_after.__globals__
        and (type(old), before["key"] is None) == (type(new), after["key"] is None)
    )


# Sent by value ------------------------------------------------------------------------------------

sent: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_arrived: dict[str, Any] = {}  # for good: copies of a function come and go, and their object stays


def arrive(kind: Any, token: str, name: str, options: Any, wrapper: Any) -> Any:
    """The one `Memoized` in this process for all copies of a function."""
    found = sent.get(token)
    if found is None:
        new = kind(name, options)
        new.token, new.wrapper = token, lambda: wrapper
        found = _arrived.setdefault(token, new)
    return found
