"""Promises 6 to 11: torn down once."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import logging
import pickle
import queue
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import MethodType
from typing import Any, cast
from unittest.mock import MagicMock, Mock

import pytest
from threads import LIMIT, Call, Point, busy, collect, server

from memoize_once import DeadlockError, areset, finalizers, memoize, reset


class TestGenerators:
    @pytest.mark.parametrize("how", ["itself", "wraps", "partial"])
    def test_the_rest_is_the_teardown(self, how: str, ran: list[str]) -> None:
        """Promise 6: a generator function makes what it yields, and what comes after is its
        teardown; a function that returns a generator is one, whatever stands between."""

        def original() -> Generator[str, None, None]:
            ran.append("up")
            yield "object"
            ran.append("down")

        @functools.wraps(original)
        def wrapper() -> Any:
            return original()

        others: dict[str, Any] = {"wraps": wrapper, "partial": functools.partial(original)}
        thing: Any = memoize(others.get(how, original))
        assert thing() == thing() == "object"
        assert ran == ["up"]
        reset(thing)
        assert ran == ["up", "down"]
        thing()
        assert ran == ["up", "down", "up"]

    def test_one_that_never_yields(self, ran: list[str]) -> None:
        """Promise 6: a generator that never yields raises RuntimeError that names function, file
        and line, and leaves nothing behind."""

        @memoize
        def barren() -> Generator[str, None, None]:
            finalizers.register(barren, ran.append, "finalizer")
            yield from ()

        line = barren.__code__.co_firstlineno
        with pytest.raises(RuntimeError, match=rf"(?s)barren.*test_teardown\.py\D+{line}\b"):
            barren()
        assert ran == ["finalizer"]
        assert barren not in finalizers

    def test_one_that_yields_twice(self, ran: list[str]) -> None:
        """Promise 6: one that yields again raises RuntimeError from its teardown, which names the
        same, and is closed."""

        @memoize
        def fertile() -> Generator[int, None, None]:
            try:
                yield 1
                yield 2
            finally:
                ran.append("closed")

        line = fertile.__code__.co_firstlineno
        assert fertile() == 1
        with pytest.raises(ExceptionGroup) as raised:
            reset(fertile)
        pattern = rf"(?s)fertile.*more than once.*test_teardown\.py\D+{line}\b"
        expected = pytest.RaisesExc(RuntimeError, match=pattern)
        assert pytest.RaisesGroup(expected).matches(raised.value)
        assert ran == ["closed"]


class TestOrder:
    def test_finalizers_of_one_object(self, ran: list[str]) -> None:
        """Promise 7: last in first out, where the rest of a generator counts as registered at its
        `yield` and `finalizer=` right after."""

        @memoize(finalizer=lambda value: ran.append(f"finalizer= of {value}"))
        def thing() -> Generator[str, None, None]:
            finalizers.register(thing, ran.append, "registered in the body")
            yield "object"
            ran.append("rest of the generator")

        thing()
        finalizers.register(thing, ran.append, "registered afterwards")
        assert len(finalizers) == 4
        reset(thing)
        in_order = ["rest of the generator", "registered in the body"]
        assert ran == ["registered afterwards", "finalizer= of object", *in_order]

    def test_what_was_built_on_another_goes_first(self, ran: list[str]) -> None:
        """Promise 7: objects go in the reverse of the order in which their making finished; a later
        registration does not move one."""
        base, alone = server(ran, "base"), server(ran, "alone")

        @memoize
        def top() -> Generator[str, None, None]:
            base()
            yield "top"
            ran.append("top")

        top()
        alone()
        finalizers.register(base, ran.append, "registered late on base")
        assert list(finalizers) == [alone, top, base, base]
        reset(base, alone, top, base)
        assert ran == ["alone", "top", "registered late on base", "base"]
        assert list(finalizers) == []


class TestErrors:
    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
    def test_one_failing_finalizer_stops_no_other(
        self, kind: type[BaseException], ran: list[str]
    ) -> None:
        """Promises 3 and 8: the rest still runs, and `reset` raises all errors in an
        ExceptionGroup, or a BaseExceptionGroup, each with a note that names its function."""

        @memoize
        def first() -> Generator[int, None, None]:
            yield 1
            ran.append("first")
            raise kind("of first")

        @memoize
        def second() -> int:
            finalizers.register(second, ran.append, "second")
            finalizers.register(second, next, iter(()))
            return first()

        second()
        with pytest.raises(BaseExceptionGroup) as raised:
            reset()
        assert isinstance(raised.value, ExceptionGroup) is issubclass(kind, Exception)
        assert ran == ["second", "first"]
        errors = raised.value.exceptions
        assert [str(error) for error in errors] == ["", "of first"]
        for error, name in zip(errors, (".second", ".first"), strict=True):
            assert name in error.__notes__[0]
        reset()

    def test_a_finalizer_that_would_have_to_be_awaited(self, ran: list[str]) -> None:
        """Promise 19: a finalizer or callback of a plain object that returns an awaitable is a
        TypeError of the teardown, which says to write `async def`; the others run."""

        async def close() -> None:
            ran.append("closed")

        @memoize(finalizer=lambda value: close())
        def thing() -> Generator[int, None, None]:
            yield 1
            ran.append("down")

        thing()
        finalizers.register(thing, close)
        with pytest.raises(ExceptionGroup) as raised:
            reset(thing)
        expected = pytest.RaisesExc(TypeError, match=r"(?s)thing.*async def")
        assert pytest.RaisesGroup(expected, expected).matches(raised.value)
        assert ran == ["down"]


class TestWhileItEnds:
    def test_callers_wait_and_make_anew(self, ran: list[str]) -> None:
        """Promise 9: while the object is torn down callers wait, then one makes a new one and all
        get that."""
        point, numbers = Point(), itertools.count()

        @memoize
        def port() -> Generator[int, None, None]:
            number = next(numbers)
            ran.append(f"bind {number}")
            yield number
            if number == 0:
                point.pass_()
            ran.append(f"free {number}")

        port()
        resetter = Call(reset, port)
        point.reached()
        callers = [Call(port).until_it_waits() for _ in range(4)]
        point.go()
        resetter.result()
        assert {caller.result() for caller in callers} == {1}
        assert ran == ["bind 0", "free 0", "bind 1"]

    @pytest.mark.parametrize("daemon", [False, True])
    @pytest.mark.parametrize("work", ["call", "reset"])
    def test_its_own_threads(self, work: str, daemon: bool, ran: list[object]) -> None:
        """Promise 9: a thread of the object, for which its teardown waits, may call its function,
        which gives it the object that is being torn down, and reset everything, which leaves that
        object out."""
        other, stop = server(cast(Any, ran), "other"), threading.Event()

        def serve() -> None:
            stop.wait(LIMIT)
            ran.append(thing() if work == "call" else reset())

        @memoize
        def thing() -> Generator[str, None, None]:
            thread = threading.Thread(target=serve, daemon=daemon)
            thread.start()
            yield "thing"
            stop.set()
            thread.join(LIMIT)
            ran.append("joined" if not thread.is_alive() else "it hangs")

        other(), thing()
        reset(thing)
        assert ran == (["thing", "joined"] if work == "call" else ["other", None, "joined"])
        assert (other in finalizers, thing in finalizers) == (work == "call", False)
        reset()

    def test_the_work_of_its_own_pool(self, ran: list[object]) -> None:
        """Promise 9: so may what its own pool has to do when it is shut down."""

        @memoize
        def pool() -> Generator[Any, None, None]:
            begun, stop = threading.Event(), threading.Event()

            def serve() -> bool:
                begun.set()
                return stop.wait(LIMIT) and pool() is executor

            with ThreadPoolExecutor() as executor:
                served = executor.submit(serve)
                assert begun.wait(LIMIT)
                yield executor
                stop.set()
                ran.append(served.result(LIMIT))

        pool()
        reset()
        assert ran == [True]

    @pytest.mark.parametrize("everything", [False, True])
    def test_a_thread_that_merely_started_meanwhile(self, everything: bool, ran: list[str]) -> None:
        """Promises 9 and 10: a thread of the program that started while the body ran, and has
        nothing to do with it, resets the function as any other thread does: it waits for the
        teardown, and is told of no deadlock."""
        made, ended, go = Point(), Point(), Point()

        @memoize
        def thing() -> Generator[str, None, None]:
            made.pass_()
            yield "thing"
            ended.pass_()
            ran.append("down")

        def work() -> list[str]:
            go.pass_()
            reset(thing)
            return list(ran)

        maker = busy(thing, made, "made")
        bystander = Call(work)
        go.reached()
        made.go()
        maker.result()
        resetter = Call(reset, *([] if everything else [thing]))
        ended.reached()
        go.go()
        bystander.until_it_waits()
        ended.go()
        assert bystander.result() == ["down"]
        resetter.result()

    @pytest.mark.parametrize("work", ["call", "reset", "areset"])
    def test_a_portal_in_a_test_client(self, work: str, ran: list[object]) -> None:
        """Promise 9: the lifespan of an application under a memoized TestClient, which runs in a
        thread of anyio's portal, may use the client or reset everything when it ends."""
        fastapi, testclient = map(pytest.importorskip, ("fastapi", "fastapi.testclient"))
        other = server(cast(Any, ran), "other")

        @contextlib.asynccontextmanager
        async def lifespan(app: object) -> AsyncGenerator[None, None]:
            yield
            if work == "call":
                ran.append(client() is made)
            elif work == "reset":
                reset()
                ran.append("reset")
            else:
                await areset()
                ran.append("reset")

        @memoize
        def client() -> Generator[Any, None, None]:
            with testclient.TestClient(fastapi.FastAPI(lifespan=lifespan)) as client:
                yield client
            ran.append("closed")

        other()
        made = client()
        Call(reset, client).result()
        assert ran == ([True, "closed"] if work == "call" else ["other", "reset", "closed"])


