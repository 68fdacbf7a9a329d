"""Promise 28: the log."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from memoize_once import DeadlockError, memoize, reset


@memoize
def thing() -> Generator[int, None, None]:
    yield 1


@memoize
async def connection() -> AsyncGenerator[int, None]:
    yield 1


@memoize(key=lambda region, number=1: (region, number))
def client(region: str, number: int = 1) -> Generator[int, None, None]:
    yield 1


@memoize(key=str, finalizer=repr)
async def pool(region: str) -> int:
    return 1


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What it has said at DEBUG, each with a time in seconds, which is left out."""
    time = re.compile(r" in \d+\.\d{3,} seconds$")
    said = [record for record in caplog.records if time.search(record.getMessage())]
    assert {(record.name, record.levelname) for record in said} == {("memoize_once", "DEBUG")}
    assert said == caplog.records
    return [time.sub("", message) for message in caplog.messages]


def test_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: at DEBUG it says which object was made and torn down, by module and qualified
    name, and how long that took, with its unit; of async functions too."""
    caplog.set_level(logging.DEBUG, "memoize_once")
    thing()
    thing()
    reset(thing)
    reset(thing)
    asyncio.run(connection())
    names = ("thing", "connection")
    expected = [f"{verb} test_log.{name}" for name in names for verb in ("made", "tore down")]
    assert said(caplog) == expected


def test_keys(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: where a function has one object for each key, it says which one by the key."""
    caplog.set_level(logging.DEBUG, "memoize_once")
    client("eu")
    client("us", 2)
    reset(client, key=("eu", 1))
    reset(client)
    asyncio.run(pool("eu"))
    eu, us = "test_log.client, key ('eu', 1),", "test_log.client, key ('us', 2),"
    expected = [f"made {eu}", f"made {us}", f"tore down {eu}", f"tore down {us}"]
    one = "test_log.pool, key 'eu',"
    assert said(caplog) == [*expected, f"made {one}", f"tore down {one}"]


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("it has no name")


@pytest.mark.parametrize("key", [("eu", 1), Unprintable()], ids=["printable", "unprintable"])
def test_keys_in_notes(key: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: notes on errors name the key too; one that cannot be printed is no reason to lose
    an error, nor is it in the log."""
    caplog.set_level(logging.DEBUG, "memoize_once")

    @memoize(key=lambda: key)
    def failing() -> Generator[int, None, None]:
        yield 1
        raise ArithmeticError("of the teardown")

    failing()
    with pytest.raises(ExceptionGroup) as raised:
        reset(failing)
    (error,) = raised.value.exceptions
    assert isinstance(error, ArithmeticError)
    (note,) = error.__notes__
    assert "test_log.test_keys_in_notes.<locals>.failing" in note
    assert isinstance(key, Unprintable) or "key ('eu', 1)" in note


def test_keys_in_messages() -> None:
    """Promise 28: messages name the key too: of a ring, and of a reset from inside."""

    @memoize(key=lambda region: region)
    def ring(region: str) -> object:
        return ring(region)

    with pytest.raises(DeadlockError, match=r"test_log\..*ring, key 'eu'"):
        ring("eu")

    @memoize(key=lambda region: region)
    def body(region: str) -> None:
        reset(body, key=region)

    with pytest.raises(DeadlockError, match=r"test_log\..*body, key 'eu'"):
        body("eu")


def test_errors_are_raised(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 28: at ERROR it says nothing, since errors are raised."""
    failing = memoize(lambda: 1, finalizer=lambda value: value / 0)
    failing()
    with pytest.raises(ExceptionGroup):
        reset(failing)
    assert caplog.messages == []
