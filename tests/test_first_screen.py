"""Promises 2, 3, 13, 14 and 16 on the README's first screen: where `functools.cache` with `atexit`
goes wrong, and what happens there with `@memoize`. Each program runs with both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HANGS = "hangs"
CACHE = """
import asyncio, atexit, functools, os, sys, threading

once = functools.cache

def at_the_end(function, callback, *args):
    atexit.register(callback, *args)
"""
MEMOIZE = """
import asyncio, os, sys, threading
from memoize_once import finalizers, memoize as once

at_the_end = finalizers.register
"""
THREADS = """
both = threading.Barrier(2)

@once
def client():
    try:
        both.wait(1)  # the other thread is here too, or it waits for this one
    except threading.BrokenBarrierError:
        pass
    os.write(1, b"made ")

threads = [threading.Thread(target=client) for _ in range(2)]
for thread in threads:
    thread.start()
"""
THREAD_OF_THE_OBJECT = """
@once
def client():
    stop = threading.Event()
    threading.Thread(target=stop.wait).start()
    at_the_end(client, stop.set)

client()
print("end of the script", flush=True)
"""
FORK = """
@once
def client():
    owner = os.getpid()
    mine = lambda: os.write(1, b"closed " if os.getpid() == owner else b"of the parent ")
    at_the_end(client, mine)
    return owner

client()
if not (child := os.fork()):
    os.write(1, b"own " if client() == os.getpid() else b"shared ")
    sys.exit()
os.waitpid(child, 0)
"""
FAILURE = """
@once
def client():
    at_the_end(client, print, "closed")
    raise OSError

try:
    client()
except OSError:
    print("failed")
"""
ASYNC = """
@once
async def client():
    return "made"

async def main():
    print(await client(), await client())

try:
    asyncio.run(main())
except RuntimeError as error:
    print(error)
"""
ROWS = {
    "two threads": (THREADS, "made made", "made"),
    "the object runs a thread": (THREAD_OF_THE_OBJECT, HANGS, "end of the script"),
    "the process forks": (FORK, "shared of the parent closed", "own closed closed"),
    "the body fails": (FAILURE, "failed closed", "closed failed"),
    "the function is async": (ASYNC, "cannot reuse already awaited coroutine", "made made"),
}


def outcome(program: str, folder: Path, limit: float = 60) -> str:
    """What the program prints, if it ends."""
    path = folder / "program.py"
    path.write_text(program)
    command = [sys.executable, "-W", "ignore", str(path)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return HANGS
    return " ".join(done.stdout.split())


@pytest.mark.parametrize("row", ROWS)
def test_first_screen(row: str, tmp_path: Path) -> None:
    """What the README says of `functools.cache` with `atexit`, and of memoize_once."""
    program, cached, memoized = ROWS[row]
    if "os.fork" in program and not hasattr(os, "fork"):
        pytest.skip("no fork")
    assert outcome(MEMOIZE + program, tmp_path) == memoized
    # what hangs is given long enough to end
    limit = 3 if cached == HANGS else 60
    assert outcome(CACHE + program, tmp_path, limit) == cached
