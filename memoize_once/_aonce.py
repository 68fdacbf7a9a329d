"""Async functions: tasks make an object or wait for it, and `areset` tears it down.

The steps are those of `_once`: claim, publish, release. `_async_entry` makes one object and tears
it down.
"""

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ._async_entry import AsyncEntry, Caller
from ._entries import ALIVE, MAKING, MISSING, RELEASED, TEARING_DOWN, Entry
from ._loops import report, running_loop, scope_of, wait_async
from ._once import SyncRecord
from ._reset import ALL_KEYS, entries_to_reset, reset_entries
from ._waiting import DeadlockError, RegisteredWait, enclosing, is_within

__tracebackhide__ = True


class AsyncRecord(SyncRecord):
    """The record of an async function."""

    async def make(self, key: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return the object: make it, or wait for it."""
        self.check_call(key, kwargs)
        loop, caller = needed_loop(self.name), Caller()
        while True:
            found = self._find_or_start(key, loop, caller, args, kwargs)
            if await self._wait_for_outcome(found, caller):
                try:
                    if caller.error is None:
                        return found.object
                    raise caller.error.with_traceback(caller.traceback)
                finally:
                    del caller  # else the error and this frame would form a cycle

    def _find_or_start(
        self, key: Any, loop: Any, caller: Caller, args: Any, kwargs: Any
    ) -> AsyncEntry:
        """Return the entry of the key; if there is none, claim the making and start it.

        Abandon a making whose loop nobody will run.
        """
        found: Any = self.entries.get(key)
        if found is not None and found.is_forsaken():
            found.abandon("is not run any more", [])
        entry = AsyncEntry(self, key, scope_of(loop), caller)
        try:
            found = entry.claim_making()
            if found is entry:
                entry.start_task(entry.keep([lambda: self.options.function(*args, **kwargs)]))
        except BaseException:
            entry.release([])
            raise
        return found  # type: ignore[no-any-return]

    async def _wait_for_outcome(self, found: AsyncEntry, caller: Caller) -> bool:
        """Wait while the object is made or torn down; return whether the caller has an outcome.

        The outcome is `found.object`, or the error of the body in `caller.error`. Without one the
        caller has to look for an entry once more.
        """
        state, is_inside = found.state, is_within(found)
        if state in (ALIVE, RELEASED) or (state == TEARING_DOWN and is_inside):
            return state != RELEASED
        if state == MAKING and not found.making_cancelled:
            found.callers[caller] = not is_inside
        to_look_again = None if found.scope.loop is running_loop() else 1
        try:
            with RegisteredWait(found, state):
                while found.state == state and not found.is_forsaken():
                    await wait_async(found, state, to_look_again)
        except (asyncio.CancelledError, DeadlockError):
            await found.stop_waiting(caller)
            raise
        return (state == MAKING and found.object is not MISSING) or caller.error is not None


def needed_loop(name: str) -> asyncio.AbstractEventLoop:
    loop = running_loop()
    if loop is None:
        raise RuntimeError(f"{name} needs asyncio: await it where an asyncio loop runs")
    return loop


# Reset --------------------------------------------------------------------------------------------

_background_resets: set[asyncio.Task[None]] = set()


async def reset_from_task(*functions: Any, key: Any = ALL_KEYS) -> None:
    """Do the work of `areset`."""
    loop = needed_loop("areset")
    entries = entries_to_reset(functions, key)
    work = reset_entries(entries, _wait_a_second, (asyncio.CancelledError,))
    bodies = enclosing.get()
    own: Any = bodies[-1]() if bodies else None
    if own not in entries or own.state == MAKING:
        await work
        return
    # This task belongs to the object, and the teardown of the object may wait for this task. So
    # another task does the work, and this one waits only until the teardown has begun.
    task = loop.create_task(work)
    _background_resets.add(task)
    task.add_done_callback(_background_resets.discard)
    own.requested_by.add(asyncio.current_task())
    await wait_async(own, ALIVE)


async def _wait_a_second(entry: Entry, state: str, errors: list[BaseException]) -> None:
    """Do what `Entry.wait_a_second` does, without blocking the event loop."""
    loop = asyncio.get_running_loop()
    try:
        with RegisteredWait(entry, state):
            if not isinstance(entry, AsyncEntry):
                await wait_async(entry, state, 1)
            elif entry.scope.loop is loop:
                entry.requested_by.add(asyncio.current_task())
                entry.start_teardown(errors)
                await wait_async(entry, state, 1)
            else:
                await _wait_in_a_thread(entry, state, errors)
    except asyncio.CancelledError:  # the teardown continues, and may fail later
        tell = functools.partial(report, loop, entry, "areset was cancelled", errors)
        entry.wake_callbacks[tell] = None
        tell()
        raise


async def _wait_in_a_thread(entry: AsyncEntry, state: str, errors: list[BaseException]) -> None:
    # not asyncio.to_thread: its workers may all be waiting, or its executor may be shut down
    pool = ThreadPoolExecutor(1, "memoize_once")  # freeing it ends its thread
    loop, thread = asyncio.get_running_loop(), threading.current_thread()
    await loop.run_in_executor(pool, entry.wait_a_second, state, errors, thread)
