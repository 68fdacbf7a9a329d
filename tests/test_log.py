"""Promise 28: the log."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncGenerator, Generator

import pytest
from threads import Call, Point

from memoize_once import areset, memoize, reset


@memoize
def thing() -> Generator[int, None, None]:
    yield 1


@memoize
def failing() -> Generator[int, None, None]:
    yield 1
    raise ValueError


def test_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: at DEBUG it says which object was made and torn down, by module and qualified name, and how long that took."""
    with caplog.at_level(logging.DEBUG, "memoize_once"):
        thing()
        thing()
        reset(thing)
        reset(thing)
    made, torn_down = caplog.messages
    assert re.fullmatch(r"made test_log\.thing in \d+\.\d+ seconds", made)
    assert re.fullmatch(r"tore down test_log\.thing in \d+\.\d+ seconds", torn_down)
    assert {(record.name, record.levelname) for record in caplog.records} == {("memoize_once", "DEBUG")}


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

    with caplog.at_level(logging.DEBUG, "memoize_once"):
        asyncio.run(main())
    name = r"test_log\.test_what_it_says_of_async_functions\.<locals>"
    for message, beginning in zip(caplog.messages, itertools.product(("coroutine", "generator"), ("made", "tore down")), strict=True):
        function, verb = beginning
        assert re.fullmatch(rf"{verb} {name}\.{function} in (\d+)\.\d+ seconds", message)[1] == "0"  # type: ignore[index]


def test_what_was_not_made(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: it says nothing of an object that was not made, and hence not torn down by a reset that waited for it."""
    point = Point()

    @memoize
    def fails() -> int:
        point.pass_()
        raise ValueError

    with caplog.at_level(logging.DEBUG, "memoize_once"):
        maker = Call(fails)
        point.reached()
        resetter = Call(reset, fails).until_it_waits()
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
