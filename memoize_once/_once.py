"""One object, made once and torn down once, among threads.

The wrapper, the function that users call, returns the published object. If there is none, it calls
`make`:

1. The thread whose entry is stored under the key has claimed the making. A thread that finds an
   entry there returns its object, or waits until its state changes.
2. The thread with the claim calls the body. It publishes the object, and then sets the state to
   ALIVE: from that moment a reset may tear it down. If the body raises, the thread runs the
   finalizers of the entry, and releases it.
3. A waiter gets the outcome of the making: the object, or the Exception that the body has raised.
   Only the thread that called the body gets an interrupt (any other BaseException); the waiters
   then try again.
4. A teardown unpublishes the object first and releases the entry last, so that callers wait while
   finalizers run.
"""

import contextlib
import inspect
import reprlib
import time
import warnings
from collections.abc import Generator, Iterable
from threading import Thread
from types import AsyncGeneratorType, CoroutineType, TracebackType
from typing import Any

from ._again import pickled, source_location, unpickle_record
from ._entries import (
    ALIVE,
    MAKING,
    MISSING,
    TEARING_DOWN,
    Entry,
    Finalizer,
    Record,
    log_duration,
    run_blocking,
)
from ._exit import prepare_exit
from ._python import active_threads
from ._waiting import is_within, owning, wait

__tracebackhide__ = True

YIELDS_TWICE = "more than once", "yield one object, and tear it down after that yield"

# Types of objects that can be used only once. contextlib's classes have no public name.
_SINGLE_USE: tuple[type, ...] = (
    CoroutineType,
    AsyncGeneratorType,
    type(contextlib.contextmanager(lambda: None)()),  # type: ignore[arg-type,return-value]
    type(contextlib.asynccontextmanager(lambda: None)()),  # type: ignore[arg-type,return-value]
)


def is_kind(value: object, kind: type) -> bool:
    """Return whether the type of the value is of the kind; a proxy may lie about its class."""
    try:
        return issubclass(type(value), kind)
    except TypeError:  # issubclass hashes the type, and a metaclass may forbid that
        return False


# One object ---------------------------------------------------------------------------------------


class SyncEntry(Entry):
    """An object of a function that is not async."""

    error: Exception | None = None  # of the body, for those who wait for the object
    traceback: TracebackType | None = None  # of the error, without the frame of `make`

    def clean_up(self, error: BaseException) -> None:
        """Run the finalizers of a body that has raised, and release the entry."""
        if self.state in (ALIVE, TEARING_DOWN):  # an interrupt came after the object was made
            return
        try:
            run_blocking(self.finalize_failed_body(error))
            if isinstance(error, Exception):
                self.error = error
                self.traceback = error.__traceback__ and error.__traceback__.tb_next
        finally:
            self.release([])

    def tear_down_here(self, errors: list[BaseException]) -> None:
        claimant, since = object(), time.perf_counter()
        with owning(self):
            try:
                self.claim_teardown(claimant)
            finally:  # even if an interrupt came right after the claim
                if self.teardown_claim.get("by") is claimant:
                    try:
                        run_blocking(self.run_finalizers(errors))
                    finally:
                        self.release(errors)
                    log_duration("tore down", self, since)

    def wait_a_second(self, state: str, errors: list[BaseException]) -> None:
        wait(self, state, 1)

    async def await_result(self, result: Any) -> None:
        if type(result) is CoroutineType:
            result.close()
        raise TypeError(
            f"a finalizer of {self.name} returns {result!r}, which nobody can await: "
            f"write {self.name} with `async def`, or a plain finalizer"
        )


def _wait_for_outcome(found: SyncEntry) -> bool:
    """Wait while another thread makes the object or tears it down; return whether the caller has an
    outcome: the object, or the error of the body.
    """
    state = found.state
    if state == ALIVE or (state == TEARING_DOWN and is_within(found)):
        return True
    if state in (MAKING, TEARING_DOWN):
        wait(found, state)
    return state == MAKING and (found.object is not MISSING or found.error is not None)