class Quick(queue.SimpleQueue[None]):
    """What the library waits with, where a second is over soon."""

    def get(self, block: bool = True, timeout: float | None = None) -> None:
        return super().get(block, timeout and timeout / 50)


class TestALongWait:
    @pytest.mark.parametrize("everything", [False, True])
    def test_a_reset_says_what_it_waits_for(
        self,
        everything: bool,
        ran: list[str],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Promises 10 and 28: a `reset` that has waited five seconds for somebody else's teardown
        says at WARNING for which object, once, and waits on."""
        monkeypatch.setattr(queue, "SimpleQueue", Quick)
        point, warned = Point(), threading.Event()

        class Told(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                warned.set()

        told = Told(logging.WARNING)
        logging.getLogger("memoize_once").addHandler(told)
        thing = server(ran, "down", point, "torn down")
        other = busy(thing, point, "torn down")
        resetter = Call(reset, *([] if everything else [thing]))
        try:
            assert warned.wait(LIMIT)
            assert resetter.is_alive()
        finally:
            point.go()
            logging.getLogger("memoize_once").removeHandler(told)
        assert resetter.error() is other.error() is None
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("memoize_once", "WARNING")
        assert "threads.server.<locals>.thing" in record.getMessage()

    def test_a_short_wait(self, ran: list[str], caplog: pytest.LogCaptureFixture) -> None:
        """Promise 28: where it had to wait for less, it says nothing; nor does who waits for a
        making, or calls while an object is torn down."""
        point = Point()
        thing = server(ran, "down", point, "torn down")
        other = busy(thing, point, "torn down")
        waiting = [Call(reset, thing).until_it_waits(), Call(thing).until_it_waits()]
        point.go()
        assert [call.error() for call in (other, *waiting)] == [None] * 3
        assert caplog.records == []


class TestReset:
    @pytest.mark.parametrize("everything", [False, True])
    @pytest.mark.parametrize("held", ["made", "torn down"])
    def test_it_waits_for_another_thread(self, held: str, everything: bool, ran: list[str]) -> None:
        """Promise 10: when `reset` returns f's object is gone, also where another thread was just
        making it, or tearing it down."""
        point = Point()
        thing = server(ran, "down", point, held)

        def work() -> list[str]:
            reset(*(() if everything else (thing,)))
            return list(ran)

        other = busy(thing, point, held)
        resetter = Call(work).until_it_waits()
        point.go()
        assert resetter.result() == ["down"]
        other.result()
        assert thing not in finalizers

    @pytest.mark.parametrize("where", ["body", "finalizer"])
    def test_inside(self, where: str, ran: list[str]) -> None:
        """Promises 9 and 10: inside f's body or finalizer `reset(f)` raises DeadlockError and tears
        nothing down, and `reset()` leaves f out; f() in a finalizer gives the old object."""
        other = server(ran, "other")

        def inside() -> None:
            other()
            with pytest.raises(DeadlockError, match="thing"):
                reset(other, thing)
            assert ran == []
            reset()
            assert ran == ["other"]

        @memoize
        def thing() -> Generator[int, None, None]:
            if where == "body":
                inside()
            yield 2
            if where == "finalizer":
                inside()
                assert thing() == 2

        assert thing() == 2
        assert thing in finalizers
        reset(thing)
        assert thing not in finalizers

    @pytest.mark.parametrize("held", ["made", "torn down"])
    def test_everything_inside(self, held: str, ran: list[str]) -> None:
        """Promise 10: `reset()` inside a body waits for nobody: it leaves out what another thread
        is making or tearing down."""
        point = Point()
        slow, quick = server(ran, "slow", point, held), server(ran, "quick")

        @memoize
        def thing() -> list[str]:
            quick()
            reset()
            return list(ran)

        other = busy(slow, point, held)
        assert Call(thing).result() == ["quick"]
        point.go()
        other.result()
        assert (slow in finalizers) is (held == "made")

    def test_it_takes_whatever_wraps_a_memoized_function(self) -> None:
        """Promise 10: `reset` takes what leads to a memoized function by `__wrapped__`, a method, a
        pytest fixture; `cache_clear()` does the same, and where no object is held neither does
        anything."""
        numbers = itertools.count()

        class Owner:
            @memoize
            def method(self) -> int:
                return next(numbers)

            @classmethod
            @memoize
            def class_(cls) -> int:
                return next(numbers)

        @memoize
        def plain() -> int:
            return next(numbers)

        @functools.wraps(plain, updated=())
        def wrapper() -> int:
            return plain()

        class Decorated:
            @functools.wraps(Owner.method)
            def method(self) -> int:
                return Owner.method(cast(Any, self))

            fixture = pytest.fixture(Owner.method)

        owner = Owner()
        cases: list[tuple[Callable[[], int], Any]] = [
            (plain, plain),
            (plain, functools.wraps(plain)(lambda: plain())),
            (plain, wrapper),
            (plain, pytest.fixture(plain)),
            (plain, staticmethod(plain)),
            (Owner().method, Owner().method),
            (Owner().method, Owner.method),
            (Owner.class_, Owner.class_),
            (owner.method, functools.wraps(owner.method)(lambda: owner.method())),
            (owner.method, functools.wraps(functools.wraps(owner.method)(lambda: 1))(lambda: 1)),
            (Owner.class_, functools.wraps(Owner.class_)(lambda: Owner.class_())),
            (owner.method, staticmethod(owner.method)),
            (owner.method, pytest.fixture(owner.method)),
            (owner.method, Decorated().method),
            (owner.method, Decorated().fixture),
            (owner.method, functools.wraps(Decorated().method)(lambda: 1)),
            (plain, MethodType(pytest.fixture(plain), owner)),
            (plain, MethodType(wrapper, owner)),
            (plain, staticmethod(pytest.fixture(wrapper))),
        ]
        clear: Any = plain
        for call, how in [
            *((call, functools.partial(reset, wrapping)) for call, wrapping in cases),
            (plain, clear.cache_clear),
        ]:
            before = call()
            assert call() == before
            how()
            how()
            assert call() == next(numbers) - 1 != before

    @pytest.mark.parametrize("kind", [None, 1, len, int, Mock, MagicMock], ids=repr)
    def test_anything_else(self, kind: Any, ran: list[str]) -> None:
        """Promises 10 and 11: of anything that is not memoized `reset` raises TypeError that says
        so, and tears nothing down; `register` and `unregister` do, and of no callback."""
        thing, callback = server(ran), cast(Any, None)
        wrong = kind() if kind in (Mock, MagicMock) else kind  # those are asked by their type
        thing()
        for function, args in (
            (reset, (thing, wrong)),
            (finalizers.register, (wrong, print)),
            (finalizers.unregister, (wrong, print)),
        ):
            with pytest.raises(TypeError, match=r"not memoized.*@memoize"):
                function(*args)
        with pytest.raises(TypeError, match="not callable"):
            finalizers.register(thing, callback)
        assert ran == []
        assert len(finalizers) == 1


class TestRegister:
    def test_where_it_binds(self, ran: list[str]) -> None:
        """Promise 11: in f's body it binds to the object being made, elsewhere, in the body of
        another too, to the one that f holds; it returns the callback."""

        @memoize
        def thing() -> int:
            helper()
            return 1

        def helper() -> None:
            assert finalizers.register(thing, ran.append, "in the body") == ran.append

        @memoize
        def other() -> int:
            finalizers.register(thing, ran.append, "in the body of another")
            return 2

        thing()
        other()
        reset(other)
        assert ran == []
        call = Call(finalizers.register, thing, ran.append, "in another thread")
        assert call.result() == ran.append
        finalizers.register(thing, lambda **given: ran.append(str(given)), function=2, callback=3)
        reset(thing)
        in_order = ["in another thread", "in the body of another", "in the body"]
        assert ran == ["{'function': 2, 'callback': 3}", *in_order]

    def test_no_object(self, ran: list[str]) -> None:
        """Promise 11: where f holds no object, before or after its life or while another thread
        makes it, that is a LookupError."""
        point = Point()
        thing = server(ran, "down", point, "made")

        def refused() -> None:
            with pytest.raises(LookupError, match="thing"):
                finalizers.register(thing, print)

        refused()
        maker = busy(thing, point, "made")
        refused()
        point.go()
        maker.result()
        reset(thing)
        refused()

    def test_in_a_finalizer(self, ran: list[str]) -> None:
        """Promise 11: what a finalizer registers on its own object runs or is refused, and is never
        lost."""
        thing = server(ran)
        thing()
        finalizers.register(thing, finalizers.register, thing, ran.append, "registered")
        try:
            reset(thing)
        except* LookupError:
            ran.append("registered")
        assert sorted(ran) == ["down", "registered"]
        assert len(finalizers) == 0

    def test_against_a_teardown(self, ran: list[str]) -> None:
        """Promise 11: whatever is registered while another thread tears down runs or is refused,
        and is never lost."""

        def register(thing: Any) -> int:
            for accepted in range(1000):
                try:
                    finalizers.register(thing, ran.append, "registered")
                except LookupError:
                    return accepted
            return 1000

        for _ in range(20):
            ran.clear()
            thing = server(ran)
            thing()
            call = Call(register, thing)
            reset(thing)
            accepted = call.result()
            reset(thing)
            assert ran.count("registered") == accepted

    def test_unregister(self, ran: list[str]) -> None:
        """Promise 11: `unregister` removes every registration of a callback, compared with `==`,
        and nothing where there is none."""
        thing = server(ran, "rest")
        finalizers.unregister(thing, ran.append)
        thing()
        finalizers.register(thing, ran.append, "once")
        finalizers.register(thing, ran.extend, ["kept"])
        finalizers.register(thing, ran.append, "twice")
        finalizers.unregister(thing, ran.append)
        assert len(finalizers) == 2
        reset(thing)
        assert ran == ["kept", "rest"]


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    """Threads take turns after each few steps."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class TestRegistry:
    def test_what_it_shows(self) -> None:
        """Promise 11: iterating yields the function of each pending finalizer in the order in which
        they would run, `len` counts them, and `in` is False for anything else."""

        @memoize
        def plain() -> int:
            return 1

        @memoize
        def generator() -> Generator[int, None, None]:
            finalizers.register(generator, int)
            yield 1

        @memoize(finalizer=repr, key=lambda key: key)
        def keyed(key: int) -> int:
            return key

        assert (len(finalizers), list(finalizers)) == (0, [])
        plain()
        generator()
        keyed(1)
        keyed(2)
        assert list(finalizers) == [keyed, keyed, generator, generator]
        shown = [function in finalizers for function in (generator, keyed, plain)]
        assert shown == [True, True, False]
        finalizers.register(plain, repr, 1)
        finalizers.register(generator, repr, 2)
        assert list(finalizers) == [keyed, keyed, *[generator] * 3, plain]
        assert len(finalizers) == len(list(finalizers))
        others: list[object] = [len, 1, None, [], "generator", Mock(), MagicMock()]
        assert not any(other in finalizers for other in others)

    def test_while_an_object_is_made(self) -> None:
        """Promise 11: the finalizers of an object that is still being made come first, in the
        thread that makes it and in others."""
        point = Point()
        shown: list[object] = []
        other = server([], "other")

        @memoize
        def thing() -> Generator[int, None, None]:
            finalizers.register(thing, int)
            finalizers.register(thing, int)
            other()
            shown.append(list(finalizers))
            point.pass_()
            yield 1

        maker = busy(thing, point, "made")
        assert list(finalizers) == [thing, thing, other]
        assert len(finalizers) == 3
        assert thing in finalizers
        point.go()
        maker.result()
        assert shown == [[thing, thing, other]]
        assert list(finalizers) == [thing, thing, thing, other]

    def test_what_it_says_to_a_person(self, ran: list[str]) -> None:
        """Promises 11 and 28: `repr` lists what is pending, by module, qualified name and key, in
        the same order."""

        @memoize(key=lambda region: region)
        def client(region: str) -> Generator[str, None, None]:
            yield region

        before = repr(finalizers)
        client("eu"), client("us"), server(ran)()
        text = repr(finalizers)
        name = "test_teardown.TestRegistry.test_what_it_says_to_a_person.<locals>.client"
        assert text.count(name) == 2
        places = [text.index(each) for each in ("threads.server.<locals>.thing", "'us'", "'eu'")]
        assert places == sorted(places)
        reset()
        assert repr(finalizers) == before
        assert "client" not in before

    def test_it_is_one(self) -> None:
        """Promise 11: there is one registry in a process: it is pickled and copied by reference."""
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(finalizers, protocol)) is finalizers
        assert copy.copy(finalizers) is copy.deepcopy([finalizers])[0] is finalizers

    def test_while_others_register(self, ran: list[str]) -> None:
        """Promise 11: an object that has a teardown is in the registry at every look, whatever
        another thread registers and unregisters on it meanwhile."""
        thing, done = server(ran), False
        thing()

        def register() -> None:
            while not done:
                finalizers.register(thing, int)
                finalizers.unregister(thing, int)

        with switching_often():
            calls = [Call(register) for _ in range(2)]
            looks = [(thing in finalizers, set(finalizers)) for _ in range(2000)]
            repr(finalizers)
            done = True
            for call in calls:
                call.result()
        assert all(look == (True, {thing}) for look in looks)
        reset(thing)
        assert (ran, len(finalizers), list(finalizers)) == (["down"], 0, [])

    def test_a_registration_that_a_reset_overtakes(self) -> None:
        """Promises 5 and 11: what is registered while another thread resets keeps nothing when it
        has run or was refused: neither the object nor its function."""

        class Thing:
            """What can be referred to weakly."""

        def make() -> list[weakref.ref[Any]]:
            @memoize
            def thing() -> Generator[Thing, None, None]:
                yield Thing()

            barrier = threading.Barrier(2)

            def register() -> None:
                barrier.wait(LIMIT)
                with contextlib.suppress(LookupError):
                    while True:
                        finalizers.register(thing, int)
                        finalizers.unregister(thing, int)

            made, call = weakref.ref(thing()), Call(register)
            barrier.wait(LIMIT)
            reset(thing)
            call.result()
            reset(thing)
            return [made, weakref.ref(thing)]

        with switching_often():
            refs = [ref for _ in range(200) for ref in make()]
        collect()
        assert [ref() for ref in refs if ref() is not None] == []
        assert list(finalizers) == []

    def test_a_finalizer_that_runs(self, ran: list[object]) -> None:
        """Promise 11: a finalizer that runs is pending no more: the registry leaves it out from the
        moment when it begins."""

        def look() -> None:
            ran.append((len(finalizers), list(finalizers), thing in finalizers))

        @memoize
        def thing() -> Generator[int, None, None]:
            finalizers.register(thing, look)
            yield 1
            look()

        thing()
        reset(thing)
        assert ran == [(1, [thing], True), (0, [], False)]
