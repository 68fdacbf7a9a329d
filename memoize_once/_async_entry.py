"""One object among asyncio tasks: made, kept and torn down on its event loop.

1. The body runs in a task of its own, the keeper, on the event loop of the first caller. When no
   caller waits any more, the last one to leave cancels the keeper, once.
2. The keeper runs an async generator up to its `yield`, and resumes it for the teardown: at a
   reset, at the end of the loop, or at exit. It is hidden from `asyncio.all_tasks()`, so that
   `asyncio.run` does not cancel it; if the loop ends during a making, the loop scope does. At the
   `yield` only a timeout, a task group or an anyio scope of the generator cancels it.
3. Any thread may request a teardown. Finalizers run on the loop of the object: in the keeper of a
   generator, otherwise in a new task. An object without finalizers does not need its loop.
4. If an object has finalizers, the tasks that its body has started, and that still run when it is
   made, belong to it. They are hidden, too. After the finalizers the teardown cancels those that
   still run, except tasks that have requested it.
"""

import asyncio
import contextlib
import contextvars
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from types import TracebackType
from typing import Any

from ._entries import ALIVE, MAKING, MISSING, RELEASED, TEARING_DOWN, Entry, Finalizer, log_duration
from ._loops import LoopScope, report, run_loop, running_loop, wait_async
from ._once import YIELDS_TWICE, is_kind
from ._python import active_threads, context_of, hide_task, is_alive, show_task
from ._waiting import DeadlockError, enclosing, wait

__tracebackhide__ = True


def _current_task() -> asyncio.Task[Any] | None:
    return asyncio.current_task() if running_loop() is not None else None


class Caller:
    """A task that waits for a making, and the error of the body, if the task gets it.

    The entry does not keep it, since its traceback may refer to the entry: they would be a cycle.
    """

    error: BaseException | None = None
    traceback: TracebackType | None = None  # of the error, without the frames of this module


