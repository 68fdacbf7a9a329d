"""One object, made once and torn down once, among asyncio tasks: `_once` for async functions.

States, order, finalizers and waits are those of `_once`. What differs is who does the work:

1. The body runs in a task of its own, the keeper, on the loop of the first caller. Callers come and
   go; when the last that `callers` holds has gone, the keeper is cancelled, once.
2. An async generator is entered and exited by its keeper, which waits in between. The keeper is
   hidden from `asyncio.all_tasks()`, or the end of the loop would cancel it with everything else;
   so any cancel that it gets comes from its callers or from a scope inside the generator.
3. A teardown may be asked for from anywhere, and is begun on the object's own loop: by the keeper
   of a generator, else by a new task.
4. Each loop has a `Home`, which hears of its end and tears down what lives there.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from . import _finalizers
from ._finalizers import (
    ALIVE,
    ENDING,
    GONE,
    MAKING,
    Entry,
    Finalizer,
    in_order,
    leak,
)
from ._once import AGAIN, NOTHING, DeadlockError, Once, Wait, chosen, log, wait
from ._process import ROUNDS, active_threads

__tracebackhide__ = True

# The bodies in whose context the code runs: the body's own task, and all that it has started
_inside: contextvars.ContextVar[Any] = contextvars.ContextVar("memoize_once", default=())


def _of_task() -> tuple[AsyncEntry, ...]:
    """What the current task makes or tears down; its context tells, which others may share. A task
    of the body is inside the teardown, which waits for it, unless it has asked for that."""
    task = asyncio._get_running_loop() and asyncio.current_task()
    bodies = [ref() for ref in _inside.get()[-1:] if task]
    return tuple(
        body
        for body in bodies
        if body and (body.task is task or (body.state == ENDING and body.asker is not task))
    )


_finalizers.of_task = _of_task


async def changed(entry: Entry, state: str) -> None:
    """Returns when the entry has left the state."""
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # who waited has gone, and the loop with it
            loop.call_soon_threadsafe(woken.set)

    entry.waiters[wake] = None
    try:
        if entry.state == state:  # looked at after the waiter is in place, as in `wait`
            await woken.wait()
    finally:
        entry.waiters.pop(wake, None)


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Runs the loop, which rests, until the work is done."""
    try:
        loop.run_until_complete(work)
    finally:
        work.close()  # where the loop has refused it


