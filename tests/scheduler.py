"""Races for tests: threads that take turns, one step of the library after another, in many orders.

A step is a line of the library, or one instruction. The threads are real, and stop in their trace
functions; where the library waits, they let others go on.
"""

from __future__ import annotations

import gc
import os
import queue
import random
import selectors
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest
from threads import LIMIT

import memoize_once

LONG = bool(os.environ.get("LONG_TESTS"))  # more steps, more seeds, more schedules
_LIBRARY = os.path.join(os.path.dirname(memoize_once.__file__), "")
sys._getframe().f_trace_opcodes = True  # 3.12 traces instructions only where it was asked before


class _Actor(threading.Thread):
    """Does one action after another, each when it is its turn and step by step."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.turn = threading.Semaphore(0)
        self.start()

    def prepare(self, schedule: _Schedule, action: Callable[[], object]) -> None:
        self.schedule = schedule
        self.action = action
        self.is_able: Callable[[], object] | None = None  # while it waits
        self.has_ended = False
        self.error: BaseException | None = None

    def run(self) -> None:
        while True:
            self.turn.acquire()
            sys.settrace(self._trace)
            try:
                self.action()
            except BaseException as error:
                self.error = error
            sys.settrace(None)
            self.has_ended = True
            self.schedule.hand_on(self, "its end")

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(_LIBRARY) and "record" not in code.co_freevars:
            return None  # neither the library's nor a function that users call
        by_opcode = frame.f_trace_opcodes = self.schedule.by_opcode
        if event == ("opcode" if by_opcode else "line"):
            self.schedule.hand_on(self, f"{code.co_name}:{frame.f_lineno}")
        return self._trace


def step(is_able: Callable[[], object] | None = None) -> None:
    """Where others may come in between; or have to, until it is able to go on."""
    actor = threading.current_thread()
    if isinstance(actor, _Actor):
        actor.is_able = is_able
        actor.schedule.hand_on(actor, "a wait" if is_able else "a step of the test")
        actor.is_able = None


class Queue(queue.SimpleQueue[None]):
    """What the library waits with."""

    def get(self, block: bool = True, timeout: float | None = None) -> None:
        step(lambda: not self.empty())
        return super().get(block, timeout)


class Selector(selectors.SelectSelector):
    """What an event loop waits with."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout != 0:
            step(lambda: selectors.SelectSelector.select(self, 0))
        return super().select(timeout)


_actors: list[_Actor] = []

# What several actors do at once, and what has to be true then, given what they have raised
Race = tuple[Sequence[Callable[[], object]], Callable[[list[BaseException]], object]]


class _Schedule:
    """One order of steps: who is on stays on while it can, but for the takeovers: at the steps with
    these numbers, another goes on."""

    def __init__(self, takeovers: dict[int, int], left: int, by_opcode: bool) -> None:
        self.takeovers = takeovers
        self.left = left  # so many more may follow
        self.by_opcode = by_opcode
        self.steps = 0
        self.choices: dict[int, tuple[int, bool]] = {}  # among how many, and is anybody stopped
        self.story = [f"takeovers: {takeovers}"]
        self._end = threading.Semaphore(0)

    def run(self, race: Callable[[], Race]) -> _Schedule:
        actions, check = race()
        _actors.extend(_Actor() for _ in range(len(actions) - len(_actors)))
        self.actors = _actors[: len(actions)]
        for actor, action in zip(self.actors, actions, strict=True):
            actor.prepare(self, action)
        gc.disable()  # a collection would take steps of its own
        self.hand_on(None, "")
        self._end.acquire(timeout=LIMIT)
        gc.enable()
        if not all(actor.has_ended for actor in self.actors):
            pytest.exit("\n".join(["nobody can go on", *self.story]), 1)  # and so in other tests
        try:
            check([actor.error for actor in self.actors if actor.error is not None])
        except BaseException as error:
            error.add_note("\n".join(self.story))
            raise
        return self

    def hand_on(self, current: _Actor | None, place: str) -> None:
        self.steps += 1
        takeover = self.takeovers.get(self.steps, 0)
        goes_on = current is not None and not current.has_ended
        if current and goes_on and not current.is_able and not self.left and not takeover:
            return
        going = [actor for actor in self.actors if not actor.has_ended]
        able = [actor for actor in going if actor.is_able is None or actor.is_able()]
        if able:
            self.choices[self.steps] = len(able), current in able
            able.sort(key=lambda actor: actor is not current)
            chosen = able[takeover % len(able)]
            if chosen is current:
                return
            self.story.append(f"actor {self.actors.index(chosen)} goes on, the other at {place}")
            chosen.turn.release()
        else:
            self._end.release()
        if current is not None and goes_on:
            current.turn.acquire()


def explore(race: Callable[[], Race]) -> None:
    """Runs a new race in every order of lines in which hardly ever somebody is stopped who could
    go on, and in random orders of instructions."""
    first = _Schedule({}, 0, by_opcode=True).run(race)
    assert first.steps > 100  # or it is over before it has begun
    stops = LONG + (first.steps < 2000 and len(first.actors) < 3)
    pending: list[tuple[dict[int, int], int]] = [({}, stops)]
    while pending:
        takeovers, left = pending.pop()
        choices = _Schedule(takeovers, left, by_opcode=False).run(race).choices
        for number, (among, price) in choices.items():
            if price <= left and number > max(takeovers, default=0):
                pending += [({**takeovers, number: i}, left - price) for i in range(1, among)]
    for seed in range(500 if LONG else 50):
        chance = random.Random(seed)
        steps = [chance.randint(1, first.steps) for _ in range(seed % 5 + 1)]
        _Schedule({i: chance.randint(1, 2) for i in steps}, 0, by_opcode=True).run(race)