class AsyncEntry(Entry):
    """An object of an async function."""

    def __init__(self, record: Any, key: object, scope: LoopScope, caller: Caller) -> None:
        super().__init__(record, key)
        self.scope = scope
        # caller -> whether it needs the making, in the order of arrival; a task of the body does
        # not: it would wait for itself
        self.callers = {caller: True}
        self.making_cancelled = False
        self.task: asyncio.Task[Any] | None = None  # the keeper, or the task of the teardown
        self.body_tasks: set[asyncio.Task[Any]] = set()
        self.requested_by: set[asyncio.Task[Any] | None] = set()  # tasks that request the teardown
        # the keeper of a generator waits for this; its result is the list for the teardown's errors
        self.teardown_request: asyncio.Future[list[BaseException]] | None = None
        self.cancellation: BaseException | None = None  # to throw into the generator

    def is_own_task(self) -> bool:
        return self.task is not None and self.task is _current_task()

    def was_requested_here(self) -> bool:
        return _current_task() in self.requested_by

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a hidden task that does the work, in a copy of the current context."""
        context, loop = contextvars.copy_context(), self.scope.loop
        bodies = [ref for ref in enclosing.get() if (e := ref()) and e.state != RELEASED]
        context.run(enclosing.set, (*bodies, self.ref))
        # not loop.create_task: an eager task factory would start the body at once
        self.task = asyncio.Task(work, loop=loop, context=context, name=self.record.name)
        hide_task(self.task)

    # Making

    async def keep(self, call_body: list[Callable[[], Any]]) -> None:
        """The keeper: make the object, and hold its generator until the teardown."""
        is_generator = await self._make_object(call_body.pop())
        if is_generator:
            await self._hold_generator()
        elif self.state == ALIVE:
            self.task = None  # the task keeps the context of the first caller alive

    async def _make_object(self, call_body: Callable[[], Any]) -> bool:
        """Run the body until it has made the object; return whether a generator is to be held."""
        rest, since, before = None, time.perf_counter(), active_threads()
        try:
            result = call_body()
            if is_kind(result, AsyncGenerator):
                rest = Finalizer(self._finish_generator, result)
                result = await _first_of(result)
            else:
                result = await result
            self.record.accept(self, result, rest, before)
        except BaseException as error:
            await self.clean_up(error)
            return False
        log_duration("made", self, since)
        if self.finalizers:
            self._adopt_tasks()
        return rest is not None

    async def clean_up(self, error: BaseException) -> None:
        """Run the finalizers of a body that has raised, and release the entry.

        An Exception goes to all callers that wait, an interrupt to one of them. If nobody waits,
        report the error to the loop, unless it is a CancelledError.
        """
        if self.state in (ALIVE, TEARING_DOWN):  # an interrupt came after the object was made
            return
        loop = self.scope.loop
        try:
            await self.finalize_failed_body(error)
            # the one that has waited longest gets an interrupt
            waiting = list(self.callers.items())  # callers on other loops may come meanwhile
            callers = [caller for caller, is_needed in waiting if is_needed][:1]
            for caller in dict(waiting) if isinstance(error, Exception) else callers:
                caller.error, caller.traceback = error, _without_own_frames(error.__traceback__)
            self.callers.clear()
        finally:
            self.release([])
        if not callers and not isinstance(error, asyncio.CancelledError):
            report(loop, self, "the body failed when no caller was waiting", [error])

    def is_needed(self) -> bool:
        """Return whether a waiting caller needs the making."""
        return any(list(self.callers.values()))

    async def stop_waiting(self, caller: Caller) -> None:
        """Remove a caller that is cancelled, or whose wait raised DeadlockError.

        If no other caller needs the making, cancel it, and wait until the body has cleaned up.
        """
        loop = self.scope.loop
        # a caller inside the body does not need the making; after `stop_making` nobody does
        if not self.callers.pop(caller, False):
            return
        if self.state == MAKING and not self.is_needed():
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                loop.call_soon_threadsafe(self.cancel_making)
        while self.state == MAKING and not self.is_needed() and loop.is_running():
            with contextlib.suppress(asyncio.CancelledError):  # anyio repeats the cancel
                await wait_async(self, MAKING)

    def cancel_making(self) -> None:
        """On the loop of the entry: cancel the body, once, unless a new caller has come."""
        if self.state == MAKING and self.is_needed():
            self.set_state(MAKING)  # wakes `stop_waiting`, which need not wait any more
        elif self.state == MAKING and self.task is not None and not self.making_cancelled:
            self.making_cancelled = True
            self.task.cancel()

    def stop_making(self) -> None:
        """Cancel the making, even if callers wait for it."""
        self.callers.clear()  # so that they do not get the error, but try again
        self.cancel_making()

    # The tasks of the body

    def _adopt_tasks(self) -> None:
        """Hide the tasks that the body has started, so that loop shutdown does not cancel them."""
        for task in asyncio.all_tasks(self.scope.loop):
            is_own = context_of(task).get(enclosing, ())[-1:] == (self.ref,)
            if is_own and task is not self.task:
                hide_task(task)
                self.body_tasks.add(task)
                task.add_done_callback(self.body_tasks.discard)

    # Teardown

    def start_teardown(self, errors: list[BaseException]) -> None:
        """On the loop of the entry: start the teardown, if the object is alive.

        The teardown adds its errors to the list.
        """
        request = self.teardown_request
        if (request is not None and request.cancelled()) or not self.claim_teardown(object()):
            return
        if request is None:
            self.start_task(self.tear_down(errors))
        else:
            request.set_result(errors)

    async def _hold_generator(self) -> None:
        """Hold the generator at its `yield` until the teardown, and then tear the object down."""
        errors: list[BaseException] = []
        loop = self.scope.loop
        request = self.teardown_request = loop.create_future()
        try:
            errors = await request
        except asyncio.CancelledError as error:  # by a timeout or a group of the generator
            self.cancellation = error
            self.claim_teardown(object())
        await self.tear_down(errors)
        if self.cancellation is not None:
            report(loop, self, "error in the teardown", errors)

    async def tear_down(self, errors: list[BaseException]) -> None:
        """Run all finalizers, cancel what still runs of the body's tasks, and release the entry."""
        since = time.perf_counter()
        await self.run_finalizers(errors)
        left = self.body_tasks - self.requested_by
        for task in list(self.body_tasks):  # from now on loop shutdown may cancel them
            task.remove_done_callback(self.body_tasks.discard)
            show_task(task)
        self.body_tasks.clear()
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        self.release(errors)
        log_duration("tore down", self, since)

    async def await_result(self, result: Any) -> None:
        await result

    async def _finish_generator(self, generator: Any) -> None:
        """Resume the generator after its `yield`; raise RuntimeError if it yields once more.

        If a timeout or a group of the generator has cancelled the keeper, throw the CancelledError
        into the generator.
        """
        cancelled = self.cancellation
        ends = (StopAsyncIteration, asyncio.CancelledError) if cancelled else StopAsyncIteration
        try:
            await (generator.athrow(cancelled) if cancelled else generator.__anext__())
        except ends:
            return
        try:
            await generator.aclose()
        finally:
            raise self.record.yield_error(*YIELDS_TWICE)

    # Reset and exit

    async def tear_down_and_wait(self, state: str, errors: list[BaseException]) -> None:
        """Start the teardown, if the object is alive, and wait for the entry to leave the state."""
        self.start_teardown(errors)
        await wait_async(self, state)

    def needs_areset(self) -> bool:
        return running_loop() is not None

    def tear_down_here(self, errors: list[BaseException]) -> None:
        """Tear down an object without finalizers, for which its loop is not needed."""
        if self.finalizers or self.state != ALIVE:
            return
        self.finalizers_closed = True
        # a finalizer may have been added in between
        if not self.finalizers and self.claim_teardown(object()):
            self.release(errors)

    def wait_a_second(
        self, state: str, errors: list[BaseException], thread: threading.Thread | None = None
    ) -> None:
        """Request the teardown from the loop, and wait a second; or run the loop, if it is idle.

        An idle loop is run if it belongs to `thread`, by default the current one, or if its own
        thread has ended; otherwise raise TimeoutError. If the loop is closed, abandon the object.
        """
        scope, loop = self.scope, self.scope.loop
        may_run = scope.may_be_run_by(thread or threading.current_thread())
        try:
            if scope.is_closed():
                self.abandon("is closed", errors)
            elif may_run and not loop.is_running():
                run_loop(loop, self.tear_down_and_wait(state, errors))
            else:
                request = loop.call_soon_threadsafe(self.start_teardown, errors)
                wait(self, state, 1)
                if self.state == state and not may_run and not loop.is_running():
                    request.cancel()
                    raise TimeoutError(
                        f"the event loop of {self.name} is idle in the thread "
                        f"{scope.thread.name!r}, which alone may run it: reset it there"
                    )
        except DeadlockError:
            raise
        except RuntimeError:
            time.sleep(0.01)  # the loop is closing, or another thread has begun to run it

    def tear_down_at_exit(self, errors: list[BaseException]) -> None:
        """Tear down on the loop, or abandon all objects of a loop that does not answer."""
        self.tear_down_here(errors)
        # exit runs the idle loops of all threads but daemons, which may still run them
        thread = None if self.scope.thread.daemon else self.scope.thread
        seconds = 0
        while (state := self.state) != RELEASED and not self.scope.is_out_of_reach(seconds):
            with contextlib.suppress(TimeoutError):
                self.wait_a_second(state, errors, thread)
            seconds += 1
        if self.state != RELEASED:
            for entry in self.scope.entries():
                entry.abandon(f"does not answer in {self.scope.thread.name!r}", errors)

    def abandon(self, why: str, errors: list[BaseException]) -> None:
        """Release the entry without its teardown, which its event loop cannot run.

        Add an error that says `why`, unless there was nothing to tear down.
        """
        self.claim_teardown(object())
        if self.finalizers or self.state == TEARING_DOWN:
            errors.append(RuntimeError(f"{self.name} is not torn down: its event loop {why}"))
        self.release(errors)

    def is_forsaken(self) -> bool:
        """Return whether the making cannot continue, since no thread will run its loop."""
        scope = self.scope
        return (
            self.state == MAKING
            and scope.loop is not running_loop()
            and (scope.is_closed() or not (scope.loop.is_running() or is_alive(scope.thread)))
        )

    def add_finalizer(self, finalizer: Finalizer) -> None:
        if self.scope.is_closed():
            raise LookupError(f"the event loop of {self.name} is closed: call it again")
        super().add_finalizer(finalizer)

    def disown(self) -> None:
        self.scope = LoopScope(None)
        super().disown()


def _without_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return traceback


async def _first_of(generator: AsyncGenerator[Any, None]) -> Any:
    """Return what the generator yields first, or MISSING if it yields nothing."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)  # else loop shutdown would close the generator
    try:
        step = generator.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)
    try:
        return await step
    except StopAsyncIteration:
        return MISSING
