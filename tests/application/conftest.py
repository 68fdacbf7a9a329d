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
from application.gateway import Application, Client, figures, started

from memoize_once import memoize, reset

reports = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
@memoize
def port() -> int:
    """0: the system chooses a free one when the application binds it, so that no other process can take it in between."""
    return 0


@pytest.fixture(scope="session")
@memoize
def database() -> Generator[sqlite3.Connection, None, None]:
    """A connection to the database that the application reads and writes."""
    # not in tmp_path, which belongs to one session
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder, "notes.db"), isolation_level=None)) as connection:
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
    """Stands in for the fixture that tears everything down after each of the other tests: here objects are meant to stay."""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tears down here, since the controller kills it 10 seconds after its session. Everywhere else the
    process may hold another session, and its end is early enough."""
    if hasattr(session.config, "workerinput") and started:
        reset()
        session.config.workeroutput["application"] = figures()  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The controller takes in what its workers report; one that has crashed does not."""
    if report := getattr(node, "workeroutput", {}).get("application"):
        node.config.stash.setdefault(reports, []).append(f"{node.gateway.id}: {report}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line for each process that had an application."""
    lines: list[str] = config.stash.get(reports, [])
    lines.sort()
    if started:
        lines.append(f"main: {figures()}")
    if lines:
        terminalreporter.section("applications")
        for line in lines:
            terminalreporter.line(line)
