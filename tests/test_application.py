"""The article's application in real sessions: how many processes it takes, and that none of them is left."""

from __future__ import annotations

import os
import re
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
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]


class Run:
    """A process that has run tests of the application, and the gateways that it and its own processes have started."""

    def __init__(self, command: list[str], folder: Path, cwd: Path = TESTS.parent) -> None:
        pids = folder / "pids"
        pids.mkdir()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment["APPLICATION_PIDS"] = str(pids)
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT)
        self.output = done.stdout + done.stderr
        self.passed = done.returncode == 0 and not done.stderr
        self.gateways = {int(file.name): int(file.read_text()) for file in pids.iterdir()}  # and who started them

    @property
    def left(self) -> list[int]:
        return [pid for pid in self.gateways if _is_there(pid)]

    @property
    def summary(self) -> list[str]:
        return re.findall(r"^\w+: \d+ made in .*", self.output, re.MULTILINE)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Two workers of pytest-xdist --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All tests of the application, in two workers of pytest-xdist."""
    return Run([*PYTEST, "-n", "2", "tests/application"], tmp_path_factory.mktemp("workers"))


def test_workers_pass(workers: Run) -> None:
    """The application's tests pass in two workers at once, each with its own."""
    assert workers.passed, workers.output
    assert re.search(r"=+ \d+ passed in ", workers.output), workers.output


def test_one_for_each_worker(workers: Run) -> None:
    """Promise 1: each worker starts one gateway, for all modules of tests that it runs."""
    assert sorted(Counter(workers.gateways.values()).values()) == [1, 1], workers.output


def test_no_worker_leaves_one(workers: Run) -> None:
    """Promise 10: `reset` at the end of a worker's session ends its gateway, so that none is left after the run."""
    assert workers.left == []


def test_summary_of_workers(workers: Run) -> None:
    """The summary has a line for each worker, with what its application has cost and saved."""
    figures = r"1 made in \d+\.\d\d s, \d+ requests served, torn down in \d+\.\d\d s, \d+\.\d\d s saved, modules: [1-5]"
    assert len(workers.summary) == 2, workers.output
    for worker, line in zip(("gw0", "gw1"), workers.summary, strict=True):
        assert re.fullmatch(f"{worker}: {figures}", line)


# One process ------------------------------------------------------------------------------------------------------------------------


def test_plain_process(tmp_path: Path) -> None:
    """Promise 12: without workers there is one application, which lives until the exit of the process, and is gone then."""
    run = Run([*PYTEST, "tests/application/test_application_notes.py", "tests/application/test_application_counters.py"], tmp_path)
    assert run.passed, run.output
    assert len(run.gateways) == 1
    assert run.left == []
    [line] = run.summary
    assert re.fullmatch(
        r"main: 1 made in \d+\.\d\d s, \d+ requests served, to be torn down at exit, \d+\.\d\d s saved, modules: 2", line
    ), run.output


# Two sessions in one process --------------------------------------------------------------------------------------------------------

SESSIONS = """
import sys

import pytest

sys.path.insert(0, {tests!r})
for arguments in {arguments!r}:
    status = pytest.main(["-p", "no:cacheprovider", *arguments])
    if status:
        sys.exit(status)
"""


def sessions(*arguments: list[str]) -> list[str]:
    """The command for a process that holds one session after the other."""
    return [sys.executable, "-c", SESSIONS.format(tests=str(TESTS), arguments=arguments)]


def test_two_sessions(tmp_path: Path) -> None:
    """Promise 25: a second session in the process executes the application's conftest.py anew, and its tests pass with the
    application, and the database, of the first."""
    run = Run(sessions(["tests/application/test_application_notes.py"], ["tests/application/test_application_database.py"]), tmp_path)
    assert run.passed, run.output
    assert len(run.gateways) == 1
    assert run.left == []
    assert [line.rpartition(", ")[2] for line in run.summary] == ["modules: 1", "modules: 2"]


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
import pytest


@pytest.mark.parametrize("text", ["one", "two"])
def test_add(application, text):
    with application.client() as client:
        assert client.post("/notes", json={"text": text}).status_code == 201
"""


@pytest.mark.parametrize(
    ("application", "count"),
    [
        pytest.param(MEMOIZED, 1, id="memoized"),
        pytest.param(FIXTURE, 2, id="a session fixture"),
        pytest.param(TEN_LINES, 2, id="the article's ten lines"),
    ],
)
def test_gateways_of_two_sessions(tmp_path: Path, application: str, count: int) -> None:
    """Promise 25: two sessions in one process share what is memoized, where a session fixture starts a gateway for each, and so
    does a result that is kept on the function. In the end none is left."""
    (tmp_path / "conftest.py").write_text(CONFTEST + application)
    (tmp_path / "test_notes.py").write_text(TEST)
    with closing(sqlite3.connect(tmp_path / "notes.db", isolation_level=None)) as database:
        database.executescript(notes.SCHEMA)
        run = Run(sessions(["-p", "no:asyncio"], ["-p", "no:asyncio"]), tmp_path, cwd=tmp_path)
        assert run.passed, run.output
        assert database.execute("SELECT text FROM notes").fetchall() == [("one",), ("two",)] * 2
    assert len(run.gateways) == count, run.output
    assert run.left == []
