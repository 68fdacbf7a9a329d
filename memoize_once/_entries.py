"""The state of memoized functions: their records, and their objects.

A `Record` is all that belongs to one memoized function. An `Entry` holds one of its objects, and
the state of that object:

    MAKING -> ALIVE -> TEARING_DOWN -> RELEASED      or, if the body raises, MAKING -> RELEASED

- A function has at most one entry for each key. `dict.setdefault` on `entries` decides who claims
  the making, and `dict.setdefault` on `teardown_claim` who claims the teardown. The thread that has
  made the claim, or the task that does the work for it, changes the state and then wakes the
  waiters, which look at the state. `disown` and `abandon` need no claim to release an entry.
- The finalizers of an entry are a stack. The teardown pops them until none is left, sets
  `finalizers_closed` and looks once more; `add_finalizer` appends first, and then looks at
  `finalizers_closed`. So a late finalizer is run or refused, and not lost.
- The state has no lock. A signal handler or a `__del__` may call the library in a thread that would
  hold the lock already, and a fork may come while another thread would hold it. So each step is one
  operation that the interpreter makes atomic.
- `_entries` refers to entries weakly, so that an object without finalizers dies with its wrapper;
  `_held` keeps the entries that have finalizers, and their wrappers.
"""

import itertools
import logging
import os
import reprlib
import time
import traceback
import weakref
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

__tracebackhide__ = True

MAKING, ALIVE, TEARING_DOWN, RELEASED = "being made", "alive", "being torn down", "released"

MISSING: Any = object()  # where there is no value: no object yet, nothing yielded, no attribute


def log(level: int, message: str, *args: object) -> None:
    """Log a message, and ignore errors of the program's own filters and handlers."""
    with suppress(Exception):
        logging.getLogger("memoize_once").log(level, message, *args)


