"""One object, made once and torn down once, among asyncio tasks: `_once` for coroutine functions and async generators.

States, order, finalizers and waits are those of `_once`. What differs is who does the work:

1. The body runs in a task of its own, the keeper, on the loop of the first caller. Callers come and go; the keeper is cancelled when the
   last of them is, and by nobody else's leaving.
2. An async generator is entered and exited by its keeper, which waits in between. It is hidden from `asyncio.all_tasks()` then, or the end
   of the loop would cancel it together with everything else; so any cancel that it gets comes from a scope inside the generator.
3. A teardown is asked for from anywhere, and done on the object's own loop: by the keeper, or by a new task where that has ended. A loop
   that rests is run by who asks, if it is nobody's `_Turn`.
4. Each loop has a `_Watch`, which hears of its end and tears down the objects that live on it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import sys
import threading
import time
import weakref
from asyncio.tasks import _unregister_task
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

from . import _finalizers
from ._finalizers import ALIVE, DONE, ENDING, GONE, MAKING, Life, Memoized, alive, in_order, leak, living, logger, of_thread, running
from ._once import AGAIN, NOTHING, Keyed, Once, Wait, check_key, headroom, raise_together, selected, wait

__tracebackhide__ = True

_inside: contextvars.ContextVar[tuple[object, ...]] = contextvars.ContextVar("memoize_once", default=())
_tasks: dict[Any, AsyncLife] = {}  # what each keeper makes or tears down


def _of_task() -> Life | None:
    try:
        return _tasks.get(asyncio.current_task())
    except RuntimeError:  # no loop runs here
        return None


_finalizers.of_task = _of_task
_finalizers.in_context = lambda: bool(_inside.get())


async def _changed(life: Life, state: str) -> None:
    """Returns when the life has left the state."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def done() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        with suppress(RuntimeError):  # who waited has gone, and the loop with it
            loop.call_soon_threadsafe(done)

    life.waiters.append(wake)
    try:
        if life.state == state:  # looked at after the waiter is in place, or the change could go unnoticed
            await future
    finally:
        life.waiters.remove(wake)


async def _step(awaitable: Awaitable[Any]) -> Any:  # pragma: no cover  runs under the name of a file of the user's
    __tracebackhide__ = True
    return await awaitable


