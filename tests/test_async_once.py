"""Promises 16 and 17, and 1 to 5 for tasks: made once."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import itertools
import subprocess
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from tasks import Place, attempt, loop_in_a_thread, waiting
from threads import LIMIT, Call, Point, collect

from memoize_once import DeadlockError, areset, finalizers, memoize, reset


class Thing:
    """What can be referred to weakly."""


def both(body: Callable[..., Awaitable[Any]]) -> list[Callable[..., Awaitable[Any]]]:
    """The body as a memoized coroutine function and as a memoized async generator function."""

    async def generating(*args: Any) -> AsyncGenerator[Any, None]:
        yield await body(*args)

    return [memoize(body), memoize(generating)]


class TestFirstCall:
    def test_every_await_returns_the_first_object(self) -> None:
        """Promise 1: the first call runs the body, and every later one returns the same object, whatever its arguments."""
        made = itertools.count()

        async def body(port: int) -> list[int]:
            return [next(made)]

        async def main(thing: Callable[..., Awaitable[Any]]) -> None:
            first = await thing(1)
            assert await thing(2) is await thing(3) is first

        for thing in both(body):
            asyncio.run(main(thing))
        assert next(made) == 2

    @pytest.mark.parametrize("value", [None, False, ValueError("kept"), StopAsyncIteration(), asyncio.CancelledError()], ids=repr)
    def test_any_value_is_kept(self, value: object) -> None:
        """Promise 1: None, False, an exception and every other value is kept."""
        made: list[int] = []

        async def body() -> object:
            made.append(1)
            return value

        async def main(thing: Callable[[], Awaitable[Any]]) -> None:
            assert await thing() is await thing() is value

        for thing in both(body):
            asyncio.run(main(thing))
        assert made == [1, 1]

    def test_they_are_coroutine_functions(self) -> None:
        """Promise 16: both kinds are coroutine functions, and a generator function is not what `__wrapped__` leads to."""

        @memoize
        async def one() -> int:
            return 1

        @memoize
        async def other() -> AsyncGenerator[int, None]:
            yield 1

        assert inspect.iscoroutinefunction(one)
        assert inspect.iscoroutinefunction(other)
        assert inspect.iscoroutinefunction(inspect.unwrap(other))
        assert not hasattr(other, "__wrapped__")

    def test_arguments_are_checked(self) -> None:
        """Promise 1: a wrong call raises TypeError right away, whether the object is there or not."""

        @memoize
        async def thing(port: int) -> int:
            return port

        call: Any = thing
        for _ in range(2):
            with pytest.raises(TypeError, match=r"thing\(\) missing 1 required positional argument: 'port'"):
                call()
            asyncio.run(call(1))

    def test_one_object_for_each_key(self) -> None:
        """Promise 26: with `key=` there is one object for each key, of async functions too."""
        made: list[int] = []

        @memoize(key=lambda port: port)
        async def one(port: int, host: str = "here") -> int:
            made.append(port)
            return port

        @memoize(key=lambda port: port)
        async def other(port: int) -> AsyncGenerator[int, None]:
            made.append(port)
            yield port
            made.remove(port)

        async def main() -> None:
            assert tuple(await asyncio.gather(one(1), one(2), one(port=1), other(1), other(2), other(1))) == (1, 2, 1, 1, 2, 1)
            assert sorted(made) == [1, 1, 2, 2]
            await areset(other)
            assert sorted(made) == [1, 2]
            unhashable: Any = []
            with pytest.raises(TypeError, match=r"the key \[\] of .*one is not hashable"):
                await one(unhashable)

        asyncio.run(main())

    def test_asyncio_is_imported_late(self) -> None:
        """Importing the library and memoizing plain functions does not import asyncio."""
        source = "import sys, memoize_once; memoize_once.memoize(lambda: 1)(); sys.exit('asyncio' in sys.modules)"
        assert subprocess.run([sys.executable, "-I", "-c", source], timeout=60).returncode == 0

    def test_the_context_of_the_first_caller(self) -> None:
        """Promise 16: the body runs in a copy of the first caller's context: it sees what is set there, and sets nothing there."""
        variable = contextvars.ContextVar("variable", default="unset")

        async def body() -> str:
            seen = variable.get()
            variable.set("set in the body")
            return seen

        async def main(thing: Callable[[], Awaitable[str]]) -> None:
            variable.set("the caller's")
            assert await thing() == "the caller's"
            assert variable.get() == "the caller's"

        for thing in both(body):
            asyncio.run(main(thing))

    def test_the_task_of_the_body(self) -> None:
        """The body runs in a task that bears the name of the function, and that is not kept."""
        tasks: list[weakref.ref[Any]] = []

        @memoize
        async def thing() -> int:
            task = asyncio.current_task()
            assert task is not None
            assert task.get_name() == f"memoize_once: {__name__}.{thing.__qualname__}"
            tasks.append(weakref.ref(task))
            return 1

        asyncio.run(thing())
        collect()
        assert tasks[0]() is None

    def test_other_async_generators(self) -> None:
        """The loop goes on to finalize the async generators of others."""
        ran: list[str] = []

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            yield 1

        async def other() -> AsyncGenerator[int, None]:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                ran.append("finalized")

        async def main() -> object:
            await thing()
            generator = other()
            await anext(generator)
            return generator

        generator = asyncio.run(main())
        assert ran == ["finalized"]
        del generator


