"""Promises 20 and 21 in programs: FastAPI, Flask, click and typer take memoized functions for what they were."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from memoize_once import reset


@pytest.fixture
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module with this source, and with its annotations postponed or not."""
    source, postponed = request.param
    module = types.ModuleType("program")
    monkeypatch.setitem(sys.modules, "program", module)
    exec(compile("from __future__ import annotations\n" * postponed + source, "program.py", "exec", dont_inherit=True), vars(module))
    yield module
    reset()


def programs(source: str) -> pytest.MarkDecorator:
    both = [pytest.param((source, False), id="annotations"), pytest.param((source, True), id="postponed annotations")]
    return pytest.mark.parametrize("program", both, indirect=True)


# FastAPI --------------------------------------------------------------------------------------------------------------------------

SETTINGS = """
from typing import Annotated
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from memoize_once import memoize

class Settings(BaseModel):
    name: str = "Awesome API"

app = FastAPI()
made = []

@memoize
def get_settings():
    made.append(Settings())
    return made[-1]

@app.get("/info")
async def info(settings: Annotated[Settings, Depends(get_settings)]):
    return {"name": settings.name}
"""


@programs(SETTINGS)
def test_settings_of_fastapi(program: Any) -> None:
    """Promises 1 and 20: settings as in FastAPI's documentation are read once, until `cache_clear`, and can be overridden in tests."""
    testclient = pytest.importorskip("fastapi.testclient")
    client = testclient.TestClient(program.app)
    assert [client.get("/info").json() for _ in range(3)] == [{"name": "Awesome API"}] * 3
    assert len(program.made) == 1
    program.get_settings.cache_clear()
    client.get("/info")
    assert len(program.made) == 2
    program.app.dependency_overrides[program.get_settings] = lambda: program.Settings(name="testing")
    assert client.get("/info").json() == {"name": "testing"}
    assert len(program.made) == 2


DEPENDS = """
from collections.abc import AsyncGenerator, Generator
from typing import Annotated
from fastapi import Depends, FastAPI, Header, HTTPException, Request
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

class Owner:
    @classmethod
    @memoize
    def method(cls, size: int = 1) -> Made:
        return Made("method")

@app.get("/all")
def get_all(
    a: Annotated[Made, Depends(plain)],
    b: Annotated[Made, Depends(generator)],
    c: Annotated[Made, Depends(coroutine)],
    d: Annotated[Made, Depends(async_generator)],
    e: Made = Depends(Owner.method),
) -> list[str]:
    return [made.what for made in (a, b, c, d, e)]
"""


@programs(DEPENDS)
def test_dependencies_of_fastapi(program: Any) -> None:
    """Promise 20: `Depends` takes all four kinds: it injects what they declare, awaits what is async, and does not tear them down."""
    testclient = pytest.importorskip("fastapi.testclient")
    with testclient.TestClient(program.app) as client:
        for _ in range(3):
            answer = client.get("/all", headers={"user-agent": "test"})
            assert answer.json() == ["plain for test", "generator of 1", "coroutine for /all", "async generator", "method"]
        assert sorted(program.log) == [
            "async generator is made",
            "coroutine for /all is made",
            "generator of 1 is made",
            "method is made",
            "plain for test is made",
        ]
        program.log.clear()
        assert client.get("/all?size=2").json()[1] == "generator of 2"
        assert client.get("/all?size=wrong").status_code == 422
        [size] = [each for each in client.get("/openapi.json").json()["paths"]["/all"]["get"]["parameters"] if each["name"] == "size"]
        assert size["schema"] == {"type": "integer", "default": 1, "title": "Size"}
    assert program.log == ["generator of 2 is made", "async generator is torn down"]
    reset(program.generator)
    assert program.log[2:] == ["generator of 2 is torn down", "generator of 1 is torn down"]


# Flask ----------------------------------------------------------------------------------------------------------------------------

FLASK = """
import flask
from memoize_once import memoize

app = flask.Flask("program")
made = []

@app.get("/report/<int:size>")
@memoize(key=lambda size: size)
def report(size: int) -> dict[str, int]:
    made.append(size)
    return {"size": size}

@app.cli.command("warm")
@memoize
def warm() -> None:
    report(7)
"""


@programs(FLASK)
def test_flask(program: Any) -> None:
    """Promise 20: a memoized view has its function's name as its endpoint, and takes the parts of the path by name; so do commands."""
    pytest.importorskip("flask")
    client = program.app.test_client()
    assert [client.get("/report/3").json["size"], client.get("/report/4").json["size"], client.get("/report/3").json["size"]] == [3, 4, 3]
    assert program.made == [3, 4]
    with program.app.test_request_context():
        import flask

        assert flask.url_for("report", size=1) == "/report/1"
    assert program.app.test_cli_runner().invoke(args=["warm"]).exit_code == 0
    assert program.made == [3, 4, 7]


# Command lines --------------------------------------------------------------------------------------------------------------------

CLICK = """
import click
from memoize_once import memoize

@click.command()
@click.argument("name")
@click.option("--count", default=1, help="How often.")
@memoize
def greet(name: str, count: int) -> None:
    '''Greets NAME.'''
    click.echo(f"Hello {name}! " * count)
"""


@programs(CLICK)
def test_click(program: Any) -> None:
    """Promise 20: a memoized command has its function's name, help and parameters, and runs once."""
    testing = pytest.importorskip("click.testing")
    runner = testing.CliRunner()
    assert program.greet.name == "greet"
    shown = runner.invoke(program.greet, ["--help"]).output
    assert "Greets NAME." in shown
    assert "--count INTEGER" in shown
    assert runner.invoke(program.greet, ["you", "--count", "2"]).output == "Hello you! Hello you! \n"
    assert runner.invoke(program.greet, ["you"]).output == ""


TYPER = """
from typing import Annotated, Optional
import typer
from memoize_once import memoize

app = typer.Typer()

@app.command()
@memoize
def greet(name: str, count: Annotated[int, typer.Option(help="How often.")] = 1, *, loud: bool = False, to: Optional[str] = None) -> None:
    '''Greets NAME.'''
    typer.echo(f"Hello {name}! " * count + str((loud, to)))
"""


@programs(TYPER)
def test_typer(program: Any) -> None:
    """Promise 20: typer reads the parameters of a memoized command, with their annotations, postponed or not."""
    testing = pytest.importorskip("typer.testing")
    runner = testing.CliRunner(env={"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"})
    shown = runner.invoke(program.app, ["--help"]).output
    for expected in ("Greets NAME.", "--count", "How often.", "--no-loud", "--to"):
        assert expected in shown
    assert runner.invoke(program.app, ["you", "--count", "many"]).exit_code == 2
    assert runner.invoke(program.app, ["you", "--count", "2", "--loud"]).output == "Hello you! Hello you! (True, None)\n"
