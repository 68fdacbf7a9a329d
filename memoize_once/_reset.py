"""A reset: choose what to tear down, wait until that is done, and raise the errors."""

import logging
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any, overload

from ._entries import (
    ALIVE,
    MAKING,
    RELEASED,
    TEARING_DOWN,
    Entry,
    Record,
    all_entries,
    log,
    run_blocking,
    teardown_order,
)
from ._finalizers import find_record
from ._fork import disown_inherited
from ._waiting import DeadlockError, is_body_task, is_within, owned_here

__tracebackhide__ = True

ALL_KEYS: Any = ...
_LONG_WAIT = 5  # seconds, after which a reset logs what it waits for


@overload
def reset(*functions: Callable[..., object]) -> None:
    """For all keys."""


@overload
def reset(function: Callable[..., object], /, *, key: Hashable) -> None:
    """For one key."""


def reset(*functions: Callable[..., object], key: Any = ALL_KEYS) -> None:
    """Tear down and forget the objects of the functions; without arguments, of all functions.

    The arguments are memoized functions, or what wraps them (`__wrapped__`, bound methods, fixture
    objects). Tears down the objects of all keys; `reset(function, key=k)` only the object of that
    key. Tears down in the reverse of the order in which the objects were made. Waits for threads
    and tasks that make the objects or tear them down, and returns when all teardowns have run. Does
    nothing if there is no object. The functions may be called again at any time. Objects that use
    these objects are not torn down with them.

    An error in one finalizer does not stop the others. All errors are raised together, in an
    ExceptionGroup (a BaseExceptionGroup if one is no Exception), each with a note that names its
    function. An object whose event loop is idle in another living thread is not torn down: one of
    the errors says so.

    In the body or the teardown of one of these objects, raises DeadlockError. In any body or
    teardown, `reset()` without arguments skips all objects that are being made or torn down. If
    this thread runs an event loop, raises RuntimeError for objects of async functions: write
    `await areset()`. Raises TypeError if a function is not memoized, if the key cannot be hashed,
    or if `key=` comes with anything but one function that was memoized with `key=`. If it raises
    one of these, nothing is torn down. New in 0.1.0.
    """
    _reset_blocking(entries_to_reset(functions, key), names_functions=bool(functions))


def reset_record(record: Record) -> None:
    """Reset all objects of one function, whose wrapper may have been freed."""
    disown_inherited()
    _reset_blocking(_refuse_own(list(record.entries.values())), names_functions=True)


def entries_to_reset(functions: tuple[Any, ...], key: Any) -> list[Entry]:
    """Return the entries to tear down; raise the TypeError or DeadlockError of a reset."""
    disown_inherited()
    owned = owned_here()
    records = list(dict.fromkeys(map(find_record, functions)))
    if key is not ALL_KEYS:
        if len(functions) != 1 or records[0].options.key is None:
            raise TypeError(
                "key= needs exactly one function, which was memoized with key=: "
                "for any other write reset(function)"
            )
        records[0].check_call(key, {})
        entries = [entry for entry in [records[0].entries.get(key)] if entry is not None]
    elif functions:
        entries = [entry for record in records for entry in list(record.entries.values())]
    else:
        entries = [entry for entry in all_entries() if entry not in owned]
        inside = owned or any(entry.state != ALIVE and is_within(entry) for entry in entries)
        return [entry for entry in entries if not inside or entry.state == ALIVE]
    return _refuse_own(entries)


def _refuse_own(entries: list[Entry]) -> list[Entry]:
    owned = owned_here()
    for entry in entries:
        if entry in owned or (entry.state == TEARING_DOWN and is_body_task(entry)):
            raise DeadlockError(
                f"{entry.name} is being made or torn down here: reset it afterwards"
            )
    return entries


def _reset_blocking(entries: list[Entry], *, names_functions: bool) -> None:
    """Reset the entries for `reset`, which blocks its thread."""
    for entry in entries:
        if entry.needs_areset():
            argument = entry.record.name.rpartition(".")[2] if names_functions else ""
            raise RuntimeError(
                f"{entry.name} is async and this thread runs an event loop: "
                f"write `await areset({argument})` in a coroutine, "
                "or call reset in a thread that runs none"
            )

    async def wait(entry: Entry, state: str, errors: list[BaseException]) -> None:
        entry.wait_a_second(state, errors)

    run_blocking(reset_entries(entries, wait))


# A function that waits about a second for the entry to leave the state
Wait = Callable[[Entry, str, list[BaseException]], Awaitable[None]]


async def reset_entries(
    entries: list[Entry], wait: Wait, ends_reset: tuple[type[BaseException], ...] = ()
) -> None:
    """Wait for all makings, tear the objects down in order, and raise all errors together.

    `reset` and `areset` each pass their own `wait`. An error in the wait for a making, unless it is
    a TimeoutError, is raised at once, and so is an error of a type in `ends_reset`. After any other
    error, even an interrupt, this tears down the next object.
    """
    for entry in entries:
        if entry.state == MAKING:
            with suppress(TimeoutError):
                await _wait_patiently(entry, ALIVE, [], wait)
    outcomes: list[tuple[str, list[BaseException]]] = []
    for entry in teardown_order(entries):
        errors: list[BaseException] = []
        try:
            entry.tear_down_here(errors)
            await _wait_patiently(entry, RELEASED, errors, wait)
        except ends_reset:
            raise
        except BaseException as error:
            entry.add_error(error, errors)
        outcomes.append((entry.name, errors))
    failed = [name for name, errors in outcomes if errors]
    if failed:
        raise BaseExceptionGroup(
            f"errors in the teardown of {', '.join(failed)}",
            [error for _, errors in outcomes for error in errors],
        )


async def _wait_patiently(entry: Entry, end: str, errors: list[BaseException], wait: Wait) -> None:
    """Wait until the state is `end` or RELEASED; log a WARNING if that lasts long."""
    seconds = 0
    while (state := entry.state) != end and state != RELEASED:
        if seconds == _LONG_WAIT:
            log(
                logging.WARNING,
                "a reset has waited %d seconds for %s, which is %s",
                seconds,
                entry.name,
                state,
            )
        await wait(entry, state, errors)
        seconds += 1
