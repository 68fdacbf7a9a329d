"""Promises 2 to 4, 7, 9 to 11 and 16 to 19 in many orders of the steps of two or three threads."""

import asyncio
import itertools
import queue
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any

import pytest
from scheduler import Queue, Race, Selector, explore, step

from memoize_once import DeadlockError, areset, finalizers, memoize, reset


class Subject:
    """A memoized function, what is done with it, and which promises that breaks."""

    def __init__(self, options: str, needs: Callable[[], object] = int) -> None:
        self.needs = needs
        self.options = options
        self.failures = ["fails"] * ("fails" in options)
        self.numbers = itertools.count()  # of objects, and of finalizers
        # the objects that have come so far
        self.begun, self.made, self.ended, self.gone = set[int](), {-1}, set[int](), list[int]()
        self.taken, self.ran = list[int](), list[int]()  # finalizers

        @memoize(key=(lambda number: number) if "keyed" in options else None)
        def plain(number: int = 1) -> Generator[int, None, None]:
            yield from self.body()

        @memoize
        async def on_a_loop() -> AsyncGenerator[int, None]:
            for thing in self.body():
                await asyncio.sleep(0)
                yield thing
                await asyncio.sleep(0)

        @memoize
        async def without_teardown() -> int:
            return -1

        kinds: dict[str, Any] = {"async": on_a_loop, "bare": without_teardown}
        self.function = kinds.get(options.partition(" ")[0], plain)
        self.chosen = [] if "all" in options else [self.function]  # for resets

    def body(self) -> Generator[int, None, None]:
        assert self.begun == set(self.gone), "two at once"
        thing = next(self.numbers)
        self.begun.add(thing)
        finalizers.register(self.function, self.gone.append, thing)  # runs last, after failures too
        step()
        self.needs()
        if self.failures:
            raise ValueError(self.failures.pop())
        if "registers" in self.options:
            finalizers.register(self.function, self.register)
        self.made.add(thing)
        yield thing
        self.ended.add(thing)
        step()

    def got(self, ended: set[int], thing: int) -> None:
        """What a call gives, and what had ended before that began."""
        assert thing in self.made - ended, "a caller got what was not there"

    def call(self) -> None:
        self.got(set(self.ended), self.function())

    async def acall(self) -> None:
        self.got(set(self.ended), await self.function())

    async def acancelled(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await self.acall()

    @contextmanager
    def resetting(self) -> Iterator[None]:
        before = set(self.begun)
        yield
        assert before <= set(self.gone), "reset returned before it was gone"

    def reset(self) -> None:
        with self.resetting():
            reset(*self.chosen)

    async def areset(self) -> None:
        with self.resetting():
            await areset(*self.chosen)

    def register(self) -> None:
        number = next(self.numbers)
        with suppress(LookupError):
            finalizers.register(self.function, self.ran.append, number)
            self.taken.append(number)

    def unregister(self) -> None:
        finalizers.unregister(self.function, int)

    def act(self, *names: str) -> None:
        """One after another, on an event loop where it needs one."""
        factory = partial(asyncio.SelectorEventLoop, Selector())
        with closing(asyncio.Runner(loop_factory=factory)) as runner:
            for name in names:
                step()
                done = getattr(self, name)()
                if done is not None:
                    runner.run(done)

    def check(self) -> None:
        """When everything is reset, and nobody is at it any more."""
        assert sorted(self.gone) == sorted(self.begun)
        assert sorted(self.taken) == sorted(self.ran)


def race(options: str, actors: list[str]) -> Race:
    """Each actor does one thing after another."""
    if options == "ring":
        return ring(actors[0], *map(int, actors[1:]))
    subject = Subject(options)
    if "made" in options:
        subject.function()
        finalizers.register(subject.function, int)

    def check(errors: list[BaseException]) -> None:
        # who waits for the body that fails gets its very error too
        fails = "fails" in options
        assert {repr(error) for error in errors} == ({"ValueError('fails')"} if fails else set())
        assert len({id(error) for error in errors}) == fails
        if "plain" in options and "reset" not in " ".join(actors):
            # with the -1; nobody has made any where all have waited for the body that fails
            assert len(subject.made) == (1 if len(errors) == len(actors) else 2)
        reset()
        subject.act("call" if options[0] in "pk" else "acall")  # it works as before
        reset()
        subject.check()

    return [partial(subject.act, *names.split()) for names in actors], check


RACES = """\
plain: call | call
plain: call | reset
plain: call reset | reset
plain all: call | reset
plain all: call | call | reset
plain made: call | reset
plain made: reset | reset
plain made all: reset | reset
plain made: register | reset
plain made: unregister | reset
plain made: call | register | reset
plain made registers: register | reset
plain fails: call | call
plain fails: call | call | call
plain fails all: call | call | reset
keyed made: call | reset
async: acall | acall
async: acall | reset
async: acall areset | reset
async: acall | acancelled
async: acancelled | reset
async: acall | acall | reset
async: acall | acancelled | reset
async fails: acall | acall
async fails: acall | acall | acall
bare: acall areset | register
ring: call | 1 | 0
ring: call | 1 | -1
ring: call | 1 | 2 | 0
ring: reset | 1 | 0
"""


def ring(use: str, *needs: int) -> Race:
    """Each actor calls a function of its own, whose body uses that of the actor with this number,
    if there is one. Where it does not call it, but resets it, not every order is a ring."""
    functions: list[Any] = []
    told: list[DeadlockError] = []

    def function(need: int) -> Callable[[], int]:
        @memoize
        def member() -> int:
            step()
            if need >= 0:
                try:
                    reset(functions[need]) if use == "reset" else functions[need]()
                except DeadlockError as error:
                    told.append(error)
            return need

        return member

    def check(errors: list[BaseException]) -> None:
        assert not errors
        most = -1 not in needs
        assert most * (use == "call") <= len(told) <= most, "not exactly one is told of a ring"

    functions += map(function, needs)
    return functions, check


@pytest.mark.parametrize("text", RACES.splitlines())
def test_interleavings(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promises 2 to 4, 7, 9 to 11 and 16 to 19: wherever threads stop each other in the library,
    callers share one object, or the error of its body, and get none that was torn down before they
    called; each object has one teardown and each finalizer runs once; a reset returns when the
    object is gone; of a ring exactly one is told; nobody is left waiting."""
    monkeypatch.setattr(queue, "SimpleQueue", Queue)
    options, actors = text.split(": ")
    explore(lambda: race(options, actors.split(" | ")))
