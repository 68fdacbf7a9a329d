"""The end of the process, and its forks.

The interpreter ends in this order: the main thread; the hooks of `threading`, in reverse; the
non-daemon threads, which it joins; the hooks of `atexit`, in reverse; the modules. Ours stands
among the hooks of `threading`: it waits until the program's own threads have ended and its pools
have no work left, and then tears down. The second line, in `atexit`, is for what is made later.

- Threads that appear while the body of an object with a teardown runs, and are at work when it
  ends, belong to the object: only its teardown may end them, so they are not waited for.
- A pool's worker outlives the work it was started for. So what belongs to the object is then not
  the thread but the work, and what carries the mark is the work's future.
- Pools stay open, since a teardown may need them.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ._finalizers import ALIVE, _running, disown_inherited, logger, pending

_queues: Any = {}  # of the workers of thread pools
_AT_WORK: list[Any] = []  # the code that they and the managers of process pools run when at work
with suppress(RuntimeError):  # it cannot be imported during the shutdown
    # Now, since its exit hook, which makes pools refuse work, has to run after ours.
    import concurrent.futures.thread

    _queues = concurrent.futures.thread._threads_queues
    _AT_WORK = [
        method.__code__
        for method in (
            concurrent.futures.thread._WorkItem.run,
            concurrent.futures.Future.set_result,
            concurrent.futures.Future.set_exception,
        )
    ]

_MARK = "_memoize_once"  # on a thread or a future; other copies of the library see it too
ROUNDS = 10  # how often what teardowns make anew is torn down


# Which threads belong to an object ----------------------------------------------------------------


def active_threads() -> list[Any]:
    """All threads. `threading.enumerate` takes a lock, which a signal handler could wait for while
    the thread that it has interrupted holds it."""
    return list(threading._active.values())  # type: ignore[attr-defined]


def adopt(before: Iterable[threading.Thread]) -> None:
    """Marks what has appeared since then, and is at work, as belonging to an object."""
    new = set(active_threads()).difference(before)
    # asked for where there is need only: on 3.11 a collection in it that makes an object would hang
    frames = _frames() if new else {}
    for thread in new:
        work = _work(thread, frames)
        owned = [thread] if work is None else [future for future in work if not future.done()]
        for each in owned:
            setattr(each, _MARK, True)


def _frames() -> dict[int, Any]:
    """What the other threads run. With the caller's own frame among them, the table would be in a
    cycle, and Python 3.12 can crash where a collection finds others' frames in one."""
    return {
        ident: frame
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    }


def _work(thread: Any, frames: dict[int, Any]) -> list[Any] | None:
    """The futures of what a pool's thread works on; None for a thread of no pool."""
    items = getattr(thread, "pending_work_items", None)  # of a process pool, loky's too
    if not isinstance(items, dict) and thread not in _queues:
        return None
    futures = [item.future for item in list((items or {}).values())]
    frame = frames.get(thread.ident)
    while frame is not None:
        # what runs, or has run and tells those who wait for it
        if frame.f_code in _AT_WORK:
            futures.append(frame.f_locals["self"])
        frame = frame.f_back
    return [getattr(each, "future", each) for each in futures]


def _is_at_work(thread: Any, frames: dict[int, Any]) -> bool:
    """Whether the thread does what the end of the program has to wait for."""
    work = _work(thread, frames)
    if work is None:
        return not (thread is threading.current_thread() or thread.daemon or hasattr(thread, _MARK))
    if work:
        return not all(hasattr(future, _MARK) for future in work)
    queue = _queues.get(thread)
    return queue is not None and not queue.empty()


def _wait_for_the_program() -> None:
    said: list[str] = []
    looks = 0  # a worker that has just taken its work from the queue is seen at the second look
    with _main_thread_ended():
        while looks < 2:
            frames = _frames()
            names = [each.name for each in active_threads() if _is_at_work(each, frames)]
            looks = 0 if names else looks + 1
            if names and names != said:
                logger.info("exit waits for %s", ", ".join(names))
                said = names
            time.sleep(0.02 if names or _queues else 0)


@contextmanager
def _main_thread_ended() -> Iterator[None]:
    """Threads of the program may wait for the end of the main thread, and the interpreter declares
    that only after its hooks. From 3.13 on it may be declared twice; before, a lock stands for
    it, which the shutdown expects to be held."""
    main: Any = threading.main_thread()
    handle = getattr(main, "_os_thread_handle", None) or getattr(main, "_handle", None)
    if handle is not None:
        handle._set_done()
        yield
    else:
        main._tstate_lock.release()
        try:
            yield
        finally:
            main._set_tstate_lock()


# The hooks ----------------------------------------------------------------------------------------


def _report(error: BaseException) -> None:
    """Prints the error as an unhandled one would be, whatever the program's own hook does."""
    with suppress(BaseException):
        sys.excepthook(type(error), error, error.__traceback__)


def _tear_down() -> None:
    """Tears down all that has a finalizer, and what that makes anew."""
    disown_inherited()
    for _ in range(ROUNDS):
        for entry in pending(ALIVE):
            errors: list[BaseException] = []
            try:
                entry.end_here(errors, at_exit=True)
            except BaseException as error:  # Ctrl-C: the others are still due
                errors.append(error)
            for each in errors:
                _report(each)
    for entry in pending(ALIVE):
        _report(
            RuntimeError(
                f"{entry.memoized.name} is left without teardown: made anew {ROUNDS} times at exit"
            )
        )
        entry.finalizers.clear()


def _wait_and_tear_down() -> None:
    disown_inherited()
    if pending(ALIVE):
        try:
            # Ctrl-C ends the waiting, and then the waiting of the interpreter too
            _wait_for_the_program()
        finally:
            _tear_down()


def stand_first() -> None:
    """Keeps our hook ahead of those registered since, which make the pools of a module that was
    imported late refuse work."""
    hooks = threading._threading_atexits  # type: ignore[attr-defined]
    if hooks[-1:] != [_hook] and not threading._SHUTTING_DOWN:  # type: ignore[attr-defined]
        hooks.append(_hook)
        hooks.remove(_hook)  # the first of the two


# `multiprocessing` children run the hooks of `threading` on every version, and skip those of
# `atexit` (3.11, 3.12) or empty them (3.13 on).
_hook: Any = None
with suppress(RuntimeError):  # imported during the shutdown
    threading._register_atexit(_wait_and_tear_down)  # type: ignore[attr-defined]
    _hook = threading._threading_atexits[-1]  # type: ignore[attr-defined]
# What is registered while `atexit` runs never runs, so now.
atexit.register(_tear_down)

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_running.clear)  # a child is inside no body,
    os.register_at_fork(after_in_child=disown_inherited)  # and starts with no object
