"""Promises 12 and 13 as the README's table "Is it torn down?" says them: how processes end, with
and without what cures it."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
from processes import usable
from readme import file, handler, rows, torn_down

PRELUDE = """
import ctypes, multiprocessing, os, signal, sys, threading
from concurrent.futures import ProcessPoolExecutor
from memoize_once import memoize, reset

@memoize
def server():
    yield "up"
    os.write(1, b"torn down")

def job(forever):
    server()
    made.set()
    if forever:
        threading.Event().wait()

def fails():
    server()
    raise OSError

def returns_its_error():
    try:
        fails()
    except OSError as error:
        return error

def interrupts():
    server()
    os.kill(os.getppid(), signal.SIGINT)
    threading.Event().wait()

context = multiprocessing.get_context("fork")
made = context.Event()
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
if __name__ == "__main__":
"""
JOBLIB = "from joblib import Parallel, delayed; Parallel(2)([delayed({})()])"
KILLED = "joblib's workers, where a job raises or Ctrl-C comes"
SCRIPTS = {
    "end of the script, `sys.exit()`, an exception, Ctrl-C": [
        "server()",
        "server(); 1 / 0",
        "server(); signal.raise_signal(signal.SIGINT)",
        "server(); threading.Thread(target=sys.exit).start()",
    ],
    "SIGTERM, SIGHUP": [
        "server(); signal.raise_signal(signal.SIGTERM)",
        "server(); signal.raise_signal(signal.SIGHUP)",
        "context.Process(target=job, args=[True], daemon=True).start(); made.wait()",
    ],
    "`os._exit()`, C's `exit()`": ["server(); os._exit(0)", "server(); ctypes.CDLL(None).exit(0)"],
    "SIGKILL, a crash": ["server(); signal.raise_signal(signal.SIGKILL)"],
    "`multiprocessing.Process`, `ProcessPoolExecutor`": [
        "p = context.Process(target=server); p.start(); p.join()",
        "with ProcessPoolExecutor(1, context) as pool: pool.submit(server).result()",
    ],
    "`with multiprocessing.Pool()`": [
        "with context.Pool(1) as pool: pool.apply_async(job, [True]); made.wait()"
    ],
    "joblib's and Dask's workers": [JOBLIB.format("server")],
    KILLED: [JOBLIB.format("fails"), JOBLIB.format("interrupts")],
}
HANDLED = f"server(); {handler()}; signal.raise_signal(signal.SIGTERM)"
CURED = {
    "SIGTERM, SIGHUP": [HANDLED, HANDLED.replace("SIGTERM", "SIGHUP")],
    "`os._exit()`, C's `exit()`": [
        "server(); reset(); os._exit(0)",
        "server(); reset(); ctypes.CDLL(None).exit(0)",
    ],
    "`with multiprocessing.Pool()`": [
        "with context.Pool(1) as pool: pool.apply_async(job, [False]); pool.close(); pool.join()"
    ],
    KILLED: [JOBLIB.format("returns_its_error")],
}
CASES = [(row, source, False) for row, sources in SCRIPTS.items() for source in sources]
CASES += [(row, source, True) for row, sources in CURED.items() for source in sources]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
@pytest.mark.parametrize(("row", "source", "cured"), CASES)
def test_scripts(row: str, source: str, cured: bool, tmp_path: Path) -> None:
    """What ends this way is torn down where the table says so, or with what it says to write."""
    if "joblib" in source and not usable("joblib"):
        pytest.skip("no joblib here")
    path = tmp_path / "script.py"
    path.write_text(f"{PRELUDE}    {source}")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60)
    assert done.stdout == "torn down" * (cured or torn_down(row)), done.stderr


def test_second_signal(tmp_path: Path) -> None:
    """Promise 12: a second SIGTERM breaks off the teardown that it interrupts, and no other."""
    path = tmp_path / "script.py"
    struck = "memoize(finalizer=lambda _: [signal.raise_signal(15), os.write(1, b'not reached')])"
    path.write_text(f"{PRELUDE}    server(); {struck}(list)(); {HANDLED}")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("torn down", 128 + 15), done.stderr


FAILING = """
from pathlib import Path

