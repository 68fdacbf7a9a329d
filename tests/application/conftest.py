"""How long the objects of the application's tests stay, and what counts them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from application import counting

from memoize_once import reset


def pytest_configure(config: pytest.Config) -> None:
    """A plugin hears of session-scoped fixtures, which a conftest.py in a folder does not."""
    config.pluginmanager.register(counting)


@pytest.fixture(autouse=True)
def no_objects() -> None:
    """Stands in for the fixture that resets after each of the other tests: here objects stay."""


@pytest.fixture(scope="session", autouse=True)
def torn_down(request: pytest.FixtureRequest) -> Iterator[None]:
    """A worker of pytest-xdist runs one session, and is killed ten seconds after it: its objects go
    before that. Any other process may run a second session, which then gets the same objects."""
    yield
    if hasattr(request.config, "workerinput"):
        reset()
