"""Promises 2 to 4, 7, 9 to 11 and 16 to 19 under load: threads and tasks that do anything at random, from a seed."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from scheduler import LONG, Ledger, Thing
from threads import LIMIT, Call

from memoize_once import DeadlockError, areset, memoize, reset

THREADS, LOOPS, OPERATIONS, KEYS = 4, 3, 60, 2
SEEDS = range(500 if LONG else 30)


class Failure(Exception):
    """Of a body."""


@pytest.fixture(autouse=True, params=[None, 1e-6], ids=["usual switches", "many switches"])
def switches(request: pytest.FixtureRequest) -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(request.param or interval)
    yield
    sys.setswitchinterval(interval)


class Load:
    """Functions that are built on each other or fail, at random, and what is done with them."""

    def __init__(self, seed: int) -> None:
        self.ledger = Ledger()
        self.random = random.Random(seed)
        self.tokens = itertools.count()
        self.functions: dict[str, Callable[[], Any]] = {}
        self.records: dict[str, Any] = {}

    def add(self, name: str, function: Any, *args: int) -> None:
        self.functions[name] = lambda: function(*args)
        self.records[name] = function

    def add_sync(self) -> None:
        ledger = self.ledger

        @memoize
        def single() -> Generator[Thing, None, None]:
            thing = ledger.begin(single, "single")
            self.fail()
            yield ledger.made(thing)
            ledger.ends(thing)

        @memoize(key=lambda number: number)
        def keyed(number: int) -> Generator[Thing, None, None]:
            thing = ledger.begin(keyed, f"keyed {number}")
            self.call_any()
            yield ledger.made(thing)
            ledger.ends(thing)

        @memoize(finalizer=ledger.ends)
        def plain() -> Thing:
            thing = ledger.begin(plain, "plain")
            self.call_any()
            self.fail()
            return ledger.made(thing)

        self.add("single", single)
        self.add("plain", plain)
        for number in range(KEYS):
            self.add(f"keyed {number}", keyed, number)

    def fail(self) -> None:
        if self.random.random() < 0.2:
            raise Failure

    def call_any(self) -> None:
        if self.random.random() < 0.5:
            self.call()

    def call(self) -> None:
        self.ledger.got(self.functions[self.name()])

    def name(self) -> str:
        return self.random.choice(list(self.functions))

    def resets(self) -> tuple[list[str], list[Any]]:
        """The names of what a reset takes, and what it is given."""
        if self.random.random() < 0.3:
            return list(self.functions), []
        record = self.records[self.name()]
        return [name for name, other in self.records.items() if other is record], [record]

    def reset(self) -> None:
        names, functions = self.resets()
        with self.ledger.resetting(*names):
            reset(*functions)

    def register(self) -> None:
        self.ledger.register(self.records[self.name()], next(self.tokens))

    def work(self, *actions: Callable[[], object]) -> None:
        for _ in range(OPERATIONS):
            with suppress(Failure, DeadlockError):
                self.random.choice(actions)()


@pytest.mark.parametrize("seed", SEEDS)
def test_threads(seed: int) -> None:
    """Promises 2 to 4, 7 and 9 to 11: threads that call, fail, reset and register at random see one object at a time, each with one
    teardown; nobody is left waiting, and nothing is left behind."""
    load = Load(seed)
    load.add_sync()
    for call in [Call(load.work, load.call, load.call, load.call, load.reset, load.register) for _ in range(THREADS)]:
        call.result()
    reset()
    load.ledger.check()


class AsyncLoad(Load):
    """The same from tasks, with coroutine functions and async generators too."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        ledger = self.ledger

        @memoize
        async def generator() -> AsyncGenerator[Thing, None]:
            thing = ledger.begin(generator, "generator")
            await self.turns()
            self.fail()
            yield ledger.made(thing)
            ledger.ends(thing)
            await self.turns()

        @memoize(finalizer=ledger.ends, key=lambda number: number)
        async def coroutine(number: int) -> Thing:
            thing = ledger.begin(coroutine, f"coroutine {number}")
            await self.turns()
            if number == 0 and self.random.random() < 0.5:
                await generator()
            return ledger.made(thing)

        self.add("generator", generator)
        for number in range(KEYS):
            self.add(f"coroutine {number}", coroutine, number)

    async def turns(self) -> None:
        for _ in range(self.random.randrange(3)):
            await asyncio.sleep(0)

    async def acall(self) -> None:
        ended = self.ledger.ended()
        self.ledger.given(await self.functions[self.name()](), ended)

    async def areset(self) -> None:
        names, functions = self.resets()
        with self.ledger.resetting(*names):
            await areset(*functions)

    async def aregister(self) -> None:
        self.register()

    async def awork(self) -> None:
        actions = [self.acall, self.acall, self.acall, self.areset, self.aregister]
        for _ in range(OPERATIONS // 4):
            task = asyncio.ensure_future(self.random.choice(actions)())
            if self.random.random() < 0.2:
                await self.turns()
                task.cancel()
            with suppress(Failure, DeadlockError, asyncio.CancelledError):
                await task

    async def main(self) -> None:
        await asyncio.gather(*[self.awork() for _ in range(4)])


@pytest.mark.parametrize("seed", SEEDS)
def test_loops_and_threads(seed: int) -> None:
    """Promises 16 to 19: the same for tasks of several event loops that are cancelled, too, and for a thread without a loop."""
    load = AsyncLoad(seed)
    calls = [Call(asyncio.run, load.main()) for _ in range(LOOPS)]
    calls.append(Call(load.work, load.reset, load.register, load.register))
    for call in calls:
        call.result()
    reset()
    for thread in threading.enumerate():  # an areset that was cancelled goes on in a thread
        if thread.name == "memoize_once":
            thread.join(LIMIT)
    load.ledger.check()
