"""Promise 25: the same function when its module is executed again."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from threads import collect

from memoize_once import _memoize, finalizers, reset

SOURCE = """
import functools
from decorator import decoratorx
from memoize_once import finalizers, memoize

events = []

@memoize
def server():
    number = object()
    yield number
    events.append("torn down")

@memoize(finalizer=lambda value: None)
def client():
    return object()

@memoize
def settings():
    return object()

@memoize
def registered():
    finalizers.register(registered, print, end="")
    return object()

@memoize(key=lambda name: name)
def keyed(name):
    yield object()

def local():
    @memoize
    def function():
        yield object()
    return function

def closing(value):
    return memoize(lambda: (yield [value]))

closure = closing(1)
in_a_function = local()

def closes_over(function):
    @functools.wraps(function)
    def wrapper():
        return function()
    return wrapper

@memoize
@closes_over
def decorated():
    yield object()

@decoratorx
def passed_on(function):
    return function()

class Owner:
    @staticmethod
    @memoize
    @passed_on
    def method():
        __class__
        yield object()

method = Owner.method

@memoize
@functools.wraps(object)
def like_a_class():
    return object()
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


@pytest.mark.parametrize("name", ["server", "client", "registered"])
def test_an_object_with_teardown_is_taken_over(path: Path, name: str) -> None:
    """Promise 25: a module that is imported again after it was dropped takes over the objects that have a teardown."""
    old = import_anew()
    value = getattr(old, name)()
    new = import_anew()
    assert getattr(new, name) is not getattr(old, name)
    assert getattr(new, name)() is getattr(old, name)() is value
    assert list(finalizers) == [getattr(new, name)]


def test_each_key_is_taken_over(path: Path) -> None:
    """Promise 25: with `key=` all keys are."""
    old = import_anew()
    values = [old.keyed("a"), old.keyed("b")]
    new = import_anew()
    assert [new.keyed("a"), new.keyed("b")] == values
    assert new.keyed("c") is old.keyed("c")


def test_old_and_new_are_one_function(path: Path) -> None:
    """Promise 25: resetting either resets both, and the next making runs the newest definition, whoever calls."""
    old = import_anew()
    first = old.server()
    new = import_anew()
    newest = import_anew()
    reset(new.server)
    assert old.events == ["torn down"]
    second = old.server()
    assert newest.server() is new.server() is second is not first
    reset(old.server)
    assert newest.events == ["torn down"]


def test_the_newest_options(path: Path) -> None:
    """Promise 25: the newest definition is the newest body, key function and finalizer, for old callers too."""
    path.write_text(
        "from memoize_once import memoize\nevents = []\n"
        "@memoize(key=lambda name: events.append('key') or name, finalizer=lambda value: events.append('torn down'))\n"
        "def thing(name):\n    events.append('made')\n    return object()\n"
    )
    old = import_anew()
    value = old.thing("a")
    new = import_anew()
    assert old.events == ["key", "made"]
    assert old.thing("a") is value
    assert new.events == ["key"]
    reset(old.thing)
    assert old.events == ["key", "made", "torn down"]
    old.thing("a")
    reset(old.thing)
    assert new.events == ["key", "key", "made", "torn down"]
    assert old.events == ["key", "made", "torn down"]


@pytest.mark.parametrize("name", ["settings", "closure", "in_a_function", "decorated", "method", "like_a_class"])
def test_what_is_made_anew(path: Path, name: str) -> None:
    """Promise 25: an object without teardown, closures and what wraps one or is one as a wrapper, and a local function are made anew."""
    value = getattr(import_anew(), name)()
    assert getattr(import_anew(), name)() is not value


def test_a_function_that_holds_nothing(path: Path) -> None:
    """Promise 25: only an object that is there is taken over: two definitions that hold none stay two functions."""
    old, new = import_anew(), import_anew()
    assert old.server() is not new.server()


@pytest.mark.skipif(
    "free-threading" in sys.version and sys.version_info < (3, 14), reason="free-threaded Python 3.13 never frees the functions of a module"
)
def test_executions_leave_nothing(path: Path) -> None:
    """Promise 25: nothing is left of executions whose functions are gone, however often the file is executed."""
    for _ in range(50):
        import_anew()
        collect()
    known = [len(records) for (_, file, _), records in _memoize._defined.items() if file == str(path)]
    assert known
    assert max(known) < 5


def test_changed_code(path: Path) -> None:
    """Promise 25: a function whose code has changed is a new one, and the old object stays until it is torn down."""
    old = import_anew()
    value = old.server()
    path.write_text(SOURCE.replace("torn down", "changed"))
    assert import_anew().server() is not value
    reset()
    assert old.events == ["torn down"]