class AsyncEntry(Entry):
    """An object of an async function."""

    def __init__(self, memoized: AsyncOnce, key: object, loop: Any, caller: object) -> None:
        super().__init__(memoized, key)
        self.home = home_of(loop)
        self.loop = loop  # None in a child that inherits the object
        self.callers = {caller: None}  # who wait for it to be made, the longest waiting first
        self.cancelled = False  # the body has been told
        self.error: BaseException | None = None  # of the body, for the first caller that is left
        self.thrown: BaseException | None = None  # into the generator, by a scope at its `yield`
        self.task: Any = None  # the keeper, or what tears down
        self.tasks: list[Any] = []  # that the body has started, and that live as long as the object
        self.asker: Any = None  # the task that has asked for the teardown

    # Making

    def start(self, call: Callable[[], Any]) -> None:
        self.home.entries[self] = None
        self.ended = self.loop.create_future()  # what the keeper of a generator waits for
        self._begin_task(self._keep([call]))

    def _begin_task(self, work: Coroutine[Any, Any, None]) -> None:
        context = contextvars.copy_context()
        bodies = [ref for ref in _inside.get() if (body := ref()) and body.state != GONE]
        context.run(_inside.set, (*bodies, self.ref))
        # not loop.create_task, which an eager task factory makes run the body at once
        self.task = asyncio.Task(work, loop=self.loop, context=context)
        self.task._log_destroy_pending = False
        asyncio.tasks._unregister_task(self.task)

    async def _keep(self, call: list[Callable[[], Any]]) -> None:
        rest, since, before = None, time.perf_counter(), active_threads()
        try:
            result = call.pop()()
            if isinstance(result, AsyncGenerator):
                rest = Finalizer(self._resume, result)
                result = await self._first(result)
            else:
                result = await result
            self.memoized.keep(self, result, rest, before)
        except BaseException as error:
            await self._fail(error)
            return
        log("made", self, since)
        if self.finalizers:
            # The tasks that the body has started live until its teardown, which may need them; so
            # the end of the loop must not cancel them.
            for task in asyncio.all_tasks(self.loop):
                if _context(task).get(_inside, ())[-1:] == (self.ref,):
                    asyncio.tasks._unregister_task(task)
                    self.tasks.append(task)
        else:
            self.home.entries.pop(self, None)
        if rest is None:
            self.task = None  # it would keep the context of the first caller
        else:
            await self._stay()

    async def _first(self, generator: AsyncGenerator[Any, None]) -> Any:
        """What the generator yields."""
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)  # or the loop would close the generator at its end
        try:
            step = generator.__anext__()
        finally:
            sys.set_asyncgen_hooks(*hooks)
        try:
            return await step
        except StopAsyncIteration:
            return NOTHING

    async def _fail(self, error: BaseException) -> None:
        """The body has failed: one caller gets the error, the others try again."""
        errors: list[BaseException] = []
        await self.run_finalizers(errors)
        self.failed_too(error, errors)
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
            traceback = traceback.tb_next
        if self.callers and not self.cancelled:
            self.error = error.with_traceback(traceback)
        elif not isinstance(error, asyncio.CancelledError):
            _report(self.loop, self, "the body failed when its callers had gone", [error])
        self.forget(errors)

    async def desert(self, caller: object) -> None:
        """A caller has been cancelled. If it was the last, the body is cancelled, and the caller
        goes on when that has cleaned up."""
        self.callers.pop(caller, None)  # the end of the loop may have been faster
        with suppress(RuntimeError):  # the loop has closed meanwhile
            self.loop.call_soon_threadsafe(self.cancel)
        while not self.callers and self.state == MAKING and self.loop.is_running():
            with suppress(asyncio.CancelledError):  # anyio repeats it
                await changed(self, MAKING)
        if not self.callers and self.error is not None:
            _report(self.loop, self, "the body failed when its callers had gone", [self.error])

    def cancel(self) -> None:
        """Cancels the body, once; looks again, since this is its own loop, and others may come."""
        if self.state == MAKING and not self.callers and not self.cancelled:
            self.cancelled = True
            self.task.cancel()

    # Teardown

    def begin(self, errors: list[BaseException]) -> None:
        """On its loop: has the object torn down, if nobody has begun; the list gets the errors."""
        if not self.ended.cancelled() and self.begin_to_end():
            if self.task is not None and not self.task.done():
                self.ended.set_result(errors)
            else:
                self._begin_task(self._tear_down(errors))

    async def begun(self, state: str, errors: list[BaseException]) -> None:
        self.begin(errors)
        await changed(self, state)

    async def _stay(self) -> None:
        """The keeper of a generator at its `yield`."""
        errors: list[BaseException] = []
        try:
            errors = await self.ended
        except asyncio.CancelledError as error:  # by a scope that is open in the generator
            self.thrown = error
            self.begin_to_end()
        await self._tear_down(errors)
        if self.thrown is not None:
            _report(self.loop, self, "error in the teardown", errors)

    async def _tear_down(self, errors: list[BaseException]) -> None:
        since = time.perf_counter()
        await self.run_finalizers(errors)
        left = [task for task in self.tasks if not task.done() and task is not self.asker]
        for task in self.tasks:  # from here on they are the loop's, like any other
            asyncio.tasks._register_task(task)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        self.forget(errors)
        log("tore down", self, since)

    async def run_finalizers(self, errors: list[BaseException]) -> None:
        while (finalizer := self.pop()) is not None:
            try:
                result = finalizer.callback(*finalizer.args, **finalizer.kwargs)
                if inspect.isawaitable(result):
                    await result
            except BaseException as error:
                self.failed(error, errors)

    async def _resume(self, generator: Any) -> None:
        """The rest of the generator is its teardown."""
        try:
            await (generator.athrow(self.thrown) if self.thrown else generator.__anext__())
        except StopAsyncIteration:
            return
        except asyncio.CancelledError:
            if self.thrown is None:
                raise
            return
        try:
            await generator.aclose()
        finally:
            raise self.memoized.yields(*AGAIN)

    def push(self, finalizer: Finalizer) -> None:
        if self.loop is None or self.loop.is_closed():
            raise LookupError(f"the event loop of {self.memoized.name} has closed: call it anew")
        super().push(finalizer)
        self.home.entries[self] = None

    def forget(self, errors: list[BaseException]) -> None:
        self.home.entries.pop(self, None)
        super().forget(errors)

    def disown(self) -> None:
        leak((self.loop, self.home))  # a loop that is freed would be closed, and so run
        self.home.entries.clear()
        self.loop = None
        super().disown()

    # From outside of the loop

    def is_out_of_reach(self) -> bool:
        return asyncio._get_running_loop() is not None

    def end_here(self, errors: list[BaseException], at_exit: bool = False) -> None:
        if not self.finalizers and self.begin_to_end():  # it needs no loop
            self.closed = True
            if self.finalizers:  # registered in between
                self.loop.call_soon_threadsafe(self._begin_task, self._tear_down(errors))
            else:
                self.forget(errors)
        while at_exit and (state := self.state) != GONE:
            self.outlast(state, errors, at_exit=True)

    def outlast(
        self,
        state: str,
        errors: list[BaseException],
        asker: threading.Thread | None = None,
        at_exit: bool = False,
    ) -> None:
        """Blocks until the object has left the state, for which its loop is asked."""
        loop, thread = self.loop, self.home.thread
        mine = thread is (asker or threading.current_thread()) or not thread.is_alive()
        try:
            handle = loop.call_soon_threadsafe(self.begin, errors)
            if mine and not loop.is_running():
                _run(loop, self.begun(state, errors))
                return
        except RuntimeError:  # it closes just now, or another thread runs it
            if self.state == state and loop.is_closed():
                self.lost("is closed", errors)
            return
        seconds = 5 if at_exit and (mine or thread.daemon) else 1
        wait(self, state, seconds)
        if self.state == state and (seconds > 1 if loop.is_running() else thread.is_alive()):
            handle.cancel()
            if not at_exit:
                raise TimeoutError(
                    f"the event loop of {self.memoized.name} rests in the thread {thread.name!r}, "
                    "which alone may run it: reset it there"
                )
            for entry in in_order(self.home.entries):
                entry.lost(f"does not answer in the thread {thread.name!r}", errors)

    def lost(self, why: str, errors: list[BaseException]) -> None:
        """The teardown cannot be done any more."""
        errors.append(RuntimeError(f"no teardown of {self.memoized.name}: its event loop {why}"))
        self.begin_to_end()
        self.forget(errors)