class _Caller:
    """One of those who wait for a making."""

    __slots__ = ("loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop


class AsyncLife(Life):
    __slots__ = (
        "callers", "cancelling", "end", "error", "errors", "generator", "heir", "loop", "report", "task",
        "thread", "thrown", "told", "watch",
    )  # fmt: skip

    def __init__(self, once: AsyncOnce, key: object) -> None:
        super().__init__(once, key)
        self.loop: Any = asyncio.get_running_loop()  # None in a child that inherits the object
        self.depth = len(of_thread())
        self.thread = threading.current_thread()
        self.callers: list[_Caller] = []  # who wait for the making, the longest first
        self.cancelling = False  # the last of them has gone
        self.told = False  # the body has been
        self.heir: _Caller | None = None  # who gets
        self.error: BaseException | None = None  # of the body
        self.errors: list[BaseException] = []  # of the teardown
        self.report = False  # these go to the loop's exception handler, since nobody waits for them
        self.generator: AsyncGenerator[Any, None] | None = None
        self.thrown: BaseException | None = None  # into the generator at its yield
        self.end = self.loop.create_future()  # what the keeper waits for
        self.task: Any = None

    def here(self) -> bool:
        return self.loop is not None and self.loop is asyncio._get_running_loop()

    def runs(self) -> bool:
        return self.loop is not None and self.loop.is_running()

    def due(self) -> bool:
        return super().due() or self.stranded() or (bool(self.finalizers) and not self.runs())

    def stranded(self) -> bool:
        """Whether its teardown has been asked for, and its loop has come to rest before it is done."""
        return bool(self.claims) and self.state != GONE and not self.runs()

    # Making

    def start(self, once: AsyncOnce, call: Callable[[], Any]) -> None:
        self.watch = _watch(self.loop)
        try:
            self.watch.lives[self] = None
            self.task = self._task(once, self._keep(once, [call]))
        except BaseException:  # pragma: no cover  Ctrl-C in between
            self.watch.lives.pop(self, None)
            raise

    def _task(self, once: AsyncOnce, coroutine: Coroutine[Any, Any, None]) -> Any:
        context = contextvars.copy_context()
        context.run(_inside.set, (*_inside.get(), self.end))
        # not loop.create_task, which an eager task factory makes run the body at once
        task = asyncio.Task(coroutine, name=f"memoize_once: {self.name}", context=context)
        _tasks[task] = self
        task.add_done_callback(lambda task: self._done(once, task))
        return task

    def _done(self, once: AsyncOnce, task: Any) -> None:
        _tasks.pop(task, None)
        if self.state == MAKING:  # cancelled before its first step
            self._conclude(once, asyncio.CancelledError())
        elif self.state != GONE and (self.generator is not None or self.end.done()):  # Ctrl-C has ended its keeper
            self.task = self._task(once, self._stay(once))
        else:  # what a coroutine function has made needs no longer who asked for it, and their context
            self.task = None
            self.callers.clear()

    async def _keep(self, once: Any, call: list[Callable[[], Any]]) -> None:
        since = time.perf_counter()
        if self.state == GONE:  # pragma: no cover  Ctrl-C has come when it was to begin
            return
        try:
            value = await once.framed(_step)(self._open(call.pop()()))
            rest = () if self.generator is None else (self._rest, (once,))
            once.keep(self, value, *rest)
        except BaseException as error:
            if self._left(error):  # pragma: no cover  at the end of the interpreter
                self._conclude(once, asyncio.CancelledError())
                raise
            if self.state != MAKING:  # pragma: no cover  Ctrl-C right after that
                self.wake()
                raise
            if isinstance(error, StopAsyncIteration) and self.generator is not None:
                error = once.yields(*NOTHING)
            errors: list[BaseException] = []
            await self._finalize(once, errors)
            once.note(error, errors)
            self._conclude(once, error)
            return
        logger.debug("made %s in %.6f seconds", once.name, time.perf_counter() - since)
        if self.generator is None:
            self.watch.lives.pop(self, None)
            return
        await self._stay(once)

    async def _stay(self, once: AsyncOnce) -> None:
        """Waits for the end of the object, with a generator at its `yield`."""
        self._hide()
        try:
            await self.end
        except asyncio.CancelledError as error:
            self.thrown = error
            self.report = self.claimed(object())
        await self.tear_down(once)

    def _left(self, error: BaseException) -> bool:
        """Whether the keeper is closed, since its loop is no more; a body may raise the same."""
        return isinstance(error, GeneratorExit) and self not in running()

    def _open(self, result: Any) -> Awaitable[Any]:
        if not isinstance(result, AsyncGenerator):
            return result  # type: ignore[no-any-return]
        self.generator = result
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)  # or the loop would close the generator at its end, and not resume it
        try:
            return result.__anext__()
        finally:
            sys.set_asyncgen_hooks(*hooks)

    def _conclude(self, once: AsyncOnce, error: BaseException) -> None:
        """The making has failed: one caller gets the error, the others try again."""
        callers = list(self.callers)
        if isinstance(error, asyncio.CancelledError) and (self.cancelling or self.task.cancelling()):
            callers = [] if self.cancelling else [caller for caller in callers if caller.loop is self.loop]
        elif not callers:
            self.unheard(error)
        self.heir, self.error = (callers[0], error) if callers else (None, None)
        self.watch.lives.pop(self, None)
        once.forget(self)

    def unheard(self, error: BaseException) -> None:
        self.loop.call_exception_handler({"message": f"making {self.name} failed when its callers had gone", "exception": error})

    async def leave(self, caller: _Caller) -> None:
        """The caller is cancelled. If it was the last, the making is too, and it goes on when the body has cleaned up."""
        with suppress(ValueError):  # it is made just now, on another loop
            self.callers.remove(caller)
        if self.callers:
            return
        self.cancelling = True
        with suppress(RuntimeError):  # its loop closes right now
            self.loop.call_soon_threadsafe(self._cancel)
        while self.state == MAKING:
            with suppress(asyncio.CancelledError):  # the body has been told once
                await _changed(self, MAKING)

    def _cancel(self) -> None:
        """Tells the body once, and not while it is told by others: the end of the loop, for good, or a scope of its own, for a while."""
        if self.state == MAKING and not self.told:
            self.told = not self.task.cancelling()
            if self.told:
                self.task.cancel()
            else:
                self.loop.call_later(0.05, self._cancel)

    # Teardown

    def begin(self, once: AsyncOnce) -> None:
        """To be called on the loop when the life is claimed, or is not to be made any more."""
        if self.state == MAKING:  # it may be made all the same
            self._cancel()
            return
        with suppress(asyncio.InvalidStateError):  # it has been called before, perhaps by another thread just now
            self.end.set_result(None)
        token = object()
        try:
            if self.generator is not None or self.claims.setdefault("begun", token) is not token:
                return
            self.loop, self.thread = asyncio.get_running_loop(), threading.current_thread()  # fresh where that of the making has closed
            self.watch = _watch(self.loop)
            self.watch.lives[self] = None  # it ends when this is done
            self.task = self._task(once, self._stay(once))
            self._hide()
        except BaseException:  # pragma: no cover  Ctrl-C in between
            if self.claims.get("begun") is token:
                del self.claims["begun"]
            raise

    def _hide(self) -> None:
        """From those who cancel all tasks, as the end of the loop does."""
        _unregister_task(self.task)
        self.task._log_destroy_pending = False

    async def _finalize(self, once: AsyncOnce, errors: list[BaseException]) -> None:
        again: Any = self.generator
        while True:
            result = self.step(errors)
            if result is DONE:
                if again is None or again.ag_running or again.ag_frame is None:
                    return
                result, again = self._rest(once), None  # pragma: no cover  Ctrl-C has come before it was resumed
            if inspect.isawaitable(result):
                try:
                    await result
                except BaseException as error:
                    if self._left(error):  # pragma: no cover  at the end of the interpreter
                        raise
                    self.failed(error, errors)

    async def tear_down(self, once: AsyncOnce) -> None:
        since = time.perf_counter()
        self.state = ENDING
        once.unpublish(self)
        await self._finalize(once, self.errors)
        self.watch.lives.pop(self, None)
        once.forget(self)
        logger.debug("tore down %s in %.6f seconds", once.name, time.perf_counter() - since)
        if self.report:
            self.tell()

    def tell(self) -> None:
        """Of the errors of the teardown, for which nobody waits."""
        self.report = True
        if self.state == GONE:
            for error in self.errors:
                self.loop.call_exception_handler({"message": f"error in the teardown of {self.name}", "exception": error})
            self.errors.clear()

    async def _rest(self, once: Any) -> None:
        """The rest of a generator is its teardown."""
        generator: Any = self.generator
        try:
            await once.framed(_step)(generator.__anext__() if self.thrown is None else generator.athrow(self.thrown))
        except StopAsyncIteration:
            return
        except asyncio.CancelledError:
            if self.thrown is None:
                raise
            return
        try:
            await generator.aclose()
        finally:
            raise once.yields(*AGAIN)

    async def finish(self, once: AsyncOnce) -> None:
        while (state := self.state) != GONE:
            self.begin(once)
            await _changed(self, state)

    def drive(self, once: AsyncOnce, asker: threading.Thread) -> None:
        """Has the life torn down from outside of its loop, and returns when it is gone."""
        while (state := self.state) != GONE:
            if self.loop is None or self.loop.is_closed():
                if self.generator is None:
                    _run(asyncio.Runner(loop_factory=asyncio.new_event_loop), self.finish(once))
                elif self.state != GONE:  # pragma: no branch  looked at after the loop, which is closed last
                    self.lost(once, "was closed before its teardown was done")
            else:
                with suppress(RuntimeError):  # it closes right now
                    self.loop.call_soon_threadsafe(self.begin, once)
                self.go_on(state, asker, running(), lambda: self.finish(once))
                runner = self.watch.turns.get(None, self).thread
                if self.state == state and _finalizers.exiting and runner.daemon and not _patience():
                    self.lost(once, "runs in a daemon thread and does not answer")
                    return

    def lost(self, once: Any, why: str) -> None:
        """Forgets what can be torn down no more, which is an error of its teardown."""
        self.errors.append(RuntimeError(f"the event loop of {self.name} {why}"))
        self.watch.lives.pop(self, None)
        once.forget(self)
        if self.report:
            self.tell()

    def go_on(self, state: str, asker: threading.Thread, own: list[Life], work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Has the loop go on from the state. Another thread's is left to it for a second, since it may be between two phases of
        `asyncio.run`; where nobody runs the loop then, it is run here, for this work."""
        if (self.thread is asker or not self.thread.is_alive()) and self._borrow(work):
            return
        wait(self, state, own, patience=1)
        if self.state == state:
            self._borrow(work)

    def _borrow(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        turn = _Turn(_watch(self.loop), borrowed=True)
        with turn, turn:
            # which uvloop would refuse too late
            return turn.granted() and not self.runs() and _run(self.loop, work(), turn)

    async def adrive(self, once: AsyncOnce) -> None:
        """The same from a task."""
        if self.here():
            await self.finish(once)
            return
        driven = asyncio.Event()
        loop, asker = asyncio.get_running_loop(), threading.current_thread()

        def done() -> None:
            with suppress(RuntimeError):  # who waited has gone, and the loop with it
                loop.call_soon_threadsafe(driven.set)

        errors = _elsewhere(lambda: self.drive(once, asker), done)
        await driven.wait()
        if errors:
            raise errors.pop()


_deadline: list[float] = []


def _patience() -> bool:
    """Whether there is time left, at exit, for loops in daemon threads: a few seconds for all of them."""
    if not _deadline:
        _deadline.append(time.monotonic() + 5)
    return time.monotonic() < _deadline[0]


def _elsewhere(work: Callable[[], object], done: Callable[[], object]) -> list[BaseException]:
    """Has a thread do it, where no loop runs, and then call `done`; the list is for its error. Not an executor, in whose queue a cancel
    could catch what has been claimed."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            done()

    threading.Thread(target=run, name="memoize_once").start()
    return errors


async def _ended(coroutine: Coroutine[Any, Any, None]) -> None:
    while inspect.getcoroutinestate(coroutine) != inspect.CORO_CLOSED:
        await asyncio.sleep(0)


def _run(runner: Any, coroutine: Coroutine[Any, Any, None], turn: _Turn | None = None) -> bool:
    """Runs it on a loop that rests and whose turn is ours, or on a new one, also where another loop runs in this thread. Says whether it
    has: the loop may be closed, or run by a thread that had no turn to take when it began."""
    ran: list[bool] = []

    def run() -> None:
        if turn is None:
            with runner:
                runner.run(coroutine)
            return
        turn.thread = threading.current_thread()
        todo = coroutine
        while not ran:
            try:
                runner.run_until_complete(todo)
                ran.append(True)
            except RuntimeError:
                if inspect.getcoroutinestate(todo) == inspect.CORO_CREATED:
                    todo.close()
                    return
                todo = _ended(coroutine)  # a `loop.stop()` was left over

    try:
        if asyncio._get_running_loop() is None:
            run()
        else:
            done = threading.Event()
            errors = _elsewhere(run, done.set)
            done.wait()
            if errors:
                raise errors.pop()
    finally:
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:  # there is no thread, or no loop to be had
            coroutine.close()
    return bool(ran)


class AsyncOnce(Once):
    __slots__ = ()

    def making(self, arguments: dict[str, Any], key: object = None) -> Any:
        return _Making(self, dict(arguments), key)

    def end(self, life: Any, errors: list[BaseException], and_wait: bool) -> None:
        headroom(50)  # asyncio's frames, too
        claimed = life.claimed(object())
        if claimed or and_wait or life.stranded():
            try:
                life.drive(self, threading.current_thread())
            except BaseException as error:
                errors.append(error)
                if claimed:
                    life.tell()
            if claimed:
                errors += life.errors
                life.errors.clear()

    def made(self, life: Any, own: list[Life]) -> None:
        life.go_on(MAKING, threading.current_thread(), own, lambda: _changed(life, MAKING))


class AsyncKeyed(Keyed, AsyncOnce):
    __slots__ = ()


class _Making:
    """What the function that users call does when it finds no object."""

    __slots__ = ("arguments", "key", "once")

    def __init__(self, once: AsyncOnce, arguments: dict[str, Any], key: object) -> None:
        self.once = once
        self.arguments = arguments
        self.key = key

    async def make(self) -> Any:
        once = self.once
        headroom()
        check_key(once, self.key)
        while True:
            own = running()
            life = AsyncLife(once, self.key)
            try:
                alive.add(life.ref)  # before it is anybody's, so that no fork can overlook it
                found: Any = once.lives.setdefault(self.key, life)
                if found is life:
                    life.start(once, once.body(self.arguments))
                else:
                    alive.discard(life.ref)
            except BaseException:
                once.forget(life)
                raise
            state = found.state
            if state == ALIVE or (state == ENDING and found.end in _inside.get()):
                return found.value
            if state == GONE:
                continue  # pragma: no cover  only where another leaves between two instructions
            caller = _Caller(life.loop)
            if state == MAKING and not found.cancelling and found.end not in _inside.get():  # a task of the body does not count
                found.callers.append(caller)
            try:
                with Wait(found, own):
                    await (found.adrive(once) if found.stranded() else _changed(found, state))
            except asyncio.CancelledError:
                if found.heir is caller and not isinstance(found.error, asyncio.CancelledError):
                    found.unheard(found.error)  # it is cancelled in the very turn in which the body has failed
                if caller in found.callers:
                    await found.leave(caller)
                raise
            except BaseException:
                if caller in found.callers:
                    found.callers.remove(caller)
                raise
            if found.heir is caller:
                try:
                    raise found.error
                finally:
                    found.error = None  # its traceback holds this frame, which holds the life


# Loops ----------------------------------------------------------------------------------------------------------------------------


class _Turn:
    """Entered, the right to run or to close a loop, if it is `granted`: who borrows the loop of another thread gets it where nobody else
    has it. A thread that runs or closes a loop of its own waits for who has borrowed it, and for nobody else: what two threads of the
    program do with one loop is refused by the loop.

    It is entered twice where the loop goes on, so that Ctrl-C on the way into one `__exit__` still meets the other.
    """

    __slots__ = ("borrowed", "thread", "turns")

    def __init__(self, watch: _Watch, borrowed: bool = False) -> None:
        self.turns = watch.turns
        self.borrowed = borrowed
        self.thread = threading.current_thread()

    def granted(self) -> bool:
        return self.turns.setdefault(None, self) is self

    def __enter__(self) -> None:
        try:
            while not self.granted() and not self.borrowed:
                other = self.turns.get(None)
                if other is not None and (not other.borrowed or other.thread is self.thread):
                    return
                time.sleep(0.001)
        except BaseException:  # pragma: no cover  Ctrl-C in between
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self.turns.get(None) is self:
            self.turns.clear()


class _Watch:
    """What lives on a loop, and ends with it."""

    def __init__(self, loop: Any) -> None:
        self.lives: dict[AsyncLife, None] = {}
        self.turns: dict[None, _Turn] = {}  # who runs or closes the loop
        self.sentinels: list[AsyncGenerator[None, None]] = []
        if not getattr(loop, "_asyncgens_shutdown_called", False):
            # the loop closes it when its own tasks have finished: in `shutdown_asyncgens()`
            self.sentinels.append(self._until_the_end())
            with suppress(StopIteration):
                self.sentinels[0].__anext__().send(None)
        close = loop.close

        def finish(turn: _Turn) -> None:
            if loop.is_running():  # which `close` refuses
                return
            ran = _run(loop, self._close(), turn)
            while self.lives and ran:
                ran = _run(loop, self.end(), turn)

        def close_later() -> None:
            # a loop that is closed without that, or has begun with a teardown in its last turn
            turn = _Turn(self)
            with turn:
                try:
                    try:
                        finish(turn)
                    except BaseException:  # Ctrl-C in between: the rest is still due
                        finish(turn)
                        raise
                finally:
                    close()
                    for life in list(self.lives):  # Ctrl-C again
                        life.lost(life.once(), "was closed before its teardown was done")
                        life.tell()

        loop.close = close_later
        for name in ("run_until_complete", "run_forever"):
            setattr(loop, name, self._in_turn(loop, name))
        loop._memoize_once = self

    def _in_turn(self, loop: Any, name: str) -> Callable[..., Any]:
        def in_turn(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            turn = _Turn(self)
            with turn, turn:
                return getattr(type(loop), name)(loop, *args, **kwargs)  # as it is now, since others patch the class

        return in_turn

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.end()

    async def _close(self) -> None:
        for sentinel in self.sentinels:
            with suppress(RuntimeError):  # Ctrl-C has left it in the middle
                await sentinel.aclose()

    async def end(self) -> None:
        while lives := in_order(self.lives):
            for life in lives:
                assert isinstance(life, AsyncLife)
                while life in self.lives:
                    state = life.state
                    if state != MAKING:
                        life.report |= life.claimed(object())
                    life.begin(cast(AsyncOnce, life.once()))
                    await _changed(life, state)


def _watch(loop: Any) -> _Watch:
    watch = getattr(loop, "_memoize_once", None)
    if not isinstance(watch, _Watch):
        watch = _Watch(loop)
        _watches.add(watch)
    return watch


_watches: weakref.WeakSet[_Watch] = weakref.WeakSet()


# Reset ----------------------------------------------------------------------------------------------------------------------------


async def areset(*functions: Any) -> None:
    own = running()
    lives = selected(functions, own)
    for life in lives:
        while life.state == MAKING:
            with Wait(life, own):
                if isinstance(life, AsyncLife) and not life.runs():
                    await asyncio.to_thread(cast(Memoized, life.once()).made, life, [])
                else:
                    await _changed(life, MAKING)
    # a task of its own: a caller that is cancelled does not stop what has begun
    task = asyncio.ensure_future(_areset(lives, own, and_wait=bool(functions) or not own))
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.add_done_callback(_report)
        raise
    task.result()


def _report(task: asyncio.Task[None]) -> None:
    """Of an areset whose caller has gone."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "errors of an areset that was cancelled", "exception": error})


async def _areset(lives: list[Life], own: list[Life], and_wait: bool) -> None:
    errors: list[BaseException] = []
    life: Any
    for life in in_order(lives):
        once = life.once()
        if once is None or life.state == GONE:
            continue
        claimed = False
        try:
            with Wait(life, own):  # which may be refused, and then the life must not be claimed
                if not isinstance(once, AsyncOnce):
                    once.end(life, errors, and_wait=False)
                elif (claimed := life.claimed(object())) or and_wait:
                    await life.adrive(once)
                if claimed:
                    errors += life.errors
                    life.errors.clear()
                while and_wait and (state := life.state) != GONE:
                    await _changed(life, state)
        except asyncio.CancelledError:
            if claimed:
                life.tell()
            raise
        except BaseException as error:
            errors.append(error)
    raise_together(errors)


# Forks ----------------------------------------------------------------------------------------------------------------------------


def _after_fork_in_child() -> None:
    """The parent's tasks are never finished here, like its generators, nor are its loops freed, which would close and hence run them."""
    leak(list(_watches))
    _inside.set(())
    for watch in _watches:
        watch.lives.clear()
        watch.turns.clear()
    for life in living():  # what the child inherits; what it registers on it runs on a loop of its own
        if isinstance(life, AsyncLife):
            leak(life.generator)
            life.loop = life.generator = None


if hasattr(os, "register_at_fork"):  # pragma: no branch  not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
