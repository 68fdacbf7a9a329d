"""Recognise a function whose file is executed once more, or that is unpickled by value.

The new function then shares the `Record` of the old one, and so its objects.
"""

import functools
import inspect
import types
import weakref
from typing import Any

from ._entries import ALIVE, Options, Record


def unwrap_all(function: Any) -> Any:
    """Return the function below all layers of functools.wraps and functools.partial."""
    function = inspect.unwrap(function)
    while issubclass(type(function), functools.partial):
        function = inspect.unwrap(function.func)
    return function


def source_location(function: Any) -> tuple[str, int]:
    """Return the file and the first line of the function.

    For a class return those of its `__init__`, for an instance those of its `__call__`. For what is
    not written in Python return ("<unknown>", 1).
    """
    inner = unwrap_all(function)
    method = getattr(inner, "__init__" if issubclass(type(inner), type) else "__call__", None)
    for candidate in (inner, method):
        code = getattr(candidate, "__code__", None)
        if type(code) is types.CodeType:
            return code.co_filename, code.co_firstlineno
    return "<unknown>", 1


# A file that is executed again --------------------------------------------------------------------


# The records of one name in one execution of its file, in the order of their definitions
Definitions = list[weakref.ref[Record]]

# (module, file, qualified name) -> the definitions in the previous execution, and in the latest
_definitions: dict[tuple[str, str, str], tuple[Definitions, Definitions]] = {}


def reuse_record(record: Record) -> Record:
    """Return the record that the function of the given record should have.

    That is the record of the same definition in the previous execution of the file, with the new
    options, if it has an object with a teardown. Otherwise it is the given one. Only a new
    namespace is a new execution.
    """
    function = record.options.function
    if not _is_defined_by_a_module(function):
        return record
    location = (function.__module__, function.__code__.co_filename, function.__qualname__)
    earlier, latest = _definitions.get(location, ([], []))
    if not any(_namespace(each) is _namespace(record) for ref in latest if (each := ref())):
        earlier, latest = latest, []
    _definitions[location] = earlier, latest
    old = earlier[len(latest)]() if len(latest) < len(earlier) else None
    if old is not None and _is_same_definition(old, record) and _has_teardown(old):
        old.options = record.options
        record = old
    latest.append(weakref.ref(record))
    return record


def _namespace(record: Record) -> Any:
    """Return the namespace in which the function of the record was defined."""
    return unwrap_all(record.options.function).__globals__


def _is_defined_by_a_module(function: Any) -> bool:
    """Return whether a file defines the function, and does so outside any other function."""
    both = function, unwrap_all(function)
    if any(type(each) is not types.FunctionType or each.__closure__ for each in both):
        return False
    is_local = "<locals>" in function.__qualname__
    return not is_local and not function.__code__.co_filename.startswith("<")


def _is_same_definition(old: Record, new: Record) -> bool:
    before, after = old.options, new.options
    return (
        before.function.__code__ == after.function.__code__
        and unwrap_all(before.function).__code__ == unwrap_all(after.function).__code__
        and (type(old), before.key is None) == (type(new), after.key is None)
    )


def _has_teardown(record: Record) -> bool:
    return any(each.finalizers and each.state == ALIVE for each in list(record.entries.values()))


# Sent by value ------------------------------------------------------------------------------------

pickled: weakref.WeakValueDictionary[str, Record] = weakref.WeakValueDictionary()
_unpickled: dict[str, Record] = {}  # keeps them all: an object outlives the copies of its function


def unpickle_record(
    record_type: type[Record], pickle_id: str, name: str, options: Options, wrapper: Any
) -> Record:
    """Return the one record that all copies of a function share in this process."""
    found = pickled.get(pickle_id)
    if found is None:
        record = record_type(name, options)
        record.pickle_id, record.wrapper = pickle_id, lambda: wrapper
        found = _unpickled.setdefault(pickle_id, record)
    return found
