"""Record which threads and tasks make or tear down an object, and which wait for one.

Before a thread or a task blocks, it records what it owns and what it waits for (`RegisteredWait`).
If its wait closes a cycle, it gets DeadlockError.
"""

import contextlib
import contextvars
import queue
import threading
import weakref
from collections.abc import Iterator

from ._entries import Entry, all_entries

__tracebackhide__ = True

# Owners -------------------------------------------------------------------------------------------

# (thread, entry), outermost first. A greenlet of gevent counts as a thread: the functions look
# `get_ident` up at each call, since gevent may replace it after the import.
owned_by_threads: dict[tuple[int, Entry], None] = {}

# The async entries whose body or teardown runs this code, or has started it, outermost first
enclosing: contextvars.ContextVar[tuple[weakref.ref[Entry], ...]] = contextvars.ContextVar(
    "memoize_once", default=()
)

# An attribute of the threads that belong to an object; other copies of the library use it, too
_MARK = "_memoize_once"


def owned_here() -> tuple[Entry, ...]:
    """Return the entries that this thread, or the task that it runs, makes or tears down."""
    here = threading.get_ident()
    owned = [entry for thread, entry in list(owned_by_threads) if thread == here]
    # a task that the body has started has the same context, but does not own the entry
    innermost = [ref() for ref in enclosing.get()[-1:]]
    return (*owned, *(entry for entry in innermost if entry is not None and entry.is_own_task()))


@contextlib.contextmanager
def owning(entry: Entry) -> Iterator[None]:
    """Record this thread as the owner of the entry in this block.

    Enter the block before the claim. A signal handler may reset the same object right after the
    claim, and must see that its own thread is the owner, so that it does not wait.
    """
    owned = threading.get_ident(), entry
    try:
        owned_by_threads[owned] = None
        yield
    finally:
        owned_by_threads.pop(owned, None)


def mark_thread(thread: threading.Thread, entry: Entry) -> None:
    """Mark the thread: it belongs to the object."""
    setattr(thread, _MARK, (*getattr(thread, _MARK, ()), entry.ref))
    if isinstance(thread, threading.Timer):
        entry.timer_functions.append(thread.function)


def is_marked(thread: threading.Thread) -> bool:
    """Return whether the thread belongs to an object, of this copy of the library or another.

    A timer that repeats itself starts a new timer, which has no mark but the same function.
    """
    return hasattr(thread, _MARK) or (
        isinstance(thread, threading.Timer)
        and any(thread.function in entry.timer_functions for entry in all_entries())
    )


def is_body_task(entry: Entry) -> bool:
    """Return whether the body or the teardown of the async entry runs this code, or started it.

    Return False in the task that has requested the teardown.
    """
    return entry.ref in enclosing.get() and not entry.was_requested_here()


def is_within(entry: Entry) -> bool:
    """Return whether this thread or task owns the entry, or belongs to its object."""
    return (
        entry in owned_here()
        or entry.ref in getattr(threading.current_thread(), _MARK, ())
        or is_body_task(entry)
    )


# Waits --------------------------------------------------------------------------------------------


class DeadlockError(RuntimeError):
    """An object needs itself, directly or through others, in one thread or across threads.

    A reset raises it, too, in the body or the teardown of an object that it should tear down. The
    message names the functions of the cycle. New in 0.1.0.
    """


class RegisteredWait:
    """A wait for `target` to leave `state`, registered while the `with` block runs.

    `__enter__` raises DeadlockError if the owner of the target waits, directly or not, for an entry
    that this thread or task owns. If several waits close a cycle at once, exactly one must fail. So
    each registers first, and then follows only older waits: only the youngest wait of a cycle sees
    all the others.
    """

    def __init__(self, target: Entry, state: str) -> None:
        self.owned = owned_here()
        self.target = target
        self.state = state

    def __enter__(self) -> None:
        _registered_waits.append(self)
        if self.owned and (cycle := _find_cycle(self)):
            _registered_waits.remove(self)
            raise _deadlock_error(cycle)

    def __exit__(self, *_: object) -> None:
        _registered_waits.remove(self)

    def is_current(self) -> bool:
        """Return whether the target is still in the state; if not, the waiter is about to wake."""
        return self.target.state == self.state


_registered_waits: list[RegisteredWait] = []


def _find_cycle(this: RegisteredWait) -> list[Entry]:
    """Return the cycle that this wait closes with older waits, or [] if it closes none."""
    waits = list(_registered_waits)
    older = [wait for wait in waits[: waits.index(this)] if wait.is_current()]
    paths = [[this.target]] if this.is_current() else []
    seen = {this.target}
    for path in paths:  # `paths` grows in the loop
        if path[-1] in this.owned:
            return [*this.owned[this.owned.index(path[-1]) :], *path]
        for wait in older:
            if path[-1] in wait.owned and wait.target not in seen:
                seen.add(wait.target)
                paths.append([*path, wait.target])
    return []


def _deadlock_error(cycle: list[Entry]) -> DeadlockError:
    advice = (
        "To make one object for each argument, give it a key="
        if len({entry.record for entry in cycle}) == 1
        else "Break the cycle, or move a call out of a body"
    )
    return DeadlockError(
        f"circular dependency: {' -> '.join(entry.name for entry in cycle)}. {advice}"
    )


def wait(entry: Entry, state: str, seconds: int | None = None) -> None:
    """Block until the entry has left the state, or about `seconds` have passed."""
    # A signal handler may put into a SimpleQueue at any time, but not use a lock or an Event. Each
    # wait looks the class up, since gevent may replace it after the import.
    woken = queue.SimpleQueue[None]()

    def wake() -> None:
        woken.put(None)

    with RegisteredWait(entry, state):
        entry.wake_callbacks[wake] = None
        try:
            # checked after the callback is registered, or it could miss a change
            while entry.state == state and seconds != 0:
                with contextlib.suppress(queue.Empty):
                    woken.get(timeout=1)  # on Windows Ctrl-C arrives only between two waits
                seconds = None if seconds is None else seconds - 1
        finally:
            entry.wake_callbacks.pop(wake, None)
