"""What tells one state of a race from another: where its actors stand, and what they and their objects hold.

Not what stands only on the stack of the interpreter, such as a list that a comprehension is about to make.
"""

from __future__ import annotations

import itertools
import types
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, ValuesView
from functools import partial
from typing import Any

from memoize_once import _finalizers

_VALUES = (str, int, float, bool, bytes, type(None))
_NUMBER = "number of a life or a wait"
_ORDERED = {_NUMBER, "before"}  # of these only the order counts, since they go on from one schedule to the next
_TIMES = {"since", "_since"}
_CONSTANT = (type, types.BuiltinFunctionType, types.CodeType, types.TracebackType)
_EMPTY = types.CellType()


def state(things: Iterable[object], opaque: Callable[[object], Hashable | None]) -> Hashable:
    """Equal for two sets of things that will go on in the same way; of what is opaque it counts only what that function gives."""
    visit = _Visit(opaque)
    for thing in things:
        visit.value(thing)
    return visit.result()


class _Visit:
    """Goes through what can be reached, always in the same order, and writes down what it meets; identities become numbers."""

    def __init__(self, opaque: Callable[[object], Hashable | None]) -> None:
        self.opaque = opaque
        self.met: dict[int, int] = {}
        self.kept: list[object] = []  # so that no identity is given twice
        self.found: list[Any] = []
        self.ordered: list[tuple[int, float]] = []

    def result(self) -> tuple[Hashable, ...]:
        ranks = {number: rank for rank, number in enumerate(sorted({number for _, number in self.ordered}))}
        for place, number in self.ordered:
            self.found[place] = ranks[number]
        return tuple(self.found)

    def named(self, name: str, value: object) -> None:
        if name in _TIMES:
            return
        self.found.append(name)
        if name in _ORDERED and isinstance(value, int | float):
            self.ordered.append((len(self.found), value))
            value = None
        self.value(value)

    def value(self, value: Any) -> None:
        if isinstance(value, _VALUES):
            self.found.append(value)
            return
        known = self.met.setdefault(id(value), len(self.met))
        if known < len(self.kept):
            self.found.append(("met", known))
            return
        self.kept.append(value)
        self.found.append(type(value).__name__)
        told = self.opaque(value)
        if told is not None:
            self.found.append(told)
            return
        for name, held in _held_by(value):
            self.named(name, held)
        self.found.append("end")


def _held_by(value: Any) -> Iterator[tuple[str, object]]:
    match value:
        case list() | tuple() | ValuesView():
            yield from (("", each) for each in value)
        case dict():
            for key, each in value.items():
                yield from (("", key), ("", each))
        case set():
            yield "size", len(value)
        case weakref.ref():
            yield "of", value()
        case types.FrameType():
            yield from (("code", value.f_code.co_qualname), ("step", value.f_lasti), *sorted(value.f_locals.items()))
        case types.GeneratorType():
            yield from (("runs", value.gi_running), ("frame", None if value.gi_running else value.gi_frame))
        case itertools.count():  # from 3.14 on it tells in no other way
            yield "next", repr(value)
        case Iterator():
            yield "left", value.__reduce__()[1:]
        case types.FunctionType():
            yield from (("cell", cell.cell_contents) for cell in value.__closure__ or () if cell != _EMPTY)
        case types.MethodType():
            yield from (("self", value.__self__), ("function", value.__func__))
        case partial():
            yield from (("function", value.func), ("args", value.args))
        case BaseException():
            yield "text", str(value)
        case _ if type(value).__module__.startswith(("memoize_once", "scheduler", "test_")):
            slots = itertools.chain.from_iterable(getattr(kind, "__slots__", ()) for kind in type(value).__mro__)
            for name in (*slots, *getattr(value, "__dict__", ())):
                yield _NUMBER if name == "number" else name, getattr(value, name, None)
            if isinstance(value, _finalizers.Life):
                yield from (("alive", value.ref in _finalizers.alive), ("held", value in _finalizers._held))
        case _:
            assert type(value) is object or isinstance(value, _CONSTANT), f"what is the state of a {type(value)}?"
