"""What is alive, in which order it goes, and what happens at exit and at a fork.

An object's `Life` begins with the call that makes it and ends with its last finalizer:

    MAKING -> ALIVE -> ENDING -> GONE        a making that fails goes from MAKING straight to GONE

- A memoized function (`Memoized`) has at most one life for each key. `dict.setdefault` on its `lives` decides who makes,
  another one on the life's `claims` decides who tears down. The thread or task that has won is the only one to
  change the state, until it sets the last one and calls the `waiters`.
- There is no lock around any of this, on purpose: a signal handler or a `__del__` may run the library between any two of its own
  lines, in the thread that would hold the lock, and a fork may happen while another thread holds it. Every step is one
  operation that the interpreter makes atomic, and every order of steps is chosen so that what a reader sees in between is true.
- What is pushed while a life ends is run or refused, since `closed` is set between two looks at the stack.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.thread import ThreadPoolExecutor  # its exit hook must stand before ours: it cannot be imported during a shutdown
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

C = TypeVar("C", bound=Callable[..., Any])

__tracebackhide__ = True

logger = logging.getLogger("memoize_once")

MAKING, ALIVE, ENDING, GONE = "making", "alive", "ending", "gone"
DONE = object()

alive: set[weakref.ref[Life]] = set()  # every life that is being made, is there or is being torn down
_held: set[Life] = set()  # those with a finalizer; others die with their function
_finished = itertools.count()  # numbers objects in the order in which their making finished


class Memoized:
    """What this module needs to know of a memoized function. Nothing in it refers back to the function that users call, so that
    an object without a teardown dies with it."""

    __slots__ = ("__weakref__", "inherit", "lives", "name", "ref", "twin")

    twin: Callable[[], Callable[..., Any] | None]

    def __init__(self, name: str, inherit: bool) -> None:
        self.name = name
        self.inherit = inherit
        self.lives: dict[Any, Life] = {}
        self.ref = weakref.ref(self)

    def unpublish(self, life: Life) -> None:
        """From here on a call does not find the object without coming here; harmless where it never did."""
        raise NotImplementedError

    def end(self, life: Life, errors: list[BaseException], and_wait: bool) -> None:
        """Tears the life down, or waits until whoever does has done it."""
        raise NotImplementedError

    def made(self, life: Life, own: list[Life]) -> None:
        """Waits until the life is made, or its making has failed."""
        raise NotImplementedError


class Finalizer:
    """A callback that is due once."""

    __slots__ = ("args", "callback", "claims", "judge", "kwargs", "ran")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.callback = callback
        self.args = args
        self.kwargs = kwargs
        self.judge: Callable[[Any], None] | None = None  # of what it returns; only the rest of a generator has one
        self.claims: dict[None, object] = {}
        self.ran = False

    def claimed(self, by: object) -> bool:
        """Whether it is run, by the life that asks, or refused, by GONE: the first that asks decides."""
        return self.claims.setdefault(None, by) is by


def living() -> list[Life]:
    """All lives."""
    return [life for ref in list(alive) if (life := ref()) is not None]


class Life:
    """One object, from the call that makes it to its last finalizer."""

    depth: int  # how many lives of the thread stand around the loop of a task

    __slots__ = (
        "__weakref__",
        "claims",
        "closed",
        "depth",
        "finalizers",
        "holds",
        "key",
        "number",
        "once",
        "ref",
        "state",
        "value",
        "waiters",
        "waits",
    )

    def __init__(self, memoized: Memoized, key: object) -> None:
        self.once = memoized.ref
        self.key = key
        self.state = MAKING
        self.value: Any = None
        self.number: float = float("inf")
        self.claims: dict[object, object] = {}
        self.closed = False
        self.finalizers: list[Finalizer] = []
        self.holds: tuple[object, ...] = ()
        self.waiters: list[Callable[[], object]] = []
        self.waits: list[Any] = []
        self.ref = weakref.ref(self, alive.discard)  # written in C, since Ctrl-C would be lost in a callback in Python

    @property
    def name(self) -> str:
        once = self.once()
        return once.name if once else "a function that is gone"

    def in_place(self) -> bool:
        once = self.once()
        try:
            return once is not None and once.lives.get(self.key) is self
        except Exception:  # a key that cannot be compared has got none
            return False

    def here(self) -> bool:
        """Whether it has to be torn down by an event loop that this thread runs right now."""
        return False

    def due(self) -> bool:
        """Whether a teardown is left that nobody is at."""
        return self.state == ALIVE and bool(self.finalizers) and not self.claims

    def claimed(self, token: object) -> bool:
        """Whether the token is the one that may tear down, which is the first that asks."""
        return self.claims.setdefault(None, token) is token

    def push(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        judge: Callable[[Any], None] | None = None,
    ) -> None:
        """Adds a finalizer; raises LookupError where the last one has run."""
        finalizer = Finalizer(callback, args, kwargs or {})
        finalizer.judge = judge
        self.finalizers.append(finalizer)
        self.hold()
        if self.closed and finalizer.claimed(GONE):
            _removed(self.finalizers, finalizer)
            raise LookupError(f"the object of {self.name} has been torn down: register while it is alive")

    def hold(self) -> None:
        """What has a teardown is kept, and keeps its function."""
        once = self.once()
        if once is not None:  # pragma: no branch  who pushes has it
            self.holds = once, once.twin()
            _held.add(self)
            if self.state == GONE:  # looked at afterwards, or nobody would release it
                self.release()

    def release(self) -> None:
        self.holds = ()
        _held.discard(self)

    def drop(self, callback: object) -> None:
        """Removes every finalizer with this callback."""
        for finalizer in list(self.finalizers):
            if finalizer.judge is None and finalizer.callback == callback:
                _removed(self.finalizers, finalizer)
        self.release()
        if self.finalizers:
            self.hold()

    def step(self, errors: list[BaseException]) -> object:
        """Runs one finalizer, the last in first, and returns what it returns; returns DONE where none is left."""
        stack = self.finalizers
        while stack or not self.closed:
            try:
                finalizer = stack[-1]
            except IndexError:
                self.closed = True
                continue
            result = None
            # it has run where Ctrl-C came before the removal, and who is refused has seen another thread close
            if finalizer.claimed(self) and not finalizer.ran:  # pragma: no branch
                finalizer.ran = True  # no call stands between this and the callback's, so no signal and no thread can come between
                try:
                    result = finalizer.callback(*finalizer.args, **finalizer.kwargs)
                    if finalizer.judge is not None:
                        finalizer.judge(result)
                except BaseException as error:
                    self.failed(error, errors)
            _removed(stack, finalizer)
            return result
        return DONE

    def finalize(self, errors: list[BaseException]) -> None:
        """Runs all finalizers and collects what they raise. May be called again after an interruption."""
        while self.step(errors) is not DONE:
            pass

    def failed(self, error: BaseException, errors: list[BaseException]) -> None:
        note(error, f"in the teardown of {self.name}")
        errors.append(error)

    def settle(self, state: str) -> None:
        """Sets the state and lets everyone who waits look again."""
        self.state = state
        self.wake()

    def wake(self) -> None:
        for wake in list(self.waiters):
            wake()


def note(error: BaseException, text: str) -> None:
    with suppress(Exception):  # one whose attributes are frozen takes none
        error.add_note(text)


def _removed(stack: list[Finalizer], finalizer: Finalizer) -> None:
    with suppress(ValueError):  # by another, too
        stack.remove(finalizer)


class _Thread(threading.local):
    def __init__(self) -> None:
        self.lives: list[Life] = []


_thread = _Thread()


def _no_task() -> Life | None:
    return None


in_context: Callable[[], bool] = bool  # whether a body has started the task, or the thread with its context; `_aonce` knows
of_task: Callable[[], Life | None] = _no_task  # what the current task of asyncio makes or tears down; `_aonce` knows


def of_thread() -> list[Life]:
    """What this thread makes or tears down, the innermost last: the list itself, to append to."""
    return _thread.lives


def running() -> list[Life]:
    """What this thread and the task that it runs make or tear down, the innermost last."""
    lives = list(_thread.lives)
    life = of_task()
    if life is not None:
        lives.insert(life.depth, life)
    return lives


def in_order(lives: Iterable[Life]) -> list[Life]:
    """In the order of teardown: what was made last goes first."""
    return sorted(lives, key=lambda life: life.number, reverse=True)


def finished(life: Life) -> None:
    """Gives the life its place in the order of teardown."""
    life.number = next(_finished)


def find(function: object) -> Memoized:
    """The record behind a memoized function or whatever wraps one; raises TypeError for anything else."""
    candidate, seen = function, set[int]()
    while id(candidate) not in seen:
        seen.add(id(candidate))
        # `cache_clear` is the one attribute that a memoized function carries: functools.wraps hands it on, bound methods pass it through
        record = getattr(getattr(candidate, "cache_clear", None), "__self__", None)
        if isinstance(record, Memoized):
            return record
        candidate = getattr(candidate, "__wrapped__", candidate.fget if isinstance(candidate, property) else candidate)
    raise TypeError(f"{function!r} is not memoized: decorate it with @memoize, or give the function that is")


class Finalizers:
    """The finalizers that are pending: those registered here, those given as `finalizer=`, and generators that wait at their `yield`.

    `len()` counts them; iterating yields memoized functions in the order in which they would be torn down, one for each object
    that has a finalizer; `function in finalizers` says whether it has one pending, and is False for anything that is not memoized.
    New in 0.1.0.
    """

    def register(self, function: Callable[..., object], callback: C, /, *args: Any, **kwargs: Any) -> C:
        """Have `callback(*args, **kwargs)` called when the object of `function` is torn down; return `callback`.

        In the body of `function`, in the thread or the task that runs it, it binds to the object that is being made; elsewhere, to the
        one object that `function` holds. Finalizers of one object run last in first out. Registered by a finalizer of the same object
        it still runs. One that raises stops no other: `reset` raises all their errors in an ExceptionGroup (none is only logged).
        For the object of an async function the callback may return an awaitable, which is awaited.

        Raises LookupError where `function` holds no object, or several under different keys, and TypeError where it is not
        memoized or `callback` is not callable. New in 0.1.0.
        """
        once = find(function)
        if not callable(callback):
            raise TypeError(f"a finalizer is called at teardown, and {callback!r} is not callable: give function and arguments apart")
        held = list(once.lives.values())
        lives = [life for life in running() if life in held][-1:] or [life for life in held if life.state in (ALIVE, ENDING)]
        if not lives:
            raise LookupError(f"{once.name} holds no object: call it first, or register in its own body")
        if len(lives) > 1:
            raise LookupError(f"{once.name} holds {len(lives)} objects under different keys: register in its own body")
        lives[0].push(callback, args, kwargs)
        return callback

    def unregister(self, function: Callable[..., object], callback: Callable[..., object], /) -> None:
        """Remove every registration of `callback` (compared with `==`) from the objects of `function`; do nothing where there is none.

        Raises TypeError where `function` is not memoized. New in 0.1.0.
        """
        for life in list(find(function).lives.values()):
            life.drop(callback)

    def __len__(self) -> int:
        return sum(len(life.finalizers) for life in living())

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        for life in in_order(living()):
            once = life.once()
            function = once.twin() if once and life.finalizers and life.state != MAKING else None
            if function is not None:
                yield function

    def __contains__(self, function: object) -> bool:
        try:
            lives = find(function).lives
        except TypeError:
            return False
        return any(life.finalizers for life in list(lives.values()))

    def __repr__(self) -> str:
        return f"<finalizers of memoize_once: {len(self)} pending>"


finalizers = Finalizers()


# The end of the process -----------------------------------------------------------------------------------------------------------

_ROUNDS = 10  # how often what teardowns make anew at exit is torn down


def _report(error: BaseException) -> None:
    """Prints the error as an unhandled one would be. Neither it nor the hook may change the exit status or stop the teardown."""
    for hook in (sys.excepthook, sys.__excepthook__):
        try:
            hook(type(error), error, error.__traceback__)
            return
        except BaseException:
            continue


_OWN = "_memoize_once"  # the attribute of a thread or an executor that says whether it belongs to an object


def _belongs_to_an_object(thing: object) -> bool:
    return bool(vars(thing).get(_OWN))


def _noted(method: Callable[..., None]) -> Callable[..., None]:
    """Notes in a thread or an executor whether a body has brought it about.

    Nothing else tells the program's threads, which the shutdown waits for, from those of objects, which only a teardown ends. What
    appears while a body runs is not enough, since others may start theirs meanwhile; nor is it for the workers of an executor, which
    are started by whoever submits work.
    """

    @functools.wraps(method)
    def noting(self: Any, *args: Any, **kwargs: Any) -> None:
        own = bool(running()) or in_context() or _belongs_to_an_object(threading.current_thread())
        vars(self)[_OWN] = own and kwargs.get("thread_name_prefix") != "asyncio"  # the default executor of a loop is the loop's
        method(self, *args, **kwargs)

    return noting


threading.Thread.start = _noted(threading.Thread.start)  # type: ignore[method-assign]
ThreadPoolExecutor.__init__ = _noted(ThreadPoolExecutor.__init__)  # type: ignore[method-assign]


def _workers() -> Iterator[threading.Thread]:
    """The threads that executors end themselves: concurrent.futures.thread, concurrent.futures.process and loky have these names."""
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        for table in ("_threads_queues", "_threads_wakeups"):
            yield from list(names.get(table, ()))


def _executor(worker: threading.Thread) -> Any:
    """What the worker works for; None where it is about to end."""
    with suppress(AttributeError):
        return (worker.executor_reference if hasattr(worker, "executor_reference") else worker._args[0])()  # type: ignore[attr-defined]
    return None  # pragma: no cover  only where the worker ends between two instructions


@contextmanager
def _main_thread_ended() -> Iterator[None]:
    """Threads of the program may themselves wait for the end of the main thread, which the interpreter declares only after its hooks."""
    main = threading.main_thread()
    handle = getattr(main, "_os_thread_handle", None) or getattr(main, "_handle", None)
    if not main.is_alive():
        yield
    elif handle is not None:  # pragma: no cover  3.13 on, where it may be declared twice
        handle._set_done()
        yield
    else:
        main._tstate_lock.release()  # type: ignore[attr-defined]
        try:
            yield
        finally:  # the shutdown expects it
            main._set_tstate_lock()  # type: ignore[attr-defined]


def _wait_for_the_program() -> None:
    """Returns when no non-daemon thread of the program's own is left, and no work in its executors."""
    while True:
        threads = {t for t in threading.enumerate() if t is not threading.current_thread()}
        workers = {worker: _executor(worker) for worker in threads.intersection(_workers())}
        others = [t for t in threads.difference(workers) if not t.daemon and not _belongs_to_an_object(t)]
        # of a process pool, whose module is not imported just to note this, the thread has to tell
        executors = [
            executor or worker
            for worker, executor in workers.items()
            if not _belongs_to_an_object(executor if _OWN in getattr(executor, "__dict__", ()) else worker)
        ]
        if not others and not executors:
            return
        with _main_thread_ended():
            for thread in others:
                thread.join()
            for executor in executors:
                # its module's exit function would end it too, but makes every executor refuse work, also those of teardowns
                executor.join() if isinstance(executor, threading.Thread) else executor.shutdown()