class TestTasks:
    def test_tasks_share_one_making(self) -> None:
        """Promise 16: tasks that arrive while the object is being made wait for it, and get it."""
        made = itertools.count()

        async def main(thing: Callable[[Place], Awaitable[Any]]) -> None:
            place = Place()
            tasks = [asyncio.ensure_future(thing(place)) for _ in range(8)]
            await place.reached()
            await waiting(*tasks)
            place.go()
            assert len({id(value) for value in await asyncio.gather(*tasks)}) == 1

        async def body(place: Place) -> list[int]:
            await place.pass_()
            return [next(made)]

        for thing in both(body):
            asyncio.run(main(thing))
        assert next(made) == 2

    def test_loops_in_several_threads_share_one_making(self) -> None:
        """Promise 16: so do tasks of event loops in several threads."""
        place, made = Place(), itertools.count()

        @memoize
        async def thing() -> list[int]:
            await place.pass_()
            return [next(made)]

        async def call() -> list[int]:
            return await thing()

        async def join() -> None:
            tasks.append(asyncio.ensure_future(call()))
            await waiting(*tasks)

        async def joined() -> list[int]:
            return await tasks[0]

        tasks: list[asyncio.Task[list[int]]] = []
        with loop_in_a_thread() as first, loop_in_a_thread() as second:
            maker = Call(first, call())
            second(place.reached())
            second(join())
            place.go()
            assert maker.result() is second(joined()) is asyncio.run(call())
        assert next(made) == 1

    def test_objects_do_not_block_each_other(self) -> None:
        """Promise 2: while one object is made or torn down others are made, used and torn down."""
        up, down = Place(), Place()

        @memoize
        async def slow() -> AsyncGenerator[int, None]:
            await up.pass_()
            yield 1
            await down.pass_()

        @memoize
        async def quick() -> AsyncGenerator[int, None]:
            yield 2

        async def use() -> None:
            assert await quick() == 2
            await areset(quick)

        async def main() -> None:
            making = asyncio.ensure_future(slow())
            await up.reached()
            await use()
            up.go()
            await making
            ending = asyncio.ensure_future(areset(slow))
            await down.reached()
            await use()
            down.go()
            await ending

        asyncio.run(main())

    def test_a_task_of_the_body(self) -> None:
        """Promise 16: a task that a body starts may ask for the object, and waits; in the teardown it gets what is being torn down."""
        seen: list[object] = []

        async def ask() -> None:
            seen.append(await thing())

        @memoize
        async def thing() -> AsyncGenerator[object, None]:
            async with asyncio.TaskGroup() as group:
                early = group.create_task(ask())
                await waiting(early)
                yield object()
                group.create_task(ask())
                seen.append(await thing())

        async def main() -> None:
            value = await thing()
            await areset(thing)
            assert seen == [value] * 3

        asyncio.run(main())


