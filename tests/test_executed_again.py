"""Promise 25: the same function when its module is executed again."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memoize_once import finalizers, reset

SOURCE = """
from memoize_once import memoize

events = []

@memoize
def server():
    yield object()
    events.append("torn down")

@memoize(finalizer=lambda value: None)
def client():
    return object()

@memoize
def settings():
    return object()

@memoize(key=lambda name="a": name)
def keyed(name="a"):
    yield object()

def local():
    @memoize
    def function():
        yield object()
    return function

in_a_function = local()

def closing(value):
    return memoize(lambda: (yield [value]))

closure = closing(1)

servers = []
for i in range(2):
    @memoize
    def in_a_loop(i=i):
        yield [i]
    servers.append(in_a_loop)

if servers:
    @memoize
    def chosen():
        yield "first"
    servers.append(chosen)
if servers:
    @memoize
    def chosen():
        yield "second"
    servers.append(chosen)

@memoize(key=lambda name: name)
def ported(name="a", port=1):
    yield [name, port]
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "again", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "again.py"
    path.write_text(SOURCE)
    return path


def import_anew() -> ModuleType:
    sys.modules.pop("again", None)
    importlib.invalidate_caches()
    return importlib.import_module("again")


@pytest.mark.parametrize("name", ["server", "client", "keyed"])
def test_an_object_with_teardown_is_taken_over(path: Path, name: str) -> None:
    """Promise 25: a module that is imported again after it was dropped takes over the objects that
    have a teardown."""
    old = import_anew()
    value = getattr(old, name)()
    new = import_anew()
    assert getattr(new, name) is not getattr(old, name)
    assert getattr(new, name)() is getattr(old, name)() is value
    assert list(finalizers) == [getattr(new, name)]


def test_old_and_new_are_one_function(path: Path) -> None:
    """Promise 25: resetting either resets both, and the next object is made by the newest
    definition, whoever calls."""
    old = import_anew()
    first = old.server()
    new = import_anew()
    newest = import_anew()
    reset(new.server)
    assert old.events == ["torn down"]
    second = old.server()
    assert newest.server() is new.server() is second is not first
    reset(old.server)
    assert (new.events, newest.events) == ([], ["torn down"])


@pytest.mark.parametrize("name", ["settings", "closure", "in_a_function"])
def test_what_is_made_anew(path: Path, name: str) -> None:
    """Promise 25: an object without teardown, that of a closure and that of a local function are
    made anew."""
    value = getattr(import_anew(), name)()
    assert getattr(import_anew(), name)() is not value


def test_changed_code(path: Path) -> None:
    """Promise 25: a function whose code has changed is a new one, and the old object stays until it
    is torn down."""
    old = import_anew()
    value = old.server()
    path.write_text(SOURCE.replace("torn down", "changed"))
    assert import_anew().server() is not value
    reset()
    assert old.events == ["torn down"]


def test_the_same_namespace(path: Path) -> None:
    """Promise 25: what is defined again in the same namespace, by `importlib.reload` or in a loop,
    is a new function."""
    module = import_anew()
    value = module.server()
    assert [server() for server in module.servers] == [[0], [1], "first", "second"]
    assert importlib.reload(module).server() is not value


def test_a_name_that_is_defined_several_times(path: Path) -> None:
    """Promise 25: of a name that a loop or a condition defines several times, the n-th definition
    takes over the object of the n-th, in each later execution too."""
    old = import_anew()
    values = [server() for server in old.servers]
    assert values == [[0], [1], "first", "second"]
    for _ in range(3):
        new = import_anew()
        for server, before, value in zip(new.servers, old.servers, values, strict=True):
            assert server() is before() is value
        assert len(finalizers) == len(values)
        old = new
    reset(old.servers[0])
    assert [server in finalizers for server in old.servers] == [False, True, True, True]
    assert import_anew().servers[1]() is values[1]


def test_some_of_several_hold_an_object(path: Path) -> None:
    """Promise 25: it is the place among the definitions that counts, whichever hold an object."""
    old = import_anew()
    value = old.servers[1]()
    new = import_anew()
    assert new.servers[1]() is value
    assert new.servers[0]() == [0]
    newest = import_anew()
    assert [server() for server in newest.servers[:2]] == [new.servers[0](), value]
    assert newest.servers[0]() is new.servers[0]()


@pytest.mark.parametrize("key", ["lambda port: port", "lambda *args: args", "str", None])
def test_another_key_function(path: Path, key: str | None) -> None:
    """Promise 25: where the file is executed again with another key function, or without one, the
    old definition keeps working with its own, and the new one with the new one."""
    old = import_anew()
    value = old.ported("b")
    options = "" if key is None else f"(key={key})"
    path.write_text(SOURCE.replace("(key=lambda name: name)", options))
    new = import_anew()
    assert old.ported("b") is old.ported(port=2, name="b") is value
    assert old.ported("c") == ["c", 1]
    if key != "str":  # which minds the number of arguments
        assert new.ported("d", 4) is new.ported(port=4, name="d")
    assert old.ported("b") is value
    reset(old.ported, new.ported)
    assert len(finalizers) == 0
    assert old.ported("b") is old.ported("b") is not value


def test_files_of_the_same_name(path: Path, tmp_path: Path) -> None:
    """Promise 25: the same module name and file make the same function, and files of the same name
    in different folders have nothing to do with each other."""
    other = tmp_path / "other" / "again.py"
    other.parent.mkdir()
    other.write_text(SOURCE)
    one, another = (runpy.run_path(str(p), run_name="again") for p in (path, other))
    assert one["server"]() is not another["server"]()
    assert runpy.run_path(str(path), run_name="again")["server"]() is one["server"]()
    assert runpy.run_path(str(path), run_name="different")["server"]() is not one["server"]()


@pytest.mark.parametrize("name", ["<string>", "<stdin>"])
def test_code_without_a_file(name: str) -> None:
    """Promise 25: code without a file is new each time."""
    namespaces: list[dict[str, Any]] = [{"__name__": "again"}, {"__name__": "again"}]
    for namespace in namespaces:
        exec(compile(SOURCE, name, "exec"), namespace)
    assert namespaces[0]["server"]() is not namespaces[1]["server"]()


RUN_TWICE = """
import pytest
assert [pytest.main(["-q", "-p", "no:cacheprovider"]) for _ in range(2)] == [0, 0]
"""
CONFTEST = """
import pytest
from memoize_once import memoize

@pytest.fixture(scope="session")
@memoize
def server():
    print("up", file=open("log", "a"))
    yield object()
    print("down", file=open("log", "a"))
"""


@pytest.mark.usefixtures("plain_pytest")
def test_a_second_pytest_main(pytester: pytest.Pytester) -> None:
    """Promise 25: a `conftest.py` that a second `pytest.main()` executes anew starts no second
    server; each of two files of that name has its own."""
    for folder in ("a", "b"):
        target = pytester.mkdir(folder)
        (target / "conftest.py").write_text(CONFTEST)
        (target / f"test_in_{folder}.py").write_text("def test_one(server): pass\n")
    result = pytester.run(sys.executable, "-c", RUN_TWICE)
    result.stdout.fnmatch_lines(["*2 passed*", "*2 passed*"])
    assert result.ret == 0
    assert sorted((pytester.path / "log").read_text().split()) == ["down", "down", "up", "up"]
