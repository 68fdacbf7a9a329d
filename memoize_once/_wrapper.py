"""The wrapper, the function that users call: its source, and how it finds its key.

The wrapper is a real function with the parameters of the original, written out and compiled once
for each shape of parameters, so that a hit is one attribute read and a return:

    def wrapper(port, timeout=default0):
        try:
            return record.value
        except record.miss_errors:
            pass
        __tracebackhide__ = True
        return record.make(None, port=port, timeout=timeout)

The wrapper calls `make` after the `except`, so that our AttributeError is not the context of the
body's errors. A closure over the object itself would be faster, but pickling the function by value
would pickle the object, too. With the record as a global, the wrapper could not have the globals of
the user's module.
"""

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable
from inspect import Parameter
from typing import Any, NamedTuple

from decorator import FunctionMaker

_SOURCE = """\
def factory({factory_parameters}):
    {async_}def wrapper{parameters}:
        {compute_key}
        try: return {cached}
        except {record}.miss_errors:
            pass
        {hide} = True
        return {await_}{record}.make({key}, {arguments})
    return wrapper
"""  # `return` is on the line of `try`: a line of its own would cost a NOP on Python 3.11 and 3.12


def signature_of(function: Any) -> inspect.Signature | None:
    """Return the signature of the function, or None for a builtin without one."""
    kwargs: Any = {}
    if sys.version_info >= (3, 14):  # annotations may use names that are not defined yet
        from annotationlib import Format

        kwargs["annotation_format"] = Format.FORWARDREF
    try:
        return inspect.signature(function, **kwargs)
    except (TypeError, ValueError):
        return None


# The source of a wrapper --------------------------------------------------------------------------


class Shape(NamedTuple):
    """What the source of a wrapper takes from its function."""

    names: tuple[str, ...]
    parameters: str
    arguments: str
    by_position: str
    defaults: int
    is_async: bool


class _RawName(str):
    """The name of a default; its repr() is the name itself."""

    __repr__ = str.__str__


def _any_arguments(*args: Any, **kwargs: Any) -> None:
    """Provide the parameters of the wrapper of anything that is not a Python function."""


# How the wrapper passes its arguments: by name, if possible
_BY_NAME = {
    Parameter.POSITIONAL_ONLY: "{0}",
    Parameter.POSITIONAL_OR_KEYWORD: "{0}={0}",
    Parameter.VAR_POSITIONAL: "*{0}",
    Parameter.KEYWORD_ONLY: "{0}={0}",
    Parameter.VAR_KEYWORD: "**{0}",
}
_BY_POSITION = {kind: form.partition("=")[0] for kind, form in _BY_NAME.items()}


def shape_of(function: Any, is_async: bool) -> tuple[Shape, list[object]]:
    """Return the shape of a wrapper for the function, and the values of its defaults."""
    if type(function) is not types.FunctionType:
        function = _any_arguments
    by_position, by_name = function.__defaults__ or (), function.__kwdefaults__ or {}
    values = [*by_position, *by_name.values()]
    names = [_RawName(f"default{i}") for i in range(len(values))]
    # a bare copy, without annotations, `__signature__` and `__wrapped__`: inspect reads its code
    bare = types.FunctionType(function.__code__, {}, closure=function.__closure__)
    bare.__defaults__ = tuple(names[: len(by_position)])
    bare.__kwdefaults__ = dict(zip(by_name, names[len(by_position) :], strict=True))
    signature = inspect.signature(bare)
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    forms = dict(_BY_NAME)
    if Parameter.VAR_POSITIONAL in kinds.values():
        forms[Parameter.POSITIONAL_OR_KEYWORD] = "{0}"
    arguments, positional = (
        ", ".join(form[kind].format(name) for name, kind in kinds.items())
        for form in (forms, _BY_POSITION)
    )
    return (
        Shape(tuple(kinds), str(signature), arguments, positional, len(values), is_async),
        values,
    )


@functools.cache
def _compile(shape: Shape, key_arguments: str | None) -> types.CodeType:
    """Compile a factory of wrappers; `key_arguments` are those of the key function, as source."""
    padding = "_" * max(map(len, shape.names), default=0)  # no parameter has a name that long
    record, find_key, key = f"record{padding}", f"find_key{padding}", f"key{padding}"
    hide = "__tracebackhide__"
    defaults = [f"default{i}" for i in range(shape.defaults)]
    has_key = key_arguments is not None
    source = _SOURCE.format(
        factory_parameters=", ".join([record, find_key, *defaults]),
        async_="async " * shape.is_async,
        parameters=shape.parameters,
        compute_key=f"{key} = {find_key}({key_arguments})" if has_key else "",
        cached=f"{record}.entries[{key}].value" if has_key else f"{record}.value",
        record=record,
        hide=hide + padding * (hide in shape.names),
        await_="await " * shape.is_async,
        key=key if has_key else None,
        arguments=shape.arguments,
    )
    code: types.CodeType = FunctionMaker(name="factory", signature="").make(source, {}).__code__
    return code


