"""Runs a body twice, by `with` and memoized; `test_with` starts it and says what each ending means.

A row of a table is a generator function under `@row()`; what it is given says what the rest of the
program does with the object, and what the row cannot have. Bodies get each other's objects by
`use`, which either enters the other body with a stack or calls the memoized function.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import sys
import threading
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any, NamedTuple, TypeVar, overload

from threads import collect

from memoize_once import finalizers, memoize, reset

T = TypeVar("T")
F = TypeVar("F", bound=Callable[[], Any])
Main = Callable[[], Coroutine[Any, Any, None]]

# The table ----------------------------------------------------------------------------------------


class Row(NamedTuple):
    body: Callable[[], Any]
    rest: Callable[[Any], Any]  # what the program does with the object
    needs: tuple[str, ...]  # modules without which there is no such program
    without: Mapping[str, str]  # endings that it cannot have, or where `with` differs, and why
    starts_threads: bool  # in its teardown, or later still, which early 3.12 refuses at exit


ROWS: dict[str, Row] = {}


def row(
    rest: Callable[[Any], Any] | None = None,
    *,
    needs: tuple[str, ...] = (),
    without: Mapping[str, str] | None = None,
    starts_threads: bool = False,
) -> Callable[[F], F]:
    """Enters a body into the table.

    The rest of the program awaits what `rest` makes of the object. Where a plain one returns a
    function, that waits for what the interpreter itself waits for when the script has ended.
    """

    def enter(body: F) -> F:
        assert body.__name__ not in ROWS, "two rows of one name"
        ROWS[body.__name__] = Row(body, rest or _nothing, needs, without or {}, starts_threads)
        return body

    return enter


def _nothing(thing: object) -> Any:
    return None


# The two variants ---------------------------------------------------------------------------------


class Entered:
    """Enters each body once, with the stack of the `with` statement around the program."""

    def __init__(self, stack: ExitStack | AsyncExitStack) -> None:
        self._stack, self._things = stack, dict[Callable[[], Any], Any]()

    def __call__(self, body: Callable[[], Any]) -> Any:
        if inspect.isasyncgenfunction(body):
            return self._aenter(body)
        if body not in self._things:
            self._things[body] = self._stack.enter_context(contextmanager(body)())
        return self._things[body]

    async def _aenter(self, body: Callable[[], Any]) -> Any:
        assert isinstance(self._stack, AsyncExitStack)
        if body not in self._things:
            manager = asynccontextmanager(body)()
            self._things[body] = await self._stack.enter_async_context(manager)
        return self._things[body]


class Memoized:
    """Calls the memoized function of each body."""

    def __init__(self) -> None:
        self._functions: dict[Callable[[], Any], Callable[[], Any]] = {}

    def __call__(self, body: Callable[[], Any]) -> Any:
        if body not in self._functions:
            self._functions[body] = memoize(body)
        return self._functions[body]()


_variant: Callable[[Callable[[], Any]], Any] = Memoized()


@overload
def use(body: Callable[[], AsyncGenerator[T, None]]) -> Awaitable[T]: ...
@overload
def use(body: Callable[[], Generator[T, None, None]]) -> T: ...
def use(body: Callable[[], Any]) -> Any:
    """The object of this body, which is made where it is not there yet."""
    return _variant(body)


def set_variant(variant: Callable[[Callable[[], Any]], Any]) -> None:
    global _variant
    _variant = variant


# Plain endings ------------------------------------------------------------------------------------

ended = threading.Event()  # set when the script has ended


def _program(each: Row, waits: bool) -> None:
    ended.clear()
    join = each.rest(use(each.body))
    print("end of script")
    ended.set()
    if join and waits:
        join()


def by_reset(each: Row, memoized: bool) -> None:
    if memoized:
        _program(each, waits=True)
        reset()
    else:
        with ExitStack() as stack:
            set_variant(Entered(stack))
            _program(each, waits=True)
    print("after it")


def by_exit(each: Row, memoized: bool) -> None:
    if memoized:
        _program(each, waits=False)
    else:
        with ExitStack() as stack:
            set_variant(Entered(stack))
            _program(each, waits=True)


def by_sys_exit(each: Row, memoized: bool) -> None:
    by_exit(each, memoized)
    sys.exit(3)


ENDINGS: dict[str, Callable[[Row, bool], None]] = {
    "reset": by_reset,
    "exit": by_exit,
    "sys.exit": by_sys_exit,
}
OF_THE_PROCESS = ("exit", "sys.exit")  # memoized they have a process of their own
SEPARATOR, END = "======", "end"

# What runs in the processes that the test starts --------------------------------------------------


def main() -> None:
    """Runs the cells that the command line names, and tells what each prints from the others."""
    _, table, *cells = sys.argv
    endings = importlib.import_module(table).ENDINGS
    for cell in cells:
        for module in ROWS[cell.split(":")[0]].needs:
            importlib.import_module(module)
    collect()
    if hasattr(gc, "freeze"):
        gc.freeze()  # so that collections after each cell cost little
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    for cell in cells:
        _separate(cell)
        name, ending, variant = cell.split(":")
        memoized = variant == "memoized"
        if memoized and ending in OF_THE_PROCESS:
            endings[ending](ROWS[name], memoized)
            return
        _run(ROWS[name], endings[ending], memoized)
        if ending not in OF_THE_PROCESS:
            _tell_what_is_left()
    _separate(END)


def _separate(cell: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        print(SEPARATOR, cell, file=stream, flush=True)


def _run(each: Row, ending: Callable[[Row, bool], None], memoized: bool) -> None:
    set_variant(Memoized())
    status: object = 0
    try:
        ending(each, memoized)
    except SystemExit as leaving:
        status = leaving.code
    except BaseException:
        traceback.print_exc()
        status = 1
    set_variant(Memoized())
    collect()
    print("status:", status)


def _tell_what_is_left() -> None:
    print(len(finalizers), "objects left")
    if finalizers:
        try:
            reset()
        except BaseException:
            traceback.print_exc()
