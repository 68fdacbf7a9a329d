"""The names that Python does not document, and what the library does without them.

"Without it" says what is lost if a Python lacks the name. Making, calling and resetting need none
of them. A new Python is most likely to break something here, or the line table in `_wrapper`.
"""

import contextvars
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

# Threads ------------------------------------------------------------------------------------------

_active = getattr(threading, "_active", None)
_current_frames = getattr(sys, "_current_frames", dict)
_DummyThread = getattr(threading, "_DummyThread", threading.Thread)


def active_threads() -> list[threading.Thread]:
    """Return the threads that have started and not ended.

    This reads the table of threads. `threading.enumerate` takes a lock: a signal handler that
    interrupts it, and waits for a thread that needs the lock, would wait for ever. Without the
    table, this calls `threading.enumerate`.
    """
    return threading.enumerate() if _active is None else list(_active.values())


def _frames() -> dict[int, FrameType]:
    """Return a dictionary: the identifier of each thread -> the frame that it runs.

    On 3.11 `sys._current_frames` holds a lock that a thread needs to start and to end. A collection
    of garbage meanwhile can wait for that lock for ever, so this turns the collector off.
    """
    collects = sys.version_info < (3, 12) and gc.isenabled()
    if collects:
        gc.disable()
    try:
        return _current_frames()
    finally:
        if collects:
            gc.enable()


def frames_of_other_threads() -> dict[int, FrameType]:
    """Return a dictionary: the identifier of each other thread -> the frame that it runs.

    It leaves out the frame of this thread, which would form a cycle with the dictionary: Python
    3.12 can crash if the collector finds the frames of other threads in a cycle.
    """
    frames = _frames()
    frames.pop(threading.get_ident(), None)
    return frames


def is_alive(thread: threading.Thread) -> bool:
    """Return whether the thread has not ended.

    `Thread.is_alive` is true for ever for a thread that C code has started. It has ended if it has
    no frame, or if another thread has its identifier. Without frames it seems to be alive.
    """
    if not isinstance(thread, _DummyThread):
        return thread.is_alive()
    return thread in active_threads() and thread.ident in (_frames() or [thread.ident])


@contextmanager
def main_thread_ended() -> Iterator[None]:
    """Declare the main thread ended in this block, as the interpreter does after its exit hooks.

    On 3.13 and later this holds after the block, too. Without it, exit waits for ever for a thread
    that joins the main thread.
    """
    main: Any = threading.main_thread()
    handle = getattr(main, "_os_thread_handle", None) or getattr(main, "_handle", None)
    lock, set_lock = getattr(main, "_tstate_lock", None), getattr(main, "_set_tstate_lock", None)
    if lock is None or set_lock is None:  # 3.13 and later
        getattr(handle, "_set_done", dict)()  # calling it twice is harmless
        yield
        return
    lock.release()
    try:
        yield
    finally:
        set_lock()  # the interpreter expects a lock that is held


# Exit hooks ---------------------------------------------------------------------------------------

_exit_hooks: Any = getattr(threading, "_threading_atexits", None)
_last_registered: Any = None


def register_exit_hook(hook: Callable[[], None]) -> None:
    """Have the interpreter call the hook before it joins the non-daemon threads.

    If this is called again, the hook also runs before hooks that were registered meanwhile, such as
    those of modules that were imported late. Without it, and while the interpreter shuts down, only
    `atexit` tears objects down, after the threads have ended.
    """
    global _last_registered
    register = getattr(threading, "_register_atexit", None)
    is_first = _exit_hooks and _exit_hooks[-1] is _last_registered
    if register is not None and not is_first:
        with suppress(RuntimeError):  # the interpreter is shutting down
            register(hook)
            _last_registered = _exit_hooks[-1] if _exit_hooks else None


# Pools --------------------------------------------------------------------------------------------

_pools: Any = None
with suppress(RuntimeError):  # the interpreter is shutting down
    # Imported now, so that its exit hook, which closes the pools, runs after ours.
    import concurrent.futures.thread as _pools
_worker_queues: Any = getattr(_pools, "_threads_queues", None)
_worker_code = getattr(getattr(_pools, "_worker", None), "__code__", None)

# If one is missing, exit waits for no thread: it could not tell the idle workers of pools, which
# end only after our hook, from the threads of the program.
knows_pools = _current_frames is not dict and None not in (_worker_queues, _worker_code)


def is_pool_worker(thread: threading.Thread) -> bool:
    """Return whether the thread is a worker of a thread pool."""
    return knows_pools and thread in _worker_queues


def is_idle(worker: threading.Thread, frames: dict[int, FrameType]) -> bool:
    """Return whether the worker of a thread pool waits for work.

    A worker that has received a job and not called it yet also looks idle, so look twice.
    """
    frame, jobs = frames.get(worker.ident or 0), _worker_queues.get(worker)
    # the queues of PyPy are written in Python, on top of `threading`
    while frame is not None and frame.f_globals.get("__name__") in ("queue", "threading"):
        frame = frame.f_back
    return frame is not None and frame.f_code is _worker_code and (jobs is None or jobs.empty())


def process_pool_work(thread: threading.Thread) -> set[int] | None:
    """Return the ids of a process pool's pending jobs; None if the thread manages no such pool.

    The pools of loky use the same name. Without it, exit waits until every process pool is shut
    down.
    """
    items = getattr(thread, "pending_work_items", None)
    return set(items) if isinstance(items, dict) else None


def waits_for_processes(thread: threading.Thread, frames: dict[int, FrameType]) -> bool:
    """Return whether the manager of a process pool waits, and does not run a callback of a job.

    Without it, exit waits until each process pool is shut down.
    """
    frame = frames.get(thread.ident or 0)
    while frame is not None and frame.f_code.co_name != "wait_result_broken_or_wakeup":
        frame = frame.f_back
    return frame is not None


@contextmanager
def thread_pools_closed() -> Iterator[None]:
    """Have thread pools refuse work in this block, as the interpreter does when it shuts down.

    Without it, exit waits for ever for a job that submits itself once more.
    """
    closed = getattr(_pools, "_shutdown", None)
    if closed is None:
        yield
        return
    _pools._shutdown = True
    try:
        yield
    finally:
        _pools._shutdown = closed


# Tasks of asyncio ---------------------------------------------------------------------------------


def hide_task(task: "asyncio.Task[Any]") -> None:
    """Leave the task out of `asyncio.all_tasks()`, so that loop shutdown does not cancel it.

    Without it, loop shutdown cancels the keepers of objects, and their generators with them.
    """
    getattr(sys.modules["asyncio.tasks"], "_unregister_task", id)(task)
    if hasattr(task, "_log_destroy_pending"):
        setattr(task, "_log_destroy_pending", False)  # noqa: B010  unknown to type checkers


def show_task(task: "asyncio.Task[Any]") -> None:
    """List the task in `asyncio.all_tasks()` again."""
    getattr(sys.modules["asyncio.tasks"], "_register_task", id)(task)


def context_of(task: "asyncio.Task[Any]") -> Any:
    """Return the context of the task, or an empty one."""
    get_context = getattr(task, "get_context", None)  # not on 3.11
    if get_context is not None:
        return get_context()
    referents = gc.get_referents(task)
    return next((each for each in referents if isinstance(each, contextvars.Context)), {})
