"""A memoized function is a `with` statement around the rest of the program: the oracle.

Each body of `bodies_async` and `bodies_plain` runs twice by each ending: memoized, and by
`contextlib`'s managers around what this ending leaves of the program:

- `asyncio.run`, uvloop, a plain `close` of the loop: `async with` around the main coroutine, of
  which nothing is left when the loop ends.
- a `Runner`: around all its runs, in one task.
- `areset`, and `reset` while the loop rests: around what comes before.
- `reset`: `with` around what comes before.
- exit: around the script, and around what the interpreter waits for when it has ended (threads and
  pools of the program).
- `sys.exit`: the same. It ends the process, and not the script's work with the object: no error
  comes to a body at its `yield`.

What both print has to be the same, in order, and so have what they say on stderr (in dev mode with
warnings as errors), what is left of finalizers and tasks, and the status of the process.
"""

from __future__ import annotations

import functools
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import bodies_async
import bodies_plain
import bodies_services
import pytest
from oracle import END, OF_THE_PROCESS, ROWS, SEPARATOR
from processes import no_threads_at_shutdown, refused_at_shutdown, run, usable

TABLES = {table.__name__: table.ENDINGS for table in (bodies_async, bodies_plain, bodies_services)}
VARIANTS = ("with", "memoized")
STRICT = ("-X", "dev", "-W", "error")
LIMIT = 60  # seconds, for a process
# the first test that asks for a group waits for all of its processes, those that hang too
pytestmark = pytest.mark.timeout(900)
TOGETHER = 8  # rows whose cells share a process, where the endings allow it


class Printed(NamedTuple):
    """What a cell printed; the last line on stdout is the status."""

    stdout: list[str]
    stderr: list[str]


def table_of(name: str) -> str:
    return ROWS[name].body.__module__


def cells() -> Iterator[Any]:
    for name, row in ROWS.items():
        for ending in TABLES[table_of(name)]:
            if ending not in row.without:
                yield pytest.param(name, ending, id=f"{name} by {ending}")


def groups(table: str) -> Iterator[list[str]]:
    names = [name for name in ROWS if table_of(name) == table]
    for start in range(0, len(names), TOGETHER):
        yield names[start : start + TOGETHER]


GROUPS = {name: tuple(group) for table in TABLES for group in groups(table) for name in group}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the workers of pytest-xdist find each other's outcomes."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.mark.parametrize(("name", "ending"), list(cells()))
def test_body(name: str, ending: str, folder: Path) -> None:
    """The body does the same memoized as by `with` around the rest of the program (the rule above
    all promises)."""
    for module in (*ROWS[name].needs, *[ending] * (ending == "uvloop")):
        if not usable(module):
            pytest.skip(f"no {module}")
    if ROWS[name].starts_threads and ending in OF_THE_PROCESS and no_threads_at_shutdown():
        pytest.skip("this Python starts no thread in its shutdown")
    shared = outcomes(GROUPS[name], folder)
    cell = f"{name}:{ending}:memoized"
    memoized = shared[cell] if cell in shared else run_cells([cell])[cell]
    if refused_at_shutdown(memoized.stderr):
        pytest.skip("it starts a thread, or a process, at exit")
    assert memoized == shared[f"{name}:{ending}:with"]


@pytest.mark.parametrize("group", list(dict.fromkeys(GROUPS.values())), ids=" ".join)
def test_end(group: tuple[str, ...], folder: Path) -> None:
    """Nothing is left to say at the end of a process in which all have run (promise 19)."""
    if not shared_cells(group):
        pytest.skip("none of them can run here")
    assert outcomes(group, folder).get(END) == Printed(["status: 0"], [])


# Processes ----------------------------------------------------------------------------------------


@functools.cache
def outcomes(group: tuple[str, ...], folder: Path) -> dict[str, Printed]:
    """What each cell printed that shares a process with others, run by the first who asks."""
    file = folder / f"with-{group[0]}.json"
    try:
        file.with_suffix(".begun").touch(exist_ok=False)
    except FileExistsError:
        while not file.exists():
            time.sleep(0.05)
    else:
        finished = file.with_suffix(".finished")
        finished.write_text(json.dumps(until_all_have_run(shared_cells(group))))
        finished.rename(file)
    return {cell: Printed(*lines) for cell, lines in json.loads(file.read_text()).items()}


def shared_cells(group: tuple[str, ...]) -> list[str]:
    """The cells of these rows that can share a process here."""
    return [
        f"{name}:{ending}:{variant}"
        for name in group
        if all(map(usable, ROWS[name].needs))
        for ending in TABLES[table_of(name)]
        if ending not in ROWS[name].without and (ending != "uvloop" or usable(ending))
        for variant in VARIANTS
        if variant == "with" or ending not in OF_THE_PROCESS
    ]


def until_all_have_run(cells: Sequence[str]) -> dict[str, Printed]:
    """One that hangs, or ends its process, does not take those after it along."""
    found: dict[str, Printed] = {}
    while left := [cell for cell in cells if cell not in found]:
        found |= run_cells(left)
    return found


def run_cells(cells: Sequence[str]) -> dict[str, Printed]:
    """What each of these printed, and the end of their process."""
    names = [cell.split(":")[0] for cell in cells]
    arguments = [*STRICT, "script.py", table_of(names[0]), *cells]
    with tempfile.TemporaryDirectory() as folder:
        # the children that multiprocessing starts import it too, where it does not fork
        source = "import oracle\n\nif __name__ == '__main__':\n    oracle.main()\n"
        ended = run(source, Path(folder, "it"), arguments, prelude="", limit=LIMIT)
    stdout, stderr = sections(ended.stdout.splitlines()), sections(ended.stderr)
    assert stdout, ended
    *_, last = stdout
    stdout[last].append(f"status: {ended.status}")
    return {cell: Printed(lines, stderr.get(cell, [])) for cell, lines in stdout.items()}


def sections(lines: Sequence[str]) -> dict[str, list[str]]:
    """The lines after each separator, without what differs from run to run."""
    found: dict[str, list[str]] = {}
    cell = ""
    for line in lines:
        if line.startswith(SEPARATOR):
            cell = line.removeprefix(SEPARATOR).strip()
            found[cell] = []
        else:
            line = re.sub(r"0x[0-9a-fA-F]+|\bTask-\d+|port=\d+", "*", line)
            found.setdefault(cell, []).append(line)
    return found
