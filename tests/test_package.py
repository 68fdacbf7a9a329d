"""What is installed: the names, the version, the files and their size."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

import memoize_once


def test_public_names() -> None:
    """The public names are these, and show the package as the place to import from."""
    expected = ["DeadlockError", "__version__", "areset", "finalizers", "memoize", "reset"]
    assert sorted(memoize_once.__all__) == expected
    for name in ("DeadlockError", "areset", "memoize", "reset"):
        assert getattr(memoize_once, name).__module__ == "memoize_once"
        assert "New in 0.1.0." in getattr(memoize_once, name).__doc__


def test_metadata() -> None:
    """The version is that of the installed distribution, which needs `decorator` at run time and
    nothing else, and has the marker for type checkers."""
    assert memoize_once.__version__ == metadata.version("memoize_once")
    required = [r for r in metadata.requires("memoize_once") or [] if "extra ==" not in r]
    assert [r.split()[0].partition(">")[0] for r in required] == ["decorator"]
    assert resources.files("memoize_once").joinpath("py.typed").is_file()


def test_import() -> None:
    """Importing it, and memoizing a plain function, imports neither asyncio nor pytest, warns of
    nothing and prints nothing."""
    code = """if True:
        import memoize_once, sys
        memoize_once.memoize(dict)()
        print({"asyncio", "pytest", "_pytest"} & set(sys.modules))
    """
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("set()\n", "", 0)


def statements(tree: ast.AST) -> int:
    """How many statements there are, docstrings left out."""
    nodes = list(ast.walk(tree))
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    documented = sum(isinstance(node, kinds) and bool(ast.get_docstring(node)) for node in nodes)
    return sum(isinstance(node, ast.stmt) for node in nodes) - documented


def long_functions(tree: ast.AST) -> Iterator[str]:
    """The names of functions with more than 40 lines beside their docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documentation = (ast.get_docstring(node) or "").splitlines()
            if (node.end_lineno or 0) - node.lineno + 1 - len(documentation) > 40:
                yield node.name


def test_size() -> None:
    """Size: at most 1,050 statements, 320 in a module, 40 lines in a function without its docstring
    and 100 columns in a line."""
    folder = Path(memoize_once.__file__).parent
    texts = {path.name: path.read_text() for path in folder.glob("*.py")}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    counts = {name: statements(tree) for name, tree in trees.items()}
    assert max(counts.values()) <= 320, counts
    assert sum(counts.values()) <= 1050, counts
    assert [name for tree in trees.values() for name in long_functions(tree)] == []
    assert [line for text in texts.values() for line in text.splitlines() if len(line) > 100] == []