class Finalizer:
    """A callback and its arguments, run once.

    It is no functools.partial, which would absorb a callback that is a partial, so that
    `unregister` could not compare the callback.
    """

    def __init__(self, callback: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
        self.callback = callback
        self.args = args
        self.kwargs = kwargs


class Options:
    """The memoized function, and what `memoize` was given."""

    def __init__(
        self,
        function: Callable[..., Any],
        key: Callable[..., Any] | None,
        finalizer: Callable[[Any], object] | None,
        inherit: bool,
    ) -> None:
        self.function = function
        self.key = key
        self.finalizer = finalizer
        self.inherit = inherit


class Record:
    """All that belongs to one memoized function.

    The wrapper, the function that users call, refers to its record, and the record refers to the
    wrapper weakly. So reference counting frees both while the function has no object. Only an
    unpickled record keeps its wrapper.
    """

    # slots: every hit reads `value`
    __slots__ = ("__weakref__", "entries", "name", "options", "pickle_id", "value", "wrapper")

    value: Any  # the published object; with key= each entry has its own
    wrapper: Callable[[], Any]  # returns the wrapper, or None after it was freed

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.options = options
        self.entries: dict[Any, Entry] = {}  # by key, which is None without key=
        self.pickle_id = os.urandom(16).hex()  # the same in all unpickled copies


class Entry:
    """One object, from the call that makes it to its last finalizer."""

    value: Any  # the object while it is published; only with key=
    scope: Any = None  # the loop scope of an async object

    def __init__(self, record: Any, key: object) -> None:
        self.record = record
        self.key = key
        self.state = MAKING
        self.object: Any = MISSING  # what the body returned or yielded
        self.creation_order = float("inf")
        self.timer_functions: list[Callable[..., object]] = []  # of timers that it owns
        self.finalizers: list[Finalizer] = []
        self.finalizers_closed = False
        self.teardown_claim: dict[str, object] = {}
        self.wake_callbacks: dict[Callable[[], object], None] = {}
        self.ref: weakref.ref[Entry] = weakref.ref(self, _entries.discard)

    @property
    def name(self) -> str:
        """The name of the function and, with key=, the key."""
        key = "" if self.record.options.key is None else f", key {reprlib.repr(self.key)}"
        return f"{self.record.name}{key}"

    # What the subclasses override

    def needs_areset(self) -> bool:
        """Return whether `reset` refuses the object here, and only `areset` tears it down."""
        return False

    def tear_down_here(self, errors: list[BaseException]) -> None:
        """Tear the object down, if this thread can do that alone."""

    def wait_a_second(self, state: str, errors: list[BaseException]) -> None:
        """Wait about a second for the entry to leave the state; request the teardown if needed."""

    def tear_down_at_exit(self, errors: list[BaseException]) -> None:
        """Tear the object down; abandon an async one, with an error, if its loop cannot do it."""
        self.tear_down_here(errors)

    async def await_result(self, result: Any) -> None:
        """Await what a finalizer has returned; raise TypeError if the function is not async."""

    def is_own_task(self) -> bool:
        """Return whether this code runs in the task that makes the object or tears it down."""
        return False

    def was_requested_here(self) -> bool:
        """Return whether the teardown was requested by the task in which this code runs."""
        return False

    # The life of an object

    def set_state(self, state: str) -> None:
        """Set the state, and wake everyone who waits for the entry."""
        self.state = state
        for wake in list(self.wake_callbacks):
            wake()

    def claim_making(self) -> Any:
        """Claim the making: store this entry under its key, unless there is one.

        Return the entry that is stored; if it is another, release this one. `SyncRecord.accept`
        claims a second time when the body has run, since a forked child or `abandon` may have
        released the entry meanwhile.
        """
        self.state, self.pid = MAKING, os.getpid()
        _entries.add(self.ref)  # before it is stored, so that no fork can overlook it
        found = self.record.entries.setdefault(self.key, self)
        if found is not self:
            _entries.discard(self.ref)
            self.set_state(RELEASED)
            if found.state == RELEASED and self.record.entries.get(self.key) is found:
                del self.record.entries[self.key]  # its key could not be hashed in `release`
        self.update_hold()
        return found

    def become_alive(self, value: object) -> None:
        """Store and publish the object that the body has made."""
        self.creation_order = next(_creation_orders)
        self.object = value
        # publish first: once the state is ALIVE, a reset may unpublish it
        self._value_holder().value = value
        self.set_state(ALIVE)

    def _value_holder(self) -> Any:
        """Return the record or, with key=, the entry: the wrapper returns its `value`, if set."""
        return self.record if self.record.options.key is None else self

    def unpublish(self) -> None:
        """Delete the published value, so that the wrapper calls `make`."""
        with suppress(AttributeError):
            del self._value_holder().value

    def claim_teardown(self, claimant: object) -> bool:
        """Claim the teardown, and unpublish the object.

        Return False if the object is not alive, or if another thread or task has the claim.
        """
        if self.state != ALIVE or self.teardown_claim.setdefault("by", claimant) is not claimant:
            return False
        self.unpublish()
        self.set_state(TEARING_DOWN)
        return True

    async def finalize_failed_body(self, error: BaseException) -> None:
        """Run the finalizers of a body that has raised `error`; note their errors on it."""
        errors: list[BaseException] = []
        self.object = MISSING  # an interrupt may have come just before the object was alive
        await self.run_finalizers(errors)
        for each in errors:
            text = "".join(traceback.format_exception_only(each)).strip()
            add_note(error, f"a finalizer of {self.name} failed too: {text}")

    def release(self, errors: list[BaseException]) -> None:
        """Remove the entry, so that the next call makes an object."""
        try:
            if self.record.entries.get(self.key) is self:
                self.unpublish()
                del self.record.entries[self.key]
        except Exception as error:  # the key cannot be hashed now; see `claim_making`
            self.add_error(error, errors)
        finally:
            self.state = RELEASED  # at once: near the recursion limit each call may fail
            _entries.discard(self.ref)
            try:
                self.set_state(RELEASED)
            finally:
                self.update_hold()

    def disown(self) -> None:
        """In a forked child: drop the object without its teardown, or keep it for inherit=True."""
        self.finalizers = []
        self.wake_callbacks = {}  # one might wake an event loop of the parent
        if self.record.options.inherit and self.state == ALIVE:
            self.pid = os.getpid()
            self.teardown_claim = {}  # a thread of the parent may just have claimed it
            self.update_hold()
        else:
            self.release([])

    # Finalizers

    def add_finalizer(self, finalizer: Finalizer) -> None:
        """Add a finalizer; raise LookupError if a teardown has already run the last one."""
        self.finalizers.append(finalizer)
        if self.finalizers_closed and self.remove_finalizer(finalizer):
            raise LookupError(f"{self.name} has been torn down: call it again, and then register")
        self.update_hold()

    def remove_finalizer(self, finalizer: Finalizer) -> bool:
        """Remove the finalizer; return False if it is not pending any more."""
        try:
            self.finalizers.remove(finalizer)
        except ValueError:
            return False
        self.update_hold()
        return True

    def update_hold(self) -> None:
        """Put the entry into `_held`, if it has finalizers and is not released, or take it out.

        Several threads may call this at once, so each repeats until what it did is still right.
        """
        held = None
        while held is not (due := bool(self.finalizers) and self.state != RELEASED):
            if due:
                _held[self] = self.record.wrapper()
            else:
                _held.pop(self, None)
            held = due

    async def run_finalizers(self, errors: list[BaseException]) -> None:
        """Run all finalizers, even if one raises or is interrupted; add the errors to the list."""
        while self.finalizers or not self.finalizers_closed:
            try:
                try:
                    finalizer = self.finalizers.pop()
                except IndexError:
                    self.finalizers_closed = True  # one may have come meanwhile: look once more
                else:
                    result = finalizer.callback(*finalizer.args, **finalizer.kwargs)
                    if hasattr(type(result), "__await__"):
                        await self.await_result(result)
            except BaseException as error:
                self.add_error(error, errors)

    def add_error(self, error: BaseException, errors: list[BaseException]) -> None:
        """Add an error of the teardown to the errors, with a note that names the function."""
        add_note(error, f"raised in the teardown of {self.name}")
        errors.append(error)


def run_blocking(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never suspends, because each of its waits blocks the thread."""
    # not suppress(StopIteration), which also takes each StopIteration out of a group of errors
    try:
        work.send(None)
    except StopIteration:
        return


def add_note(error: BaseException, text: str) -> None:
    """Add the note, unless the error refuses attributes."""
    with suppress(Exception):
        error.add_note(text)


def log_duration(what: str, entry: Entry, since: float) -> None:
    comma = "" if entry.record.options.key is None else ","
    seconds = time.perf_counter() - since
    log(logging.DEBUG, "%s %s%s in %.3f seconds", what, entry.name, comma, seconds)


# All entries --------------------------------------------------------------------------------------

_entries: set[weakref.ref[Entry]] = set()
_held: dict[Entry, Any] = {}  # entries with finalizers -> their wrapper
_creation_orders = itertools.count()


def all_entries() -> list[Entry]:
    """Return the entries that have not been released."""
    return [entry for ref in list(_entries) if (entry := ref()) is not None]


def teardown_order(entries: Iterable[Any]) -> list[Any]:
    """Return the entries that are still being made, and then the others, last made first."""
    return sorted(entries, key=lambda entry: entry.creation_order, reverse=True)


def entries_with_finalizers() -> list[Entry]:
    """Return the entries that have pending finalizers, in the order of teardown."""
    return teardown_order(entry for entry in list(_held) if entry.finalizers)
