"""Promises 18 and 19 where async code meets its frameworks: pytest-asyncio and anyio."""

from __future__ import annotations

import pytest

TESTS = """\
import asyncio, pytest, pytest_asyncio
from memoize_once import areset, memoize, reset

pytestmark = pytest.mark.{mark}
pytest.events["{name}"] = events = []

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

@{fixture}
@memoize
async def config():
    events.append("config")
    return object()

@memoize
async def memoized(config):
    async with asyncio.timeout(1000), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
        events.append("pool")
        yield config
    events.append("down")

pool = {fixture}(memoized)

async def test_both(pool, config):
    assert pool is config

async def test_pool(pool):
    assert events[-1] == "pool"
"""
CONFTEST = """\
import pytest

pytest.events = {}

def pytest_unconfigure():
    for name, events in pytest.events.items():
        print(f"{name}:", *events)
"""


def in_scope(scope: str) -> str:
    fixture = f"pytest_asyncio.fixture(scope='{scope}', loop_scope='{scope}')"
    return TESTS.format(name=scope, mark=f"asyncio(loop_scope='{scope}')", fixture=fixture)


def run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mode: str = "strict"
) -> pytest.RunResult:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    options = ("-p", "asyncio", "-p", "anyio", "-o", "asyncio_default_fixture_loop_scope=function")
    return pytester.runpytest_subprocess(*options, "-W", "error", "-s", f"--asyncio-mode={mode}")


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_fixtures(pytester: pytest.Pytester, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 18: below the fixtures of pytest-asyncio, in every scope, and of anyio an async
    generator's object lives as long as the fixture's loop, and is torn down with it; what a
    coroutine function has returned is kept."""
    loops = {"function": 2, "class": 2, "module": 1, "session": 1}
    files = {scope: in_scope(scope) for scope in loops}
    if mode == "strict":  # the other one takes what is anyio's
        files["anyio"] = TESTS.format(
            name="anyio", mark="anyio", fixture="pytest.fixture(scope='module')"
        )
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(**{f"test_{name}": source for name, source in files.items()})
    result = run(pytester, monkeypatch, mode)
    result.assert_outcomes(passed=2 * len(files))
    for name in files:
        events = " ".join(["config", *["pool down"] * loops.get(name, 1)])
        result.stdout.fnmatch_lines([f"*{name}: {events}"])


RESETS = """
async def test_on_its_loop():
    with pytest.raises(RuntimeError, match="await areset"):
        reset(memoized)

@pytest.mark.asyncio(loop_scope="function")
async def test_on_another_loop():
    with pytest.raises(RuntimeError, match="await areset"):
        reset(memoized)
    await areset(memoized)
    assert events[-1] == "down"

async def test_again():
    await memoized(1)
    assert events[-1] == "pool"
"""
PLAIN = """
from memoize_once import reset
from test_a import events, memoized

def test_plain():
    reset(memoized)
    assert events[-1] == "down"
"""


def test_loops_of_two_scopes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 19: an object of the session's loop, which rests, can be torn down from a test on
    another loop by `areset`, and from a plain one by `reset`."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_a=in_scope("session") + RESETS, test_b=PLAIN)
    run(pytester, monkeypatch).assert_outcomes(passed=6)