# One function -------------------------------------------------------------------------------------


class SyncRecord(Record):
    """The record of a function that is not async; `AsyncRecord` overrides `make`."""

    # If nothing is published, the wrapper gets an AttributeError, so a hit checks nothing. With
    # key= it may also get a KeyError, or a TypeError if the key cannot be hashed.
    miss_errors = AttributeError, KeyError, TypeError

    warned = False  # whether `check_call` has warned

    def make(self, key: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return the object: make it, or wait for it."""
        self.check_call(key, kwargs)
        while True:
            entry = SyncEntry(self, key)
            found = entry
            with owning(entry):
                try:
                    found = entry.claim_making()
                    if found is entry:
                        since, before = time.perf_counter(), active_threads()
                        result, rest = self.options.function(*args, **kwargs), None
                        if is_kind(result, Generator):
                            rest = Finalizer(self._finish_generator, result)
                            result = next(result, MISSING)
                        self.accept(entry, result, rest, before)
                        log_duration("made", entry, since)
                        return result
                except BaseException as error:
                    entry.clean_up(error)
                    del entry, found  # else the error and this frame would form a cycle
                    raise
            if _wait_for_outcome(found):
                try:
                    if found.error is None:
                        return found.object
                    raise found.error.with_traceback(found.traceback)
                finally:
                    del entry, found  # as above

    def check_call(self, key: Any, kwargs: dict[str, Any]) -> None:
        """Raise TypeError if the key cannot be hashed.

        Warn, once, if a parametrized pytest fixture is memoized without key=: it would return its
        first object for all parameters.
        """
        try:
            hash(key)
        except TypeError as error:
            raise TypeError(
                f"key= of {self.name} returned {reprlib.repr(key)}: a key has to be hashable "
                f"({error}): return a name, a tuple or an id instead"
            ) from None
        if self.options.key is not None or self.warned or "request" not in kwargs:
            return
        # a mock would answer `hasattr`
        if inspect.getattr_static(kwargs["request"], "param", MISSING) is not MISSING:
            warnings.warn_explicit(
                f"{self.name} returns the object of its first request.param for all of them: "
                "memoize it with key=lambda request: request.param",
                UserWarning,
                *source_location(self.options.function),
                module=self.options.function.__module__,
            )
            self.warned = True  # afterwards: if a filter raises it, the next call warns again

    def accept(
        self, entry: Entry, result: Any, rest: Finalizer | None, before: Iterable[Thread]
    ) -> None:
        """Publish what the body has returned or yielded, and add its finalizers.

        Raise an error if it cannot be shared, or if another call has made the object.
        """
        if result is MISSING:
            raise self.yield_error("no object", "a generator function has to yield one")
        if rest is not None:
            entry.add_finalizer(rest)
        if entry.claim_making() is not entry:
            raise RuntimeError(
                f"{self.name} was called while its body ran in another process or on another loop: "
                "that call has made the object"
            )
        if any(is_kind(result, kind) for kind in _SINGLE_USE):
            raise TypeError(
                f"{self.name} returns {result!r}, which can be used once only: "
                "put @memoize right above the generator function or the `async def`"
            )
        if self.options.finalizer is not None:
            entry.add_finalizer(Finalizer(self.options.finalizer, result))
        if entry.finalizers:
            prepare_exit(entry, before)
        entry.become_alive(result)

    def _finish_generator(self, generator: Generator[object, None, None]) -> None:
        """Resume the generator after its `yield`; raise RuntimeError if it yields once more."""
        if next(generator, MISSING) is not MISSING:
            try:
                generator.close()
            finally:
                raise self.yield_error(*YIELDS_TWICE)

    def yield_error(self, what: str, instead: str) -> RuntimeError:
        file, line = source_location(self.options.function)
        return RuntimeError(f"{self.name} yields {what} ({file}:{line}): {instead}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the record by value, for cloudpickle: send its options, and never the object."""
        pickled[self.pickle_id] = self
        arguments = type(self), self.pickle_id, self.name, self.options, self.wrapper()
        return unpickle_record, arguments