class TestFailure:
    @pytest.mark.parametrize("kind", [ValueError, StopAsyncIteration, asyncio.CancelledError, GeneratorExit, BaseException])
    def test_a_failure_leaves_nothing_behind(self, kind: type[BaseException]) -> None:
        """Promise 3: the error reaches the caller as it was raised, nothing is kept, and the next caller tries again."""
        error, tries = kind("as raised"), itertools.count()

        @memoize
        async def thing() -> int:
            if next(tries) == 0:
                raise error
            return 42

        async def main() -> None:
            assert await attempt(thing()) is error
            assert error.__context__ is error.__cause__ is None
            assert not hasattr(error, "__notes__")
            assert await thing() == 42

        asyncio.run(main())

    @pytest.mark.parametrize("gone", [0, 1], ids=["the first is there", "the first has gone"])
    def test_one_gets_the_error_and_the_rest_try_again(self, gone: int) -> None:
        """Promise 16: the error goes to the first caller, or, if that has gone, to who has waited longest; the rest try again."""
        place, tries, unheard = Place(), itertools.count(), list[object]()

        @memoize
        async def thing() -> str:
            if next(tries) == 0:
                await place.pass_()
                raise ValueError("first try")
            return "second try"

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
            tasks = [asyncio.ensure_future(thing()) for _ in range(4)]
            await place.reached()
            await waiting(*tasks)
            if gone:
                tasks[0].cancel()
                await asyncio.wait([tasks[0]])
            place.go()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(each) for each in results[: gone + 1]] == [asyncio.CancelledError] * gone + [ValueError]
            assert results[gone + 1 :] == ["second try"] * (3 - gone)

        asyncio.run(main())
        assert next(tries) == 2
        assert unheard == []

    @pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError])
    @pytest.mark.parametrize("turns", range(10))
    def test_an_error_is_heard_once(self, turns: int, kind: type[BaseException]) -> None:
        """Promises 3 and 17: whenever the only caller is cancelled while the body fails, the error is raised there or given to the loop's
        exception handler, where it is one."""
        place, raised, reported = Place(), list[BaseException](), list[BaseException]()

        @memoize
        async def thing() -> int:
            await place.pass_()
            raised.append(kind("of the body"))
            raise raised[0]

        async def main() -> object:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
            task = asyncio.create_task(attempt(thing()))
            await place.reached()
            place.go()
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            return await task

        heard = asyncio.run(main())
        if kind is ValueError and raised:
            assert [heard, *reported].count(raised[0]) == 1
        else:
            assert reported == []

    def test_a_body_that_cancels_itself(self) -> None:
        """Promise 3: the caller of a body that cancels its own task gets the CancelledError, and the next one tries again."""
        tries = itertools.count()

        @memoize
        async def thing() -> int:
            task = asyncio.current_task()
            assert task is not None
            if next(tries) == 0:
                task.cancel()
                await asyncio.sleep(0)
            return 1

        async def main() -> None:
            with pytest.raises(asyncio.CancelledError):
                await thing()
            assert await thing() == 1

        asyncio.run(main())

    def test_finalizers_of_a_failed_body_run_first(self) -> None:
        """Promise 3: what the failed body registered runs first, awaited, last in first out; a note on its error says what failed there."""
        ran: list[str] = []

        async def clean(text: str) -> None:
            await asyncio.sleep(0)
            ran.append(text)
            if text == "failing":
                raise OSError("port still bound")

        async def body() -> int:
            for text in ("first", "failing", "last"):
                finalizers.register(current, clean, text)
            raise ValueError("body")

        for current in both(body):
            with pytest.raises(ValueError, match="body") as raised:
                asyncio.run(current())  # type: ignore[arg-type]
            assert ran == ["last", "failing", "first"]
            assert "port still bound" in raised.value.__notes__[0]
            ran.clear()

    def test_a_traceback_shows_the_users_frames(self) -> None:
        """Promise 23: pytest hides the library's frames in a traceback out of a body; the last frame is the body's."""

        @memoize
        async def thing() -> int:
            raise ValueError("here")

        with pytest.raises(ValueError, match="here") as raised:
            asyncio.run(thing())
        frames = traceback.extract_tb(raised.value.__traceback__)
        assert frames[-1].line == 'raise ValueError("here")'
        shown = [str(entry.path) for entry in raised.traceback.filter(raised)]
        assert not [path for path in shown if "memoize_once/_" in path]

    def test_a_warning_blames_the_users_file(self) -> None:
        """A body that warns with stacklevel=2 blames the file of the function, not the library's."""

        async def body() -> int:
            warnings.warn("old", UserWarning, stacklevel=2)
            return 1

        thing = memoize(body)
        with pytest.warns(UserWarning, match="old") as caught:
            asyncio.run(thing())
        assert caught[0].filename == __file__


