"""What every test stands on, and a header that says what the run was built from."""

from __future__ import annotations

import platform
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from memoize_once import finalizers, reset

pytest_plugins = ["pytester"]

# a shell has what runs in its background ignore Ctrl-C, which child processes would inherit
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    python = platform.python_implementation()
    build = "free-threaded" if "free-threading" in sys.version else "with GIL"
    versions = ", ".join(f"{name} {version(name)}" for name in ("memoize_once", "decorator"))
    return f"{versions}, {python} {build}"


@pytest.fixture(autouse=True)
def no_objects() -> Iterator[None]:
    """No test leaves an object, or an error of its teardown, to the next one; what was there before
    it may have users yet."""
    before = set(finalizers)
    yield
    reset(*set(finalizers) - before)


@pytest.fixture
def ran() -> list[str]:
    """What ran, in this order."""
    return []


@pytest.fixture
def plain_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pytest that a test runs has no plugins, which cost seconds."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
