"""The fixtures that all tests of the application share. As in many large suites, they stand in a
file of their own, from which each test module imports them.

pytest takes an imported fixture for a new one in each module: it sets up one with the scope
"session" once for every module that imports it. `@memoize` is what makes that one application.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from application import notes
from application.gateway import Application, Client

from memoize_once import memoize


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
