"""Promises 2 to 4, 7 and 9 to 11 in every order of steps of two threads, and most of those of three, not only in those that happen."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from scheduler import LONG, Ledger, Loop, Race, Thing, every_schedule, step

from memoize_once import DeadlockError, areset, finalizers, memoize, reset


class Subject:
    """A memoized function with a teardown, and what actors do with it."""

    def __init__(self, failures: int = 0, registers: bool = False, keyed: bool = False) -> None:
        self.ledger = ledger = Ledger()
        self.got: list[Thing] = []
        self._tokens = itertools.count()
        tries = itertools.count()

        @memoize(key=(lambda number: number) if keyed else None)
        def function(number: int = 1) -> Generator[Thing, None, None]:
            thing = ledger.begin(function)
            step()
            if next(tries) < failures:
                raise ValueError("fails")
            if registers:
                finalizers.register(function, lambda: ledger.register(function, "by a finalizer"))
            yield ledger.made(thing)
            ledger.ends(thing)
            step()

        self.function: Any = function

    def call(self) -> None:
        step()
        self.got.append(self.ledger.got(self.function))

    def reset(self) -> None:
        step()
        with self.ledger.resetting("thing"):
            reset(self.function)

    def reset_all(self) -> None:
        step()
        with self.ledger.resetting("thing"):
            reset()

    def register(self) -> None:
        step()
        self.ledger.register(self.function, next(self._tokens))

    def unregister(self) -> None:
        step()
        finalizers.unregister(self.function, int)


def race(*actors: str, made: bool = False, failures: int = 0, registers: bool = False, keyed: bool = False) -> Race:
    """Each actor is given by what it does, one after another."""
    subject = Subject(failures, registers, keyed)
    if made:
        subject.function()
    if "unregister" in actors:
        finalizers.register(subject.function, int)

    def act(names: str) -> None:
        for name in names.split():
            getattr(subject, name)()

    def check(errors: list[BaseException | None]) -> None:
        assert sum(error is not None for error in errors) == failures, errors
        assert all(isinstance(error, ValueError | None) for error in errors), errors
        if "reset" not in " ".join(actors):
            assert len(set(subject.got)) == 1, "callers got different objects"
        for _ in range(2):  # it works as before, too
            reset()
            subject.call()
        reset()
        subject.ledger.check()

    return Race([partial(act, names) for names in actors], check)


def ring(*needs: int | None) -> Race:
    """Each actor calls a function of its own, whose body calls the function of the actor with this number."""
    functions: list[Any] = []
    told: list[DeadlockError] = []

    def function(need: int | None) -> Callable[[], int]:
        @memoize
        def member() -> int:
            step()
            if need is not None:
                try:
                    functions[need]()
                except DeadlockError as error:
                    told.append(error)
            return len(functions)

        return member

    def check(errors: list[BaseException | None]) -> None:
        assert not any(errors), errors
        assert len(told) == (None not in needs), "not exactly one was told of a ring, or one where there is none"

    functions += map(function, needs)
    return Race(functions, check)


class AsyncSubject(Subject):
    """The same for an async generator, each actor with a loop of its own, but for those that only reset."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        ledger, tries = self.ledger, itertools.count()

        @memoize
        async def function() -> AsyncGenerator[Thing, None]:
            thing = ledger.begin(function)
            await asyncio.sleep(0)
            if next(tries) < failures:
                raise ValueError("fails")
            yield ledger.made(thing)
            ledger.ends(thing)
            await asyncio.sleep(0)

        self.function = function

    def act(self, names: str) -> None:
        if names.startswith("reset"):
            getattr(self, names)()
            return
        with asyncio.Runner(loop_factory=Loop) as runner:
            for name in names.split():
                runner.run(getattr(self, name)())

    async def acall(self) -> None:
        step()
        ended = self.ledger.ended()
        self.got.append(self.ledger.given(await self.function(), ended))

    async def acancelled(self) -> None:
        task = asyncio.ensure_future(self.acall())
        await asyncio.sleep(0)
        step()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def areset(self) -> None:
        step()
        with self.ledger.resetting("thing"):
            await areset(self.function)


