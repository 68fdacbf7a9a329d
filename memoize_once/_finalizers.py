"""What is alive, in which order it goes, and the public registry of finalizers.

A `Memoized` is what stands behind a memoized function, an `Entry` is one object of it:

    MAKING -> ALIVE -> ENDING -> GONE        a body that fails goes from MAKING straight to GONE

- A function has at most one entry for each key. `dict.setdefault` on `entries` decides who makes
  it, a lock that is tried and never waited for (`ending`) decides who tears it down. Only the
  thread or the task that has won changes the state, and then calls the `waiters`, who look again.
- Finalizers are a stack. Who tears down pops them until none is left, sets `closed`, and looks
  once more; who registers looks at `closed` afterwards. So a late one is run or refused, not lost.
- There is no lock around any of this, on purpose: a signal handler or a `__del__` may call the
  library between any two of its lines, in the very thread that would hold the lock, and a fork may
  come while another thread holds it. Each step is one operation that the interpreter makes atomic.
- An entry is alive weakly, so that an object without teardown dies with its function; `_held` keeps
  those that have a finalizer, and their functions.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import os
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

__tracebackhide__ = True

logger = logging.getLogger("memoize_once")

MAKING, ALIVE, ENDING, GONE = "making", "alive", "ending", "gone"

_alive: set[weakref.ref[Entry]] = set()
_held: dict[Entry, Any] = {}
_numbers = itertools.count()


class Finalizer:
    """A callback with its arguments, due once; functools.partial would flatten a callback that is
    one, and `unregister` could not compare it."""

    def __init__(self, callback: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
        self.callback = callback
        self.args = args
        self.kwargs = kwargs


class Memoized:
    """What stands behind a memoized function, but for how its object is made.

    Nothing in it refers to the function that users call, which refers to it, so that both go
    without a garbage collection as long as there is no object.
    """

    # a slot, since a cached call reads it
    __slots__ = ("__weakref__", "entries", "name", "options", "token", "value", "wrapper")

    value: Any  # the object; not there at all while there is none, nor where each key has its own
    wrapper: Callable[[], Any]  # gives the function that users call

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name = name
        self.options = options  # `function` and `key_of`, and what `memoize` was given
        self.entries: dict[Any, Entry] = {}  # by key, which is None where there is but one object
        self.token = os.urandom(16).hex()  # what it is known by where it is sent by value

    def place(self, entry: Any) -> Any:
        """Puts the entry in its place, or gives the one that stands there."""
        entry.state = MAKING
        _alive.add(entry.ref)  # first, so that no fork can overlook it
        found = self.entries.setdefault(entry.key, entry)
        if found is not entry:
            _alive.discard(entry.ref)
            entry.settle(GONE)
            if found.state == GONE and self.entries.get(entry.key) is found:
                del self.entries[entry.key]  # its own key had lost its hash when it went
        return found

    def publish(self, entry: Entry) -> None:
        """From here on a call finds the object by itself."""
        (self if self.options["key"] is None else entry).value = entry.object

    def unpublish(self, entry: Entry) -> None:
        """From here on a call has to ask."""
        with suppress(AttributeError):
            del (self if self.options["key"] is None else entry).value


class Entry:
    """One object, from the call that makes it to its last finalizer."""

    value: Any  # the object, once it is published under its key

    def __init__(self, memoized: Any, key: object) -> None:
        self.memoized = memoized
        self.key = key
        self.state = MAKING
        self.number = -1  # the place in the order in which objects were finished
        self.process = os.getpid()
        self.finalizers: list[Finalizer] = []
        self.closed = False
        self.ending = threading.Lock()
        self.waiters: dict[Callable[[], object], None] = {}
        self.ref = weakref.ref(self, _alive.discard)

    def finished(self, value: object) -> None:
        """The body has made the object."""
        self.object = value
        self.number = next(_numbers)
        self.memoized.publish(self)
        self.settle(ALIVE)

    def begin_to_end(self) -> bool:
        """Whether it is the caller who has to tear the object down, which is true for one only."""
        if self.state != ALIVE or not self.ending.acquire(blocking=False):
            return False
        self.memoized.unpublish(self)
        self.settle(ENDING)
        return True

    def forget(self, errors: list[BaseException]) -> None:
        """There is no object any more, and the next caller makes one."""
        try:
            if self.memoized.entries.get(self.key) is self:
                del self.memoized.entries[self.key]
        except Exception as error:  # the key has lost its hash; see `Memoized.place`
            self.failed(error, errors)
        finally:
            _alive.discard(self.ref)
            _held.pop(self, None)
            self.settle(GONE)

    def settle(self, state: str) -> None:
        """Sets the state, and lets everyone who waits look again."""
        self.state = state
        for wake in list(self.waiters):
            wake()

    def push(self, finalizer: Finalizer) -> None:
        """Adds a finalizer; raises LookupError where the last one has run."""
        self.finalizers.append(finalizer)
        if self.closed and self.drop(finalizer):
            raise LookupError(
                f"the object of {self.memoized.name} is torn down: register while it is alive"
            )
        self.hold()

    def drop(self, finalizer: Finalizer) -> bool:
        """Whether the finalizer was still there, and is no more."""
        try:
            self.finalizers.remove(finalizer)
        except ValueError:  # it runs
            return False
        self.hold()
        return True

    def hold(self) -> None:
        """What has a teardown is kept, and keeps its function."""
        _held.pop(self, None)
        if self.finalizers and self.state != GONE:  # looked at afterwards: others may push
            _held[self] = self.memoized.wrapper()

    def pop(self) -> Finalizer | None:
        """Takes the finalizer that is next; None where none is left, and none can come any more."""
        while True:
            try:
                return self.finalizers.pop()
            except IndexError:
                if self.closed:
                    return None
                self.closed = True

    def failed(self, error: BaseException, errors: list[BaseException]) -> None:
        """A finalizer has failed."""
        note(error, f"raised in the teardown of {self.memoized.name}")
        errors.append(error)

    def failed_too(self, error: BaseException, errors: list[BaseException]) -> None:
        """The body has failed with the error, and then its finalizers with these errors."""
        for each in errors:
            note(error, f"a finalizer of {self.memoized.name} failed too: {each!r}")

    def disown(self) -> None:
        """In a forked child: the object is the parent's, which alone may finalize it."""
        leak((self, list(self.finalizers), list(self.waiters)))
        self.finalizers.clear()
        self.waiters.clear()  # to call one might wake an event loop of the parent
        if self.memoized.options["inherit"] and self.state == ALIVE:
            self.process = os.getpid()
            self.ending = threading.Lock()  # a thread of the parent may just have taken it
        else:
            self.memoized.unpublish(self)
            self.forget([])


