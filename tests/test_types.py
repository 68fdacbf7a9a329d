"""Promise 22: what type checkers see. The uses, right and wrong, are in the folder `typing`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memoize_once

USES = Path(__file__).with_name("typing")
PACKAGE = Path(memoize_once.__file__).parent
TIME_LIMIT = 110


def test_package(tmp_path: Path) -> None:
    """pyright finds nothing in the package itself; mypy looks at that with the linters."""
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed")
    settings = {"include": [str(PACKAGE)], "typeCheckingMode": "standard"}
    file = tmp_path / "pyrightconfig.json"
    file.write_text(json.dumps(settings))
    arguments = ["--project", str(file), "--pythonpath", sys.executable]
    command = [sys.executable, "-m", "basedpyright", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_uses(checker: str, tmp_path: Path) -> None:
    """Promise 22: mypy in its strict mode and pyright infer the right types and refuse each wrong
    use; a comment that ignores an error where there is none is an error too."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    settings = {
        "include": [str(USES)],
        "extraPaths": [str(PACKAGE.parent)],
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    file = tmp_path / "pyrightconfig.json"
    file.write_text(json.dumps(settings))
    arguments = {
        "mypy": ["--strict", "--config-file=", f"--cache-dir={tmp_path}", "."],
        "basedpyright": ["--project", str(file), "--pythonpath", sys.executable],
    }
    command = [sys.executable, "-m", checker, *arguments[checker]]
    # mypy follows no editable install, and refuses to be pointed at any other
    path = {} if PACKAGE.parent.name == "site-packages" else {"MYPYPATH": str(PACKAGE.parent)}
    options: Any = {"capture_output": True, "text": True, "timeout": TIME_LIMIT}
    done = subprocess.run(command, cwd=USES, env=os.environ | path, **options)
    assert done.returncode == 0, done.stdout + done.stderr
