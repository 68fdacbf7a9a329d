"""What is installed: the names, the version, the files; and the numbers of the promises."""

from __future__ import annotations

import re
import subprocess
import sys
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
    nothing else, and has the marker for type checkers (promise 22)."""
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


def test_promises() -> None:
    """Tests cite the promises that there are in PROMISES.md, and each of them is cited."""
    tests = Path(__file__).parent
    there = re.findall(r"^(\d+)\. ", (tests / "PROMISES.md").read_text(), re.MULTILINE)
    cited: set[int] = set()
    for path in tests.rglob("*.py"):
        text = " ".join(path.read_text().split())
        for numbers in re.findall(r"\b[Pp]romises? (\d+(?:(?:,? and|,| to) \d+)*)", text):
            for first, last in re.findall(r"(\d+)(?: to (\d+))?", numbers):
                cited.update(range(int(first), int(last or first) + 1))
    assert sorted(cited) == list(map(int, there)) == list(range(1, len(there) + 1))
