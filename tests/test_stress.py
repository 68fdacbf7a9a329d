"""Promises 2 to 4, 7, 9 to 11 and 16 to 19 under load, at random."""

import random
import sys
import threading
from contextlib import suppress

import pytest
from scheduler import LONG
from test_interleavings import Subject
from threads import LIMIT, Call

from memoize_once import DeadlockError, reset

PLAIN = ["call", "call", "call", "reset", "register", "unregister"]
ASYNC = ["acall", "acall", "acall", "acancelled", "areset", "register"]


@pytest.mark.parametrize("seed", range(200 if LONG else 20))
def test_load(seed: int) -> None:
    """Promises 2 to 4, 7, 9 to 11 and 16 to 19: threads that call, fail, reset and register see one
    object of a function at a time, each with one teardown; nobody waits for ever."""
    chance = random.Random(seed)

    def maybe_call() -> None:
        if chance.random() < 0.3:
            chance.choice(plain).call()
        if chance.random() < 0.1:
            raise ValueError("fails")

    # a thread that starts while a body runs would be taken for its object's: promise 13
    started = threading.Barrier(4)

    def work() -> None:
        started.wait(LIMIT)
        for _ in range(40):
            with suppress(ValueError, DeadlockError):
                chance.choice(plain).act(*chance.choices(PLAIN, k=3))
                chance.choice(on_loops).act(*chance.choices(ASYNC, k=3))

    plain = [Subject(kind, maybe_call) for kind in ("plain all", "keyed", "plain registers")]
    on_loops = [Subject(kind, maybe_call) for kind in ("async", "async registers")]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6 if seed % 2 else interval)
    for call in [Call(work) for _ in range(4)]:
        call.result()
    sys.setswitchinterval(interval)
    reset()
    for each in plain + on_loops:
        each.check()
