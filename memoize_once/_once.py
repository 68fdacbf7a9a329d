"""One object, made once and torn down once, among threads.

The function that users call reads `value` and returns it. Where there is none it calls `make`:

1. A new entry is put in its place, if that is free. Who stands there already is the object, or
   will be: the caller takes it, or waits until its state changes, and looks again.
2. Whose entry has got the place calls the body. The object is published first and the state set
   to ALIVE then, since from that on a reset may take it. A body that raises has its finalizers
   run, and leaves nothing.
3. A teardown unpublishes first and frees the place last, so callers wait while finalizers run.
4. Before a thread blocks, it writes down what it makes itself and what it waits for (`Wait`).
   Whoever closes a ring is told.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import queue
import time
import warnings
from collections.abc import Callable, Generator
from types import AsyncGeneratorType, CoroutineType
from typing import Any

from ._again import arrive, place_of, sent
from ._finalizers import (
    ALIVE,
    ENDING,
    GONE,
    MAKING,
    Entry,
    Finalizer,
    Memoized,
    disown_inherited,
    find,
    in_order,
    inside,
    living,
    logger,
    running,
)
from ._process import active_threads, adopt, stand_first

__tracebackhide__ = True


class DeadlockError(RuntimeError):
    """An object needs itself, directly or through others, in one thread or across threads.

    The message names the functions of the cycle. New in 0.1.0.
    """


# Waiting ------------------------------------------------------------------------------------------

_waits: list[Wait] = []


class Wait:
    """Entered, it says that what runs here waits for the target to leave the state; raises
    DeadlockError where that waits, directly or not, for what runs here.

    Two that close a ring at once must not both be told. So each writes its wait down, and then
    looks along older waits only: the youngest of a ring sees all others, and no other sees it.
    """

    def __init__(self, target: Entry, state: str) -> None:
        self.own = running()
        self.target = target
        self.state = state

    def __enter__(self) -> None:
        _waits.append(self)
        if self.own and (ring := _ring(self)):
            _waits.remove(self)
            raise deadlock(ring)

    def __exit__(self, *_: object) -> None:
        _waits.remove(self)


def _ring(mine: Wait) -> list[Entry]:
    """The way from what runs here to the target, and along older waits back, if there is one."""
    waits = list(_waits)
    # who was waited for may have gone on, while who waits has not yet run
    older = [wait for wait in waits[: waits.index(mine)] if wait.target.state == wait.state]
    paths = [[mine.target]] if mine.target.state == mine.state else []
    seen = {mine.target}
    for path in paths:  # it grows meanwhile
        if path[-1] in mine.own:
            return [*mine.own[mine.own.index(path[-1]) :], *path]
        for wait in older:
            if path[-1] in wait.own and wait.target not in seen:
                seen.add(wait.target)
                paths.append([*path, wait.target])
    return []


def deadlock(ring: list[Entry]) -> DeadlockError:
    """The error for a ring of objects, each of which needs the next."""
    names = [entry.memoized.name for entry in ring]
    advice = (
        "To make one object for each argument, give it a key="
        if len(set(names)) == 1
        else "Break the ring, or move a call out of a body"
    )
    return DeadlockError(f"an object cannot be had before itself: {' -> '.join(names)}. {advice}")


def wait(entry: Entry, state: str, seconds: int | None = None) -> None:
    """Blocks until the entry has left the state, or about so many seconds have passed."""
    # A signal handler may fill it at any time, which a lock or an event does not bear. It is looked
    # up at each wait, since gevent may replace it after the import.
    woken = queue.SimpleQueue[None]()

    def wake() -> None:
        woken.put(None)

    with Wait(entry, state):
        entry.waiters[wake] = None
        try:
            # looked at after the waiter is in place, or a change could go unnoticed
            while entry.state == state and seconds != 0:
                with contextlib.suppress(queue.Empty):
                    woken.get(timeout=1)  # Windows delivers Ctrl-C between two waits
                seconds = None if seconds is None else seconds - 1
        finally:
            entry.waiters.pop(wake, None)


# Making and tearing down --------------------------------------------------------------------------


class PlainEntry(Entry):
    """An object of a plain function."""

    def is_out_of_reach(self) -> bool:
        """Whether only a coroutine could reset it here."""
        return False

    def end_here(self, errors: list[BaseException], at_exit: bool = False) -> None:
        """Does of the teardown what this thread can do by itself."""
        with inside(self):
            if self.begin_to_end():
                since = time.perf_counter()
                try:
                    self.run_finalizers(errors)
                finally:
                    self.forget(errors)
                log("tore down", self, since)

    def outlast(self, state: str, errors: list[BaseException]) -> None:
        """Blocks until the object has left the state."""
        wait(self, state)

    def run_finalizers(self, errors: list[BaseException]) -> None:
        while (finalizer := self.pop()) is not None:
            try:
                result = finalizer.callback(*finalizer.args, **finalizer.kwargs)
                if inspect.isawaitable(result):
                    raise not_awaited(result, self.memoized.name)
            except BaseException as error:
                self.failed(error, errors)


def not_awaited(result: Any, name: str) -> TypeError:
    if isinstance(result, CoroutineType):
        result.close()
    return TypeError(
        f"a finalizer of {name} returns {result!r}, which nobody can await: "
        f"write {name} with `async def`, or a plain finalizer"
    )


def log(what: str, entry: Entry, since: float) -> None:
    logger.debug("%s %s in %.6f seconds", what, entry.memoized.name, time.perf_counter() - since)


NOTHING: Any = object()
AGAIN = "more than once", "yield one object, and tear it down after that yield"


def resume(generator: Generator[object, None, None], memoized: Once) -> None:
    """The rest of a generator is its teardown."""
    if next(generator, NOTHING) is not NOTHING:
        try:
            generator.close()
        finally:
            raise memoized.yields(*AGAIN)


class Once(Memoized):
    """What stands behind a memoized function."""

    # A miss is an AttributeError, which costs a cached call nothing, where comparing with a
    # sentinel would; or, with keys, a KeyError, and a TypeError where one cannot be hashed.
    missing = AttributeError, KeyError, TypeError

    warned = False  # of a parametrized fixture

    def make(self, key: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Gives the object, which it makes or waits for."""
        self.check(key, kwargs)
        entry = PlainEntry(self, key)
        while True:
            with inside(entry):
                found = self.place(entry)
                if found is entry:
                    since, before = time.perf_counter(), active_threads()
                    try:
                        result, rest = self.options["function"](*args, **kwargs), None
                        if issubclass(type(result), Generator):
                            rest = Finalizer(resume, result, self)
                            result = next(result, NOTHING)
                        self.keep(entry, result, rest, before)
                    except BaseException as error:
                        self.fail(entry, error)
                        raise
                    log("made", entry, since)
                    return result
            state = found.state
            if state == ALIVE or (state == ENDING and found in running()):
                return found.object
            if state != GONE:
                wait(found, state)

    def check(self, key: Any, kwargs: dict[str, Any]) -> None:
        """Refuses a key without a hash; warns of a parametrized pytest fixture without a key, whose
        first parameter's object would serve for all."""
        hash(key)
        wanted = self.options["key"] is None and hasattr(kwargs.get("request"), "param")
        if wanted and not self.warned:
            file, line = place_of(self.options["function"])
            warnings.warn_explicit(
                f"{self.name} hands the object of its first request.param to all: "
                "memoize it with key=lambda request: request.param",
                UserWarning,
                file,
                line,
                module=self.options["function"].__module__,
            )
            self.warned = True  # not before, since the warning may be raised as an error

    def keep(self, entry: Any, value: Any, rest: Finalizer | None, before: list[Any]) -> None:
        """What the body has made is the object from here on."""
        if value is NOTHING:
            raise self.yields("no object", "a generator function yields it once")
        self.place(entry)  # once more: a child that the body has forked may go on with it
        entry.process = os.getpid()
        if rest is not None:
            entry.push(rest)
        self.refuse(value)
        if self.options["finalizer"] is not None:
            entry.push(Finalizer(self.options["finalizer"], value))
        if entry.finalizers:
            adopt(before)
            stand_first()
        entry.finished(value)

    def refuse(self, value: Any) -> None:
        """Refuses what only its first caller could use."""
        # isinstance() would ask a lazy object for its class, and so make it
        once_only = CoroutineType, AsyncGeneratorType, contextlib._GeneratorContextManagerBase
        if issubclass(type(value), once_only):
            raise TypeError(
                f"{self.name} returns {value!r}, which can be used once only: "
                "put @memoize right above the generator function or the `async def`"
            )

    def fail(self, entry: Any, error: BaseException) -> None:
        """The body has raised."""
        errors: list[BaseException] = []
        try:
            entry.run_finalizers(errors)
        finally:
            entry.forget(errors)
        entry.failed_too(error, errors)

    def yields(self, what: str, instead: str) -> RuntimeError:
        file, line = place_of(self.options["function"])
        return RuntimeError(f"{self.name} yields {what} ({file}:{line}): {instead}")

    def __reduce__(self) -> tuple[Any, ...]:
        """By value, as cloudpickle sends a function that cannot be imported: how the object is made
        travels, and the object never does."""
        sent[self.token] = self
        return arrive, (type(self), self.token, self.name, self.options, self.wrapper())

    def cache_clear(self) -> None:
        """The same as `reset` of the function."""
        reset(self.wrapper())