def _tear_down() -> None:
    """Tears down all that has a finalizer, and what that makes anew."""
    for _ in range(_ROUNDS):
        lives = in_order(life for life in living() if life.due())
        if not lives:
            return
        for life in lives:
            errors: list[BaseException] = []
            once = life.once()
            if once is not None:  # pragma: no branch  what has a teardown keeps it
                once.end(life, errors, and_wait=False)  # a daemon thread may be at it: it is not waited for
            for error in errors:
                _report(error)
    left = in_order(life for life in living() if life.due())
    if left:
        names = ", ".join(life.name for life in left)
        _report(RuntimeError(f"left without teardown, since teardowns at exit made it anew {_ROUNDS} times: {names}"))
        for life in left:
            life.finalizers.clear()


exiting = False


def _exit() -> None:
    global exiting
    exiting = True
    for step in (_wait_for_the_program, _tear_down):
        try:
            step()
        except BaseException as error:  # Ctrl-C while waiting: the teardown is still due, and the other hooks and the joins too
            _report(error)


def _ahead(register: Callable[..., None]) -> Callable[..., None]:
    """Keeps our hook ahead of those that make executors refuse work, since the last one registered runs first: the modules of process
    pools, concurrent.futures.process and loky, register theirs, under this name, when a program comes to use them."""

    @functools.wraps(register)
    def registering(hook: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        register(hook, *args, **kwargs)
        if getattr(hook, "__name__", None) == "_python_exit":
            register(_exit)

    return registering


# The first line. Before the interpreter joins non-daemon threads, which hangs where one belongs to an object; while executors still
# take work; in multiprocessing's children, which skip atexit (3.11, 3.12) or empty it (3.13 on). All of 3.11 to 3.15 and PyPy have it.
with suppress(AttributeError, RuntimeError):  # an interpreter without it, or an import during the shutdown
    threading._register_atexit = _ahead(threading._register_atexit)  # type: ignore[attr-defined]
    threading._register_atexit(_exit)  # type: ignore[attr-defined]
# The second line, for what is made later still. Registered now, since what is registered while atexit runs never runs.
atexit.register(_exit)


# Forks ----------------------------------------------------------------------------------------------------------------------------

_incref: Callable[[object], object] = list[object]().append  # enough where no module is cleared at exit, as on PyPy


def leak(thing: object) -> None:
    """Keeps it from being freed, at the end of the interpreter too."""
    _incref(thing)


def _before_fork() -> None:
    # in the parent, since an import in the child can hang in the import lock of a thread that is no more
    global _incref
    if sys.implementation.name == "cpython":  # pragma: no branch
        with suppress(ImportError):
            from _ctypes import Py_INCREF

            _incref = Py_INCREF


def _after_fork_in_child() -> None:
    """The child starts with no object. Those that it inherited are the parent's: they are never finalized here, and never freed
    either, since the end of the child's interpreter would run what a suspended generator has after its `yield`."""
    for life in living():
        once = life.once()
        leak((life, life.value, list(life.finalizers)))
        life.finalizers.clear()
        if once is not None and once.inherit and life.state == ALIVE:
            life.claims.clear()  # a thread of the parent may just have taken it
            continue
        alive.discard(life.ref)
        if once is not None:  # pragma: no branch  but while another thread collects it
            once.lives.pop(life.key, None)
            once.unpublish(life)
        life.settle(GONE)  # a signal handler can fork while its own thread waits
    of_thread().clear()
    vars(threading.current_thread())[_OWN] = False


if hasattr(os, "register_at_fork"):  # pragma: no branch  not on Windows
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