def _report(loop: Any, entry: Entry, what: str, errors: list[BaseException]) -> None:
    """Gives errors for which nobody waits to the loop's exception handler."""
    while errors:
        context = {"message": f"{entry.memoized.name}: {what}", "exception": errors.pop(0)}
        loop.call_exception_handler(context)


def _context(task: Any) -> Any:
    if hasattr(task, "get_context"):
        return task.get_context()
    # 3.11 does not tell
    return next(
        (each for each in gc.get_referents(task) if isinstance(each, contextvars.Context)), {}
    )


class AsyncOnce(Once):
    """What stands behind a memoized async function."""

    async def make(self, key: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Gives the object, which it makes or waits for."""
        self.check(key, kwargs)
        loop, caller = _running_loop(self.name), object()
        while True:
            entry = AsyncEntry(self, key, loop, caller)
            found = self.place(entry)
            if found is entry:
                entry.start(lambda: self.options["function"](*args, **kwargs))
            state, from_inside = found.state, found.ref in _inside.get()
            if state == ALIVE or (state == ENDING and from_inside):
                return found.object
            if state == GONE:
                continue
            if state == MAKING and found is not entry and not from_inside:
                found.callers[caller] = None
            try:
                with Wait(found, state):
                    await changed(found, state)
            except (asyncio.CancelledError, DeadlockError):
                if caller in found.callers:
                    await found.desert(caller)
                raise
            if state == MAKING and found.number >= 0:
                return found.object
            if found.error is not None and list(found.callers)[:1] == [caller]:
                error, found.error = found.error, None
                raise error


def _running_loop(name: str) -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(f"{name} needs asyncio: await it where an asyncio loop runs") from None


# Loops --------------------------------------------------------------------------------------------


class Home:
    """What lives on a loop, and ends with it. It stands in for the loop's own `close`."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.entries: dict[AsyncEntry, None] = {}
        self.thread = threading.current_thread()
        self._close = loop.close
        # The loop closes it in `shutdown_asyncgens()`, when its own tasks have finished
        self._sentinel = self._until_the_end()
        if not getattr(loop, "_asyncgens_shutdown_called", False):
            with suppress(StopIteration):
                self._sentinel.__anext__().send(None)
        loop.close = self

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._end()

    def __call__(self) -> None:
        """Tears down what a loop has left that is closed without `shutdown_asyncgens()`."""
        try:
            if self.entries and not self.loop.is_running() and not self.loop.is_closed():
                _run(self.loop, self._end())
            with suppress(StopIteration, RuntimeError):  # or its being dropped would be reported
                self._sentinel.aclose().send(None)
        finally:
            self._close()

    async def _end(self) -> None:
        for _ in range(ROUNDS):
            for entry in in_order(self.entries):
                errors: list[BaseException] = []
                await asyncio.sleep(0)  # cancelled before its first step, a keeper would never run
                while (state := entry.state) != GONE:
                    entry.callers.clear()  # what is left of them is on other loops, and tries again
                    entry.cancel()
                    await entry.begun(state, errors)
                self.entries.pop(entry, None)  # who registers last may have put it back
                _report(self.loop, entry, "error in the teardown", errors)
        for entry in list(self.entries):
            entry.lost("is closed", errors := [])
            _report(self.loop, entry, f"made anew {ROUNDS} times", errors)


def home_of(loop: Any) -> Home:
    return loop.close if isinstance(loop.close, Home) else Home(loop)


# Reset --------------------------------------------------------------------------------------------


async def areset(*functions: Any) -> None:
    loop = _running_loop("areset")
    entries = chosen(functions)
    errors: list[BaseException] = []
    for entry in entries:
        if entry.state == MAKING:
            with suppress(TimeoutError):
                await _outlast(entry, MAKING, errors, loop)
    for entry in in_order(entries):
        try:
            entry.end_here(errors)
            while (state := entry.state) != GONE:
                await _outlast(entry, state, errors, loop)
        except asyncio.CancelledError:  # what has begun goes on, and may fail later
            tell = functools.partial(_report, loop, entry, "areset was cancelled", errors)
            entry.waiters[tell] = None
            tell()
            raise
        except BaseException as error:
            entry.failed(error, errors)
    if errors:
        raise BaseExceptionGroup("errors of finalizers", errors)


async def _outlast(
    entry: Any, state: str, errors: list[BaseException], loop: asyncio.AbstractEventLoop
) -> None:
    """Returns when the entry has left the state; a thread does what would block this loop."""
    with Wait(entry, state):
        if not isinstance(entry, AsyncEntry):
            await changed(entry, state)
        elif entry.loop is loop:
            entry.asker = asyncio.current_task()
            await entry.begun(state, errors)
        else:
            pool = ThreadPoolExecutor(1, "memoize_once")
            thread = threading.current_thread()
            try:
                await loop.run_in_executor(pool, entry.outlast, state, errors, thread)
            finally:
                pool.shutdown(wait=False)
