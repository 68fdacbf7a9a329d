"""The end of the process: wait for the threads of the program, and then tear everything down.

When the main script has ended, the interpreter calls the hooks of `threading`, the last registered
first, joins the non-daemon threads, calls the hooks of `atexit`, the last registered first, and
clears the modules. Our hook in `threading` waits until the program's threads have ended and its
pools have no work left, and then tears down all objects that have finalizers. A second hook, in
`atexit`, tears down the objects that are made later.

- Threads that start while the body of an object with finalizers runs, and have not ended when the
  object is made, belong to the object. The teardown may have to end them, so exit does not wait
  for them.
- A pool worker that is idle when the object is made belongs to its pool, and not to the object.
- While exit waits, thread pools refuse work, as they do without the library. During the teardown
  they accept work.
"""

import atexit
import logging
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType

from ._entries import ALIVE, MAKING, Entry, all_entries, entries_with_finalizers, log
from ._fork import disown_inherited
from ._python import (
    active_threads,
    frames_of_other_threads,
    is_idle,
    is_pool_worker,
    knows_pools,
    main_thread_ended,
    process_pool_work,
    register_exit_hook,
    thread_pools_closed,
    waits_for_processes,
)
from ._waiting import is_marked, mark_thread

MAX_ROUNDS = 10  # of teardown, if teardowns make objects again
_LOOKS = 2  # in a row, since a worker that has just received a job may look idle once
_TO_SETTLE = 0.005  # seconds in which a worker starts a job that it has received, or becomes idle


# Which threads belong to an object ----------------------------------------------------------------


def prepare_exit(entry: Entry, before: Iterable[threading.Thread]) -> None:
    """Mark the threads that are not in `before`, except idle pool workers, as the object's threads.

    Register the exit hook once more, so that it runs before hooks that the body has registered.
    """
    new = set(active_threads()).difference(before, [threading.current_thread()])
    if any(map(is_pool_worker, new)):
        time.sleep(_TO_SETTLE)
    frames = frames_of_other_threads() if new else {}
    for thread in new:
        if not (is_pool_worker(thread) and is_idle(thread, frames)):
            mark_thread(thread, entry)
    register_exit_hook(_wait_and_tear_down)


# What exit waits for ------------------------------------------------------------------------------


def _keeps_exit_waiting(
    thread: threading.Thread, frames: dict[int, FrameType], work: set[int] | None
) -> bool:
    """Return whether exit has to wait for the thread.

    It waits for threads that are not daemons, and for pool workers that are not idle. It waits for
    the manager of a process pool while that runs a callback or has a job left of `work`, the ids of
    its jobs when exit began. It does not wait for threads that belong to an object.
    """
    if is_marked(thread) or thread is threading.current_thread():
        return False
    if is_pool_worker(thread):
        return not is_idle(thread, frames)
    pending = process_pool_work(thread)
    if pending is not None:
        return bool(pending & (work or set())) or not waits_for_processes(thread, frames)
    return not thread.daemon


def _wait_for_the_program() -> None:
    """Wait until the threads of the program have ended and its pools have done their work."""
    logged: list[str] = []
    looks = 0
    # process pools may get more jobs later, and for ever: exit does not wait for those
    work = {thread: process_pool_work(thread) for thread in active_threads()}
    with main_thread_ended(), thread_pools_closed():
        while looks < _LOOKS and knows_pools:
            frames, threads = frames_of_other_threads(), active_threads()
            names = [t.name for t in threads if _keeps_exit_waiting(t, frames, work.get(t))]
            looks = 0 if names else looks + 1
            if names and names != logged:
                log(logging.INFO, "exit waits for %s", ", ".join(names))
                logged = names
            time.sleep(0.02 if names or any(map(is_pool_worker, threads)) else 0)


# Teardown at exit ---------------------------------------------------------------------------------


def _print_error(error: BaseException) -> None:
    """Pass the error to `sys.excepthook`, and ignore what that raises."""
    with suppress(BaseException):
        sys.excepthook(type(error), error, error.__traceback__)


def _entries_to_tear_down() -> list[Entry]:
    return [entry for entry in entries_with_finalizers() if entry.state == ALIVE]


def _tear_down_all() -> None:
    """Tear down all objects with finalizers, and those that teardowns make again."""
    disown_inherited()
    for _ in range(MAX_ROUNDS):
        for entry in _entries_to_tear_down():
            errors: list[BaseException] = []
            try:
                entry.tear_down_at_exit(errors)
            except BaseException as error:  # Ctrl-C: tear down the others, too
                errors.append(error)
            for each in errors:
                _print_error(each)
    for entry in _entries_to_tear_down():
        _print_error(
            RuntimeError(
                f"{entry.name} was made again {MAX_ROUNDS} times at exit: "
                "its last object is not torn down"
            )
        )
        entry.finalizers.clear()


def _wait_and_tear_down() -> None:
    disown_inherited()
    # an object that is still being made may get finalizers
    if _entries_to_tear_down() or any(entry.state == MAKING for entry in all_entries()):
        try:
            # Ctrl-C ends this wait; its error also ends the interpreter's wait for threads
            _wait_for_the_program()
        finally:
            _tear_down_all()


# Children that `multiprocessing` forks run the hooks of `threading` on every version. They skip
# those of `atexit` (3.11, 3.12), or clear them when they start (3.13 and later).
register_exit_hook(_wait_and_tear_down)
# Registered now: hooks that are added while `atexit` runs never run.
atexit.register(_tear_down_all)
