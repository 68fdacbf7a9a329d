"""Promise 13: what Python does not document may go, one name at a time."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from processes import Ended, run_all

import memoize_once

PACKAGE = Path(memoize_once.__file__).parent


def private_names(path: Path) -> set[str]:
    """The names that begin with one underscore and belong to Python, as the module writes them."""
    tree = ast.parse(path.read_text())
    own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    own |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    looked_up = {
        str(node.args[1].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr"
        if isinstance(node.args[1], ast.Constant)
    }
    attributes = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and not ast.unparse(node.value).startswith("self")
    }
    names = looked_up | (attributes - own)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def own_names() -> set[str]:
    """The private names that the package defines itself."""
    names: set[str] = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
    return names


def test_one_room() -> None:
    """Promise 13: no module but `_python` uses a name of Python's that is not documented."""
    used = {path.name: private_names(path) - own_names() for path in PACKAGE.glob("*.py")}
    assert used.pop("_python.py")
    assert {name: names for name, names in used.items() if names} == {}


# The names are hidden from the library, and not from Python, which needs most of them itself.
GONE = """
import builtins

def hidden(thing, name, *default):
    if name == GONE:
        if default:
            return default[0]
        raise AttributeError(name)
    return found(thing, name, *default)

# imported before: PyPy's own import asks `getattr` for what a star takes
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
found, builtins.getattr = builtins.getattr, hidden
from memoize_once import areset, finalizers, memoize, reset

@memoize
def thing():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, daemon=True)
    thread.start()
    yield thread
    stop.set()
    thread.join()
    print("thing is torn down")

@memoize
async def other():
    task = asyncio.create_task(asyncio.sleep(0))
    yield [thing()]
    await task

async def main():
    print(await other() is await other(), len(finalizers))
    await areset(other)
    print(await other() is await other(), len(finalizers))

print(thing() is thing())
reset()
asyncio.run(main())
reset()
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
callers = [threading.Thread(target=thing) for _ in range(3)]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
print("end of the script", thing in finalizers)
"""
PRINTED = """\
True
thing is torn down
True 2
True 2
thing is torn down
end of the script True
thing is torn down
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    names = sorted(private_names(PACKAGE / "_python.py"))
    sources = {name: f"GONE = {name!r}\n{GONE}" for name in names}
    return run_all(sources, tmp_path_factory.mktemp("scripts"), prelude="")


@pytest.mark.parametrize("name", sorted(private_names(PACKAGE / "_python.py")))
def test_without(name: str, ended: dict[str, Ended]) -> None:
    """Promise 13: where a name that Python does not document has gone, importing, making, calling
    and resetting work as before, and so does the exit of an ordinary object beside an idle pool."""
    assert ended[name] == Ended([], PRINTED, [], 0)
