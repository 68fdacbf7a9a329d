"""The README does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^## ([^\n]+)$|^```(\w+)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def scripts() -> list[tuple[str, str, str | None]]:
    """Each section's blocks of Python, with the output that stands below it, if any."""
    found: list[tuple[str, str, str | None]] = []
    section = "start"
    for heading, language, text in BLOCKS:
        if heading:
            section = heading
        elif language == "python":
            found.append((section, text, None))
        elif language == "text":
            found[-1] = (*found[-1][:2], text)
    return found


FILES = [text for _, text, _ in scripts() if re.match(r"# \w+\.py\n", text)]
SCRIPTS = [pytest.param(text, output, id=section) for section, text, output in scripts() if text not in FILES]


@pytest.mark.parametrize(("script", "output"), SCRIPTS)
def test_scripts(script: str, output: str | None, tmp_path: Path) -> None:
    """Each block runs by itself, without warnings, and prints what stands below it."""
    path = tmp_path / "script.py"
    path.write_text(script)
    done = subprocess.run([sys.executable, "-W", "error", path], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    stderr = re.sub(r'.*"GET / HTTP/1.1" 200 -\n', "", done.stderr)
    assert (stderr, done.returncode) == ("", 0)
    assert output is None or done.stdout == output


def test_files(pytester: pytest.Pytester) -> None:
    """The blocks that are files of a test suite work together, under pytest-xdist too."""
    texts: dict[str, str] = {}
    for text in FILES:
        name = text.split()[1]
        texts[name] = texts.get(name, "") + text
    for name, text in texts.items():
        (pytester.path / name).write_text(text)
    for options in ([], ["-n", "2"]):
        pytester.runpytest_subprocess("-p", "no:cacheprovider", *options).assert_outcomes(passed=2)


def test_commands() -> None:
    """The second block of commands is the one that runs all tests."""
    commands = [text for _, language, text in BLOCKS if language == "sh"]
    assert len(commands) == 2
    assert commands[0].endswith("pytest -n 2 tests/application\n")
    assert commands[1].endswith("pytest\n")
