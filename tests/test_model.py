"""Promises 1 to 11, 16, 19 and 26 in long random histories, each compared with a model of a few lines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scheduler import LONG

from memoize_once import areset, finalizers, memoize, reset


class Failure(Exception):
    """Of a body or of a finalizer."""


class Object:
    """What the model knows of one that is alive."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.value: object = None
        self.pending: list[str] = []  # finalizers, the last one runs first


# each function, and the one that its body calls first
NEEDS = {
    "plain": None,
    "finalized": "plain",
    "generator": "finalized",
    "keyed 0": "generator",
    "keyed 1": None,
    "coroutine": None,
    "async generator": "coroutine",
}
ASYNC = ("coroutine", "async generator")
names = st.sampled_from(list(NEEDS))


class Model(RuleBasedStateMachine):
    """Promises 1 to 11, 16, 19 and 26: after any history of calls, resets, failures and registrations the objects, the order of their
    teardown, their errors and what is pending are those of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.alive: list[Object] = []  # as they were finished
        self.ran: list[str] = []  # what finalizers say
        self.failing: set[str] = set()  # bodies and finalizers that fail
        self.numbers = itertools.count()
        self.functions = self._functions()
        self.callbacks = {label: self._callback(label) for label in ("one", "other")}

    def _functions(self) -> dict[str, Any]:
        def call(name: str) -> Any:
            return self._call(name)

        def body(name: str) -> object:
            if need := NEEDS[name]:
                call(need)
            self._maybe_fail(f"body of {name}")
            return object()

        @memoize
        def plain() -> object:
            return body("plain")

        @memoize(finalizer=lambda value: self._run("finalizer of finalized"))
        def finalized() -> object:
            finalizers.register(finalized, self._run, "callback of finalized")
            return body("finalized")

        @memoize
        def generator() -> Generator[object, None, None]:
            finalizers.register(generator, self._run, "callback of generator")
            yield body("generator")
            self._run("rest of generator")

        @memoize(key=lambda number: number)
        def keyed(number: int) -> Generator[object, None, None]:
            yield body(f"keyed {number}")
            self._run(f"rest of keyed {number}")

        @memoize
        async def coroutine() -> object:
            await asyncio.sleep(0)
            return body("coroutine")

        async def finalize(value: object) -> None:
            await asyncio.sleep(0)
            self._run("finalizer of async generator")

        @memoize(finalizer=finalize)
        async def async_generator() -> AsyncGenerator[object, None]:
            await coroutine()
            self._maybe_fail("body of async generator")
            yield object()
            await asyncio.sleep(0)
            self._run("rest of async generator")

        self.twins: dict[str, Any] = {
            "plain": plain,
            "finalized": finalized,
            "generator": generator,
            "keyed 0": keyed,
            "keyed 1": keyed,
            "coroutine": coroutine,
            "async generator": async_generator,
        }
        return self.twins | {"keyed 0": lambda: keyed(0), "keyed 1": lambda: keyed(1)}

    def _call(self, name: str) -> Any:
        result = self.functions[name]()
        return self.runner.run(result) if name in ASYNC else result

    def _maybe_fail(self, label: str) -> None:
        if label in self.failing:
            raise Failure(label)

    def _run(self, label: str) -> None:
        self.ran.append(label)
        self._maybe_fail(label)

    def _callback(self, label: str) -> Callable[[], None]:
        return lambda: self._run(label)

    # the model

    def _held(self, name: str) -> Object | None:
        return next((each for each in self.alive if each.name == name), None)

    def _made(self, name: str) -> bool:
        """Has the model make what a call makes; says whether all bodies succeed."""
        if self._held(name):
            return True
        need = NEEDS[name]
        if need and not self._made(need):
            return self._failed(name)
        if f"body of {name}" in self.failing:
            return self._failed(name)
        made = Object(name)
        if name in ("finalized", "generator"):
            made.pending.append(f"callback of {name}")
        if "generator" in name or "keyed" in name:
            made.pending.append(f"rest of {name}")
        if name in ("finalized", "async generator"):
            made.pending.append(f"finalizer of {name}")
        self.alive.append(made)
        return True

    def _failed(self, name: str) -> bool:
        # both register before they need anything
        self.expected += [f"callback of {name}"] if name in ("finalized", "generator") else []
        return False

    # what is done

    @rule(name=names)
    def call(self, name: str) -> None:
        self.ran.clear()
        self.expected: list[str] = []
        succeeds = self._made(name)
        try:
            value = self._call(name)
        except Failure:
            assert not succeeds
        else:
            assert succeeds
            held = self._held(name)
            assert held is not None
            assert held.value in (None, value)
            held.value = value
        assert sorted(self.ran) == sorted(self.expected)

    @rule(chosen=st.lists(names, max_size=3), from_a_coroutine=st.booleans())
    def reset(self, chosen: list[str], from_a_coroutine: bool) -> None:
        """Of everything where nothing is chosen."""
        self.ran.clear()
        twins = [self.twins[name] for name in chosen]
        gone = [each for each in reversed(self.alive) if not chosen or self.twins[each.name] in twins]
        expected = [label for each in gone for label in reversed(each.pending)]
        errors: list[str] = []
        try:
            self.runner.run(areset(*twins)) if from_a_coroutine else reset(*twins)
        except ExceptionGroup as group:
            errors = [str(error) for error in group.exceptions]
        assert self.ran == expected
        assert errors == [label for label in expected if label in self.failing]
        self.alive = [each for each in self.alive if each not in gone]

    @rule(label=st.sampled_from([*(f"body of {name}" for name in NEEDS), "rest of generator", "finalizer of async generator", "one"]))
    def fail_from_now_on(self, label: str) -> None:
        self.failing.add(label)

    @precondition(lambda self: self.failing)
    @rule()
    def fail_no_more(self) -> None:
        self.failing.clear()

    def _holders(self, name: str) -> list[Object]:
        return [each for each in self.alive if self.twins[each.name] is self.twins[name]]

    @rule(name=names, label=st.sampled_from(["one", "other"]))
    def register(self, name: str, label: str) -> None:
        holders = self._holders(name)
        try:
            finalizers.register(self.twins[name], self.callbacks[label])
        except LookupError:
            assert len(holders) != 1
        else:
            (holder,) = holders
            holder.pending.append(label)

    @rule(name=names, label=st.sampled_from(["one", "other"]))
    def unregister(self, name: str, label: str) -> None:
        finalizers.unregister(self.twins[name], self.callbacks[label])
        for holder in self._holders(name):
            holder.pending = [each for each in holder.pending if each != label]

    @invariant()
    def what_is_pending(self) -> None:
        assert len(finalizers) == sum(len(each.pending) for each in self.alive)
        assert list(finalizers) == [self.twins[each.name] for each in reversed(self.alive) if each.pending]
        for name, twin in self.twins.items():
            assert (twin in finalizers) == any(each.pending for each in self._holders(name))

    def teardown(self) -> None:
        self.failing.clear()
        reset()
        self.runner.close()


TestHistories: Any = Model.TestCase
TestHistories.settings = settings(
    max_examples=2000 if LONG else 150,
    stateful_step_count=200 if LONG else 50,
    derandomize=not LONG,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
