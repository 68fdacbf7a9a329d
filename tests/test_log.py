"""Promise 28: the log."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import re
import time
from collections.abc import AsyncGenerator, Callable, Generator

import pytest
from threads import Call, Point

from memoize_once import areset, memoize, reset
from memoize_once._finalizers import find


@memoize
def thing() -> Generator[int, None, None]:
    yield 1


@memoize
def failing() -> Generator[int, None, None]:
    yield 1
    raise ValueError


def says(message: str, what: str, since: float) -> None:
    """Checks what a message says, and that the time it tells can have been that."""
    told = re.fullmatch(rf"{re.escape(what)} in (\d+\.\d+) seconds", message)
    assert told
    assert float(told[1]) <= time.perf_counter() - since + 1e-6


def test_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: at DEBUG it says which object was made and torn down, by module and qualified name, and how long that took."""
    since = time.perf_counter()
    with caplog.at_level(logging.DEBUG, "memoize_once"):
        thing()
        thing()
        reset(thing)
        reset(thing)
    made, torn_down = caplog.messages
    says(made, "made test_log.thing", since)
    says(torn_down, "tore down test_log.thing", since)
    assert {(record.name, record.levelname) for record in caplog.records} == {("memoize_once", "DEBUG")}


def test_names(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: what is no function has its class's name, a partial that of its function, and a wrapper may have its own."""

    class Instance:
        def __call__(self) -> int:
            return 1

    @functools.wraps(thing, assigned=())
    def wrapper() -> int:
        return 1

    wrapper.__module__ = "elsewhere"
    with caplog.at_level(logging.DEBUG, "memoize_once"):
        for function in (functools.partial(wrapper), wrapper, Instance()):
            memoize(function)()
    names = ["test_log.thing", "elsewhere.test_names.<locals>.wrapper", "test_log.test_names.<locals>.Instance"]
    assert [message.split()[1] for message in caplog.messages] == names


def test_what_it_says_of_async_functions(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: it says the same of these."""

    @memoize
    async def coroutine() -> int:
        return 1

    @memoize
    async def generator() -> AsyncGenerator[int, None]:
        yield 1

    async def main() -> None:
        for function in (coroutine, generator):
            await function()
            await areset(function)

    since = time.perf_counter()
    with caplog.at_level(logging.DEBUG, "memoize_once"):
        asyncio.run(main())
    beginnings = itertools.product(("coroutine", "generator"), ("made", "tore down"))
    for message, (function, verb) in zip(caplog.messages, beginnings, strict=True):
        says(message, f"{verb} test_log.test_what_it_says_of_async_functions.<locals>.{function}", since)


@pytest.mark.parametrize("how", [reset, lambda function: asyncio.run(areset(function))], ids=["reset", "areset"])
def test_what_was_not_made(how: Callable[..., object], caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: it says nothing of an object that was not made, and hence not torn down by a reset that waited for it."""
    point = Point()

    @memoize
    def fails() -> int:
        point.pass_()
        raise ValueError

    with caplog.at_level(logging.DEBUG, "memoize_once"):
        maker = Call(fails)
        point.reached()
        resetter = Call(how, fails)
        (life,) = find(fails).lives.values()
        while not life.waiters:
            pass
        point.go()
        assert isinstance(maker.error(), ValueError)
        resetter.result()
    assert caplog.messages == []


def test_errors_are_raised(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: at ERROR it says nothing, since errors are raised."""
    failing()
    with pytest.raises(ExceptionGroup):
        reset(failing)
    assert caplog.messages == []
