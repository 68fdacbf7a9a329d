"""What every test stands on: no object of an earlier test, and a header that says what the run was built from."""

from __future__ import annotations

import platform
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from memoize_once import finalizers, reset

pytest_plugins = ["pytester"]

# a shell has what runs in its background ignore Ctrl-C, which the processes that tests start would inherit
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    build = "free-threaded" if "free-threading" in sys.version else "with GIL"
    return f"memoize_once {version('memoize_once')}, decorator {version('decorator')}, {platform.python_implementation()} {build}"


@pytest.fixture(autouse=True)
def no_objects() -> Iterator[None]:
    """No test leaves an object, or an error of its teardown, to the next one; what was there before it may have users yet."""
    before = set(finalizers)
    yield
    reset(*set(finalizers) - before)