# Reset --------------------------------------------------------------------------------------------


def reset(*functions: Callable[..., object]) -> None:
    """Tear down what the functions hold and forget it; without arguments, everything.

    Takes memoized functions and whatever wraps one (`__wrapped__`, a bound method, a pytest fixture
    object), with all their keys, and tears down in the reverse of the order in which the objects
    were finished. When it returns they are gone: it waits for other threads that make them or
    tear them down. Where there is no object it does nothing. The functions may be called again
    at any time, and make anew.

    Errors of finalizers stop no other finalizer: they are raised together, in an ExceptionGroup (a
    BaseExceptionGroup where one is no Exception), each with a note that names its function; none is
    only logged.

    Inside the body or the teardown of one of the functions it raises DeadlockError; without
    arguments it leaves out there what is being made or torn down. Where this thread runs an event
    loop, it raises RuntimeError for the object of an async function: write `await areset()`. For
    anything that is not memoized it raises TypeError. In these cases nothing is torn down.
    New in 0.1.0.
    """
    entries = chosen(functions)
    for entry in entries:
        if entry.is_out_of_reach():
            raise RuntimeError(
                f"{entry.memoized.name} is async and an event loop runs here: "
                f"write `await areset({entry.memoized.name.rpartition('.')[2]})`"
            )
    errors: list[BaseException] = []
    for entry in entries:
        if entry.state == MAKING:
            with contextlib.suppress(TimeoutError):
                entry.outlast(MAKING, errors)
    for entry in in_order(entries):
        try:
            entry.end_here(errors)
            while (state := entry.state) != GONE:
                entry.outlast(state, errors)
        except BaseException as error:  # a wait that was interrupted: the others are still due
            entry.failed(error, errors)
    if errors:
        raise BaseExceptionGroup("errors of finalizers", errors)


def chosen(functions: tuple[Any, ...]) -> list[Any]:
    """The entries that a reset takes; raises before anything is torn down."""
    disown_inherited()
    own = running()
    if not functions:
        entries = [entry for entry in living() if entry not in own]
        return [entry for entry in entries if not own or entry.state == ALIVE]
    memoized = dict.fromkeys(map(find, functions))
    entries = [entry for each in memoized for entry in list(each.entries.values())]
    for entry in entries:
        if entry in own:
            raise DeadlockError(
                f"{entry.memoized.name} is being made or torn down here: reset it afterwards"
            )
    return entries
