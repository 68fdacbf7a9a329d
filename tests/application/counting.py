"""A pytest plugin that counts how often the application is asked for and started, and tells it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from application.gateway import Count, counted

counts = pytest.StashKey[list[Count]]()


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> None:
    """pytest is about to call the fixture's function, memoized or not, for a module of tests."""
    if fixturedef.argname == "application":
        counted.modules.append(fixturedef.baseid)  # that of the module that imports it


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Workers send what they have counted to the process that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["count"] = (counted.modules, counted.seconds)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The reporting process takes in what a worker sends; one that has crashed sends nothing."""
    if count := getattr(node, "workeroutput", {}).get("count"):
        node.config.stash.setdefault(counts, []).append(Count(*count))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The end of the report of a run."""
    told = [count for count in [*config.stash.get(counts, []), counted] if count.seconds]
    if told:
        terminalreporter.section("how often the web application was started")
        for line in story(told):
            terminalreporter.line(line)


def story(processes: list[Count]) -> Iterator[str]:
    """Three lines for a reader who has never heard of the library, from what was counted alone."""
    modules = [each for count in processes for each in count.modules]
    seconds = [each for count in processes for each in count.seconds]
    asked, started = len(modules), len(seconds)
    mean = sum(seconds) / started
    yield (
        "These tests need a fixture, a running web application. "
        f"pytest asked for it {_times(asked)}, since {len(set(modules))} test modules import it."
    )
    if started < asked:
        where = f"once in each of {len(processes)} processes, where " if started > 1 else ""
        yield f"It was started {_times(started)}: {where}@memoize keeps it for all test modules."
        without = f"Without @memoize, {_times(asked)} {mean:.2f} s would have been {{:.2f}} s."
    else:
        yield f"It was started {_times(started)}: each test module got a new one."
        without = "Nothing was saved."
    took = f"A start took {mean:.2f} s, all of them {sum(seconds):.2f} s."
    yield f"{took} {without.format(mean * asked)}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
