"""The README's table "Is it torn down?": how processes end, with and without what cures it."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest
from readme import blocks, file, torn_down

PRELUDE = """
import multiprocessing, os, signal, sys, threading
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

context = multiprocessing.get_context("fork")
made = context.Event()
if __name__ == "__main__":
"""
HANDLER = re.search(r"^signal\.signal.*$", "".join(block.text for block in blocks()), re.M)
SCRIPTS = {
    "end of the script, `sys.exit()`, an exception, Ctrl-C": [
        "server()",
        "server(); 1 / 0",
        "server(); signal.raise_signal(signal.SIGINT)",
    ],
    "`sys.exit()` in a thread": ["server(); threading.Thread(target=sys.exit).start()"],
    "SIGTERM": ["server(); signal.raise_signal(signal.SIGTERM)"],
    "`os._exit()`": ["server(); os._exit(0)"],
    "SIGKILL, a crash": ["server(); signal.raise_signal(signal.SIGKILL)"],
    "`multiprocessing.Process`": ["p = context.Process(target=server); p.start(); p.join()"],
    "`with multiprocessing.Pool()`": [
        "with context.Pool(1) as pool: pool.apply_async(job, [True]); made.wait()"
    ],
    "`ProcessPoolExecutor`": [
        "with ProcessPoolExecutor(1, context) as pool: pool.submit(server).result()"
    ],
}
CURED = {
    "SIGTERM": f"{HANDLER and HANDLER.group()}; server(); signal.raise_signal(signal.SIGTERM)",
    "`os._exit()`": "server(); reset(); os._exit(0)",
    "`with multiprocessing.Pool()`": (
        "with context.Pool(1) as pool: pool.apply_async(job, [False]); pool.close(); pool.join()"
    ),
}
CASES = [(row, source, False) for row, sources in SCRIPTS.items() for source in sources]
CASES += [(row, source, True) for row, source in CURED.items()]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
@pytest.mark.parametrize(("row", "source", "cured"), CASES)
def test_scripts(row: str, source: str, cured: bool, tmp_path: Path) -> None:
    """What ends this way is torn down where the table says so, or with what it says to write."""
    path = tmp_path / "script.py"
    path.write_text(f"{PRELUDE}    {source}")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60)
    assert done.stdout == "torn down" * (cured or torn_down(row)), done.stderr


def test_second_signal(tmp_path: Path) -> None:
    """A second SIGTERM breaks off the teardown that it interrupts, and no other."""
    path = tmp_path / "script.py"
    struck = "memoize(finalizer=lambda _: [signal.raise_signal(15), os.write(1, b'not reached')])"
    path.write_text(f"{PRELUDE}    server(); {struck}(list)(); {CURED['SIGTERM']}")
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
