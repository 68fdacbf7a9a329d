"""The README does what it says."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from readme import TEXT, Block, blocks, file, name_of

SCRIPTS = [
    pytest.param(block.text, following.text * (following.language == "text"), id=block.section)
    for block, following in pairwise([*blocks(), Block("", "", "")])
    if block.language == "python" and not name_of(block)
]


@pytest.mark.parametrize(("script", "output"), SCRIPTS)
def test_scripts(script: str, output: str, tmp_path: Path) -> None:
    """Each script runs by itself, without warnings, and prints what stands below it."""
    path = tmp_path / "script.py"
    path.write_text(script)
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.stdout) == ("", output)
    assert done.returncode == (143 if "SIGTERM" in script else 0)


@pytest.mark.parametrize("options", [[], ["-p", "xdist", "-n", "2"]], ids=["alone", "workers"])
def test_files(
    options: list[str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of a test suite work together, in the workers of pytest-xdist too."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(file("conftest.py"))
    pytester.makepyfile("def test_it(server): assert server.fileno() >= 0")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    result.assert_outcomes(passed=1)


def test_commands() -> None:
    """The first two blocks of commands run the application's tests, and then all."""
    commands = [block.text for block in blocks() if block.language == "sh"]
    assert len(commands) == 2
    assert commands[0].endswith("-m pytest -n 2 tests/application\n")
    assert commands[1].endswith("-m pytest -n 2\n")


def test_size() -> None:
    """It can be read in one sitting, and in a terminal."""
    lines = TEXT.splitlines()
    assert len(lines) <= 420
    assert [line for line in lines if len(line) > 120 and not line.startswith("http")] == []
