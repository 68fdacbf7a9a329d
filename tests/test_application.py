"""The article's application in real sessions: how many processes it takes, and none is left."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from application import notes

TESTS = Path(__file__).parent
LIMIT = 60  # seconds, for what would otherwise hang
OPTIONS = ["-p", "no:cacheprovider", "-p", "timeout", "-p", "asyncio"]
PYTEST = [sys.executable, "-m", "pytest", *OPTIONS]
MODULES = len([*TESTS.glob("application/test_*.py")])
TITLE = "how often the web application was started"
NEED = (
    "These tests need a fixture, a running web application. "
    f"pytest asked for it {MODULES} times, since {MODULES} test modules import it."
)
SHARED = "It was started {}@memoize keeps it for all test modules."
BARE = f"It was started {MODULES} times: each test module got a new one."
TOOK = f"A start took T, all of them T. Without @memoize, {MODULES} times T would have been T."
BY_FILE = ["-p", "xdist", "-n", "2", "--dist", "loadfile", "tests/application"]


class Run:
    """A process that has run tests of the application, and those in which it ran."""

    def __init__(self, command: list[str], folder: Path, cwd: Path = TESTS.parent) -> None:
        pids = folder / "pids"
        pids.mkdir()
        inherited = {key: text for key, text in os.environ.items() if not key.startswith("PYTEST_")}
        done = subprocess.run(
            command,
            cwd=cwd,
            env=inherited | {"APPLICATION_PIDS": str(pids), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        self.output = done.stdout + done.stderr
        assert (done.returncode, done.stderr) == (0, ""), self.output
        assert re.search(r"=+ \d+ passed in ", self.output), self.output
        # who started each of them
        self.gateways = {int(file.name): int(file.read_text()) for file in pids.iterdir()}
        assert not any(map(_is_there, self.gateways)), "some are left"

    def told(self) -> list[str]:
        """The last five lines of the report, with a letter for each time."""
        lines = [line.strip("= ") for line in self.output.splitlines() if line.strip()]
        return [re.sub(r"\d+\.\d\d s", "T", line) for line in lines[-5:]]


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_workers(tmp_path: Path) -> None:
    """Promise 1: each of two workers of pytest-xdist starts one application, for all modules of
    tests that it runs; its `reset` at the end leaves none. The report tells what that saved."""
    run = Run([*PYTEST, *BY_FILE], tmp_path)
    assert [*Counter(run.gateways.values()).values()] == [1, 1]
    title, *lines, _ = run.told()
    assert title == TITLE
    assert lines == [
        NEED,
        SHARED.format("2 times: once in each of 2 processes, where "),
        TOOK,
    ]


def test_one_process(tmp_path: Path) -> None:
    """Promise 12: without workers there is one application, which is gone after the exit."""
    run = Run([*PYTEST, "tests/application"], tmp_path)
    assert len(run.gateways) == 1
    title, *lines, _ = run.told()
    assert title == TITLE
    assert lines == [
        NEED,
        SHARED.format("once: "),
        TOOK,
    ]


@pytest.mark.parametrize(
    "arguments",
    [pytest.param(BY_FILE, id="two workers"), pytest.param(["tests/application"], id="alone")],
)
def test_without_the_library(tmp_path: Path, arguments: list[str]) -> None:
    """With every `@memoize` taken out, the same run starts an application for each test module,
    and its report says so."""
    shutil.copytree(TESTS / "application", tmp_path / "tests" / "application")
    for file in tmp_path.glob("tests/application/*.py"):
        file.write_text(re.sub(r"^ *@memoize\b.*\n", "", file.read_text(), flags=re.M))
    shutil.copy(TESTS.parent / "setup.cfg", tmp_path)
    run = Run([*PYTEST, *arguments], tmp_path, cwd=tmp_path)
    assert len(run.gateways) == MODULES
    title, *lines, _ = run.told()
    assert title == TITLE
    assert lines == [
        NEED,
        BARE,
        "A start took T, all of them T. Nothing was saved.",
    ]


# Two sessions in one process ----------------------------------------------------------------------

SESSIONS = """
import sys

import pytest

sys.path.insert(0, {tests!r})
for arguments in {arguments!r}:
    if status := pytest.main(arguments):
        sys.exit(status)
"""


def sessions(*arguments: list[str]) -> list[str]:
    """The command for a process that holds one session after the other."""
    return [sys.executable, "-c", SESSIONS.format(tests=str(TESTS), arguments=arguments)]


def test_two_sessions(tmp_path: Path) -> None:
    """Promise 1: the tests of a second session in the process pass with the application, and the
    database, of the first."""
    files = [f"tests/application/test_application_{name}.py" for name in ("notes", "database")]
    run = Run(sessions(*([*OPTIONS, file] for file in files)), tmp_path)
    assert len(run.gateways) == 1, run.output
    assert SHARED.format("once: ") in run.told()


CONFTEST = """
import atexit
from contextlib import closing
from pathlib import Path

import pytest
from application.gateway import Application
from decorator import decorator

from memoize_once import memoize

path = str(Path(__file__).with_name("notes.db"))

"""

MEMOIZED = """
@pytest.fixture(scope="session")
@memoize
def application():
    with closing(Application(0, path)) as application:
        yield application
"""

FIXTURE = MEMOIZED.replace("@memoize\n", "")

TEN_LINES = """
@decorator
def once(function, *args, **kwargs):
    try:
        return function.result
    except AttributeError:
        function.result = function(*args, **kwargs)
        atexit.register(function.result.close)
        return function.result


@pytest.fixture(scope="session")
@once
def application():
    return Application(0, path)
"""

TEST = """
def test_add(application):
    with application.client() as client:
        assert client.post("/notes", json={"text": "one"}).status_code == 201
"""


KINDS = [
    pytest.param(MEMOIZED, 1, id="memoized"),
    pytest.param(FIXTURE, 2, id="a session fixture"),
    pytest.param(TEN_LINES, 2, id="the article's ten lines"),
]


@pytest.mark.parametrize(("application", "count"), KINDS)
def test_gateways_of_two_sessions(tmp_path: Path, application: str, count: int) -> None:
    """Promise 25: two sessions in one process share what is memoized, where a session fixture
    starts an application for each, and so does a result that is kept on the function."""
    (tmp_path / "conftest.py").write_text(CONFTEST + application)
    (tmp_path / "test_notes.py").write_text(TEST)
    with closing(sqlite3.connect(tmp_path / "notes.db", isolation_level=None)) as database:
        database.executescript(notes.SCHEMA)
        run = Run(sessions(OPTIONS[:2], OPTIONS[:2]), tmp_path, cwd=tmp_path)
        assert database.execute("SELECT text FROM notes").fetchall() == [("one",)] * 2
    assert len(run.gateways) == count, run.output
