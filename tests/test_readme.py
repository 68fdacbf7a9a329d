"""The README does what it says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from readme import TEXT, Block, blocks, file, name_of

import memoize_once
from memoize_once import memoize

TIME_LIMIT = 60
ALL = [*blocks(), Block("", "", "")]
SCRIPTS = [
    pytest.param(block.text, following.text * (following.language == "text"), id=block.section)
    for block, following in pairwise(ALL)
    if block.language == "python" and not name_of(block)
]


def ended(folder: Path, script: str, *arguments: str) -> tuple[str, str, int]:
    """What the script has printed, what it has complained of, and its status."""
    path = folder / "script.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "error", *(arguments or [str(path)])],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize(("script", "output"), SCRIPTS)
def test_scripts(script: str, output: str, tmp_path: Path) -> None:
    """Each script runs by itself, without warnings, and prints what stands below it."""
    assert ended(tmp_path, script) == (output, "", 0)


def test_reset_of_one(tmp_path: Path) -> None:
    """Promise 10: what was built on an object that has been reset can be reset after it, and is
    torn down at the exit if it is not."""
    script = next(block.text for block in blocks() if block.section == "How it works")
    for then in ("reset()", "reset(names)", "pass"):
        text = script.replace("reset()", f"reset(database)\n{then}")
        assert ended(tmp_path, text) == ("closed :memory:\nforgotten\n", "", 0)
    text = script.replace("reset()", "reset(names, database)")
    assert ended(tmp_path, text) == ("forgotten\nclosed :memory:\n", "", 0)


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="no mypy")
def test_types(tmp_path: Path) -> None:
    """Promise 22: the examples before the recipes pass `mypy --strict`, and so do the files of an
    application and of its tests."""
    pytest.importorskip("fastapi")
    names = ["app", "conftest", "test_app"]
    for name in names:
        (tmp_path / f"{name}.py").write_text(file(f"{name}.py"))
    for block in blocks()[: [block.section for block in blocks()].index("pytest")]:
        if block.language == "python":
            names.append(f"example{len(names)}")
            (tmp_path / f"{names[-1]}.py").write_text(block.text)
    assert len(names) == 7
    options = ["--strict", "--config-file=", f"--cache-dir={tmp_path}"]
    modules = [option for name in names for option in ("-m", name)]
    package = Path(memoize_once.__file__).parent
    # mypy follows no editable install, and refuses to be pointed at any other
    path = {} if package.parent.name == "site-packages" else {"MYPYPATH": str(package.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *modules],
        cwd=tmp_path,
        env=os.environ | path,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# The recipes for tests ----------------------------------------------------------------------------

WORKERS = [
    pytest.param([], id="alone"),
    pytest.param(["-p", "xdist", "-n", "2"], id="workers"),
]

SHARED = """
import pytest
import requests
from app import app, engine
from fastapi.testclient import TestClient

@pytest.mark.parametrize("time", range(2))
def test_application(time, server, url, capsys):
    with TestClient(app) as client:
        assert "disposed" not in capsys.readouterr().out
        assert client.get("/").json() == "engine of app.db"
    assert capsys.readouterr().out == "disposed of\\n"
    assert server.fileno() >= 0, "torn down"
    assert requests.get(url).ok

def test_eager(capsys):
    with TestClient(app):
        pass
    assert capsys.readouterr().out == "disposed of\\n", "not made before the first request"
"""


@pytest.mark.parametrize("options", WORKERS)
@pytest.mark.usefixtures("plain_pytest")
def test_fastapi_and_pytest(options: list[str], pytester: pytest.Pytester) -> None:
    """Promises 10 and 20: the application and the files of its test suite work together, in the
    workers of pytest-xdist too: the end of a lifespan, in one test, closes nothing that the tests
    share."""
    pytest.importorskip("fastapi")
    pytester.makeconftest(file("conftest.py"))
    pytester.makepyfile(app=file("app.py"), test_app=file("test_app.py"), test_shared=SHARED)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    result.assert_outcomes(passed=5)


@pytest.mark.usefixtures("plain_pytest")
def test_bare_areset(pytester: pytest.Pytester) -> None:
    """Promise 10: a lifespan that resets everything closes what the tests share, as the README
    says."""
    pytest.importorskip("fastapi")
    app = file("app.py").replace("areset(engine, sessions)", "areset()")
    assert app != file("app.py")
    pytester.makeconftest(file("conftest.py"))
    pytester.makepyfile(app=app, test_shared=SHARED)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=2)


ONE_CLIENT = """
@pytest.fixture(scope="module")
@memoize
def client():
    from app import app
    from fastapi.testclient import TestClient

    with TestClient(app) as client:
        yield client