def _single_line_table(code: types.CodeType) -> dict[str, Any]:
    """Return arguments for `code.replace` that map every instruction to the code's first line.

    Without them, tracebacks would show lines of the user's file that follow that line. The format
    of the table is in CPython's InternalDocs/code_objects.md; other interpreters keep their own.
    """
    if sys.implementation.name != "cpython":
        return {}
    eights, rest = divmod(len(code.co_code) // 2, 8)
    return {"co_linetable": b"\xef\x00" * eights + bytes([0xE7 + rest, 0]) * (rest > 0)}


def build_wrapper(  # noqa: PLR0913  seven unrelated inputs
    record: object,
    shape: Shape,
    defaults: list[object],
    find_key: Callable[..., Any] | None,
    key_arguments: str | None,
    code_attributes: dict[str, Any],
    namespace: dict[str, Any],
) -> Any:
    """Return the wrapper of a record; `code_attributes` are the name, file and line of its code."""
    factory = _compile(shape, key_arguments)
    constants = [
        constant.replace(**code_attributes, **_single_line_table(constant))
        if isinstance(constant, types.CodeType)
        else constant
        for constant in factory.co_consts
    ]
    # the `def` in the factory creates faster wrappers than types.FunctionType would
    make = types.FunctionType(factory.replace(co_consts=tuple(constants)), namespace)
    return make(record, find_key, *defaults)


# Keys -------------------------------------------------------------------------------------------

_POSITIONAL = Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL


def _key_parameters(
    key: Callable[..., Any], name: str, parameters: Iterable[str]
) -> list[str] | None:
    """Return the parameters that the key function takes by name.

    Return None if it takes all arguments by position.
    """
    # on PyPy `operator.itemgetter` is written in Python, and its parameter has a name
    signature = None if type(key).__module__ == "_operator" else signature_of(key)
    wanted = signature.parameters.values() if signature else ()
    if not signature or any(parameter.kind in _POSITIONAL for parameter in wanted):
        return None
    if any(parameter.kind == Parameter.VAR_KEYWORD for parameter in wanted):
        return list(parameters)
    required = [each.name for each in wanted if each.default is Parameter.empty]
    unknown = [each for each in required if each not in parameters]
    if unknown:
        raise TypeError(
            f"the key function of {name} takes {', '.join(unknown)}, "
            f"and {name}({', '.join(parameters)}) has no such parameter: name those that it has"
        )
    return [p.name for p in wanted if p.name in parameters]


def key_call(
    key: Callable[..., Any], function: Any, name: str, shape: Shape
) -> tuple[Callable[..., Any], str]:
    """Return the function that the wrapper calls to find the key, and its arguments as source."""
    declared = signature_of(function)
    is_plain = type(function) is types.FunctionType and not hasattr(function, "__wrapped__")
    if is_plain or declared is None:
        taken = _key_parameters(key, name, shape.names)
        by_name = ", ".join(f"{each}={each}" for each in taken or ())
        return key, shape.by_position if taken is None else by_name
    return _key_by_signature(key, name, declared), shape.arguments


def _key_by_signature(
    key: Callable[..., Any], name: str, declared: inspect.Signature
) -> Callable[..., Any]:
    """Return a key function for a function whose signature differs from that of its code."""
    taken = _key_parameters(key, name, declared.parameters)
    parameters = declared.parameters.values()
    var_keyword = [each.name for each in parameters if each.kind == Parameter.VAR_KEYWORD]

    def find_key(*args: Any, **kwargs: Any) -> Any:
        # bind_partial, since a decorator may supply the other arguments
        call = declared.bind_partial(*args, **kwargs)
        call.apply_defaults()
        if taken is not None:
            return key(**{each: call.arguments[each] for each in taken if each in call.arguments})
        by_keyword = {k: v for name in var_keyword for k, v in call.arguments.pop(name).items()}
        return key(*call.args, *call.kwargs.values(), **by_keyword)

    return find_key
