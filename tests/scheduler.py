"""Races for tests: every order of steps of a small one, and what has to be true after any."""

from __future__ import annotations

import asyncio
import functools
import gc
import linecache
import math
import os
import re
import selectors
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import states
from threads import LIMIT

import memoize_once
from memoize_once import _aonce, _once, finalizers
from memoize_once._finalizers import GONE, Life, alive

LONG = bool(os.environ.get("LONG_TESTS"))  # more steps, more seeds, more schedules

# What has to be true ---------------------------------------------------------------------------------------------------------------


class Thing:
    """What a body makes, and how far that has come."""

    made = ends = gone = False

    def __init__(self, name: str) -> None:
        self.name = name


class Ledger:
    """What bodies, finalizers and callers report, and which promises it breaks."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.things: list[Thing] = []
        self._lives: list[Life] = []
        self._promised: list[object] = []
        self._ran: list[object] = []

    # what bodies and finalizers report

    def begin(self, function: Any, name: str = "thing") -> Thing:
        """To be called by the body first, so that the finalizer that it registers is the last to run, after failures too."""
        if self.left(name):
            self.wrong.append(f"two of {name} at once")
        thing = Thing(name)
        self.things.append(thing)
        self._lives += [life for life in list(function.cache_clear.__self__.lives.values()) if life not in self._lives]
        finalizers.register(function, self.end, thing)
        return thing

    def made(self, thing: Thing) -> Thing:
        thing.made = True
        return thing

    def ends(self, thing: Thing) -> None:
        """To be called by the finalizer that runs first."""
        thing.ends = True

    def end(self, thing: Thing) -> None:
        if thing.gone:
            self.wrong.append(f"{thing.name} is torn down twice")
        thing.gone = True

    # what callers report

    def ended(self) -> list[Thing]:
        """What no caller may get that calls from now on."""
        return [thing for thing in list(self.things) if thing.ends]

    def left(self, *names: str) -> list[Thing]:
        """What is there of these names, or was begun with."""
        return [thing for thing in list(self.things) if thing.name in names and not thing.gone]

    def got(self, call: Callable[[], Any]) -> Any:
        """Calls a memoized function from outside of its teardown."""
        ended = self.ended()
        return self.given(call(), ended)

    def given(self, thing: Thing, ended: list[Thing]) -> Thing:
        """To be called with what a call has returned, and what had ended when it began."""
        if not thing.made or thing in ended:
            self.wrong.append(f"a caller got a {thing.name} that was not there when it called")
        return thing

    @contextmanager
    def resetting(self, *names: str) -> Iterator[None]:
        before = self.left(*names)
        yield
        self.wrong += [f"a reset returned before {thing.name} was gone" for thing in before if not thing.gone]

    def register(self, function: Any, token: object) -> bool:
        """Whether the finalizer was taken."""
        try:
            finalizers.register(function, self._ran.append, token)
        except LookupError:
            return False
        self._promised.append(token)
        return True

    def check(self) -> None:
        """To be called when everything is reset and nobody is at it any more."""
        wrong = self.wrong + [f"a {thing.name} was never torn down" for thing in self.things if not thing.gone]
        if Counter(self._promised) != Counter(self._ran):
            wrong.append(f"finalizers that were taken: {self._promised}, that ran: {self._ran}")
        for life in self._lives:
            left = (life.state != GONE, life.ref in alive, life.waiters, life.waits, life.finalizers, life.holds)
            if any(left):
                wrong.append(f"left of {life.name}: {left}")
        assert not wrong, "; ".join(wrong)


# Every order of steps --------------------------------------------------------------------------------------------------------------

# Actors run in threads of their own, one at a time. Before each line of the library that touches what threads share, the actor whose turn
# it is stops and hands on, to itself in most cases. Lines that touch nothing shared need no stop: it would make no difference there.

_LIBRARY = str(Path(memoize_once.__file__).parent)
_SHARED = re.compile(
    r"\b(state|lives|alive|claims|closed|stack|finalizers|ran|waiters|waits|values?|number|holds|callers|cancelling|heir|end)\b"
)
_STEPS = 2000  # nobody takes as many, but who waits without blocking


class _Abandoned(BaseException):
    """What ends the actors of a schedule that is stuck."""


@functools.cache
def _steps(code: CodeType) -> dict[int, str]:
    """The lines that are steps, by their number."""
    if not code.co_filename.startswith(_LIBRARY) or code.co_name == "__init__":  # what is new nobody else has seen yet
        return {}
    lines = {number: linecache.getline(code.co_filename, number).strip() for _, _, number in code.co_lines() if number}
    return {number: f"{code.co_name}:{number} {line!r}" for number, line in lines.items() if _SHARED.search(line)}


class _Actor(threading.Thread):
    """Does one action after another, each as a part of a schedule."""

    def __init__(self, number: int) -> None:
        super().__init__(name=f"actor {number}", daemon=True)
        self.number = number
        self.turn = threading.Lock()
        self.turn.acquire()
        self.leaving = False
        self.start()

    def prepare(self, schedule: _Schedule, action: Callable[[], object]) -> None:
        self.schedule = schedule
        self.action = action
        self.gate: _Gate | None = None  # what it waits for
        self.place = "its start"
        self.ended = False
        self.error: BaseException | None = None

    def leave(self) -> None:
        self.leaving = True
        self.turn.release()
        self.join(LIMIT)

    def run(self) -> None:
        while self.turn.acquire() and not self.leaving:
            sys.settrace(self._trace)
            try:
                self.action()
            except BaseException as error:
                self.error = error
            finally:
                sys.settrace(None)
                self.ended = True
                self.schedule.hand_on(self)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not self.schedule.left:  # nobody will be stopped any more
            sys.settrace(None)
            return None
        steps = _steps(frame.f_code)
        if not steps:
            return None
        if event == "call":
            frame.f_trace_opcodes = self.schedule.instructions
        elif event == self.schedule.event and frame.f_lineno in steps:
            self.step(steps[frame.f_lineno])
        return self._trace

    def step(self, place: str) -> None:
        self.place = place
        self.schedule.hand_on(self)


class _Gate:
    """What stands for a lock: one that waits for it lets others go on. Its patience is at an end when nobody else can."""

    def __init__(self, actor: _Actor) -> None:
        self._actor = actor
        self.closed = False
        self.patient = True

    def acquire(self, timeout: float = -1) -> bool:
        actor = self._actor
        if self.closed:
            self.patient = timeout < 0
            actor.gate = self
            actor.step("a wait")
            actor.gate = None
        opened, self.closed = not self.closed, True
        return opened

    def release(self) -> None:
        if not self.closed:
            raise RuntimeError("release unlocked lock")
        self.closed = False


def _lock() -> Any:
    actor = threading.current_thread()
    return _Gate(actor) if isinstance(actor, _Actor) else threading.Lock()


def _sleep(seconds: float) -> None:
    gate = _lock()
    gate.acquire()
    gate.acquire(timeout=seconds)


class _Selector(selectors.SelectSelector):
    """Nothing is ever ready but what the loop is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told = _lock()
        self.told.acquire()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self.told.acquire(timeout=-1 if timeout is None else timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop for actors: one that waits lets others go on."""

    def __init__(self) -> None:
        self.told = _Selector()
        super().__init__(self.told)

    def _write_to_self(self) -> None:
        with suppress(RuntimeError):  # it is told already
            self.told.told.release()


def step() -> None:
    """To be called by bodies and actions where others may come in between."""
    actor = threading.current_thread()
    if isinstance(actor, _Actor):
        actor.step(f"line {sys._getframe(1).f_lineno} of the test")


class _Choice(NamedTuple):
    able: list[int]  # who could have gone on
    default: int
    forced: bool  # whoever was on could not


class _Schedule:
    """One order of steps: whoever is on stays on while it can, but for the takeovers, by the number of their choice."""

    def __init__(self, takeovers: dict[int, int], preemptions: float, instructions: bool, known: set[Hashable] | None) -> None:
        self.takeovers = takeovers
        self.left = preemptions
        self.instructions = instructions
        self.event = "opcode" if instructions else "line"
        self.known = known
        self.choices: list[_Choice] = []
        self.varied: int | None = None  # how many of them have led to states that were not known
        self.story: list[str] = []
        self.stuck = ""
        self._end = threading.Lock()
        self._end.acquire()

    def run(self, actors: list[_Actor]) -> None:
        self.actors = actors
        gc.disable()  # a collection would take steps of its own
        try:
            self.hand_on(None)
            assert self._end.acquire(timeout=LIMIT), "an actor hangs outside of the library"
        finally:
            gc.enable()
        assert not self.stuck, self.stuck

    def hand_on(self, current: _Actor | None) -> None:
        if self.stuck:
            self._abandon(current)
            return
        able = [a.number for a in self.actors if not a.ended and (a.gate is None or not a.gate.closed)] or [
            a.number for a in self.actors if not a.ended and a.gate is not None and not a.gate.patient
        ]
        forced = current is None or current.number not in able
        if not self.left and not forced:
            return
        if not able or len(self.choices) > _STEPS:
            if not all(actor.ended for actor in self.actors):
                self.stuck = "somebody turns in circles" if able else "nobody can go on"
                self.story += [f"{a.name} stands at {a.place}" for a in self.actors if not a.ended]
                for actor in self.actors:
                    if actor is not current and not actor.ended:
                        actor.turn.release()
            self._abandon(current)
            return
        default = able[0] if current is None or forced else current.number
        if self.known is not None and len(self.choices) > max(self.takeovers, default=-1):
            state = self.state()
            if state in self.known:
                self.left, self.known, self.varied = 0, None, len(self.choices)
            else:
                self.known.add(state)
        chosen = self.takeovers.get(len(self.choices), default)
        assert chosen in able, "not the same steps as before"
        self.left -= chosen != default and not forced
        self.choices.append(_Choice(able, default, forced))
        following = self.actors[chosen]
        if following is current:
            return
        self.story.append(
            f"{following.name} goes on at {following.place}" + (f", {current.name} stops at {current.place}" if current else "")
        )
        waits = current is not None and not current.ended  # looked at before another goes on, perhaps to the next schedule
        following.turn.release()
        if current is not None and waits:
            current.turn.acquire()
            if self.stuck:
                self._abandon(current)

    def state(self) -> Hashable:
        """What decides how the schedule can go on."""
        innermost = sys._current_frames()
        things = [(a.action, a.ended, a.error, list(_outwards(innermost.get(a.ident or 0)))) for a in self.actors]
        return states.state(things, lambda thing: thing.number if isinstance(thing, _Actor) else None)

    def _abandon(self, current: _Actor | None) -> None:
        if all(actor.ended for actor in self.actors):
            self._end.release()
        elif current is not None and not current.ended:
            current.gate = None
            raise _Abandoned


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of an actor, without those of the scheduler."""
    while frame is not None:
        if frame.f_code.co_filename not in (__file__, threading.__file__):
            yield frame
        frame = frame.f_back


class Race(NamedTuple):
    """What several actors do at once, and what has to be true then, given the error of each."""

    actions: Sequence[Callable[[], object]]
    check: Callable[[list[BaseException | None]], object]


def every_schedule(race: Callable[[], Race], preemptions: float = math.inf, instructions: bool = False) -> int:
    """Runs a new race in every order of steps in which no more than so many times somebody is stopped who could go on; gives the number.
    Where there is no limit, what follows on a state that was there before is not tried again."""
    actors = [_Actor(number) for number in range(len(race().actions))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_once, "threading", SimpleNamespace(**vars(threading) | {"Lock": _lock}))
        patch.setattr(_aonce, "time", SimpleNamespace(**vars(time) | {"sleep": _sleep}))
        patch.setattr(asyncio, "new_event_loop", Loop)  # those on which the library finalizes what has no loop any more
        try:
            return sum(1 for _ in _schedules(race, actors, preemptions, instructions))
        finally:
            for actor in actors:
                actor.leave()


def _schedules(race: Callable[[], Race], actors: list[_Actor], preemptions: float, instructions: bool) -> Iterator[_Schedule]:
    # takeovers, and how many more may stop somebody who could go on
    pending: list[tuple[tuple[tuple[int, int], ...], float]] = [((), preemptions)]
    known: set[Hashable] | None = set() if preemptions == math.inf else None
    while pending:
        takeovers, left = pending.pop()
        actions, check = race()
        schedule = _Schedule(dict(takeovers), preemptions, instructions, known)
        for actor, action in zip(actors, actions, strict=True):
            actor.prepare(schedule, action)
        try:
            schedule.run(actors)
            check([actor.error for actor in actors])
        except BaseException as error:
            error.add_note("\n".join([f"takeovers: {takeovers}", *schedule.story]))
            raise
        yield schedule
        first = takeovers[-1][0] + 1 if takeovers else 0
        for number, choice in list(enumerate(schedule.choices))[first : schedule.varied]:
            price = 0 if choice.forced else 1
            if price <= left:
                pending += [((*takeovers, (number, other)), left - price) for other in choice.able if other != choice.default]
