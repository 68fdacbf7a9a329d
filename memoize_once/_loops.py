"""Event loops: wait in them, run them, and tear their objects down when they end.

Each loop that has objects has a `LoopScope`. It replaces two methods of the loop,
`shutdown_asyncgens` and `close`, and tears the objects down before it calls the original methods.
Objects come first, because `shutdown_asyncgens` closes all async generators of the loop at once,
also those that a body has entered. When the loop has closed, the scope restores the methods.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

from ._entries import (
    ALIVE,
    RELEASED,
    Entry,
    all_entries,
    teardown_order,
)
from ._exit import MAX_ROUNDS
from ._python import is_alive

__tracebackhide__ = True

# Seconds after which exit abandons the objects of a loop, unless another, non-daemon thread runs it
_PATIENCE_AT_EXIT = 5


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def report(loop: Any, entry: Entry, what: str, errors: list[BaseException]) -> None:
    """Pass errors that nobody awaits to the exception handler of the loop; empty the list."""
    while errors:
        context = {"message": f"{entry.name}: {what}", "exception": errors.pop(0)}
        loop.call_exception_handler(context)


@contextlib.contextmanager
def _first_ctrl_c_held_back() -> Iterator[None]:
    """Hold the first Ctrl-C back until the end of the block; a second one interrupts at once.

    One Ctrl-C then does not interrupt a teardown half-way. This does nothing outside the main
    thread, or if the program has its own handler for SIGINT.
    """
    default, held_back = signal.default_int_handler, []
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not default
    ):
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: held_back.append(signal.signal(signal.SIGINT, default)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, default)
        if held_back:
            raise KeyboardInterrupt


def run_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Run the work on an idle loop."""
    try:
        with _first_ctrl_c_held_back():
            loop.run_until_complete(work)
    finally:
        work.close()  # if the loop refused to run it


async def wait_async(entry: Entry, state: str, seconds: float | None = None) -> None:
    """Wait until the entry has left the state, or `seconds` have passed.

    `cancel_making` wakes all waiters of a making, so this may return while the state is MAKING.
    """
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop of the waiter has closed
            loop.call_soon_threadsafe(woken.set)

    entry.wake_callbacks[wake] = None
    timer = None if seconds is None else loop.call_later(seconds, woken.set)
    try:
        if entry.state == state:  # checked after the callback is registered, as in `wait`
            await woken.wait()
    finally:
        entry.wake_callbacks.pop(wake, None)
        if timer is not None:
            timer.cancel()


# The end of a loop --------------------------------------------------------------------------------


class LoopScope:
    """The objects of one event loop, torn down with it."""

    def __init__(self, loop: Any) -> None:
        self.loop: Any = loop  # None after it has closed, and in a forked child
        self.thread = threading.current_thread()  # of the first call that made an object
        if loop is not None:
            self.loop_close: Any = loop.close
            self._loop_shutdown_asyncgens: Any = loop.shutdown_asyncgens
            loop.close, loop.shutdown_asyncgens = self.close, self.shutdown_asyncgens

    def entries(self) -> list[Any]:
        """Return the entries that need the loop, in the order of teardown."""
        return teardown_order(
            entry
            for entry in all_entries()
            if entry.scope is self
            if entry.finalizers or entry.state != ALIVE
        )

    def is_closed(self) -> bool:
        loop = self.loop  # read once: another thread may close it and set None
        return loop is None or loop.is_closed()

    def may_be_run_by(self, thread: threading.Thread) -> bool:
        """Return whether the thread may run the loop while the loop is idle."""
        return self.thread is thread or not is_alive(self.thread)

    def is_out_of_reach(self, seconds: int) -> bool:
        """Return whether exit has to abandon the objects of the loop after so many seconds."""
        here, loop = running_loop(), self.loop
        if here is not None and loop is not None and (here is loop or not loop.is_running()):
            # exit runs in this loop; or it runs in another, and so cannot run this idle one
            return True
        is_busy = loop is not None and loop.is_running() and not self.thread.daemon
        answers = is_busy and not self.may_be_run_by(threading.current_thread())
        return seconds >= _PATIENCE_AT_EXIT and not answers

    async def shutdown_asyncgens(self) -> None:
        """Tear the objects down, and then call the loop's own method."""
        try:
            await self._tear_down()
        finally:
            await self._loop_shutdown_asyncgens()

    def close(self) -> None:
        """Tear down the objects that are left, close the loop, and restore its methods."""
        loop = self.loop
        if loop is None:  # the loop is closed, and somebody has kept this method
            return
        try:
            if self.entries() and not (self.is_closed() or loop.is_running()):
                run_loop(loop, self._tear_down())
        finally:
            self.loop_close()  # raises an error if the loop is running
            for method in ("close", "shutdown_asyncgens"):
                vars(loop).pop(method, None)
            # so that an object that outlives its loop does not keep the loop alive
            self.loop = self.loop_close = self._loop_shutdown_asyncgens = None

    async def _tear_down(self) -> None:
        """Tear down the objects of the loop, and those that teardowns make again.

        Pass errors to the exception handler of the loop. Raise the first interrupt at the end, so
        that it ends the program.
        """
        interrupts: list[BaseException] = []
        with _first_ctrl_c_held_back():
            for rounds in range(MAX_ROUNDS + 1):
                for entry in self.entries():
                    errors: list[BaseException] = []
                    # let the keeper start: a task that is cancelled before it starts never runs
                    await asyncio.sleep(0)
                    while (state := entry.state) != RELEASED and rounds < MAX_ROUNDS:
                        entry.stop_making()
                        await entry.tear_down_and_wait(state, errors)
                    if rounds == MAX_ROUNDS:
                        entry.abandon(f"ends, and made it {MAX_ROUNDS} times meanwhile", errors)
                    self._report(entry, errors, interrupts)
        if interrupts:
            raise interrupts[0]

    def _report(
        self, entry: Entry, errors: list[BaseException], interrupts: list[BaseException]
    ) -> None:
        """Report the errors; collect interrupts, also those that the exception handler raises."""
        for error in errors:
            try:
                if not isinstance(error, Exception | asyncio.CancelledError):
                    raise error
                report(self.loop, entry, "error in the teardown", [error])
            except BaseException as interrupt:
                interrupts.append(interrupt)


def scope_of(loop: Any) -> LoopScope:
    """Return the scope of the loop; make one if it has none.

    Another copy of the library may have replaced the methods of the loop later, so look below the
    scope of that copy.
    """
    method = loop.close
    while (owner := getattr(method, "__self__", loop)) is not loop:
        if isinstance(owner, LoopScope):
            return owner
        method = getattr(owner, "loop_close", None)
    return LoopScope(loop)