class TestCancellation:
    @pytest.mark.parametrize("which", [0, 1], ids=["the first", "another"])
    def test_one_of_several(self, which: int) -> None:
        """Promise 17: cancelling one of several waiting tasks, the first included, cancels only that task."""
        place = Place()

        @memoize
        async def thing() -> str:
            await place.pass_()
            return "made"

        async def main() -> None:
            tasks = [asyncio.ensure_future(thing()) for _ in range(3)]
            await place.reached()
            await waiting(*tasks)
            tasks[which].cancel()
            await asyncio.wait([tasks[which]])
            place.go()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(results.pop(which), asyncio.CancelledError)
            assert results == ["made"] * 2

        asyncio.run(main())

    @pytest.mark.parametrize("where", ["one loop", "another loop"])
    def test_the_last(self, where: str) -> None:
        """Promise 17: with the last the making is cancelled, and goes on when the body has cleaned up; who arrives meanwhile makes anew."""
        busy, cleaning, ran = Place(), Place(), list[str]()

        @memoize
        async def thing() -> str:
            if ran:
                return "made anew"
            ran.append("begun")
            try:
                await busy.pass_()
            finally:
                await cleaning.pass_()
                ran.append("cleaned up")
            return "never"

        async def last() -> None:
            task = asyncio.ensure_future(thing())
            await busy.reached()
            await waiting(task)
            if where == "another loop":
                run(_cancel_all_calls(thing.__name__))
            task.cancel()
            await cleaning.reached()
            late = asyncio.ensure_future(thing())
            await waiting(late)
            assert not task.done()
            cleaning.go()
            await asyncio.wait([task])
            assert task.cancelled()
            assert ran == ["begun", "cleaned up"]
            assert await late == "made anew"

        with loop_in_a_thread() as run:
            if where == "another loop":
                first = Call(run, thing())
                run(busy.reached())
            asyncio.run(last())
            if where == "another loop":
                assert isinstance(first.error(), BaseException)

    def test_a_body_is_told_once(self) -> None:
        """Promise 17: a cancel scope of anyio repeats its cancel every turn; the body is told once, and cleans up in peace."""
        busy, told = Place(), list[str]()

        @memoize
        async def thing() -> None:
            try:
                await busy.pass_()
            except asyncio.CancelledError:
                told.append("cancelled")
                for _ in range(5):
                    await asyncio.sleep(0)
                told.append("cleaned up")
                raise

        async def main() -> None:
            async def call() -> None:
                with scope:
                    await thing()

            scope = anyio.CancelScope()
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await busy.reached()
                scope.cancel()
            assert scope.cancelled_caught
            assert told == ["cancelled", "cleaned up"]

        asyncio.run(main())

    def test_a_body_that_is_in_a_cancelled_scope(self) -> None:
        """Promise 17: where the last caller is cancelled while a scope of the body is, and that goes on, the body is told afterwards."""
        place, told = Place(), list[str]()

        @memoize
        async def thing() -> None:
            try:
                async with asyncio.timeout(0):
                    try:
                        await asyncio.sleep(1000)
                    finally:
                        await place.pass_()
            except TimeoutError:
                told.append("timed out")
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                told.append("cancelled")
                raise

        async def main() -> None:
            task = asyncio.create_task(thing())
            await place.reached()
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            place.go()
            await asyncio.wait([task])
            assert told == ["timed out", "cancelled"]

        asyncio.run(main())

    def test_who_arrives_while_it_cleans_up(self) -> None:
        """Promise 17: an error of the cleaning up concerns nobody who has arrived meanwhile, and who leaves then does so at once."""
        busy, cleaning, told = Place(), Place(), list[str]()

        @memoize
        async def thing() -> str:
            if told:
                return "made anew"
            try:
                await busy.pass_()
            finally:
                await cleaning.pass_()
                raise ValueError("of the cleaning up")

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(str(context["exception"])))
            task = asyncio.ensure_future(thing())
            await busy.reached()
            await waiting(task)
            task.cancel()
            await cleaning.reached()
            late, leaving = asyncio.ensure_future(thing()), asyncio.ensure_future(thing())
            await waiting(late, leaving)
            leaving.cancel()
            await asyncio.wait([leaving], timeout=LIMIT)
            assert leaving.cancelled()
            cleaning.go()
            assert await late == "made anew"
            assert task.cancelled()

        asyncio.run(main())
        assert told == ["of the cleaning up"]

    def test_a_body_that_is_made_all_the_same(self) -> None:
        """Promise 17: a body that swallows the cancellation makes the object, which those get who come later."""
        busy, made = Place(), itertools.count()

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            try:
                await busy.pass_()
            except asyncio.CancelledError:
                next(made)
            yield 1

        async def main() -> None:
            task = asyncio.ensure_future(thing())
            await busy.reached()
            await waiting(task)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert await thing() == 1

        asyncio.run(main())
        assert next(made) == 1

    def test_before_the_body_begins(self) -> None:
        """Promises 3 and 17: where everything on the loop is cancelled before the body has begun, the next caller makes."""

        @memoize
        async def thing() -> int:
            return 1

        async def main() -> None:
            task = asyncio.create_task(thing())
            await asyncio.sleep(0)
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert await thing() == 1

        asyncio.run(main())

    @pytest.mark.parametrize("gone", [False, True], ids=["all wait", "its own has gone"])
    @pytest.mark.parametrize("how", ["its loop ends", "of its own"])
    def test_a_cancelled_making_of_another_loop(self, how: str, gone: bool) -> None:
        """Promises 3 and 16: where the loop that makes shuts down, callers on other loops make anew on theirs; a CancelledError that the
        body raises of its own is an error like others, and goes to the caller who has waited longest."""
        busy, stop = Place(), threading.Event()
        tries, other = itertools.count(), list[Call]()

        @memoize
        async def thing() -> str:
            if next(tries) == 0:
                await busy.pass_()
                raise asyncio.CancelledError("of its own")
            return "made anew"

        async def join() -> object:
            task = asyncio.ensure_future(thing())
            await waiting(task)
            stop.set()
            return await attempt(task)

        async def first() -> None:
            task = asyncio.ensure_future(thing())
            await busy.reached()
            other.append(Call(run, join()))
            while not stop.is_set():
                await asyncio.sleep(0)
            if gone:
                task.cancel()
                await asyncio.wait([task])
            if how == "of its own":
                busy.go()
                while other[0].is_alive():
                    await asyncio.sleep(0)
                assert gone or str(await attempt(task)) == "of its own"

        with loop_in_a_thread() as run:
            asyncio.run(first())
            assert str(other[0].result()) == ("of its own" if gone and how == "of its own" else "made anew")

    def test_a_making_that_rests(self) -> None:
        """Promise 16: a caller waits for a making whose loop rests, and gets the object when that goes on."""
        place, waits = Place(), threading.Event()
        loop = asyncio.new_event_loop()

        @memoize
        async def thing() -> object:
            await place.pass_()
            return object()

        async def begin() -> asyncio.Task[object]:
            task = asyncio.ensure_future(thing())
            await place.reached()
            return task

        async def join() -> object:
            task = asyncio.ensure_future(thing())
            await waiting(task)
            waits.set()
            return await task

        making = Call(loop.run_until_complete, begin()).result()
        joining = Call(asyncio.run, join())
        assert waits.wait(LIMIT)
        place.go()
        assert loop.run_until_complete(making) is joining.result()
        loop.close()

    def test_two_changes_in_one_turn(self) -> None:
        """Promise 19: a caller whose loop hears of a making and of the teardown after it in one turn makes anew, without noise."""
        place, told = Place(), list[object]()

        @memoize
        async def thing() -> object:
            await place.pass_()
            return object()

        async def main(making: Call) -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
            await place.reached()
            task = asyncio.ensure_future(thing())
            await waiting(task)
            place.go()
            first = making.result()
            reset(thing)
            assert await task is not first

        with loop_in_a_thread() as run:
            asyncio.run(main(Call(run, thing())))
        assert told == []


