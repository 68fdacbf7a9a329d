"""The function that users call: its source, compiled once for each shape of parameters.

It is a real function with the parameters of the original, written out, so that a cached call is one
attribute read and a return:

    def wrapper(port, timeout=default0):
        try:
            return memoized.value
        except memoized.missing:
            pass
        __tracebackhide__ = True
        return memoized.make(None, port=port, timeout=timeout)

The object is made after the `except`, so that no error of ours is chained to one of the body.
Tempting and wrong: a closure over the object itself would be faster, but would send the object
along where the function is sent by value; a global would need a dictionary in place of the user's.
"""

import functools
import inspect
import sys
import types
from inspect import Parameter
from typing import Any, NamedTuple

from decorator import FunctionMaker

_SOURCE = """\
def factory({factory}):
    {async_}def wrapper{parameters}:
        {find_key}
        try:
            return {cached}
        except {memoized}.missing:
            pass
        {hide} = True
        return {await_}{memoized}.make({key}, {arguments})
    return wrapper
"""


class Shape(NamedTuple):
    """What the source of a wrapper depends on, as it reads there."""

    names: tuple[str, ...]
    parameters: str
    arguments: str
    defaults: int
    is_async: bool


class _Name(str):
    """A default as the source of a wrapper names it."""

    __repr__ = str.__str__


def _anything(*args: Any, **kwargs: Any) -> None:
    """What is no Python function gets what the call gives: it may look for the rest elsewhere."""


# How arguments are handed on: by name, if they can be
_FORMS = {
    Parameter.POSITIONAL_ONLY: "{0}",
    Parameter.POSITIONAL_OR_KEYWORD: "{0}={0}",
    Parameter.VAR_POSITIONAL: "*{0}",
    Parameter.KEYWORD_ONLY: "{0}={0}",
    Parameter.VAR_KEYWORD: "**{0}",
}


def read(function: Any, is_async: bool) -> tuple[Shape, list[object]]:
    """The shape of a wrapper for the function, and the values of its defaults."""
    if not isinstance(function, types.FunctionType):
        function = _anything
    by_position, by_name = function.__defaults__ or (), function.__kwdefaults__ or {}
    values = [*by_position, *by_name.values()]
    names = [_Name(f"default{i}") for i in range(len(values))]
    # without annotations, `__signature__` and `__wrapped__`: what its own code takes
    bare = types.FunctionType(function.__code__, {}, closure=function.__closure__)
    bare.__defaults__ = tuple(names[: len(by_position)])
    bare.__kwdefaults__ = dict(zip(by_name, names[len(by_position) :], strict=True))
    written = inspect.signature(bare)
    kinds = {name: parameter.kind for name, parameter in written.parameters.items()}
    forms = dict(_FORMS)
    if Parameter.VAR_POSITIONAL in kinds.values():
        forms[Parameter.POSITIONAL_OR_KEYWORD] = "{0}"
    arguments = ", ".join(forms[kind].format(name) for name, kind in kinds.items())
    return Shape(tuple(kinds), str(written), arguments, len(values), is_async), values


@functools.cache
def _compiled(shape: Shape, key: str | None) -> Any:
    """The code of a function that gives wrappers."""
    more = "_" * max(map(len, shape.names), default=0)  # no parameter has a name that long
    memoized, variable, hide = f"memoized{more}", f"key{more}", "__tracebackhide__"
    source = _SOURCE.format(
        factory=", ".join([memoized, *[f"default{i}" for i in range(shape.defaults)]]),
        async_="async " * shape.is_async,
        parameters=shape.parameters,
        find_key="" if key is None else f"{variable} = {memoized}.options['key_of']({key})",
        cached=f"{memoized}.value" if key is None else f"{memoized}.entries[{variable}].value",
        memoized=memoized,
        hide=hide + more * (hide in shape.names),
        await_="await " * shape.is_async,
        key=None if key is None else variable,
        arguments=shape.arguments,
    )
    return FunctionMaker(name="factory", signature="").make(source, {}).__code__


def _on_one_line(code: types.CodeType) -> dict[str, Any]:
    """Tracebacks show the first line of the user's function, and not those after it, which the
    wrapper's own lines would be taken for. (CPython's Objects/locations.md; no columns.)"""
    if sys.implementation.name != "cpython":
        return {}
    eights, rest = divmod(len(code.co_code) // 2, 8)
    return {"co_linetable": b"\xef\x00" * eights + bytes([0xE7 + rest, 0]) * (rest > 0)}


def write(  # noqa: PLR0913  each is a thing of its own
    memoized: object,
    shape: Shape,
    defaults: list[object],
    key: str | None,
    looks: dict[str, Any],
    namespace: dict[str, Any],
) -> Any:
    """A wrapper that asks `memoized`; its code has the looks, that is, name, file and line."""
    factory = _compiled(shape, key)
    consts = [
        const.replace(**looks, **_on_one_line(const))
        if isinstance(const, types.CodeType)
        else const
        for const in factory.co_consts
    ]
    # a `def` makes faster functions than types.FunctionType does of finished code
    make = types.FunctionType(factory.replace(co_consts=tuple(consts)), namespace)
    return make(memoized, *defaults)