def arace(*actors: str, failures: int = 0) -> Race:
    subject = AsyncSubject(failures)

    def check(errors: list[BaseException | None]) -> None:
        assert sum(error is not None for error in errors) == failures, errors
        assert all(isinstance(error, ValueError | None) for error in errors), errors
        for _ in range(2):  # it works as before, too
            reset()
            asyncio.run(subject.acall())
        subject.ledger.check()

    return Race([partial(subject.act, names) for names in actors], check)


def left_by_a_loop(actors: int) -> Race:
    """Each actor resets what a coroutine function has made on a loop that has closed."""
    ledger = Ledger()

    @memoize(finalizer=ledger.ends)
    async def function() -> Thing:
        return ledger.made(ledger.begin(function))

    asyncio.run(function())

    def act() -> None:
        step()
        with ledger.resetting("thing"):
            reset(function)

    def check(errors: list[BaseException | None]) -> None:
        assert not any(errors), errors
        ledger.check()

    return Race([act] * actors, check)


RACES = {
    "call, call": partial(race, "call", "call"),
    "call, reset": partial(race, "call", "reset"),
    "call, reset of an object": partial(race, "call", "reset", made=True),
    "call and reset, reset": partial(race, "call reset", "reset"),
    "call, reset of everything": partial(race, "call", "reset_all"),
    "call, call of one key": partial(race, "call", "call", keyed=True),
    "call, reset of one key": partial(race, "call", "reset", made=True, keyed=True),
    "reset, reset": partial(race, "reset", "reset", made=True),
    "reset, reset of everything": partial(race, "reset", "reset_all", made=True),
    "register, reset": partial(race, "register", "reset", made=True),
    "unregister, reset": partial(race, "unregister", "reset", made=True),
    "register, reset, and a finalizer registers": partial(race, "register", "reset", made=True, registers=True),
    "call, call that fails": partial(race, "call", "call", failures=1),
    "call, call of two that need each other": partial(ring, 1, 0),
    "call, call of two of which one needs the other": partial(ring, 1, None),
    "call, call, reset": partial(race, "call", "call", "reset"),
    "call, reset, reset": partial(race, "call", "reset", "reset", made=True),
    "call, register, reset": partial(race, "call", "register", "reset", made=True),
    "call, call, call that fails": partial(race, "call", "call", "call", failures=1),
    "call, call, call of three that need each other": partial(ring, 1, 2, 0),
    "call, call, call of three in a chain": partial(ring, 1, 2, None),
}


ARACES = {
    "call, call": partial(arace, "acall", "acall"),
    "call, reset": partial(arace, "acall", "reset"),
    "two calls, reset": partial(arace, "acall acall", "reset"),
    "call and areset, reset": partial(arace, "acall areset", "reset"),
    "call, call that is cancelled": partial(arace, "acall", "acancelled"),
    "call that is cancelled, reset": partial(arace, "acancelled", "reset"),
    "call, call that fails": partial(arace, "acall", "acall", failures=1),
    "call, call, reset": partial(arace, "acall", "acall", "reset"),
    "call, call, reset of everything": partial(arace, "acall", "acall", "reset_all"),
    "reset, reset of what a closed loop has left": partial(left_by_a_loop, 2),
}


@pytest.mark.parametrize("name", RACES)
def test_every_interleaving(name: str) -> None:
    """Promises 2 to 4, 7 and 9 to 11: wherever threads stop each other in the library, callers share one object and get none that was torn
    down before they called; each making has one teardown and each finalizer runs once; a reset returns when the object is gone; of a ring
    exactly one is told; nobody is left waiting, and nothing is left behind."""
    race = RACES[name]
    of_two = len(race().actions) == 2
    unlimited = of_two and sys.implementation.name == "cpython"  # PyPy takes long to tell states
    count = every_schedule(race) if unlimited else 0
    if not unlimited or "everything" in name:  # a comprehension over everything keeps what it has found where no state shows it
        count += every_schedule(race, preemptions=1 + of_two + LONG)
    print(count, "schedules")
    assert count > 300  # no race is over before it has begun


@pytest.mark.parametrize("race", ARACES.values(), ids=ARACES)
def test_every_interleaving_of_loops(race: Callable[[], Race]) -> None:
    """Promises 16 to 19: the same for event loops in several threads, and for a thread that resets without one."""
    of_two = len(race().actions) == 2
    count = every_schedule(race, preemptions=1 + (LONG and of_two))
    print(count, "schedules")
    assert count > 50