async def _cancel_all_calls(name: str) -> None:
    for task in asyncio.all_tasks():
        if getattr(task.get_coro(), "__name__", "") == name:
            task.cancel()


class TestDeadlock:
    def test_an_object_that_needs_itself(self) -> None:
        """Promise 4: recursion raises DeadlockError that names the function, and leaves nothing behind."""

        @memoize
        async def ouroboros() -> AsyncGenerator[object, None]:
            yield await ouroboros()

        for _ in range(2):
            with pytest.raises(DeadlockError, match=r"ouroboros -> .*ouroboros"):
                asyncio.run(ouroboros())

    @pytest.mark.parametrize("closed", [True, False], ids=["ring", "chain"])
    @pytest.mark.parametrize("loops", [1, 2], ids=["one loop", "two loops"])
    def test_a_ring_of_tasks(self, closed: bool, loops: int) -> None:
        """Promise 4: of tasks that need each other's objects in a ring exactly one is told, over loops too; in a chain nobody is."""
        count = 4
        told: list[BaseException] = []
        begun: list[int] = []
        functions: list[Callable[[], Awaitable[int]]] = []

        def function(i: int) -> Callable[[], Awaitable[int]]:
            @memoize
            async def member() -> int:
                begun.append(i)
                while len(begun) < count:
                    await asyncio.sleep(0)
                if closed or i < count - 1:
                    try:
                        await functions[(i + 1) % count]()
                    except DeadlockError as error:
                        told.append(error)
                return i

            return member

        async def some(which: range) -> list[int]:
            return await asyncio.gather(*(functions[i]() for i in which))

        for _ in range(10):
            told.clear()
            begun.clear()
            functions[:] = [function(i) for i in range(count)]
            calls = [Call(asyncio.run, some(range(i, count, loops))) for i in range(loops)]
            assert sorted(i for call in calls for i in call.result()) == list(range(count))
            assert len(told) == closed
            if closed:
                assert str(told[0]).count("member") == count + 1

    def test_a_ring_through_a_plain_function(self) -> None:
        """Promise 4: a ring may run from an async body through a plain one, in another thread, and back."""
        in_plain, tries = Point(), itertools.count()

        @memoize
        async def chicken() -> str:
            in_plain.reached()
            in_plain.go()
            return egg()

        @memoize
        def egg() -> str:
            if next(tries):
                return "laid anew"
            in_plain.pass_()
            return asyncio.run(chicken())

        async def main() -> str:
            return await chicken()

        second = Call(egg)
        in_plain.reached()
        first = Call(asyncio.run, main())
        errors = [call.error() for call in (first, second)]
        assert any(isinstance(error, DeadlockError) and "egg" in str(error) and "chicken" in str(error) for error in errors)

    def test_a_ring_through_a_loop_in_a_plain_function(self) -> None:
        """Promise 4: the message names all of the ring, also where a plain body runs the loop on which an async one needs it."""

        @memoize
        async def chicken() -> str:
            return egg()

        @memoize
        def egg() -> str:
            return asyncio.run(chicken())

        with pytest.raises(DeadlockError, match=r"egg -> \S*chicken -> \S*egg\."):
            egg()

    def test_waiting_for_each_others_objects(self) -> None:
        """Promise 4: tasks that merely wait for each other's different objects go on."""
        one_place, other_place = Place(), Place()

        @memoize
        async def one() -> str:
            await one_place.pass_()
            return "one"

        @memoize
        async def other() -> str:
            await other_place.pass_()
            return "other"

        async def both_of(first: Callable[[], Awaitable[str]], second: Callable[[], Awaitable[str]]) -> list[str]:
            return [await first(), await second()]

        async def main() -> None:
            tasks = [asyncio.ensure_future(both_of(one, other)), asyncio.ensure_future(both_of(other, one))]
            await one_place.reached()
            await other_place.reached()
            one_place.go()
            await waiting(*tasks)
            other_place.go()
            assert await asyncio.gather(*tasks) == [["one", "other"], ["other", "one"]]

        asyncio.run(main())

    @pytest.mark.parametrize("plain", [False, True], ids=["async generator", "coroutine function"])
    def test_a_reset_in_the_ring(self, plain: bool) -> None:
        """Promise 4: a body that resets an object whose teardown needs what the body makes is no hang: the teardown is told."""

        async def end(_: object = None) -> None:
            await maker()

        @memoize(finalizer=end)
        async def one() -> int:
            return 1

        @memoize
        async def other() -> AsyncGenerator[int, None]:
            yield 1
            await end()

        torn = one if plain else other

        @memoize
        async def maker() -> int:
            await torn()
            await areset(torn)
            return 1

        with pytest.raises(ExceptionGroup) as raised:
            asyncio.run(maker())
        assert [type(error) for error in raised.value.exceptions] == [DeadlockError]

    def test_who_is_told_does_not_count(self) -> None:
        """Promises 4 and 17: a caller that was told of a ring waits no more, so that the making is cancelled with its last caller."""
        places, told, go = (Place(), Place()), list[object](), asyncio.Event()

        @memoize
        async def first() -> None:
            await places[0].pass_()
            await second()
            go.set()
            told.append(await attempt(asyncio.sleep(1000)))

        @memoize
        async def second() -> None:
            await places[1].pass_()
            told.append(await attempt(first()))

        async def main() -> None:
            tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
            for place in places:
                await place.reached()
                place.go()
                for _ in range(9):  # the ring is closed by the second
                    await asyncio.sleep(0)
            await go.wait()
            tasks[0].cancel()
            await asyncio.wait([tasks[0]])
            assert [type(each) for each in told] == [DeadlockError, asyncio.CancelledError]

        asyncio.run(asyncio.wait_for(main(), LIMIT))


