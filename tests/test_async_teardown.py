"""Promises 18 and 19, and 6 to 14 for tasks: torn down once, on their own loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import os
import sys
import textwrap
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from tasks import Place, attempt, loop_in_a_thread, resting_loop, script, waiting
from threads import LIMIT, Call, Point

from memoize_once import DeadlockError, _aonce, areset, finalizers, memoize, reset
from memoize_once._finalizers import find


@pytest.fixture
def ran() -> list[str]:
    return []


def logged(ran: list[str], name: str, *needs: Callable[[], Awaitable[Any]]) -> Callable[[], Coroutine[Any, Any, str]]:
    """An async generator function that logs its teardown, which awaits."""

    @memoize
    async def thing() -> AsyncGenerator[str, None]:
        for need in needs:
            await need()
        yield name
        await asyncio.sleep(0)
        ran.append(name)

    return thing


class TestGenerators:
    def test_entered_and_exited_in_one_task(self, ran: list[str]) -> None:
        """Promise 18: task groups, timeouts and cancel scopes around the `yield` work, since one task enters and exits them."""
        tasks: list[object] = []

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            tasks.append(asyncio.current_task())
            async with asyncio.TaskGroup() as group, anyio.create_task_group() as other, asyncio.timeout(1000):
                with anyio.CancelScope():
                    group.create_task(asyncio.sleep(0))
                    other.start_soon(anyio.sleep, 0)
                    yield 1
            tasks.append(asyncio.current_task())

        async def use() -> None:
            assert await thing() == 1
            await asyncio.create_task(areset(thing))

        asyncio.run(use())
        asyncio.run(thing())
        assert len(tasks) == 4
        assert tasks[0] is tasks[1]
        assert tasks[2] is tasks[3]

    @pytest.mark.parametrize("scope", ["asyncio task group", "anyio task group", "timeout", "cancel scope", "its task"])
    def test_a_scope_that_is_cancelled(self, scope: str) -> None:
        """Promise 18: where a scope around the `yield` is cancelled the generator sees it there, its object is forgotten, the next caller
        makes anew, and errors go to the loop's exception handler."""
        reported: list[BaseException] = []
        seen: list[BaseException] = []
        expire: list[Callable[[], object]] = []
        end = asyncio.Event()

        async def fail() -> None:
            await end.wait()
            raise ValueError("of a child task")

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            if seen:
                yield 2
                return
            try:
                if scope == "asyncio task group":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(fail())
                        yield 1
                elif scope == "anyio task group":
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(fail)
                        yield 1
                elif scope == "timeout":
                    async with asyncio.timeout(None) as timeout:
                        expire.append(lambda: timeout.reschedule(0))
                        yield 1
                elif scope == "its task":
                    task = asyncio.current_task()
                    assert task is not None
                    expire.append(task.cancel)
                    yield 1
                else:
                    with anyio.CancelScope() as cancelled:
                        expire.append(cancelled.cancel)
                        yield 1
                    seen.append(asyncio.CancelledError())
            except BaseException as error:
                seen.append(error)
                raise

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
            assert await thing() == 1
            end.set()
            for call in expire:
                call()
            async with asyncio.timeout(30):
                while thing in finalizers:
                    await asyncio.sleep(0)
            assert await thing() == 2

        asyncio.run(main())
        kinds = {"asyncio task group": ExceptionGroup, "anyio task group": ExceptionGroup, "timeout": TimeoutError}
        assert [type(error) for error in reported] == ([kinds[scope]] if scope in kinds else [])
        assert len(seen) == 1

    def test_one_that_never_yields(self) -> None:
        """Promise 6: a generator that never yields raises RuntimeError that names function, file and line."""

        @memoize
        async def barren() -> AsyncGenerator[int, None]:
            if __name__ == "never":
                yield 1

        line = barren.__code__.co_firstlineno
        with pytest.raises(RuntimeError, match=rf"barren yields no object \(.*test_async_teardown\.py:{line}\).*yields it once"):
            asyncio.run(barren())

    def test_one_that_yields_twice(self, ran: list[str]) -> None:
        """Promise 6: one that yields again raises RuntimeError from its teardown, which names the same, and is closed."""

        @memoize
        async def fertile() -> AsyncGenerator[int, None]:
            try:
                yield 1
                yield 2
                ran.append("resumed")
            finally:
                await asyncio.sleep(0)
                ran.append("closed")

        async def main() -> None:
            await fertile()
            await areset(fertile)

        line = fertile.__code__.co_firstlineno
        with pytest.raises(ExceptionGroup) as raised:
            asyncio.run(main())
        (error,) = raised.value.exceptions
        assert f"fertile yields more than once ({__file__}:{line})" in str(error)
        assert ran == ["closed"]


class TestEndOfTheLoop:
    @pytest.mark.parametrize("how", ["asyncio.run", "asyncio.Runner", "loop.close"])
    def test_objects_live_as_long_as_their_loop(self, how: str, ran: list[str]) -> None:
        """Promise 18: when the loop ends its objects are torn down there, resumed after their `yield`, in the reverse of the order in
        which they were finished; the next loop makes new ones. What a plain coroutine function returned is kept."""
        made = itertools.count()
        base = logged(ran, "base")
        top = logged(ran, "top", base)

        @memoize
        async def plain() -> int:
            return next(made)

        async def main() -> int:
            await top()
            return await plain()

        def run() -> int:
            if how == "asyncio.run":
                return asyncio.run(main())
            if how == "asyncio.Runner":
                with asyncio.Runner() as runner:
                    return runner.run(main())
            loop = asyncio.new_event_loop()
            try:
                return loop.run_until_complete(main())
            finally:
                loop.close()

        assert [run(), run()] == [0, 0]
        assert ran == ["top", "base"] * 2
        assert list(finalizers) == []

    def test_the_loops_own_tasks_finish_first(self, ran: list[str]) -> None:
        """Promise 18: the loop's own tasks are cancelled and finish first, and may use the object while they do."""
        thing = logged(ran, "thing")

        async def background() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                ran.append(f"task finished with the {await thing()}")

        async def main() -> asyncio.Task[None]:
            await thing()
            task = asyncio.create_task(background())
            await asyncio.sleep(0)
            return task

        asyncio.run(main())
        assert ran == ["task finished with the thing", "thing"]

    def test_errors_go_to_the_exception_handler(self, ran: list[str]) -> None:
        """Promise 18: errors of such a teardown go to the loop's exception handler, and stop no other."""
        reported: list[BaseException] = []
        first = logged(ran, "first")

        @memoize
        async def bad() -> AsyncGenerator[int, None]:
            yield 1
            raise ValueError("of the teardown")

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
            await first()
            await bad()

        asyncio.run(main())
        assert ran == ["first"]
        assert [str(error) for error in reported] == ["of the teardown"]
        assert "bad" in reported[0].__notes__[0]

    def test_what_a_teardown_makes_anew(self, ran: list[str]) -> None:
        """Promise 18: what a teardown makes anew on the loop that ends is made to the end, and torn down, too."""
        late = logged(ran, "late")

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            ran.append(f"thing needs the {await late()}")

        asyncio.run(thing())
        assert ran == ["thing needs the late", "late"]

    def test_a_body_that_outlasts_the_end(self, ran: list[str]) -> None:
        """Promise 18: a body that swallows the cancellation at the end of its loop makes an object, which is torn down, too."""
        busy = Place()

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            try:
                await busy.pass_()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            yield 1
            ran.append("down")

        async def main() -> None:
            main.task = asyncio.ensure_future(thing())  # type: ignore[attr-defined]
            await busy.reached()

        for shut_down in (True, False):
            busy.__init__()  # type: ignore[misc]
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            if shut_down:
                loop.run_until_complete(loop.shutdown_asyncgens())
            main.task.cancel()  # type: ignore[attr-defined]
            loop.run_until_complete(asyncio.wait([main.task]))  # type: ignore[attr-defined]
            loop.close()
            assert ran.pop() == "down"
            assert ran == []


