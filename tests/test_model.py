"""Promises 1 to 11, 16, 19 and 26 in long random histories, compared with a short model."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from functools import partial
from typing import Any

import pytest
from scheduler import LONG

from memoize_once import areset, finalizers, memoize, reset

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

# The object that each needs, and its finalizers in the order in which they are registered
OBJECTS: dict[str, tuple[str, list[str]]] = {
    "plain": ("", []),
    "generator": ("plain", ["callback", "rest"]),
    "keyed 0": ("generator", ["callback", "rest", "finalizer"]),
    "keyed 1": ("", ["callback", "rest", "finalizer"]),
    "coroutine": ("", []),
    "async generator": ("coroutine", ["callback", "rest", "finalizer"]),
}
LABELS = [f"{what} of {name}" for name, (_, due) in OBJECTS.items() for what in ["body", *due]]
names, registered = st.sampled_from(list(OBJECTS)), st.sampled_from(["one", "other"])


class Model(RuleBasedStateMachine):
    """Promises 1 to 11, 16, 19 and 26: after any history the objects, the order of their teardown,
    their errors and what is pending are those of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.alive: dict[str, list[str]] = {}  # as they were finished, with what is pending
        self.values: dict[str, object] = {}
        self.failing: set[str] = set()  # of the bodies and the finalizers
        self.ran, self.expected = list[str](), list[str]()  # of these
        self.callbacks = {label: partial(self.run, label) for label in ("one", "other")}

        @memoize
        def plain() -> list[str]:
            return next(self.body("plain"))

        @memoize
        def generator() -> Generator[list[str], None, None]:
            yield from self.body("generator")

        @memoize(
            key=lambda name: name, finalizer=lambda value: self.run(f"finalizer of {value[0]}")
        )
        def keyed(name: str) -> Generator[list[str], None, None]:
            yield from self.body(name)

        @memoize
        async def coroutine() -> list[str]:
            await asyncio.sleep(0)
            return next(self.body("coroutine"))

        @memoize(finalizer=lambda value: self.run(f"finalizer of {value[0]}"))
        async def async_generator() -> AsyncGenerator[list[str], None]:
            await coroutine()
            for value in self.body("async generator"):
                yield value
                await asyncio.sleep(0)

        functions = plain, generator, keyed, keyed, coroutine, async_generator
        self.functions: dict[str, Any] = dict(zip(OBJECTS, functions, strict=True))

    def body(self, name: str) -> Generator[list[str], None, None]:
        need, due = OBJECTS[name]
        if need and need != "coroutine":
            self.give(need)
        if due:
            finalizers.register(self.functions[name], self.run, f"callback of {name}")
        self.run(f"body of {name}")
        yield [name]
        self.run(f"rest of {name}")

    def run(self, label: str) -> None:
        self.ran.append(label)
        if label in self.failing:
            raise ArithmeticError(label)

    def give(self, name: str) -> object:
        given = self.functions[name](*[name] * ("keyed" in name))
        return self.runner.run(given) if asyncio.iscoroutine(given) else given

    def makes(self, name: str) -> bool:
        """Whether a call gives an object, by the model."""
        need, due = OBJECTS[name]
        if name in self.alive:
            return True
        if need and not self.makes(need):
            return False
        self.expected.append(f"body of {name}")
        if f"body of {name}" in self.failing:
            self.expected += [f"callback of {name}"] * bool(due)
            return False
        self.alive[name] = [f"{what} of {name}" for what in due]
        self.values.pop(name, None)
        return True

    @rule(name=names)
    def call(self, name: str) -> None:
        succeeds = self.makes(name)
        try:
            value = self.give(name)
        except ArithmeticError:
            assert not succeeds
        else:
            assert succeeds
            assert self.values.setdefault(name, value) is value

    @rule(chosen=st.lists(names, max_size=3), from_a_coroutine=st.booleans())
    def reset(self, chosen: list[str], from_a_coroutine: bool) -> None:
        """Of everything where nothing is chosen."""
        functions = [self.functions[name] for name in chosen]
        gone = [x for x in self.alive if not chosen or self.functions[x] in functions]
        due = [label for x in reversed(gone) for label in reversed(self.alive.pop(x))]
        self.expected += due
        errors: list[str] = []
        try:
            self.runner.run(areset(*functions)) if from_a_coroutine else reset(*functions)
        except ExceptionGroup as group:
            errors = [str(error) for error in group.exceptions]
        assert errors == [label for label in due if label in self.failing]

    @rule(labels=st.sets(st.sampled_from([*LABELS, "one"]), max_size=4))
    def fail_from_now_on(self, labels: set[str]) -> None:
        self.failing = labels

    @rule(name=names, label=registered)
    def register(self, name: str, label: str) -> None:
        held = self.held(name)
        try:
            finalizers.register(self.functions[name], self.callbacks[label])
        except LookupError:
            assert len(held) != 1
        else:
            assert len(held) == 1
            self.alive[held[0]].append(label)

    @rule(name=names, label=registered)
    def unregister(self, name: str, label: str) -> None:
        finalizers.unregister(self.functions[name], self.callbacks[label])
        for held in self.held(name):
            self.alive[held] = [each for each in self.alive[held] if each != label]

    def held(self, name: str) -> list[str]:
        """What the function holds, under all its keys."""
        return [each for each in self.alive if self.functions[each] is self.functions[name]]

    @invariant()
    def agrees(self) -> None:
        assert self.ran == self.expected
        pending = [self.functions[name] for name in reversed(self.alive) for _ in self.alive[name]]
        assert list(finalizers) == pending
        assert len(finalizers) == sum(map(len, self.alive.values()))
        assert all((each in finalizers) == (each in pending) for each in self.functions.values())

    def teardown(self) -> None:
        self.failing = set()
        reset()
        self.runner.close()


TestHistories: Any = Model.TestCase
TestHistories.settings = settings(
    max_examples=400 if LONG else 60,
    stateful_step_count=100 if LONG else 50,
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