class TestReferences:
    def test_arguments_are_not_kept(self) -> None:
        """Promise 5: nothing keeps the arguments of the call that made the object alive."""

        @memoize
        async def thing(argument: Thing) -> object:
            return object()

        async def main() -> None:
            argument = Thing()
            ref = weakref.ref(argument)
            await thing(argument)
            del argument
            collect()
            assert ref() is None

        asyncio.run(main())

    def test_an_object_dies_with_its_local_function(self) -> None:
        """Promise 5: an object without teardown dies with its function when that is collected."""

        async def main() -> weakref.ref[Thing]:
            @memoize
            async def thing() -> Thing:
                return Thing()

            return weakref.ref(await thing())

        ref = asyncio.run(main())
        collect()
        assert ref() is None

    def test_loops_are_not_kept(self) -> None:
        """A loop that has closed is kept by nothing when its objects are gone."""
        refs: list[weakref.ref[object]] = []

        @memoize
        async def thing() -> AsyncGenerator[int, None]:
            refs.append(weakref.ref(asyncio.get_running_loop()))
            yield 1

        asyncio.run(thing())
        collect()
        assert refs[0]() is None

    def test_loops_of_callers_are_not_kept(self) -> None:
        """A loop that has closed is not kept by an object that its tasks have waited for."""
        place = Place()

        @memoize
        async def thing() -> object:
            await place.pass_()
            return object()

        async def wait() -> weakref.ref[object]:
            task = asyncio.ensure_future(thing())
            await waiting(task)
            place.go()
            await task
            return weakref.ref(asyncio.get_running_loop())

        with loop_in_a_thread() as run:
            making = Call(run, thing())
            run(place.reached())
            ref = asyncio.run(wait())
            making.result()
            run(asyncio.sleep(0))
            collect()
            assert ref() is None