"""

USES_ONE_CLIENT = """
import pytest
from app import app, sessions
from fastapi import Depends

@app.get("/sessions")
async def held(sessions: str = Depends(sessions)) -> str:
    return sessions

@pytest.mark.parametrize("time", range(2))
def test_application(time, client):
    assert client.get("/").json() == "engine of app.db"
    assert client.get("/sessions").json() == "sessions of engine of app.db"
"""


@pytest.mark.usefixtures("plain_pytest")
def test_one_client(pytester: pytest.Pytester) -> None:
    """A memoized fixture that yields the client inside its `with` block shares the application's
    async objects among tests; its teardown, in a reset, resets them in the lifespan."""
    pytest.importorskip("fastapi")
    pytester.makeconftest(file("conftest.py") + ONE_CLIENT)
    pytester.makepyfile(app=file("app.py"), test_1=USES_ONE_CLIENT, test_2=USES_ONE_CLIENT)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-s")
    result.assert_outcomes(passed=4)
    assert result.stdout.str().count("disposed of") == 1


CLIENTS = """
from fastapi.testclient import TestClient

@app.get("/sessions")
async def held(sessions: str = Depends(sessions)) -> str:
    return sessions
{}
"""
WITHOUT_WITH = """
client = TestClient(app)
for _ in range(2):
    print(client.get("/").json())
"""
TWO_LIFESPANS = """
made = []
for database in ("one", "two"):
    settings = lambda: {"database": database}
    with TestClient(app) as client:
        print(client.get("/sessions").json())
"""


def ran_with(app: str, client: str) -> list[str]:
    """What a script prints that is the application of the README, and a client of it."""
    done = subprocess.run(
        [sys.executable, "-c", app + CLIENTS.format(client)],
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_client_without_with() -> None:
    """Without its `with` block, a client makes new async objects for each request."""
    pytest.importorskip("fastapi")
    each = ["disposed of", "engine of app.db"]
    assert ran_with(file("app.py"), WITHOUT_WITH) == [*each, *each]


@pytest.mark.parametrize("kept", [False, True], ids=["yield", "return"])
def test_built_on_an_engine(kept: bool) -> None:
    """Promise 18: what is built on an object of a loop ends with that loop if it has a teardown
    too; if it returns instead of yielding, the next loop gets what was built on a closed engine."""
    pytest.importorskip("fastapi")
    app = file("app.py").replace("areset(engine, sessions)", "areset(engine)")
    if kept:
        app = app.replace('yield f"sessions', 'return f"sessions')
        assert "return f" in app
    second = "one" if kept else "two"
    assert ran_with(app, TWO_LIFESPANS) == [
        "sessions of engine of one",
        "disposed of",
        f"sessions of engine of {second}",
        "disposed of",
    ]


COUNTED = """
import http.server

class HTTPServer(http.server.HTTPServer):
    def __init__(self, *args):
        super().__init__(*args)
        self.write("started")

    def server_close(self):
        super().server_close()
        self.write("closed")

    def write(self, text):
        with open({path!r}, "a") as file:
            print(text, file=file)
"""

REQUESTS = """
import pytest
import requests

@pytest.mark.parametrize("time", range(8))
def test_website(time, url):
    assert requests.get(url).ok
"""


@pytest.mark.parametrize("options", WORKERS)
@pytest.mark.usefixtures("plain_pytest")
def test_one_for_all_workers(options: list[str], pytester: pytest.Pytester, tmp_path: Path) -> None:
    """The controlling process starts one server for all workers of pytest-xdist, and closes it; so
    does the only process, where there are no workers."""
    count = tmp_path / "count"
    recipe = file("conftest.py")
    imported = "from http.server import HTTPServer, SimpleHTTPRequestHandler\n"
    assert imported in recipe
    pytester.makeconftest(recipe.replace(imported, imported + COUNTED.format(path=str(count))))
    pytester.makepyfile(REQUESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    result.assert_outcomes(passed=8)
    assert count.read_text() == "started\nclosed\n"


@pytest.mark.parametrize("options", WORKERS)
@pytest.mark.usefixtures("plain_pytest")
def test_one_for_all_workers_fails(options: list[str], pytester: pytest.Pytester) -> None:
    """Promise 8: the run fails where the teardown of the one server fails, in the controlling
    process too, where no fixture runs."""
    shut = "http.shutdown()"
    recipe = file("conftest.py")
    assert shut in recipe
    pytester.makeconftest(recipe.replace(shut, f"{shut}; raise OSError('still open')"))
    pytester.makepyfile(REQUESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    assert result.ret == 1
    assert "OSError: still open" in result.stdout.str() + result.stderr.str()


ADDFINALIZER = """
@pytest.fixture(scope="module")
@memoize
def opened(request):
    made = ["open"]
    request.addfinalizer(made.clear)
    return made

