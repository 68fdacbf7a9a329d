"""What is installed: the names, the version and the files."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata, resources

import memoize_once


def test_public_names() -> None:
    """The public names are those of the documentation, and show the package as the place to import from."""
    assert sorted(memoize_once.__all__) == ["DeadlockError", "__version__", "areset", "finalizers", "memoize", "reset"]
    for name in ("DeadlockError", "areset", "memoize", "reset"):
        assert getattr(memoize_once, name).__module__ == "memoize_once"
        assert "New in 0.1.0." in getattr(memoize_once, name).__doc__


def test_version() -> None:
    """The version is that of the installed distribution."""
    assert memoize_once.__version__ == metadata.version("memoize_once")


def test_requirements() -> None:
    """At run time the package needs `decorator` and nothing else."""
    required = [r for r in metadata.requires("memoize_once") or [] if "extra ==" not in r]
    assert [r.split()[0].partition(">")[0] for r in required] == ["decorator"]


def test_typed() -> None:
    """Type checkers find the marker."""
    assert resources.files("memoize_once").joinpath("py.typed").is_file()


def test_import() -> None:
    """Importing it imports neither asyncio nor pytest, warns of nothing and prints nothing."""
    code = "import sys, memoize_once; print(sorted({'asyncio', 'pytest', '_pytest', 'inspect'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("['inspect']\n", "", 0)


def test_executors() -> None:
    """What the library notes in threads and executors changes nothing about them."""
    begun: list[str] = []
    with ThreadPoolExecutor(1, thread_name_prefix="mine", initializer=begun.append, initargs=("begun",)) as pool:
        assert pool.submit(lambda: threading.current_thread().name).result() == "mine_0"
    assert begun == ["begun"]
