"""Scripts in processes of their own: what they said, what they printed, how they ended."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import memoize_once

# seconds; a long run interrupts at every step, which takes a minute for each script
TIME_LIMIT = 300 if os.environ.get("LONG_TESTS") else 60

# Running scripts ----------------------------------------------------------------------------------

PRELUDE = """\
import gc, os, signal, sys, threading
from functools import partial
from memoize_once import DeadlockError, finalizers, memoize, reset
from processes import ended, fork, interrupted, outcome, say, steps, use_late, within

"""


class Ended(NamedTuple):
    """How a script ended."""

    said: list[list[str]]  # by each of its processes that said something, sorted
    stdout: str
    stderr: list[str]  # without the frames of tracebacks
    status: int


def said(*processes: list[str]) -> Ended:
    """A clean end after the processes have said these lines."""
    return Ended(sorted(processes), "", [], 0)


def final_lines(stderr: str) -> list[str]:
    """What is left of stderr without the frames of tracebacks and what introduces them, and without
    what asyncio's debug mode says of a slow machine."""
    introductions = ("Traceback (most recent call last)", "During handling of the above exception")
    left_out = (" ", *introductions, "Executing <")
    return [line for line in stderr.splitlines() if line and not line.startswith(left_out)]


def run(
    source: str,
    folder: Path,
    arguments: Sequence[str] = ("script.py",),
    *,
    prelude: str = PRELUDE,
    measured: bool = True,
    limit: float = TIME_LIMIT,
) -> Ended:
    """Runs Python with the arguments in the folder, where the source stands in `script.py`.

    Where it traces itself, which hides most from coverage, it had better not be measured.
    """
    transcripts = folder / "said"
    transcripts.mkdir(parents=True)
    folder.joinpath("script.py").write_text(prelude + textwrap.dedent(source))
    tests = Path(__file__).parent
    left_out = ("PYTEST_",) if measured else ("PYTEST_", "COVERAGE_")
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(left_out)}
    try:
        process = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=inherited
            | {
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # whatever else is installed here
                "PYTHONPATH": os.pathsep.join(map(str, (tests, tests.parent))),
                "SAID": str(transcripts),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
        )
        stdout, stderr, status = process.stdout, final_lines(process.stderr), process.returncode
    except subprocess.TimeoutExpired as late:
        stdout, errors = (_text(output) for output in (late.stdout, late.stderr))
        stderr, status = [*final_lines(errors), "HANGS"], -1
    lines = sorted(file.read_text().splitlines() for file in transcripts.iterdir())
    return Ended(lines, stdout, stderr, status)


def _text(output: bytes | str | None) -> str:
    return output.decode() if isinstance(output, bytes) else output or ""


def run_all(sources: Mapping[str, str], folder: Path, **options: Any) -> dict[str, Ended]:
    """Runs several scripts side by side, each in a folder of its own."""

    def run_one(name: str) -> Ended:
        return run(sources[name], folder / name, **options)

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(sources, pool.map(run_one, sources), strict=True))


def usable(module: str) -> bool:
    """Whether it can be imported, which cloudpickle and its copies cannot be on some PyPy."""
    try:
        importlib.import_module(module)
    except (ImportError, AttributeError):
        return False
    return True


@functools.cache
def no_threads_at_shutdown() -> bool:
    """Whether this Python starts no thread once its shutdown has begun, as early 3.12 does not."""
    start = "threading.Thread(target=int).start()"
    source = f"import threading\nthreading._register_atexit(lambda: {start})"
    command = [sys.executable, "-c", source]
    process = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
    return "RuntimeError" in process.stderr


def refused_at_shutdown(stderr: Sequence[str]) -> bool:
    """Whether this Python has refused to start a thread or a process, and the script says so."""
    told = any("at interpreter shutdown" in line for line in stderr)
    return told and no_threads_at_shutdown()


# What scripts import ------------------------------------------------------------------------------


def say(text: object) -> None:
    """Goes to a file of the process's own: pytest-xdist's workers have no stdout, and lines of
    several processes would mix."""
    name = os.path.join(os.environ["SAID"], str(os.getpid()))
    file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{text}\n".encode())
    os.close(file)


ended = threading.Event()  # which a script may have a hook set that tells of its end


def use_late(function: Callable[[], object]) -> None:
    """Uses the object when the script has ended, and a teardown that comes too early has had every
    chance to come."""
    ended.wait()
    threading.Event().wait(0.1)
    function()
    say("used")


def outcome(work: Callable[[], object]) -> str:
    """What the work returns or raises, as text."""
    try:
        return str(work())
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def fork(
    work: Callable[[], object],
    leave: Callable[[int], object] = os._exit,
    forks: Callable[[], int] | None = None,
) -> str:
    """The outcome of the work in a forked child, which then leaves."""
    receiver, sender = os.pipe()
    child = (forks or os.fork)()
    if not child:
        os.write(sender, outcome(work).encode())
        os.close(sender)
        leave(0)
    os.close(sender)
    with open(receiver) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    return f"{text} and ended with {status}" if status else text


def within(work: Callable[[], object], seconds: float = 5) -> str:
    """The outcome of the work in a thread, so that it may hang."""
    result = ["HANGS"]

    def target() -> None:
        result[0] = outcome(work)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(seconds)
    return result[0]


def steps() -> Iterator[int]:
    """Numbers of steps at which to interrupt: all of them in a long run, else a sample."""
    return itertools.count(0, 1 if os.environ.get("LONG_TESTS") else 17)


_LIBRARY = os.path.dirname(memoize_once.__file__)


def interrupted(
    step: int,
    action: Callable[[], object],
    operation: Callable[[], object],
    *wrappers: Callable[..., object],
) -> str:
    """Does the operation, and just before its step number `step` the action, as a signal handler
    would; gives the place, or nothing where the operation has fewer steps. Steps are the
    instructions of the library and of the wrappers, or their lines where Python tells no more."""
    place, left = "", step
    codes = [wrapper.__code__ for wrapper in wrappers]

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal place, left
        code = frame.f_code
        if not code.co_filename.startswith(_LIBRARY) and code not in codes:
            return None
        frame.f_trace_opcodes = True
        if event in ("opcode", "line") and not place:
            left -= 1
            if left < 0:
                place = f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}"
                action()
        return trace

    sys._getframe().f_trace_opcodes = True  # 3.12 and 3.13 tell none unless a frame has asked
    sys.settrace(trace)
    try:
        operation()
    finally:
        sys.settrace(None)
    return place
