"""The application that all tests of a process share, and what that saves."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from application import notes
from application.gateway import Application, Client, started, story

from memoize_once import memoize, reset

stories = pytest.StashKey[list[tuple[str, float]]]()


@pytest.fixture(scope="session")
@memoize
def port() -> int:
    """0: the system chooses a free port when the application binds it."""
    return 0


@pytest.fixture(scope="session")
@memoize
def database() -> Generator[sqlite3.Connection, None, None]:
    """A connection to the database that the application reads and writes."""
    with tempfile.TemporaryDirectory() as folder:  # not in tmp_path, which belongs to one session
        path = Path(folder, "notes.db")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript(notes.SCHEMA)
            yield connection


@pytest.fixture(scope="session")
@memoize
def application(port: int, database: sqlite3.Connection) -> Generator[Application, None, None]:
    """The application in a process of its own."""
    [(_, _, path)] = database.execute("PRAGMA database_list")
    with closing(Application(port, path)) as application:
        yield application


@pytest.fixture
def client(application: Application) -> Iterator[Client]:
    """Requests to the application."""
    with application.client() as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def used(request: pytest.FixtureRequest, application: Application) -> None:
    """Notes which modules share the application."""
    application.modules.add(request.module.__name__)


@pytest.fixture(autouse=True)
def no_objects() -> None:
    """Stands in for the fixture that resets after each of the other tests: here objects stay."""


@pytest.fixture(scope="session", autouse=True)
def torn_down(request: pytest.FixtureRequest) -> Iterator[None]:
    """A worker of pytest-xdist runs one session, and is killed ten seconds after it: its objects go
    before that. Any other process may run a second session, which then gets the same objects."""
    yield
    if hasattr(request.config, "workerinput"):
        reset()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Workers send what they have to tell to the process that reports."""
    if started and (worker := getattr(session.config, "workerinput", None)):
        told = story(f"Worker {worker['workerid']}")
        session.config.workeroutput["story"] = told  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The reporting process takes in what a worker tells; one that has crashed tells nothing."""
    if told := getattr(node, "workeroutput", {}).get("story"):
        node.config.stash.setdefault(stories, []).append(told)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What was saved, in sentences."""
    told = sorted([*config.stash.get(stories, []), *([story("This process")] if started else [])])
    if told:
        lines, seconds = zip(*told, strict=True)
        terminalreporter.section("what @memoize saved")
        for line in ("All tests here need a web application that runs beside them.", *lines):
            terminalreporter.line(line)
        more = f"Starting one for each module would have taken {sum(seconds):.2f} s more."
        terminalreporter.line(more)