@pytest.fixture(scope="session")
@memoize
def failing():
    yield
    Path(__file__).with_name("torn down").touch()
    raise OSError("the port is still open")
"""
ROWS = {
    "pytest": [],
    "a worker of pytest-xdist": ["-p", "xdist", "-n", "1"],
    "`pytest --forked`": ["-p", "pytest_forked", "--forked"],
}


@pytest.mark.parametrize("cured", [True, False], ids=["cured", "as it is"])
@pytest.mark.parametrize("row", ROWS)
def test_pytest(
    row: str, cured: bool, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the README's fixtures a failing teardown is an error of the run; without them, what is
    torn down fails too late for anybody to hear."""
    for plugin in ROWS[row][1:2]:
        pytest.importorskip(plugin)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    recipe = file("conftest.py")
    if not cured:
        recipe = recipe.replace("reset()", "pass")
    pytester.makeconftest(recipe + FAILING)
    pytester.makepyfile("def test_it(failing): pass")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *ROWS[row])
    if "EXITED with status 3" in result.stdout.str():
        pytest.skip("pytest-forked does not work with this pytest: not even an empty test passes")
    result.assert_outcomes(passed=1, errors=int(cured))
    assert result.ret == int(cured)
    if cured:
        result.stdout.fnmatch_lines(["*the port is still open*"])
    assert (pytester.path / "torn down").exists() == (cured or torn_down(row))


KERNEL = "a notebook's kernel, when shut down or restarted"
CELL = """
import signal, subprocess, sys
from pathlib import Path
from memoize_once import memoize

@memoize
async def pool():
    yield
    Path({!r}).touch()

await pool()
"""
CHILD = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"


@pytest.mark.parametrize(
    ("source", "expected"),
    [("", torn_down(KERNEL)), (CHILD, False), (f"{CHILD}; {handler()}", True)],
    ids=["alone", "with a child", "with a child and the handler"],
)
def test_kernel(source: str, expected: bool, tmp_path: Path) -> None:
    """A kernel tears down when it is shut down. It waits long for its child processes, and Jupyter
    ends it by SIGTERM before it has done so: then the README's handler tears down."""
    pytest.importorskip("ipykernel")
    jupyter = pytest.importorskip("jupyter_client.manager")
    path = tmp_path / "torn down"
    manager, client = jupyter.start_new_kernel()
    try:
        reply = client.execute_interactive(CELL.format(str(path)) + source, timeout=60)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    assert reply["content"]["status"] == "ok"
    assert path.exists() == expected


TERMINATED = """
import signal
import pytest

@pytest.mark.parametrize("time", range(2))
def test_terminated(failing, time):
    signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize(
    ("line", "status", "failed"),
    [
        ("signal.signal(signal.SIGTERM, signal.default_int_handler)", 2, 0),
        (handler(), 1, 2),
    ],
    ids=["default_int_handler", "sys.exit"],
)
def test_pytest_terminated(
    line: str,
    status: int,
    failed: int,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what the README says to write in a `conftest.py`, SIGTERM ends the run of pytest and
    tears down; `sys.exit` in the handler would fail the test that runs, and the run goes on."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    closed = FAILING.replace("raise OSError", "print")
    pytester.makeconftest(f"{file('conftest.py')}{closed}\nimport signal, sys\n{line}\n")
    pytester.makepyfile(TERMINATED)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret == status
    assert result.parseoutcomes().get("failed", 0) == failed
    assert (pytester.path / "torn down").exists()


SEEN_BY_HAND = [  # with the versions that the README names
    KERNEL,
    "`rq worker`",
    "RQ's `SimpleWorker`, `streamlit run`",
    "`uwsgi`, made by a request or with `lazy-apps`",
    "`uwsgi`, made at import",
    "a Qt application",
]


def test_rows() -> None:
    """The table says nothing that no test names, or nobody has seen."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [row for row in rows() if f'"{row}"' not in tests] == []
    assert set(SEEN_BY_HAND) <= {*rows()}