def note(error: BaseException, text: str) -> None:
    """Adds a note to the error."""
    with suppress(Exception):  # one whose attributes are frozen takes none
        error.add_note(text)


def living() -> list[Entry]:
    """All entries: what is being made, is alive, or is being torn down."""
    return [entry for ref in list(_alive) if (entry := ref()) is not None]


def in_order(entries: Iterable[Any]) -> list[Any]:
    """In the order of teardown: what was finished last goes first."""
    return sorted(entries, key=lambda entry: entry.number, reverse=True)


def pending(*states: str) -> list[Any]:
    """The objects in these states that have a finalizer, in the order of teardown."""
    return in_order(entry for entry in list(_held) if entry.finalizers and entry.state in states)


# Who makes or tears down what ---------------------------------------------------------------------

# By thread. A greenlet of gevent counts as one: `get_ident` is looked up at each call, since gevent
# may replace it after the import.
_running: dict[int, tuple[Any, ...]] = {}

of_task: Callable[[], tuple[Any, ...]] = tuple  # what the task makes or tears down: see `_aonce`


def running() -> tuple[Any, ...]:
    """What this thread, and the task that it runs, make or tear down."""
    return (*_running.get(threading.get_ident(), ()), *of_task())


@contextmanager
def inside(entry: Entry) -> Iterator[None]:
    """This thread makes the entry or tears it down.

    Say so before it is true: a signal handler in between that resets the same object must see that
    its own thread is at it, and not wait for that.
    """
    thread = threading.get_ident()
    before = _running.get(thread, ())
    _running[thread] = (*before, entry)
    try:
        yield
    finally:
        if before:
            _running[thread] = before
        else:
            _running.pop(thread, None)


