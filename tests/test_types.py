"""Promise 22: what type checkers see. The uses, right and wrong, are in the folder `typing`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import memoize_once

USES = Path(__file__).with_name("typing")
PACKAGE = Path(memoize_once.__file__).parent
TIME_LIMIT = 110


def check(*arguments: str) -> None:
    """Runs a type checker over the uses; a comment that ignores an error where there is none is an error too."""
    if importlib.util.find_spec(arguments[0]) is None:
        pytest.skip(f"{arguments[0]} is not installed")
    command = [sys.executable, "-m", *arguments]
    # mypy follows no editable install, and refuses to be pointed at any other
    path = {} if PACKAGE.parent.name == "site-packages" else {"MYPYPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, cwd=USES, env=os.environ | path, capture_output=True, text=True, timeout=TIME_LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy(tmp_path: Path) -> None:
    """Promise 22: mypy in its strict mode infers the right types and refuses each wrong use."""
    check("mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", ".")


def test_pyright(tmp_path: Path) -> None:
    """Promise 22: pyright does as well."""
    settings = {
        "include": [str(USES)],
        "extraPaths": [str(PACKAGE.parent)],
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    file = tmp_path / "pyrightconfig.json"
    file.write_text(json.dumps(settings))
    check("basedpyright", "--project", str(file), "--pythonpath", sys.executable)
