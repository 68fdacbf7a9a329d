"""What the README says of rare cases, and of what a reset leaves, done as users would do it."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import AsyncGenerator, Generator, Iterator
from pathlib import Path

import pytest
from processes import Ended, run
from tasks import loop_in_a_thread

from memoize_once import finalizers, memoize, reset


def test_two_loops() -> None:
    """Promises 18 and 26: two live loops share one object, which lives on the first; with the loop
    as key each has an object of its own, which is torn down there."""
    ended: list[object] = []

    async def home() -> AsyncGenerator[object, None]:
        loop = asyncio.get_running_loop()
        yield loop
        ended.append((loop, asyncio.get_running_loop()))

    shared = memoize(home)
    own = memoize(key=lambda: asyncio.get_running_loop())(home)

    async def get() -> tuple[object, object, object]:
        return await shared(), await own(), asyncio.get_running_loop()

    with loop_in_a_thread() as first, loop_in_a_thread() as second:
        shared_first, own_first, loop_first = first(get())
        shared_second, own_second, loop_second = second(get())
        assert shared_first is shared_second is own_first is loop_first
        assert own_second is loop_second is not loop_first
        reset(own)
    assert {(loop_first, loop_first), (loop_second, loop_second)} == set(ended)


def test_context_of_the_first_caller() -> None:
    """Promise 16: the body sees the context variables of its first caller."""
    user = contextvars.ContextVar[str]("user")

    @memoize
    def seen() -> str:
        return user.get()

    for name in ("Ada", "Grace"):
        context = contextvars.copy_context()
        context.run(user.set, name)
        assert context.run(seen) == "Ada"


def test_generator_as_object() -> None:
    """Promise 6: an object that is a generator is wrapped in something."""

    @memoize
    def numbers() -> tuple[Iterator[int]]:
        return ((number for number in range(3)),)

    assert [next(numbers()[0]), next(numbers()[0])] == [0, 1]


def test_cell_run_again(ran: list[str]) -> None:
    """Promise 25: what a notebook's cell defines anew is a new function; the old object stays until
    everything is reset."""
    cell = """
@memoize
def model():
    yield object()
    ran.append("unloaded")
"""
    namespace = {"memoize": memoize, "ran": ran, "__name__": __name__}
    made = []
    for _ in range(2):
        exec(compile(cell, "<cell>", "exec"), namespace)
        made.append(eval("model()", namespace))
    assert made[0] is not made[1]
    assert (ran, len(finalizers)) == ([], 2)
    reset()
    assert ran == ["unloaded", "unloaded"]


def test_built_on_what_is_reset(ran: list[str]) -> None:
    """Promise 10: what was built on an object that has been reset keeps it, until that is reset as
    well; given together, they go in the order of a full reset."""

    @memoize
    def engine() -> Generator[object, None, None]:
        yield object()
        ran.append("engine")

    @memoize
    def session() -> Generator[tuple[object], None, None]:
        yield (engine(),)
        ran.append("session")

    old = session()
    reset(engine)
    assert session() is old
    assert session()[0] is not engine()
    reset(session, engine)
    assert session()[0] is engine()
    ran.clear()
    reset(engine, session)
    assert ran == ["session", "engine"]


def test_called_by_a_method_first(ran: list[str]) -> None:
    """Promise 7: what a method calls first is finished later, and torn down earlier; what the body
    has called is torn down later."""

    @memoize
    def log() -> Generator[str, None, None]:
        yield "log"
        ran.append("log")

    @memoize
    def metrics() -> Generator[str, None, None]:
        yield "metrics"
        ran.append("metrics")

    class Service:
        def count(self) -> str:
            return metrics()

    @memoize
    def service() -> Generator[Service, None, None]:
        log()
        yield Service()
        ran.append("service")

    service().count()
    reset()
    assert ran == ["metrics", "service", "log"]


# Programs -----------------------------------------------------------------------------------------

OBJECT = """
import atexit, multiprocessing, time

@memoize
def thing():
    say("made")
    yield "thing"
    say("gone")

"""


def lines(ended: Ended) -> list[str]:
    """What its only process has said, and no complaint."""
    assert (ended.stderr, ended.status) == ([], 0)
    [said] = ended.said
    return said


def test_atexit_callback(tmp_path: Path) -> None:
    """Promises 12 and 13: a callback of `atexit` makes the object anew, which is torn down too; one
    that is registered as a finalizer runs with the object."""
    ended = run(
        OBJECT + "thing()\natexit.register(lambda: say(thing()))\n",
        tmp_path / "atexit",
    )
    assert lines(ended) == ["made", "gone", "made", "thing", "gone"]
    ended = run(
        OBJECT + "thing()\nfinalizers.register(thing, lambda: say(thing()))\n",
        tmp_path / "finalizer",
    )
    assert lines(ended) == ["made", "thing", "gone"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_child_process(tmp_path: Path) -> None:
    """Promise 12: exit does not wait for child processes, unless the program joins them."""
    source = """
receiver, sender = multiprocessing.Pipe(duplex=False)
process = multiprocessing.get_context("fork").Process(target=receiver.recv)
process.start()
thing()
finalizers.register(thing, sender.send, None)  # what the child waits for
finalizers.register(thing, lambda: say("child runs" if process.is_alive() else "child has ended"))
"""
    assert lines(run(OBJECT + source, tmp_path / "alone")) == ["made", "child runs", "gone"]
    joined = source + "sender.send(None)\nprocess.join()\n"
    assert lines(run(OBJECT + joined, tmp_path / "joined")) == ["made", "child has ended", "gone"]


def test_script_that_is_imported_too(tmp_path: Path) -> None:
    """Promise 25: a file that runs as a script and is also imported has two functions, and so two
    objects."""
    source = 'if __name__ == "__main__":\n    import script\n    thing(), script.thing()\n'
    ended = run(OBJECT + source, tmp_path / "both")
    assert lines(ended) == ["made", "made", "gone", "gone"]
