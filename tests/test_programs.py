"""Promise 20 in a program: FastAPI takes memoized functions for what they were."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

FASTAPI = """
from collections.abc import AsyncGenerator, Generator
from typing import Annotated
from fastapi import Depends, FastAPI, Header, Request
from memoize_once import memoize

app = FastAPI()
log = []

class Made:
    def __init__(self, what: str) -> None:
        log.append(f"{what} is made")
        self.what = what

@memoize
def plain(agent: Annotated[str, Header(alias="user-agent")]) -> Made:
    return Made(f"plain for {agent}")

@memoize(key=lambda size: size)
def generator(below: Annotated[Made, Depends(plain)], size: int = 1) -> Generator[Made, None, None]:
    yield Made(f"generator of {size}")
    log.append(f"generator of {size} is torn down")

@memoize
async def coroutine(request: Request) -> Made:
    return Made(f"coroutine for {request.url.path}")

@memoize
async def async_generator(below: Annotated[Made, Depends(coroutine)]) -> AsyncGenerator[Made, None]:
    yield Made("async generator")
    log.append("async generator is torn down")

@app.get("/all")
def get_all(
    a: Annotated[Made, Depends(plain)],
    b: Annotated[Made, Depends(generator)],
    c: Annotated[Made, Depends(coroutine)],
    d: Annotated[Made, Depends(async_generator)],
) -> list[str]:
    return [made.what for made in (a, b, c, d)]
"""


@pytest.mark.parametrize("postponed", [False, True])
def test_fastapi(postponed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promises 18 and 20: `Depends` takes all four kinds, with annotations postponed or not: it
    injects what they declare, awaits what is async, and tears down nothing before the loop ends;
    tests override them as always."""
    testclient = pytest.importorskip("fastapi.testclient")
    module: Any = types.ModuleType("program")
    monkeypatch.setitem(sys.modules, "program", module)
    source = "from __future__ import annotations\n" * postponed + FASTAPI
    exec(compile(source, "program.py", "exec", dont_inherit=True), vars(module))
    expected = ["plain for test", "generator of 1", "coroutine for /all", "async generator"]
    with testclient.TestClient(module.app) as client:
        for _ in range(2):
            answer = client.get("/all", headers={"user-agent": "test"})
            assert answer.json() == expected
        assert sorted(module.log) == sorted(f"{what} is made" for what in answer.json())
        module.log.clear()
        assert client.get("/all?size=2").json()[1] == "generator of 2"
        assert client.get("/all?size=wrong").status_code == 422
        module.app.dependency_overrides[module.plain] = lambda: module.Made("testing")
        assert client.get("/all").json()[0] == "testing"
        assert "async generator is torn down" not in module.log
    assert module.log[-1] == "async generator is torn down"