# What a forked child inherits is never freed: the end of its interpreter clears modules, and
# would run what a suspended generator has after its `yield`. No garbage collector looks into the
# constants of code, so a cycle through them stays for ever; PyPy, whose collector does, clears no
# modules.
_leaked: list[object] = []
_leaked.append((lambda: None).__code__.replace(co_consts=(_leaked,)))
leak = _leaked.append


_process = os.getpid()


def disown_inherited() -> None:
    """Lets go of what other processes have made. C code may fork and tell Python nothing, so what
    counts is the number of the process."""
    global _process
    if _process != os.getpid():
        _process = os.getpid()
        for entry in living():
            if entry.process != _process:
                entry.disown()


# The registry -------------------------------------------------------------------------------------


def memoized_by(function: object) -> Any:
    """What stands behind this very function; None where it is not memoized.

    The closure tells, and no attribute, since those are copied from function to function.
    """
    if isinstance(function, types.FunctionType):
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # a cell that is empty yet
                if issubclass(type(cell.cell_contents), Memoized):
                    return cell.cell_contents
    return None


def find(function: Any) -> Any:
    """What stands behind a memoized function or what wraps one; raises TypeError for others."""
    inner = getattr(function, "__func__", function)  # a bound method hands out all but itself
    with suppress(ValueError):  # wrapped in a circle
        inner = inspect.unwrap(inner, stop=memoized_by)
    memoized = memoized_by(inner)
    if memoized is None:
        raise TypeError(f"{function!r} is not memoized: decorate it with @memoize, or give what is")
    return memoized


class Finalizers:
    """The finalizers that are pending: those registered here, those given as `finalizer=`, and
    generators that wait at their `yield`.

    `len()` counts them. Iterating yields memoized functions in the order in which their objects
    would be torn down, one for each object that has a finalizer. `function in finalizers` says
    whether it has one pending, and is False for what is not memoized. A finalizer that has begun
    is pending no more. New in 0.1.0.
    """

    def register(
        self,
        function: Callable[..., object],
        callback: Callable[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Callable[P, R]:
        """Have `callback(*args, **kwargs)` called when the object of `function` is torn down.

        In the body of `function`, in the thread or the task that runs it, it is bound to the
        object that is being made; elsewhere, to the one object that `function` holds. Finalizers
        of one object run last in first out, each once. One that a finalizer of the same object
        registers still runs. One that raises stops no other: `reset` raises all their errors
        together, where `atexit` and `svcs` would log them. For the object of an async function
        the callback may return an awaitable, which is awaited.

        Returns `callback`, as `atexit.register` does. Raises LookupError where `function` holds no
        object, or several under different keys, or one whose event loop has closed; TypeError
        where it is not memoized or `callback` is not callable. New in 0.1.0.
        """
        memoized = find(function)
        if not callable(callback):
            raise TypeError(f"{callback!r} is not callable: give function and arguments apart")
        held = list(memoized.entries.values())
        here = [entry for entry in running() if entry in held][-1:]
        entries = here or [entry for entry in held if entry.state in (ALIVE, ENDING)]
        if not entries:
            raise LookupError(
                f"{memoized.name} holds no object: call it first, or register in its own body"
            )
        if len(entries) > 1:
            raise LookupError(
                f"{memoized.name} holds {len(entries)} objects under different keys: "
                "register in its own body"
            )
        entries[0].push(Finalizer(callback, *args, **kwargs))
        return callback

    def unregister(
        self, function: Callable[..., object], callback: Callable[..., object], /
    ) -> None:
        """Remove every registration of `callback`, compared with `==`, from the objects of
        `function`, as `atexit.unregister` does; do nothing where there is none.

        What runs already goes on. Raises TypeError where `function` is not memoized.
        New in 0.1.0.
        """
        for entry in list(find(function).entries.values()):
            for finalizer in list(entry.finalizers):
                if finalizer.callback == callback:
                    entry.drop(finalizer)

    def __len__(self) -> int:
        return sum(len(entry.finalizers) for entry in list(_held))

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        entries = pending(ALIVE, ENDING)
        return iter([function for entry in entries if (function := _held.get(entry))])

    def __contains__(self, function: object) -> bool:
        with suppress(TypeError):
            return any(entry.finalizers for entry in list(find(function).entries.values()))
        return False


finalizers = Finalizers()
