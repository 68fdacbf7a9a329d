"""Scripts in processes of their own: what they said, what they printed, how they ended. And what such scripts share."""

from __future__ import annotations

import dis
import functools
import inspect
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import memoize_once

TIME_LIMIT = 60

# Running a script -----------------------------------------------------------------------------------------------------------------

PRELUDE = """\
import gc, os, signal, sys, threading
from memoize_once import DeadlockError, finalizers, memoize, reset
from processes import fork, interrupted, say, within

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
    """What is left of stderr without the frames of tracebacks and what introduces them."""
    introductions = ("Traceback (most recent call last):", "During handling of the above exception, another exception occurred:")
    return [line for line in stderr.splitlines() if line.strip() and not line.startswith("  ") and line not in introductions]


def run(source: str, folder: Path, arguments: Sequence[str] = ("script.py",), name: str = "script.py", *, measured: bool = True) -> Ended:
    """Runs Python with the arguments in the folder, where the source stands in a file of this name; for SOURCE among the arguments it
    stands there too. Where it traces itself, which hides most from coverage, or forks by the hundred, it had better not be measured."""
    source = PRELUDE + textwrap.dedent(source)
    folder.joinpath(name).write_text(source)
    transcripts = folder / "said"
    transcripts.mkdir()
    tests = Path(__file__).parent
    left_out = ("PYTEST_",) if measured else ("PYTEST_", "COVERAGE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    process = subprocess.run(
        [sys.executable, *(source if argument == "SOURCE" else argument for argument in arguments)],
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
        timeout=TIME_LIMIT,
    )
    lines = sorted(file.read_text().splitlines() for file in transcripts.iterdir())
    return Ended(lines, process.stdout, final_lines(process.stderr), process.returncode)


@functools.cache
def refused_at_shutdown(statement: str) -> str:
    """The error with which this Python refuses the statement once its shutdown has begun, as early 3.12 does; empty where it does not."""
    source = f"import os, threading\nthreading._register_atexit(lambda: {statement})"
    process = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=TIME_LIMIT)
    return next((line for line in final_lines(process.stderr) if line.startswith("RuntimeError")), "")


# What scripts import --------------------------------------------------------------------------------------------------------------


def say(text: object) -> None:
    """Goes to a file of the process's own, since pytest-xdist's workers have no stdout and lines of several processes would mix."""
    file = os.open(os.path.join(os.environ["SAID"], str(os.getpid())), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{text}\n".encode())
    os.close(file)


def fork(work: Callable[[], object], leave: Callable[[int], object] = os._exit) -> str:
    """Does the work in a forked child, which then leaves; gives what it returned or raised, as text."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(sender, str(work()).encode())
        except BaseException as error:
            os.write(sender, f"{type(error).__name__}: {error}".encode())
        os.close(sender)
        leave(0)
    os.close(sender)
    with open(receiver) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    return f"{text} and ended with {status}" if status else text


def within(work: Callable[[], object], seconds: float = 5) -> str:
    """Does the work in a thread, so that it may hang; gives what it returned or raised, as text."""
    result = ["HANGS"]

    def target() -> None:
        try:
            result[0] = str(work())
        except BaseException as error:
            result[0] = f"{type(error).__name__}: {error}"

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(seconds)
    return result[0]


_LIBRARY = os.path.dirname(memoize_once.__file__)
_SIGNALS = {"", "RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD"}  # after these CPython looks for signals


class Interrupted(NamedTuple):
    """Where an action came in, or nothing where an operation has fewer steps, and what the operation raised."""

    place: str
    error: BaseException | None


def interrupted(
    step: int, action: Callable[[], object], operation: Callable[[], object], *twins: Callable[..., object], signals: bool = False
) -> Interrupted:
    """Does the operation, and just before its step number `step` the action, as a signal handler would. Steps are the instructions of
    the library and of the twins (lines too, for a Python that does not tell instructions), or only those at which a signal can arrive."""
    place, left, error = "", step, None
    codes = [twin.__code__ for twin in twins]
    before: dict[int, str] = {}

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal place, left
        code = frame.f_code
        if event == "call":
            before[id(frame)] = ""
            if not code.co_flags & inspect.CO_GENERATOR:  # which a C function calls, while a Python function's return asks for no signals
                before[id(frame.f_back)] = "call of a Python function"
            if not code.co_filename.startswith(_LIBRARY) and code not in codes:
                return None
            frame.f_trace_opcodes = True
        if event == "exception":
            before[id(frame)] = "an exception"
        if event == "opcode" or (event == "line" and not signals):
            last = before[id(frame)]
            if event == "opcode":
                before[id(frame)] = dis.opname[code.co_code[frame.f_lasti]]
            if not place and (not signals or last in _SIGNALS):
                left -= 1
                if left < 0:
                    place = f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name} after {last}"
                    action()
        return trace

    sys._getframe().f_trace_opcodes = True  # 3.12 and 3.13 tell no instructions unless some frame has asked before
    sys.settrace(trace)
    try:
        operation()
    except BaseException as raised:
        error = raised.with_traceback(None)
    finally:
        sys.settrace(None)
    return Interrupted(place, error)