class TestReset:
    def test_areset(self, ran: list[str]) -> None:
        """Promise 19: `await areset()` tears down objects of every kind, in the reverse of the order in which they were finished."""
        first = logged(ran, "first")

        async def end(text: str) -> None:
            await asyncio.sleep(0)
            ran.append(text)

        @memoize(finalizer=end)
        async def second() -> str:
            await first()
            finalizers.register(second, end, "awaited callback")
            return "second"

        @memoize(finalizer=ran.append)
        def plain() -> str:
            return "plain"

        async def main() -> None:
            for everything in (False, True):
                await second()
                plain()
                await (areset() if everything else areset(first, plain, second))
                assert ran == ["plain", "second", "awaited callback", "first"]
                ran.clear()
            await areset(first)

        asyncio.run(main())

    def test_reset_on_the_loop_itself(self, ran: list[str]) -> None:
        """Promise 19: `reset` on the loop of the object raises RuntimeError that says `await areset()`, and tears nothing down."""
        thing = logged(ran, "thing")

        @memoize(finalizer=ran.append)
        def plain() -> str:
            return "plain"

        async def main() -> None:
            await thing()
            plain()
            for functions in ((), (plain, thing)):
                with pytest.raises(RuntimeError, match=r"thing lives on the event loop that runs here.*await areset\(\)"):
                    reset(*functions)
            assert ran == []
            assert plain in finalizers

        asyncio.run(main())
        assert ran == ["thing"]

    @pytest.mark.parametrize("asker", ["plain code", "another loop"])
    @pytest.mark.parametrize("where", ["running elsewhere", "resting here", "closed"])
    @pytest.mark.parametrize("kind", ["coroutine function", "async generator"])
    def test_from_outside_of_the_loop(self, asker: str, where: str, kind: str, ran: list[str]) -> None:
        """Promise 19: objects are torn down on their own loop, which may run in another thread or rest in this one; those of a plain
        coroutine function whose loop has closed, on a fresh one. Their finalizers get the object that is being torn down."""
        loops: list[object] = []

        async def end(value: object) -> None:
            await asyncio.sleep(0)
            loops.append(asyncio.get_running_loop())
            assert await thing() is value
            ran.append("down")

        async def generating() -> AsyncGenerator[object, None]:
            loops.append(asyncio.get_running_loop())
            value = object()
            yield value
            await end(value)

        async def plain() -> object:
            loops.append(asyncio.get_running_loop())
            return object()

        thing: Callable[[], Any] = memoize(generating) if kind == "async generator" else memoize(finalizer=end)(plain)

        def ask() -> None:
            if asker == "plain code":
                reset(thing)
            else:
                asyncio.run(areset(thing))

        if where == "closed":
            asyncio.run(thing())
            ask()
        else:
            with loop_in_a_thread() if where == "running elsewhere" else resting_loop() as run:
                run(thing())
                ask()
                assert ran == ["down"]
        assert ran == ["down"]
        assert (loops[0] is loops[1]) == (where != "closed" or kind == "async generator")
        assert thing not in finalizers

    def test_the_loop_of_the_thread_stays(self, ran: list[str]) -> None:
        """Promise 19: a teardown on a fresh loop runs in this thread, and leaves the loop that is set for it."""

        @memoize(finalizer=lambda value: ran.append(threading.current_thread().name))
        async def thing() -> str:
            return "object"

        asyncio.run(thing())
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            reset(thing)
            assert ran == [threading.current_thread().name]
            assert asyncio.get_event_loop() is loop
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def test_patience_is_for_the_exit(self, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Promise 10: a reset waits as long as it takes for the loop of a daemon thread, which only an exit does not."""
        monkeypatch.setattr(_aonce, "_deadline", [0.0])

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            await asyncio.sleep(2.5)  # the loop is left alone for one second, twice where it has just begun
            ran.append("thing")

        with loop_in_a_thread() as run:  # a daemon's
            run(thing())
            reset(thing)
        assert ran == ["thing"]

    def test_reset_of_a_resting_loop_under_another(self, ran: list[str]) -> None:
        """Promise 19: an object of a loop that rests is torn down also by `reset` while another loop runs in its thread."""
        thing = logged(ran, "thing")

        async def main() -> None:
            reset(thing)
            assert ran == ["thing"]

        with resting_loop() as run:
            run(thing())
            asyncio.run(main())

    def test_areset_in_a_ring(self) -> None:
        """Promises 4 and 10: `areset` in a body of an object whose making waits for that body's raises DeadlockError."""

        @memoize
        async def first() -> None:
            await second()

        @memoize
        async def second() -> None:
            await areset(first)

        with pytest.raises(DeadlockError, match=r"second -> .*first -> .*second"):
            asyncio.run(asyncio.wait_for(first(), LIMIT))

    def test_two_at_once(self, ran: list[str]) -> None:
        """Promises 7 and 10: of two that reset what a coroutine function has made at once both wait for its teardown, which is one."""
        place = Place()

        async def finalize(value: int) -> None:
            await place.pass_()
            ran.append("finalized")

        @memoize(finalizer=finalize)
        async def thing() -> int:
            return 1

        async def main() -> None:
            await thing()
            first = asyncio.ensure_future(areset(thing))
            await place.reached()
            second = asyncio.ensure_future(areset(thing))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not second.done()
            place.go()
            await asyncio.gather(first, second)

        asyncio.run(main())
        assert ran == ["finalized"]

    def test_errors(self, ran: list[str]) -> None:
        """Promise 8: all errors come in one ExceptionGroup, each with a note that names its function, and stop nothing."""

        async def fail() -> None:
            await asyncio.sleep(0)
            raise OSError("of a callback")

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            finalizers.register(thing, ran.append, "first")
            yield 1
            raise ValueError("of the rest")

        async def main() -> None:
            await thing()
            finalizers.register(thing, fail)
            await areset()

        with pytest.raises(ExceptionGroup) as raised:
            asyncio.run(main())
        assert [str(error) for error in raised.value.exceptions] == ["of a callback", "of the rest"]
        assert all("thing" in error.__notes__[0] for error in raised.value.exceptions)
        assert ran == ["first"]

    @pytest.mark.parametrize("kind", ["coroutine function", "async generator"])
    @pytest.mark.parametrize("rest", ["the loop goes on", "the loop ends"])
    def test_a_cancelled_areset(self, kind: str, rest: str, ran: list[str]) -> None:
        """Promise 19: a cancelled `areset` stops no teardown that has begun, nor does the loop's end; errors are reported."""
        place, reported = Place(), list[str]()

        async def end(_: object = None) -> None:
            await place.pass_()
            ran.append("down")
            raise ValueError("of the teardown")

        @memoize
        async def generating() -> AsyncGenerator[int, None]:
            yield 1
            await end()

        @memoize(finalizer=end)
        async def plain() -> int:
            return 1

        thing = plain if kind == "coroutine function" else generating

        def report(loop: object, context: dict[str, Any]) -> None:
            error = context["exception"]
            reported.extend(str(each) for each in (error.exceptions if isinstance(error, ExceptionGroup) else [error]))

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(report)
            await thing()
            task = asyncio.ensure_future(areset(thing))
            await place.reached()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            asyncio.get_running_loop().call_soon(place.go)
            if rest == "the loop goes on":
                assert await thing() == 1
                assert ran == ["down"]
                finalizers.unregister(thing, end)
                place.go()

        asyncio.run(main())
        assert ran[0] == "down"
        assert reported[0] == "of the teardown"

    def test_a_cancelled_areset_of_what_another_tears_down(self) -> None:
        """Promise 19: the error goes to the one that has begun with the teardown, and to nobody else."""
        place, reported = Place(), list[object]()

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            await place.pass_()
            raise ValueError("of the teardown")

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
            await thing()
            first = asyncio.ensure_future(attempt(areset(thing)))
            await place.reached()
            others = asyncio.all_tasks()
            second = asyncio.ensure_future(areset(thing))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - others:  # as the end of a loop does
                task.cancel()
            await asyncio.wait([second])
            place.go()
            assert [str(error) for error in (await first).exceptions] == ["of the teardown"]

        asyncio.run(main())
        assert reported == []

    def test_inside_another(self, ran: list[str]) -> None:
        """Promise 10: `areset(f)` in the body of another function waits for a teardown of f that has begun elsewhere."""
        place = Place()

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            await place.pass_()
            ran.append("thing")

        @memoize
        async def another() -> list[str]:
            await areset(thing)
            return list(ran)

        async def main() -> None:
            await thing()
            ending = asyncio.ensure_future(areset(thing))
            await place.reached()
            making = asyncio.ensure_future(another())
            for _ in range(20):
                await asyncio.sleep(0)
            place.go()
            assert await making == ["thing"]
            await ending

        asyncio.run(main())

    @pytest.mark.parametrize("where", ["making", "teardown"])
    def test_inside(self, where: str, ran: list[str]) -> None:
        """Promise 10: inside f's making or teardown `areset(f)` raises DeadlockError, tears nothing down; `areset()` leaves f out."""
        other = logged(ran, "other")

        async def inside() -> None:
            await other()
            with pytest.raises(DeadlockError, match="thing"):
                await areset(other, thing)
            assert ran == []
            await areset()
            assert ran == ["other"]

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            if where == "making":
                await inside()
            yield 2
            if where == "teardown":
                await inside()

        async def main() -> None:
            assert await thing() == 2
            await areset(thing)
            assert thing not in finalizers

        asyncio.run(main())
        assert ran == ["other"]

    def test_under_another_loop_it_makes_one_loop(self, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Promise 19: what has outlived its loop is torn down on a new one, in a thread, where another loop runs in this."""

        def slow() -> asyncio.AbstractEventLoop:
            time.sleep(0.01)
            ran.append("a loop")
            return asyncio.SelectorEventLoop()

        @memoize(finalizer=partial(asyncio.sleep, 0))
        async def thing() -> int:
            return 1

        async def main() -> None:
            reset(thing)

        asyncio.run(thing())
        with asyncio.Runner() as runner:
            runner.get_loop()
            monkeypatch.setattr(asyncio, "new_event_loop", slow)
            runner.run(main())
        assert ran == ["a loop"]

    @pytest.mark.parametrize("asker", ["the same loop", "another thread"])
    def test_it_waits_for_a_making(self, asker: str, ran: list[str]) -> None:
        """Promise 10: a reset waits for whoever makes the object, and takes it."""
        place = Place()

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            await place.pass_()
            yield 1
            ran.append("down")

        async def main() -> None:
            making = asyncio.ensure_future(thing())
            await place.reached()
            if asker == "the same loop":
                resetting = asyncio.ensure_future(areset(thing))
                await waiting(resetting)
                place.go()
                await resetting
            else:
                call = Call(reset, thing).until_it_waits()
                place.go()
                await asyncio.to_thread(call.result)
            assert await making == 1
            assert ran == ["down"]

        asyncio.run(main())

    def test_it_waits_for_another_threads_making(self, ran: list[str]) -> None:
        """Promise 10: an `areset` of a plain object waits, without blocking its loop, for the thread that makes it."""
        point = Point()

        @memoize
        def thing() -> Generator[int, None, None]:
            point.pass_()
            yield 1
            ran.append("down")

        async def main() -> None:
            call = Call(thing)
            await asyncio.to_thread(point.reached)
            resetting = asyncio.ensure_future(areset(thing))
            await waiting(resetting)
            point.go()
            await resetting
            assert ran == ["down"]
            assert call.result() == 1

        asyncio.run(main())

    def test_it_waits_for_another_threads_teardown(self, ran: list[str]) -> None:
        """Promise 10: an `areset` of a plain object waits, without blocking its loop, for the thread that tears it down."""
        point = Point()

        @memoize
        def thing() -> Generator[int, None, None]:
            yield 1
            point.pass_()
            ran.append("down")

        async def main() -> None:
            thing()
            call = Call(reset, thing)
            await asyncio.to_thread(point.reached)
            resetting = asyncio.ensure_future(areset(thing))
            await asyncio.sleep(0)
            await waiting(*asyncio.all_tasks() - {asyncio.current_task(), resetting})
            point.go()
            await resetting
            assert ran == ["down"]
            call.result()

        asyncio.run(main())

    def test_everything_while_a_caller_looks(self) -> None:
        """Promise 10: a `reset()` that comes while a task is about to find the object of another does not wait for that task's own making,
        which never begins."""
        here, resets = threading.current_thread(), list[Call]()

        class Key:
            def __hash__(self) -> int:
                return 1

            def __eq__(self, other: object) -> bool:
                if threading.current_thread() is here:
                    resets.append(Call(reset))
                    resets[-1].until_it_waits()
                return True

        @memoize(key=lambda key: key)
        async def thing(key: Key) -> AsyncGenerator[object, None]:
            go.set()
            await asyncio.sleep(0)
            yield object()

        async def use() -> None:
            making = asyncio.create_task(thing(Key()))
            await go.wait()
            await thing(Key())
            await making
            while any(call.is_alive() for call in resets):
                await asyncio.sleep(0)

        go = asyncio.Event()
        asyncio.run(asyncio.wait_for(use(), LIMIT))

    def test_callers_wait_and_make_anew(self, ran: list[str]) -> None:
        """Promise 9: while the object is torn down callers on any loop wait, then one makes a new one and all get that."""
        place, numbers = Place(), itertools.count()

        @memoize
        async def port() -> AsyncGenerator[int, None]:
            number = next(numbers)
            ran.append(f"bind {number}")
            yield number
            if number == 0:
                await place.pass_()
            ran.append(f"free {number}")

        async def main() -> None:
            await port()
            resetting = asyncio.ensure_future(areset(port))
            await place.reached()
            callers = [asyncio.ensure_future(port()) for _ in range(3)]
            await waiting(*callers)
            place.go()
            await resetting
            assert await asyncio.gather(*callers) == [1, 1, 1]
            assert ran == ["bind 0", "free 0", "bind 1"]

        asyncio.run(main())

    def test_each_teardown_runs_once(self) -> None:
        """Promise 7: however many tasks and threads reset at the same instant, each teardown runs exactly once."""
        for _ in range(20):
            count = itertools.count()

            @memoize
            async def thing(count: Iterator[int] = count) -> AsyncGenerator[int, None]:
                yield 1
                await asyncio.sleep(0)
                next(count)

            async def end(thing: Any = thing) -> None:
                await asyncio.gather(areset(thing), areset(), areset(thing))

            with loop_in_a_thread() as run:
                run(thing())
                for call in [Call(run, end()), Call(asyncio.run, end()), Call(reset, thing), Call(reset)]:
                    call.result()
                assert next(count) == 1


class TestUnluckyMoments:
    """What happens to resets and ends of loops that come between two steps of another thread."""

    def test_a_loop_that_stops_before_it_hears(self, ran: list[str]) -> None:
        """Promise 19: a loop that another thread's `reset` has called, and that stops before it gets to it, is run by that thread."""
        thing = logged(ran, "thing")
        loop = asyncio.new_event_loop()

        def stop() -> None:
            resets.append(Call(reset, thing).until_it_waits())
            loop.stop()

        resets: list[Call] = []
        loop.run_until_complete(thing())
        loop.call_soon(stop)
        loop.run_forever()
        resets[0].result()
        assert ran == ["thing"]
        loop.close()

    def test_a_loop_between_two_phases(self) -> None:
        """Promise 19: a `reset` in another thread lets a loop that rests for a moment go on, and does not run it itself."""
        threads: list[object] = []

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            threads.append(threading.current_thread())

        async def work() -> None:
            while not threads:
                await asyncio.sleep(0)

        with resting_loop() as run:
            run(thing())
            resetting = Call(reset, thing).until_it_waits()
            run(work())
            resetting.result()
        assert threads == [threading.current_thread()]

    @pytest.mark.parametrize("asker", ["plain code", "another loop"])
    def test_a_loop_that_rests_elsewhere(self, asker: str, ran: list[str]) -> None:
        """Promise 19: an object of a loop that rests is torn down by `reset` in another thread, while the loop's own does something else;
        one that is being made is made first."""
        thing, begun, point = logged(ran, "thing"), Place(), Point()

        @memoize
        async def slow() -> AsyncGenerator[str, None]:
            await begun.pass_()
            yield "made"
            ran.append("slow")

        async def begin() -> None:
            await thing()
            making.append(asyncio.ensure_future(slow()))
            await begun.reached()
            begun.go()

        def rest() -> None:
            with resting_loop() as run:
                run(begin())
                point.pass_()

        making: list[asyncio.Future[str]] = []
        owner = Call(rest)
        point.reached()
        if asker == "plain code":
            reset()
        else:
            asyncio.run(areset())
        assert ran == ["slow", "thing"]
        point.go()
        owner.result()
        assert making[0].result() == "made"

    def test_a_loop_that_goes_on_meanwhile(self) -> None:
        """Promise 19: a loop whose thread goes on with it when `reset` in another thread runs it, since it rested, waits for that."""
        made, ending = Point(), Point()

        @memoize
        async def thing() -> AsyncGenerator[object, None]:
            yield object()
            ending.pass_()

        def own() -> tuple[object, object]:
            with asyncio.Runner() as runner:
                first = runner.run(thing())
                made.pass_()
                second = runner.run(thing())
                ending.go()
                return first, second

        owner = Call(own)
        made.reached()
        resetting = Call(reset, thing)
        ending.reached()
        made.go()
        while owner.is_alive() and not owner.stands_in("__enter__"):
            pass
        ending.go()
        first, second = owner.result()
        assert first is not second
        resetting.result()

    def test_a_loop_that_another_thread_takes(self, ran: list[str]) -> None:
        """Promise 19: where another thread begins to run the loop in the moment in which `reset` would, `reset` waits for that."""

        class Taken(asyncio.SelectorEventLoop):
            def run_until_complete(self, future: Any) -> Any:
                if taken:
                    owners.append(Call(taken.pop()))
                    owners[0].join(1)  # it runs the loop from here on
                return super().run_until_complete(future)

        thing = logged(ran, "thing")
        loop = Taken()
        taken: list[Callable[[], None]] = []
        owners: list[Call] = []
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(thing())
            taken.append(partial(Taken.run_forever, loop))
            reset(thing)
            assert ran == ["thing"]
            loop.call_soon_threadsafe(loop.stop)
            owners[0].result()

    def test_a_loop_that_is_being_closed(self, ran: list[str]) -> None:
        """Promise 19: a `reset` in another thread does not run a loop that is being closed, but waits for the end of that."""

        class Closing(asyncio.SelectorEventLoop):
            def close(self) -> None:
                resets.append(Call(reset, thing).until_it_waits())
                resets.append(Call(reset, thing).until_it_waits())
                super().close()

        @memoize(finalizer=lambda value: ran.append(value))
        async def thing() -> str:
            return "thing"

        resets: list[Call] = []
        loop = Closing()
        Call(loop.run_until_complete, thing()).result()
        loop.close()
        for each in resets:
            each.result()
        assert ran == ["thing"]

    def test_two_that_share_a_loop(self, ran: list[str]) -> None:
        """Promise 2: a teardown for which another thread's `reset` runs a loop that rests does not block that of another object."""
        other, begun, gone = logged(ran, "other"), threading.Event(), threading.Event()

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            begun.set()
            while not gone.is_set():
                await asyncio.sleep(0)

        with resting_loop() as run:
            run(thing())
            run(other())
            first = Call(reset, thing)
            assert begun.wait(LIMIT)
            try:
                Call(reset, other).result()
            finally:
                gone.set()
            first.result()
        assert ran == ["other"]

    def test_a_loop_that_two_threads_want_to_run(self) -> None:
        """What two threads of the program do with one loop is refused at once, as without the library."""

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1

        loop = asyncio.new_event_loop()
        for _ in range(2):
            loop.run_until_complete(future=thing())
        owner = Call(loop.run_forever)
        while not loop.is_running():
            pass
        # not `run_forever`: where Python 3.13.0 refuses that, it takes the loop for one that does not run any more
        for call in (Call(loop.run_until_complete, loop.create_future()), Call(loop.close)):
            assert isinstance(call.error(), RuntimeError)
        loop.call_soon_threadsafe(loop.stop)
        owner.result()
        loop.close()

    def test_a_making_that_a_close_does_not_stop(self, ran: list[str]) -> None:
        """Promise 18: what a coroutine function makes all the same, when its loop closes, is kept: errors of its teardown are raised."""

        @memoize
        async def thing() -> int:
            finalizers.register(thing, ran.remove, "not there")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(LIMIT)
            return 1

        async def begin() -> None:
            tasks.append(asyncio.ensure_future(thing()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        tasks: list[asyncio.Future[int]] = []
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        loop.close()
        with pytest.raises(ExceptionGroup):
            reset(thing)

    def test_a_scope_is_cancelled_when_a_reset_has_come(self, ran: list[str]) -> None:
        """Promises 7 and 18: a scope that is cancelled while another thread's `reset` waits for the loop ends the object once."""
        expire: list[Callable[[], None]] = []

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            with anyio.CancelScope() as scope:
                expire.append(scope.cancel)
                yield 1
            ran.append(f"cancelled: {scope.cancelled_caught}")

        async def main() -> None:
            await thing()
            expire[0]()
            await asyncio.to_thread(Call(reset, thing).until_it_waits().result)

        asyncio.run(main())
        assert ran == ["cancelled: True"]

    def test_what_is_claimed_is_left_out(self, ran: list[str]) -> None:
        """Promise 10: `reset()` in a body does not wait for an object that another thread is about to tear down on a busy loop."""
        thing = logged(ran, "thing")

        @memoize
        def plain() -> str:
            reset()
            return "plain"

        async def main() -> None:
            await thing()
            resetting = Call(reset, thing).until_it_waits()
            assert Call(plain).result() == "plain"
            assert ran == []
            await asyncio.to_thread(resetting.result)

        asyncio.run(main())
        assert ran == ["thing"]

    def test_what_is_claimed_is_left_out_by_areset(self, ran: list[str]) -> None:
        """Promise 10: nor does `areset()`, and it takes the others."""
        other, claims, done = logged(ran, "other"), list[Call](), asyncio.Event()

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            await done.wait()
            ran.append("thing")

        @memoize
        async def body() -> str:
            claims.append(Call(reset, thing).until_it_waits())
            await areset()
            return "body"

        async def main() -> None:
            await other()
            await thing()
            assert await body() == "body"
            assert ran == ["other"]
            done.set()
            await asyncio.to_thread(claims[0].result)

        asyncio.run(asyncio.wait_for(main(), LIMIT))
        assert ran == ["other", "thing"]

    def test_an_object_that_is_gone_when_it_is_found(self) -> None:
        """Promise 9: a caller that finds an object in the moment in which it is torn down makes a new one."""
        numbers = itertools.count()

        class Key:
            def __hash__(self) -> int:
                return 1

            def __eq__(self, other: object) -> bool:
                if there:
                    there.clear()
                    reset(thing)
                return True

        @memoize(key=lambda key: key)
        async def thing(key: Key) -> AsyncGenerator[int, None]:
            yield next(numbers)

        there: list[bool] = []
        with loop_in_a_thread() as run:
            assert run(thing(Key())) == 0
            there.append(True)
            assert asyncio.run(thing(Key())) == 1

    @pytest.mark.parametrize("turns", range(8))
    def test_a_teardown_that_begins_in_the_last_turn(self, turns: int, ran: list[str]) -> None:
        """Promises 18 and 19: a teardown that another thread has begun in any of the last turns of a loop is finished before it closes."""

        async def end(_: object) -> None:
            await asyncio.sleep(0)
            ran.append("kept")

        @memoize(finalizer=end)
        async def kept() -> str:
            return "kept"

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            later(turns)
            ran.append("thing")

        def later(more: int) -> None:
            if more:
                loop.call_soon(later, more - 1)
            else:
                resets.append(Call(reset, kept).until_it_waits())

        async def main() -> None:
            await kept()
            await thing()

        resets: list[Call] = []
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        if not resets:
            reset(kept)
        for call in resets:
            call.result()
        assert ran == ["thing", "kept"]

    def test_a_loop_whose_generators_are_shut_down(self, ran: list[str]) -> None:
        """Promise 18: what is made on a loop after its `shutdown_asyncgens()` is torn down when it closes, which it may do twice."""
        thing = logged(ran, "thing")
        loop = asyncio.new_event_loop()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(thing())
        assert ran == []
        loop.close()
        loop.close()
        assert ran == ["thing"]


class TestErrors:
    @pytest.mark.parametrize("asker", ["nobody", "plain code", "another loop"])
    def test_a_loop_that_closes_in_the_midst(self, asker: str) -> None:
        """Promises 8 and 19: where a second Ctrl-C ends what a loop does when it closes, the object of the teardown in progress is
        forgotten, and the exception handler is told once, whoever asks in that moment."""
        told: list[str] = []

        class Loop(asyncio.SelectorEventLoop):
            def close(self) -> None:
                super().close()
                if asker == "plain code":
                    Call(reset, thing).result()
                elif asker == "another loop":
                    Call(asyncio.run, areset(thing)).result()

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            loop.call_soon(interrupt)
            loop.call_soon(loop.call_soon, interrupt)
            await asyncio.Event().wait()

        def interrupt() -> None:
            raise KeyboardInterrupt

        loop = Loop()
        loop.set_exception_handler(lambda loop, context: told.append(str(context["exception"])))
        loop.run_until_complete(thing())
        with pytest.raises(KeyboardInterrupt):
            loop.close()
        assert thing not in finalizers
        assert told == [f"the event loop of {__name__}.{thing.__qualname__} was closed before its teardown was done"]
        assert asyncio.run(thing()) == 1
        told.clear()

    @pytest.mark.parametrize("asker", ["plain code", "another loop", "plain code on another loop"])
    def test_when_there_is_no_loop_to_be_had(self, asker: str, tmp_path: Path) -> None:
        """Promises 10 and 19: where a teardown needs a new loop, and the process is out of files, `reset` says so and loses nothing."""
        source = f"""
            import resource
            async def end(value):
                print("down")
            @memoize(finalizer=end)
            async def thing():
                return 1
            def limited(number):
                resource.setrlimit(resource.RLIMIT_NOFILE, (number, limits[1]))
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            asyncio.run(thing())
            async def main():
                if {asker == "another loop"}:
                    await areset(thing)
                else:
                    reset(thing)
            with asyncio.Runner() as runner:
                runner.get_loop()
                for _ in range(2):
                    file = os.dup(0)
                    os.close(file)
                    limited(file)
                    try:
                        reset(thing) if {asker == "plain code"} else runner.run(main())
                    except ExceptionGroup as group:
                        print(*(error.strerror for error in group.exceptions))
                    limited(limits[0])
                reset(thing) if {asker == "plain code"} else runner.run(main())
            """
        pytest.importorskip("resource")
        printed, noise, status = script(source, tmp_path)
        assert (printed, status) == ("Too many open files\n" * 2 + "down\n", 0)
        assert "never awaited" not in noise  # asyncio makes some about loops that it has half made

    def test_who_gets_them(self) -> None:
        """Promise 8: the errors of a teardown are raised by the `areset` that has begun it, not by a `reset` that has waited for it."""
        place = Place()

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            await place.pass_()
            raise ValueError("of the teardown")

        async def main() -> object:
            first = asyncio.ensure_future(attempt(areset(thing)))
            await place.reached()
            reset(thing)  # meanwhile the first can notice nothing
            return await first

        with loop_in_a_thread() as run:
            run(thing())
            both = Call(asyncio.run, main()).until_it_waits()
            place.go()
            error = both.result()
        assert isinstance(error, ExceptionGroup)
        assert [str(each) for each in error.exceptions] == ["of the teardown"]

    def test_a_second_reset_that_fails(self) -> None:
        """Promises 8 and 9: where a second `reset` would wait for ever, and raises DeadlockError, the first still gets all errors."""
        place = Place()

        @memoize
        def other() -> str:
            place.go()
            (life,) = find(other).lives.values()
            while not life.waiters:
                time.sleep(0.001)
            with pytest.raises(ExceptionGroup) as raised:
                reset(thing)
            assert [type(error) for error in raised.value.exceptions] == [DeadlockError]
            return "other"

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            await place.pass_()
            other()
            raise ValueError("of the teardown")

        async def main() -> object:
            first = asyncio.ensure_future(attempt(areset(thing)))
            await place.reached()
            assert other() == "other"
            run(asyncio.sleep(0))  # the teardown ends, and the first can have noticed nothing
            return await first

        with loop_in_a_thread() as run:
            run(thing())
            error = Call(asyncio.run, main()).result()
        assert isinstance(error, ExceptionGroup)
        assert [str(each) for each in error.exceptions] == ["of the teardown"]

    def test_a_teardown_that_cancels_itself(self) -> None:
        """Promise 8: a CancelledError that a teardown raises of its own is an error like others."""

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            raise asyncio.CancelledError("of its own")

        async def main() -> None:
            await thing()
            with pytest.raises(BaseExceptionGroup) as raised:
                await areset(thing)
            assert str(raised.value.exceptions[0]) == "of its own"
            assert thing not in finalizers

        asyncio.run(main())

    def test_a_ring_through_a_teardown(self, ran: list[str]) -> None:
        """Promises 4 and 8: who asks for what is torn down, while that teardown waits for who asks, is told."""
        place, told, calls = Place(), list[BaseException](), list[Any]()

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            calls.append(asks())
            assert await calls[0] == "asked"
            ran.append("down")

        @memoize
        async def asks() -> str:
            await place.pass_()
            while inspect.getcoroutinestate(calls[0]) != inspect.CORO_SUSPENDED:
                await asyncio.sleep(0)
            told.append(await attempt(areset(thing)))
            told.append(await attempt(thing()))
            return "asked"

        async def main() -> None:
            await thing()
            asking = asyncio.ensure_future(asks())
            await place.reached()
            resetting = asyncio.ensure_future(areset(thing))
            while not calls:
                await asyncio.sleep(0)
            place.go()
            await asyncio.gather(asking, resetting)

        asyncio.run(asyncio.wait_for(main(), LIMIT))
        assert ran == ["down"]
        assert [type(error) for error in told] == [ExceptionGroup, DeadlockError]

    @pytest.mark.parametrize("how", ["cancelled", "cancelled before it begins"])
    def test_a_body_that_fails_when_nobody_waits(self, how: str) -> None:
        """Promise 17: an error of a body whose last caller is cancelled goes to the loop's exception handler, and the next call makes."""
        reported: list[BaseException] = []

        @memoize
        async def thing() -> int:
            if reported:
                return 1
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                raise ValueError("of the clean-up") from None
            return 0

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
            task = asyncio.ensure_future(thing())
            await waiting(task)
            if how == "cancelled":
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            if how == "cancelled":
                assert [str(error) for error in reported] == ["of the clean-up"]
                assert await thing() == 1

        asyncio.run(main())

    @pytest.mark.parametrize("kind", ["coroutine function", "async generator"])
    def test_a_cancel_that_comes_too_late(self, kind: str) -> None:
        """Promise 17: a caller on another loop that is cancelled when the body has returned, or yielded, cancels and ends nothing."""
        place, joined, point = Place(), Point(), Point()

        async def plain() -> int:
            await place.pass_()
            point.pass_()  # its loop does not hear of the cancel before it is done
            return 1

        async def generating() -> AsyncGenerator[int, None]:
            yield await plain()

        thing: Callable[[], Any] = memoize(generating) if kind == "async generator" else memoize(plain)

        async def first() -> None:
            making = asyncio.ensure_future(thing())
            await place.reached()
            await asyncio.to_thread(joined.reached)
            making.cancel()
            await asyncio.wait([making])
            place.go()

        async def last() -> None:
            task = asyncio.ensure_future(thing())
            await waiting(task)
            joined.go()
            joined.pass_()
            await asyncio.to_thread(point.reached)
            task.cancel()
            asyncio.get_running_loop().call_soon(point.go)
            await asyncio.wait([task])
            assert task.cancelled()

        def other() -> None:
            begun.result()
            asyncio.run(last())

        with loop_in_a_thread() as run:
            begun = Call(run, place.reached())
            call = Call(other)
            run(first())
            call.result()
            run(asyncio.sleep(0))
            assert (thing in finalizers) == (kind == "async generator")
            assert run(thing()) == 1

    def test_a_warning_that_is_an_error(self) -> None:
        """Promise 27: where the warning about a parametrized fixture is an error, it leaves nothing behind."""

        class Request:
            param = 1

        @memoize
        async def fixture(request: Request) -> int:
            return 1

        for _ in range(2):
            with pytest.raises(UserWarning, match="key="):
                asyncio.run(fixture(Request()))
        assert fixture not in finalizers

    def test_ctrl_c_while_a_reset_waits(self, tmp_path: Path) -> None:
        """Promises 2 and 8: Ctrl-C ends the wait of a `reset` for another thread's loop, and is raised; the teardown goes on."""
        source = """
            @memoize
            async def thing():
                yield 1
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                while not interrupted.is_set():
                    await asyncio.sleep(0)
                print("down")
            interrupted = threading.Event()
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            asyncio.run_coroutine_threadsafe(thing(), loop).result()
            try:
                reset(thing)
            except BaseExceptionGroup as group:
                print(*map(repr, group.exceptions))
            interrupted.set()
            reset(thing)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            """
        assert script(source, tmp_path) == ("KeyboardInterrupt()\ndown\n", "", 0)


class TestRegister:
    def test_in_the_body_and_elsewhere(self, ran: list[str]) -> None:
        """Promise 11: in the body `register` binds to the object being made, elsewhere to the one that the function holds."""

        @memoize(key=lambda key: key)
        async def thing(key: str) -> str:
            await asyncio.sleep(0)
            finalizers.register(thing, ran.append, key)
            return key

        async def main() -> None:
            with pytest.raises(LookupError, match="holds no object"):
                finalizers.register(thing, ran.append, "nothing")
            await asyncio.gather(thing("a"), thing("b"))
            with pytest.raises(LookupError, match="holds 2 objects under different keys"):
                finalizers.register(thing, ran.append, "several")
            assert len(finalizers) == 2
            await areset(thing)

        asyncio.run(main())
        assert sorted(ran) == ["a", "b"]

    def test_what_a_finalizer_registers(self, ran: list[str]) -> None:
        """Promise 11: what a finalizer registers on its own object still runs."""

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1
            finalizers.register(thing, ran.append, "registered in the teardown")

        asyncio.run(thing())
        assert ran == ["registered in the teardown"]


THING = """\
@memoize
async def thing():
    yield "object"
    print("down on its loop:", asyncio.get_running_loop() is loop)
    assert await thing() == "object"
    await asyncio.sleep(0)
    if sys.version_info[:2] != (3, 12):  # early ones refuse to start threads at exit
        await asyncio.to_thread(int)
    print("down")

async def end(value):
    print("plain down")
    await asyncio.sleep(0)

@memoize(finalizer=end)
async def plain():
    return 1

"""

ENDS = {
    "asyncio.run": """\
        async def main():
            global loop
            loop = asyncio.get_running_loop()
            await plain()
            await thing()
        asyncio.run(main())
        """,
    "a loop in a daemon thread": """\
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        async def main():
            await plain()
            await thing()
        asyncio.run_coroutine_threadsafe(main(), loop).result()
        def stop():
            loop.call_soon_threadsafe(loop.stop)
            while loop.is_running(): pass
            loop.close()
        atexit.register(stop)
        """,
    "a loop that is never closed": """\
        loop = asyncio.new_event_loop()
        async def main():
            await plain()
            await thing()
        loop.run_until_complete(main())
        atexit.register(loop.close)
        """,
    "sys.exit in a coroutine": """\
        async def main():
            global loop
            loop = asyncio.get_running_loop()
            await plain()
            await thing()
            sys.exit(3)
        asyncio.run(main())
        """,
    "Ctrl-C": """\
        async def main():
            global loop
            loop = asyncio.get_running_loop()
            await plain()
            await thing()
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(1000)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            sys.exit(130)
        """,
}


def on_uvloop(source: str) -> str:
    """The same script on loops of uvloop."""
    pytest.importorskip("uvloop", exc_type=ImportError)
    return "import uvloop\n" + textwrap.dedent(source).replace("asyncio.run(", "uvloop.run(").replace("asyncio.new", "uvloop.new")


class TestExit:
    @pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
    def test_a_running_loop_refuses_to_close(self, uvloop: bool, tmp_path: Path) -> None:
        """Promise 18: closing a loop while it runs is refused as ever, and tears nothing down."""
        source = """
            async def main():
                global loop
                loop = asyncio.get_running_loop()
                await thing()
                try:
                    loop.close()
                except RuntimeError:
                    print("refused")
                await asyncio.sleep(0)
                print(*(thread.name for thread in threading.enumerate()), len(finalizers))
            asyncio.run(main())
            """
        printed, noise, status = script(THING + (on_uvloop(source) if uvloop else textwrap.dedent(source)), tmp_path)
        assert (noise, status) == ("", 0)
        assert printed.splitlines() == ["refused", "MainThread 1", "down on its loop: True", "down"]

    @pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
    def test_a_teardown_that_takes_long(self, uvloop: bool, tmp_path: Path) -> None:
        """Promise 19: where a loop runs on, another thread's `reset` leaves it alone, however long the teardown takes there."""
        source = """
            @memoize
            async def thing():
                yield 1
                await asyncio.sleep(2.5)
                print("down")
            resetter = threading.Thread(target=reset, args=(thing,))
            async def main():
                asyncio.get_running_loop().set_debug(False)  # which refuses what would make noise
                await thing()
                resetter.start()
                while resetter.is_alive():
                    await asyncio.sleep(0.01)
                print(len(asyncio.all_tasks()))
            asyncio.run(main())
            """
        assert script(on_uvloop(source) if uvloop else source, tmp_path) == ("down\n1\n", "", 0)

    @pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
    @pytest.mark.parametrize("end", ENDS)
    def test_everything_is_torn_down(self, end: str, uvloop: bool, tmp_path: Path) -> None:
        """Promises 12 and 19: at exit everything is torn down, on its own loop if that is left, without noise."""
        source = ENDS[end]
        printed, noise, status = script(THING + (on_uvloop(source) if uvloop else textwrap.dedent(source)), tmp_path)
        assert noise == ""
        assert sorted(printed.splitlines()) == ["down", "down on its loop: True", "plain down"]
        assert status == {"sys.exit in a coroutine": 3, "Ctrl-C": 130}.get(end, 0)

    def test_what_has_no_teardown_stays(self, tmp_path: Path) -> None:
        """Promise 12: what a coroutine function has made stays usable to the very end, where it has no finalizer."""
        source = """
            @memoize
            async def thing():
                return object()
            value = asyncio.run(thing())
            atexit.register(lambda: print(asyncio.run(thing()) is value))
            """
        assert script(source, tmp_path) == ("True\n", "", 0)

    def test_cancellations_make_no_noise(self, tmp_path: Path) -> None:
        """Promise 19: makings that are cancelled or left when the loop ends, and resets from everywhere, leave no noise in debug mode."""
        source = """
            async def left():
                await thing()
            async def main():
                global loop
                loop = asyncio.get_running_loop()
                for pause in range(4):
                    task = asyncio.create_task(slow())
                    for _ in range(pause):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.wait([task])
                await thing()
                await areset()
                await thing()
                await asyncio.to_thread(reset, thing)
                main.left = asyncio.create_task(slow()), asyncio.create_task(left())
                await asyncio.sleep(0)
            @memoize
            async def slow():
                await asyncio.sleep(1000)
                yield 1
            asyncio.run(main())
            gc.collect()
            print(len(finalizers))
            """
        printed, noise, status = script(THING + textwrap.dedent(source), tmp_path)
        assert noise == ""
        assert printed.splitlines()[-1] == "0"
        assert status == 0

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize(
        "resting",
        [
            True,
            pytest.param(
                False,
                marks=pytest.mark.skipif(sys.version_info >= (3, 14), reason="a child that a task has forked can run no other loop"),
            ),
        ],
        ids=["the loop rests", "the loop runs"],
    )
    def test_a_forked_child(self, resting: bool, tmp_path: Path) -> None:
        """Promise 14: a forked child makes its own and never finalizes its parent's, not by reset, not at exit, not by collection."""
        source = f"""
            parent = os.getpid()
            def who():
                return "parent" if os.getpid() == parent else "child"
            @memoize
            async def thing():
                owner = who()
                try:
                    yield owner
                finally:
                    print(f"{{owner}}'s is torn down by the {{who()}}", flush=True)
            @memoize(inherit=True)
            def plain():
                return object()
            @memoize(inherit=True)
            async def inherited():
                try:
                    yield who()
                finally:
                    print(f"inherited is torn down by the {{who()}}", flush=True)
            async def bye():
                print("registered by the child", flush=True)
            def child():
                reset(thing)
                assert asyncio.run(thing()) == "child"
                assert asyncio.run(inherited()) == "parent"
                assert plain() is parents
                finalizers.register(inherited, bye)
                reset(inherited)
                gc.collect()
                sys.exit(0)
            parents = plain()
            async def main():
                await thing()
                await inherited()
                asyncio.get_running_loop().slow_callback_duration = 1000
                if not {resting}:
                    fork()
                    await asyncio.sleep(0)
            def fork():
                pid = os.fork()
                if not pid:
                    asyncio._set_running_loop(None)
                    child()
                assert os.waitpid(pid, 0)[1] == 0
            with asyncio.Runner() as runner:
                runner.run(main())
                if {resting}:
                    fork()
            """
        printed, noise, status = script(source, tmp_path)
        assert printed.splitlines() == [
            "child's is torn down by the child",
            "registered by the child",
            "inherited is torn down by the parent",
            "parent's is torn down by the parent",
        ]
        assert noise == ""
        assert status == 0

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_forked_child_that_frees_the_loop(self, tmp_path: Path) -> None:
        """Promise 14: a child that frees its parent's loop does not run it, for all that the library has to do where a loop ends."""
        source = """
            import warnings
            warnings.simplefilter("ignore", ResourceWarning)  # in the child the loop is not closed
            @memoize
            async def thing():
                yield 1
            async def use():
                await thing()
                await areset(thing)
            loop = asyncio.new_event_loop()
            loop.run_until_complete(use())
            loop.call_soon(print, "the parent's")
            child = os.fork()
            if not child:
                del loop
                gc.collect()
                sys.exit()
            print(os.waitpid(child, 0)[1], flush=True)
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            """
        assert script(source, tmp_path) == ("0\nthe parent's\n", "", 0)


# What comes in between: scripts, and what they print
BETWEEN = {
    "Ctrl-C while the loop shuts down": (
        """
        @memoize
        async def first():
            yield 1
            print("first is down")
        @memoize
        async def second():
            yield 2
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await asyncio.sleep(0.01)
            print("second is down")
        async def main():
            await first()
            await second()
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("Ctrl-C")
        """,
        ["second is down", "first is down", "Ctrl-C"],
    ),
    "Ctrl-C while a loop closes": (
        """
        @memoize
        async def thing():
            yield 1
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await asyncio.sleep(0.01)
            print("down")
        loop = asyncio.new_event_loop()
        loop.run_until_complete(thing())
        try:
            loop.close()
        except KeyboardInterrupt:
            print("Ctrl-C")
        """,
        ["down", "Ctrl-C"],
    ),
    "a stop that is left over": (
        """
        @memoize
        async def thing():
            yield 1
            await asyncio.sleep(0.01)
            print("down")
        loop = asyncio.new_event_loop()
        loop.run_until_complete(thing())
        loop.stop()
        loop.close()
        print("closed")
        """,
        ["down", "closed"],
    ),
    "a task of the body asks too": (
        """
        async def heartbeat():
            await connection()
        @memoize
        async def connection():
            beat = asyncio.create_task(heartbeat())
            try:
                await asyncio.sleep(1000)
            finally:
                beat.cancel()
                await asyncio.wait([beat])
                print("cleaned up")
        async def main():
            try:
                await asyncio.wait_for(connection(), 0.01)
            except TimeoutError:
                print("timed out")
        asyncio.run(main())
        """,
        ["cleaned up", "timed out"],
    ),
    **{
        f"{asker} of what a resting loop has begun with": (
            f"""
            @memoize
            async def thing():
                yield 1
                go.set()
                await asyncio.sleep(0.01)
                print("down")
            async def begin():
                global resetting
                await thing()
                resetting = asyncio.ensure_future(areset(thing))
                await go.wait()
            go = asyncio.Event()
            loop = asyncio.new_event_loop()
            loop.run_until_complete(begin())
            {statement}
            print("end")
            loop.close()
            """,
            printed,
        )
        for asker, statement, printed in (
            ("reset", "reset(thing)", ["down", "end"]),
            ("areset", "asyncio.run(areset(thing))", ["down", "end"]),
            ("a call", "assert asyncio.run(thing()) == 1", ["down", "down", "end"]),
            ("exit", "atexit.register(loop.close); atexit.register(print, 'atexit'); loop.close = lambda: None", ["end", "down", "atexit"]),
        )
    },
    "a making that rests at exit": (
        """
        async def end():
            await asyncio.sleep(0)
            print("down")
        @memoize
        async def thing():
            finalizers.register(thing, end)
            go.set()
            try:
                await asyncio.sleep(1000)
            finally:
                print("cancelled")
        async def main():
            making.append(asyncio.ensure_future(thing()))
            await go.wait()
        making, go = [], asyncio.Event()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        print("end")
        atexit.register(loop.close)
        atexit.register(print, "atexit")
        making[0]._log_destroy_pending = False
        """,
        ["end", "cancelled", "down", "atexit"],
    ),
    "threads of a task of the body": (
        """
        def start():
            stop = threading.Event()
            threading.Thread(target=stop.wait).start()
            return stop
        @memoize(finalizer=threading.Event.set)
        async def in_a_task():
            async with asyncio.TaskGroup() as group:
                task = group.create_task(starter())
            return task.result()
        @memoize(finalizer=threading.Event.set)
        async def in_a_worker():
            return await asyncio.to_thread(start)
        async def starter():
            return start()
        async def main():
            await asyncio.to_thread(int)  # a worker that is the program's
            await in_a_task()
            await in_a_worker()
        asyncio.run(main())
        print("end")
        """,
        ["end"],
    ),
    "the loop's own pool, which a body was the first to use": (
        """
        @memoize
        async def thing():
            await asyncio.to_thread(int)
            yield 1
            print("down")
        def work():
            main_thread_ends.wait()
            print("done")
        async def main():
            await thing()
            loop.run_in_executor(None, work)
        main_thread_ends = threading.Event()
        threading._register_atexit(main_thread_ends.set)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        atexit.register(loop.close)
        """,
        ["done", "down"],
    ),
    "Ctrl-C while a reset waits": (
        """
        @memoize
        async def thing():
            yield 1
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            while not interrupted.is_set():
                await asyncio.sleep(0)
            raise OSError("of the teardown")
        interrupted, told = threading.Event(), threading.Event()
        def tell(loop, context):
            print(repr(context["exception"]))
            told.set()
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(tell)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        asyncio.run_coroutine_threadsafe(thing(), loop).result()
        try:
            reset(thing)
        except BaseExceptionGroup as group:
            print(*map(repr, group.exceptions))
        interrupted.set()
        told.wait()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        """,
        ["KeyboardInterrupt()", "OSError('of the teardown')"],
    ),
    "the context of the first caller": (
        """
        import contextvars, weakref
        class Request:
            pass
        request = contextvars.ContextVar("request")
        @memoize
        async def thing():
            return 1
        async def handle():
            value = Request()
            request.set(value)
            await thing()
            return weakref.ref(value)
        async def main():
            return await asyncio.create_task(handle())
        ref = asyncio.run(main())
        for _ in range(5):
            gc.collect()
        print("is kept" if ref() else "is not kept")
        """,
        ["is not kept"],
    ),
}


@pytest.mark.parametrize(("source", "printed"), BETWEEN.values(), ids=BETWEEN)
def test_what_comes_in_between(source: str, printed: list[str], tmp_path: Path) -> None:
    """Promises 5, 10, 12, 13 and 16 to 19: nothing hangs, is lost or makes noise, whatever comes in between."""
    assert script(source, tmp_path) == ("".join(f"{line}\n" for line in printed), "", 0)


def test_a_making_in_a_daemon_threads_loop(tmp_path: Path) -> None:
    """Promise 12: exit does not wait for what a daemon thread's loop makes, finalizers or not."""
    source = """
        @memoize
        async def thing():
            finalizers.register(thing, print, "down")
            go.set()
            await asyncio.sleep(1000)
        go = threading.Event()
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(thing(), loop)
        go.wait()
        print("end")
        """
    assert script(source, tmp_path)[0::2] == ("end\n", 0)


def test_a_daemon_threads_loop_that_does_not_answer(tmp_path: Path) -> None:
    """Promise 12: exit does not wait for the loop of a daemon thread that hangs in a teardown; it says so, and goes on."""
    source = """
        sys.excepthook = lambda kind, error, traceback: print(error)
        @memoize
        async def thing():
            yield 1
            loop.call_soon(threading.Event().wait)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(thing(), loop).result()
        """
    assert script(source, tmp_path) == ("the event loop of __main__.thing runs in a daemon thread and does not answer\n", "", 0)


@pytest.mark.parametrize(
    ("daemon", "seconds", "late"),
    [(False, 2.5, True), (True, 2.5, False), (True, 0, True)],  # a loop is left alone for one second, twice where it has just begun
    ids=["no daemon", "a daemon", "a daemon that answers"],
)
def test_an_objects_loop_that_takes_its_time(daemon: bool, seconds: float, late: bool, tmp_path: Path) -> None:
    """Promise 12: exit waits for what lives on another thread's loop: as long as it takes where that is no daemon, for a few seconds
    where it is, and when these are over only as long as the loop goes on."""
    source = f"""
        from memoize_once import _aonce
        @memoize
        def server():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, daemon={daemon})
            thread.start()
            yield loop
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
        @memoize
        async def thing():
            yield 1
            await asyncio.sleep({seconds})
            print("down")
        asyncio.run_coroutine_threadsafe(thing(), server()).result()
        if {late}:
            _aonce._deadline.append(0.0)
        """
    assert script(source, tmp_path) == ("down\n", "", 0)


def test_a_daemon_thread_that_hangs_on_a_loop_that_rests(tmp_path: Path) -> None:
    """Promise 12: exit does not wait for a daemon thread either that hangs in a teardown on the main thread's loop."""
    source = """
        @memoize
        async def other():
            yield 1
        @memoize
        async def thing():
            yield 1
            begun.set()
            threading.Event().wait()
        begun, loop = threading.Event(), asyncio.new_event_loop()
        loop.run_until_complete(other())
        loop.run_until_complete(thing())
        threading.Thread(target=reset, args=(thing,), daemon=True).start()
        begun.wait()
        """
    printed, noise, status = script(source, tmp_path)
    assert noise.splitlines()[-1] == "RuntimeError: the event loop of __main__.other runs in a daemon thread and does not answer"
    assert (printed, status) == ("", 0)


def test_a_daemon_thread_that_waits_for_such_a_loop(tmp_path: Path) -> None:
    """Promise 12: exit leaves alone what a daemon thread is about to tear down."""
    source = """
        @memoize
        async def thing():
            yield 1
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(thing(), loop).result()
        loop.call_soon_threadsafe(threading.Event().wait)
        resetter = threading.Thread(target=reset, args=(thing,), daemon=True)
        resetter.start()
        while sys._current_frames()[resetter.ident].f_code.co_name != "wait":
            pass
        """
    assert script(source, tmp_path) == ("", "", 0)


@pytest.mark.parametrize("turns", range(1, 10))
@pytest.mark.parametrize("cancel", [False, True], ids=["main ends", "all tasks are cancelled"])
def test_an_error_when_the_loop_ends(turns: int, cancel: bool) -> None:
    """Promises 8 and 18: the error of a teardown is raised, or given to the loop's exception handler, whenever the loop ends."""
    told: list[object] = []

    @memoize
    async def thing() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        raise OSError("of the teardown")

    async def main() -> asyncio.Task[Any]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
        await thing()
        resetting = asyncio.create_task(attempt(areset(thing)))
        for _ in range(turns):
            await asyncio.sleep(0)
        if cancel:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await resetting
        return resetting

    told.append(asyncio.run(main()).result())
    assert any(isinstance(error, OSError | ExceptionGroup) for error in told)
