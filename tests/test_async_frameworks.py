"""Promises 16 to 20 where async code meets its frameworks: pytest-asyncio, anyio, unittest and FastAPI."""

from __future__ import annotations

import textwrap
import unittest
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager

import pytest

from memoize_once import areset, finalizers, memoize

PLUGIN = ("-p", "asyncio", "-o", "asyncio_default_fixture_loop_scope=function")

KINDS = """\
import asyncio
import pytest
import pytest_asyncio
from memoize_once import areset, finalizers, memoize, reset

events = pytest.events = []

@pytest_asyncio.fixture(scope="{scope}", loop_scope="{scope}")
@memoize
async def config():
    events.append("config")
    return object()

@pytest_asyncio.fixture(scope="{scope}", loop_scope="{scope}")
@memoize
async def pool(config):
    async with asyncio.timeout(1000), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
        events.append("pool")
        yield config
    events.append("pool down")
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
@pytest.mark.parametrize("scope", ["function", "class", "module", "session"])
def test_pytest_asyncio(pytester: pytest.Pytester, mode: str, scope: str) -> None:
    """Promise 18: under `@pytest_asyncio.fixture` of every scope an async generator's object lives as long as the fixture's loop, and is
    torn down with it; what a coroutine function returned is kept."""
    mark = f'@pytest.mark.asyncio(loop_scope="{scope}")\n'
    tests = "\n".join(f"{mark}async def test_{i}(pool, config):\n    assert pool is config\n" for i in range(3))
    pytester.makepyfile(KINDS.format(scope=scope) + tests)
    pytester.makeconftest("import pytest\ndef pytest_unconfigure(config):\n    print('events:', *pytest.events)\n")
    result = pytester.runpytest_subprocess(*PLUGIN, f"--asyncio-mode={mode}", "-W", "error", "-s")
    result.assert_outcomes(passed=3)
    loops = 1 if scope in ("module", "session") else 3
    ended = " ".join(["pool", "pool down"] * loops)
    result.stdout.fnmatch_lines([f"*events: config {ended}"])


def test_pytest_asyncio_with_loops_of_two_scopes(pytester: pytest.Pytester) -> None:
    """Promise 19: an object of the session's loop, which rests, can be torn down from a test on another loop and from a plain one."""
    pytester.makepyfile(
        KINDS.format(scope="session")
        + textwrap.dedent(
            """
            @pytest.mark.asyncio(loop_scope="session")
            async def test_on_its_loop(pool):
                with pytest.raises(RuntimeError, match="await areset"):
                    reset(pool_function)

            @pytest.mark.asyncio(loop_scope="function")
            async def test_on_another_loop():
                await areset(pool_function)
                assert events[-1] == "pool down"

            @pytest.mark.asyncio(loop_scope="session")
            async def test_again():
                await pool_function(1)
                assert events[-1] == "pool"

            def test_plain():
                reset()
                assert events[-1] == "pool down"

            pool_function = pool.__wrapped__ if hasattr(pool, "__wrapped__") else pool._get_wrapped_function()
            """
        )
    )
    result = pytester.runpytest_subprocess(*PLUGIN, "-W", "error")
    result.assert_outcomes(passed=4)


def test_anyio_plugin(pytester: pytest.Pytester) -> None:
    """Promise 18: memoized functions are fixtures under anyio's own plugin, too."""
    pytester.makepyfile(
        """
        import anyio, asyncio, pytest
        from memoize_once import finalizers, memoize

        pytestmark = pytest.mark.anyio
        events = []

        @pytest.fixture(scope="module")
        def anyio_backend():
            return "asyncio"

        @pytest.fixture(scope="module")
        @memoize
        async def config():
            events.append("config")
            return object()

        @pytest.fixture(scope="module")
        @memoize
        async def pool(config):
            async with anyio.create_task_group() as group:
                with anyio.CancelScope():
                    group.start_soon(anyio.sleep, 0)
                    events.append("pool")
                    yield config
            events.append("pool down")

        async def test_one(pool, config):
            assert pool is config

        async def test_other(pool):
            assert events == ["config", "pool"]

        @pytest.fixture(scope="session", autouse=True)
        def last():
            yield
            assert events == ["config", "pool", "pool down"]
        """
    )
    result = pytester.runpytest_subprocess("-p", "anyio", "-p", "no:asyncio", "-W", "error")
    result.assert_outcomes(passed=2)


class TestIsolatedAsyncioTestCase(unittest.IsolatedAsyncioTestCase):
    """Promise 18: each test of unittest's has a loop of its own, and with it an object of its own."""

    made: list[str] = []  # noqa: RUF012

    async def asyncSetUp(self) -> None:
        self.pool = await pool_of_unittest()

    async def test_one(self) -> None:
        """The set-up and the test share one object."""
        assert await pool_of_unittest() is self.pool
        assert self.made[-1] == "up"
        assert self.made.count("up") == self.made.count("down") + 1

    async def test_other(self) -> None:
        """It may be torn down in between."""
        await areset(pool_of_unittest)
        assert self.made[-1] == "down"
        assert pool_of_unittest not in finalizers


@memoize
async def pool_of_unittest() -> AsyncGenerator[object, None]:
    TestIsolatedAsyncioTestCase.made.append("up")
    yield object()
    TestIsolatedAsyncioTestCase.made.append("down")


def test_fastapi() -> None:
    """Promise 20: all four kinds of functions are dependencies of FastAPI's, and one object serves its lifespan and its requests."""
    fastapi = pytest.importorskip("fastapi", exc_type=ImportError)
    testclient = pytest.importorskip("fastapi.testclient", exc_type=ImportError)
    events: list[str] = []

    @memoize
    def settings() -> str:
        events.append("settings")
        return "settings"

    @memoize
    def engine() -> Generator[str, None, None]:
        events.append("engine")
        yield "engine"

    @memoize
    async def config(settings: str = fastapi.Depends(settings)) -> str:
        events.append("config")
        return f"config of {settings}"

    @memoize
    async def pool(config: str = fastapi.Depends(config)) -> AsyncGenerator[str, None]:
        events.append("pool")
        yield f"pool of {config}"
        events.append("pool down")

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncGenerator[None, None]:
        await pool(await config(settings()))
        yield

    app = fastapi.FastAPI(lifespan=lifespan)

    async def root(pool: str = fastapi.Depends(pool), engine: str = fastapi.Depends(engine)) -> list[str]:
        return [pool, engine]

    app.add_api_route("/", root)
    for _ in range(2):
        with testclient.TestClient(app) as client:
            for _ in range(3):
                assert client.get("/").json() == ["pool of config of settings", "engine"]
    assert events == ["settings", "config", "pool", "engine", "pool down", "pool", "pool down"]
