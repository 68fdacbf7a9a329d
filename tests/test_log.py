"""Promise 28: the log."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Generator

import pytest

from memoize_once import memoize, reset


@memoize
def thing() -> Generator[int, None, None]:
    yield 1


@memoize
async def connection() -> AsyncGenerator[int, None]:
    yield 1


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What it has said at DEBUG, each with a time and its unit, which are left out."""
    time = re.compile(r" in \d+(\.\d+)?(e-\d+)? ?(s|ms|µs|seconds)$")
    said = [record for record in caplog.records if time.search(record.getMessage())]
    assert {(record.name, record.levelname) for record in said} == {("memoize_once", "DEBUG")}
    assert said == caplog.records
    return [time.sub("", message) for message in caplog.messages]


def test_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: at DEBUG it says which object was made and torn down, by module and qualified
    name, and how long that took; of async functions too."""
    caplog.set_level(logging.DEBUG, "memoize_once")
    thing()
    thing()
    reset(thing)
    reset(thing)
    asyncio.run(connection())
    names = ("thing", "connection")
    expected = [f"{verb} test_log.{name}" for name in names for verb in ("made", "tore down")]
    assert said(caplog) == expected


def test_errors_are_raised(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: at ERROR it says nothing, since errors are raised."""
    failing = memoize(lambda: 1, finalizer=lambda value: value / 0)
    failing()
    with pytest.raises(ExceptionGroup):
        reset(failing)
    assert caplog.messages == []