@pytest.mark.parametrize("moment", ["making", "teardown"])
def test_what_is_not_there_yet_or_no_more(path: Path, moment: str) -> None:
    """Promise 25: what is just made or torn down is not taken over, finalizers or not."""
    path.write_text(
        "from memoize_once import finalizers, memoize\ndo = []\n"
        "@memoize\ndef thing():\n    finalizers.register(thing, print, end='')\n"
        "    for each in do: each('making')\n    yield object()\n    for each in do: each('teardown')\n"
    )
    old, others = import_anew(), list[object]()
    old.do.append(lambda now: others.append(import_anew().thing()) if now == moment else None)
    value = old.thing()
    reset(old.thing)
    assert len(others) == 1
    assert others[0] is not value


def test_other_options(path: Path) -> None:
    """Promise 25: a function that was memoized without `key=` is a new one with it."""
    source = "from memoize_once import memoize\n@memoize(finalizer=print)\ndef thing(a=1):\n    return [a]\n"
    path.write_text(source)
    value = import_anew().thing()
    path.write_text(source.replace("finalizer=print", "finalizer=print, key=lambda a: a"))
    new = import_anew()
    assert new.thing() is not value
    assert new.thing(2) == [2]


def test_the_newest_definition_is_kept(path: Path) -> None:
    """Promise 25: an object with a teardown keeps its newest definition, which the registry shows."""
    import_anew().server()
    del import_anew().server
    collect()
    assert [function.__module__ for function in finalizers] == ["again"]


def test_an_older_definition_that_is_still_there(path: Path) -> None:
    """Promise 25: an object that an older definition makes, while newer ones hold none, is taken over too."""
    old = import_anew()
    import_anew()
    value = old.server()
    assert import_anew().server() is value


def test_decorators_below(path: Path) -> None:
    """Promise 25: below a decorator that writes functions of its own, what is defined in a loop is new, and so is changed code."""
    source = """
from decorator import decoratorx
from memoize_once import memoize

@decoratorx
def logged(function, *args):
    return function(*args)

servers = []
for number in range(2):
    @memoize
    @logged
    def server():
        yield object()
    servers.append(server)
    server()
"""
    path.write_text(source)
    old = import_anew()
    assert old.servers[0]() is not old.servers[1]()
    new = import_anew()
    assert [server() for server in new.servers] == [server() for server in old.servers]
    path.write_text(source.replace("object()", "'changed'"))
    assert import_anew().server() == "changed"


def test_reload_is_the_same_namespace(path: Path) -> None:
    """Promise 25: what is defined again in the same namespace, by `importlib.reload` or in a loop, is a new function."""
    module = import_anew()
    value = module.server()
    assert importlib.reload(module).server() is not value


@pytest.mark.parametrize("held", [(0, 1, 2), (1,)], ids=["all hold", "one holds"])
def test_definitions_in_a_loop(path: Path, held: tuple[int, ...]) -> None:
    """Promise 25: of several definitions of one name the first follows the first, the second the second."""
    path.write_text(
        "from memoize_once import memoize\nservers = []\n"
        "for i in range(3):\n    @memoize\n    def server(i=i):\n        yield [i]\n    servers.append(server)\n"
    )
    old = import_anew()
    values = {number: old.servers[number]() for number in held}
    new = import_anew()
    assert [server() for server in new.servers] == [[0], [1], [2]]
    assert [number for number, value in values.items() if new.servers[number]() is value] == list(held)


def test_files_of_the_same_name(path: Path, tmp_path: Path) -> None:
    """Promise 25: files of the same name in different folders have nothing to do with each other."""
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
    values = []
    for _ in range(2):
        namespace: dict[str, Any] = {"__name__": "again"}
        exec(compile(SOURCE, name, "exec"), namespace)
        values.append(namespace["server"]())
    assert values[0] is not values[1]


RUN_TWICE = """
import sys
import pytest

for _ in range(2):
    assert pytest.main(["-q", "-p", "no:cacheprovider"]) == 0
print("sessions over")
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


@pytest.mark.parametrize("folders", [["."], ["a", "b"]], ids=["one conftest", "two of the same name"])
def test_a_second_pytest_main(pytester: pytest.Pytester, folders: list[str]) -> None:
    """Promise 25: a `conftest.py` that a second `pytest.main()` executes anew starts no second server; each file has its own."""
    for folder in folders:
        target = pytester.path / folder
        target.mkdir(exist_ok=True)
        (target / "conftest.py").write_text(CONFTEST)
        (target / f"test_in_{folder.strip('.')}.py").write_text("def test_one(server): pass\ndef test_two(server): pass\n")
    script = pytester.makepyfile(run=RUN_TWICE)
    log = pytester.path / "log"
    log.touch()
    result = pytester.run(sys.executable, script)
    result.stdout.fnmatch_lines(["*2 passed*" if len(folders) == 1 else "*4 passed*", "sessions over"])
    assert result.ret == 0
    assert sorted(log.read_text().split()) == sorted(["up", "down"] * len(folders))