@pytest.fixture(scope="module")
@memoize
def yielded():
    made = ["open"]
    yield made
    made.clear()
"""


@pytest.mark.usefixtures("plain_pytest")
def test_addfinalizer(pytester: pytest.Pytester) -> None:
    """`request.addfinalizer` of a memoized fixture runs when pytest leaves the scope for the first
    time, though the object is kept; what stands after a `yield` does not."""
    pytester.makeconftest(file("conftest.py") + ADDFINALIZER)
    first = "def test_it(opened, yielded): assert opened == yielded == ['open']"
    second = "def test_it(opened, yielded): assert (opened, yielded) == ([], ['open'])"
    pytester.makepyfile(test_1=first, test_2=second)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)


UNITTEST = """
import unittest

class TestSettings(unittest.TestCase):
    def setUp(self) -> None:
        {cleanup}

    def test_one(self) -> None:
        self.assertEqual(settings(), {{"database": "app.db"}})
        settings()["database"] = "changed"

    test_two = test_one
"""


def test_unittest(pytester: pytest.Pytester) -> None:
    """Promise 10: the README's line for unittest gives each test a new object."""
    pytest.importorskip("fastapi")
    found = re.search(r"`(self\.addCleanup\(.*\))` in `setUp`", TEXT)
    assert found
    tests = UNITTEST.format(cleanup=found[1])
    pytester.makepyfile(app=file("app.py"), test_app=file("test_app.py") + tests)
    result = pytester.run(sys.executable, "-m", "unittest", "test_app", timeout=TIME_LIMIT)
    result.stderr.fnmatch_lines(["Ran 2 tests in *", "OK"])


def test_body_alone(ran: list[str]) -> None:
    """Promise 20: the body of a function is its `__wrapped__`; that of a generator function is what
    was memoized, as a context manager."""

    def plain() -> object:
        return object()

    def make() -> Generator[str, None, None]:
        yield "made"
        ran.append("ended")

    once, client = memoize(plain), memoize(make)
    body: Callable[[], object] = vars(once)["__wrapped__"]
    assert body() is not once()
    assert not hasattr(client, "__wrapped__")
    with contextmanager(make)() as made:
        assert made == "made"
    assert ran == ["ended"]


def test_request_data() -> None:
    """Promise 1: a memoized class whose parameters FastAPI fills keeps what the first visitor sent;
    the recipe's settings take nothing from a request."""
    pytest.importorskip("fastapi")
    script = (
        file("app.py")
        + """
from dataclasses import dataclass
from fastapi.testclient import TestClient

@dataclass
class Settings:
    database: str = "app.db"

memoized = memoize(Settings)

@memoize
def settings() -> Settings:
    return Settings()

@app.get("/hole")
def hole(settings: Settings = Depends(memoized)) -> str:
    return settings.database

@app.get("/recipe")
def recipe(settings: Settings = Depends(settings)) -> str:
    return settings.database

client = TestClient(app)
for path in ("/hole", "/recipe"):
    print(client.get(path, params={"database": "theirs"}).json(), client.get(path).json())
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=TIME_LIMIT
    )
    assert (done.stdout, done.returncode) == ("theirs theirs\napp.db app.db\n", 0), done.stderr


# The page -----------------------------------------------------------------------------------------


def test_commands() -> None:
    """The first two blocks of commands, each of them one command, run the application's tests, and
    then all."""
    first, second = [block.text for block in blocks() if block.language == "sh"]
    assert first.replace("&&\n", "&&").count("\n") == second.count("\n") == 1
    assert first.endswith("-m pytest -n 2 --dist loadfile tests/application\n")
    assert second.endswith("-m pytest -n 2\n")


def test_links() -> None:
    """Every link to a section leads to one."""
    headings = re.findall(r"^##+ (.+)$", TEXT, re.M)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_size() -> None:
    """It can be read in one sitting, and in a terminal."""
    lines = TEXT.splitlines()
    assert len(lines) <= 460
    assert [line for line in lines if len(line) > 120] == []
