"""What memoize_once costs, as ratios within one run: `run.py [--check] [--quick] [PART ...]`.

Every ratio is between the fastest of many rounds of each side, and the rounds take turns, so that
whatever else the machine does meets both; a ratio over its budget is given more rounds before it
counts. Functions are measured in several copies, since where one happens to lie in memory can make
it half as slow again. With --check the run ends with status 1 where a budget of the library is not
kept.
"""

import argparse
import asyncio
import contextlib
import functools
import gc
import itertools
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import Future
from typing import Any

import decorator

from memoize_once import memoize, reset

BUILD = ", free-threaded" if "free-threading" in sys.version else ""
FLOOR = 1.08  # for a cached call, over the floor of one
PATIENCE = 3  # times as many rounds, where a budget seems not to be kept
CLOCK = "process_time" if os.name == "posix" else "perf_counter"
VALUE = object()
Side = Callable[[], float]  # a round of it, which gives the seconds that it took


class Table:
    """Rows of ratios, and which of them are over their budgets."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.over: list[str] = []

    def row(
        self, name: str, sides: dict[str, Side], budget: float, over: str = "", rounds: int = 200
    ) -> None:
        """Shows each side over the last one. The budget is for the first one, which is ours: over
        the side that is named, or else over the last one."""
        ours, *_, base = sides
        best = dict.fromkeys(sides, float("inf"))
        rounds = max(10, rounds // 8) if self.quick else rounds
        for _ in range(PATIENCE):
            for _ in range(rounds):
                for side, measure in sides.items():
                    best[side] = min(best[side], measure())
            ratio = best[ours] / best[over or base]
            if ratio <= budget:
                break
        shown = {side: seconds / best[base] for side, seconds in best.items() if side != base}
        text = "  ".join(f"{side} {shown[side]:.2f}" for side in shown)
        self.show(name, ratio, budget, f"{text}  {ours} over {over} {ratio:.2f}" if over else text)

    def show(self, name: str, ours: float, budget: float, text: str) -> None:
        if ours > budget:
            text += "  OVER"
            self.over.append(name)
        print(f"  {name:36}{text}  (budget {budget})", flush=True)


# Cached calls -------------------------------------------------------------------------------------


def in_a_loop(
    call: str,
    make: Callable[[], object],
    times: int = 500,
    runner: asyncio.Runner | None = None,
) -> Side:
    """Makes the call over and over, written out, so that the loop itself weighs little; each time
    of another copy, in another copy of the loop, since the interpreter fits it to what it calls."""
    lines = "\n        ".join([call] * 10)
    source = f"""
{"" if runner is None else "async "}def run(f):
    begin = perf_counter()
    for _ in range({times}):
        {lines}
    return (perf_counter() - begin) / {times}
"""

    def copy() -> Callable[[], Any]:
        namespace: dict[str, Any] = {"perf_counter": time.perf_counter}
        exec(source, namespace)
        return functools.partial(namespace["run"], make())

    copies = itertools.cycle([copy() for _ in range(10)])
    if runner is None:
        return lambda: float(next(copies)())
    return lambda: float(runner.run(next(copies)()))


@decorator.decorator
def ten_lines(function: Any, *args: Any, **kwargs: Any) -> Any:
    """The article's, without its atexit."""
    try:
        return function.result
    except AttributeError:
        function.result = function(*args, **kwargs)
        return function.result


class Record:
    """What a hand-written function would return its object from."""

    __slots__ = ("value",)

    value: object


def plain(function: Any) -> Any:
    return function


def written(
    parameters: str, decorate: Callable[[Any], Any] | None, define: str = "def function"
) -> Any:
    """A new function that returns a global, decorated; without a decorator a new closure that
    returns a slot of an object, which is the floor."""
    record = Record()
    record.value = VALUE
    returned = "record.value" if decorate is None else "VALUE"
    source = f"""
def factory(record):
    {define}({parameters}): return {returned}
    return function
"""
    namespace: dict[str, Any] = {"VALUE": VALUE}
    exec(source, namespace)
    function = namespace["factory"](record)
    return function if decorate is None else decorate(function)


def method(parameters: str, decorate: Callable[[Any], Any] | None) -> Any:
    """A bound method of a new class that does."""
    function = written(f"self, {parameters}", decorate)
    return type("Owner", (), {"method": function})()


def cached_calls(table: Table) -> None:
    print(
        "\nA cached call, over a hand-written function with these parameters that returns a global;"
        "\nthe floor is a hand-written closure that returns a slot of an object"
    )
    others: dict[str, Any] = {"functools.cache": functools.cache, "ten lines": ten_lines}
    try:
        import cachetools

        others["cachetools"] = lambda function: cachetools.cached({})(function)
    except ImportError:
        pass
    keyed = memoize(key=lambda a: a)
    for name, call, make, parameters, ours, budget in (
        ("no argument", "f()", written, "", memoize, FLOOR),
        ("one argument", "f(1)", written, "a", memoize, FLOOR),
        ("four arguments", "f(1, 2, 3, 4)", written, "a, b, c, d", memoize, FLOOR),
        ("keywords and defaults", "f(1, b=2)", written, "a, *, b=2, c=3", memoize, FLOOR),
        ("a method", "f.method(1)", method, "a", memoize, FLOOR),
        ("one argument, with key=lambda a: a", "f(1)", written, "a", keyed, float("inf")),
    ):
        peers = {"ours": ours, "floor": None, **others, "plain": plain}
        sides = {
            peer: in_a_loop(
                call,
                functools.partial(make, parameters, decorate),
                times=10 if peer == "ten lines" else 500,  # as long as the others
            )
            for peer, decorate in peers.items()
        }
        table.row(name, sides, budget, over="floor", rounds=600)


def awaited_calls(table: Table) -> None:
    print("\nAn awaited cached call, over a coroutine function that returns a global")
    with asyncio.Runner() as runner:
        sides = {
            peer: in_a_loop(
                "await f()",
                functools.partial(written, "", decorate, "async def function"),
                runner=runner,
            )
            for peer, decorate in {"ours": memoize, "floor": None, "plain": plain}.items()
        }
        table.row("no argument", sides, 1.25)


# What it costs before -----------------------------------------------------------------------------


def in_a_process(code: str, **environment: str) -> Side:
    """The seconds that a new process prints, of the processor where they are counted finely."""
    command = [sys.executable, "-c", f"from time import {CLOCK} as clock\n{code}"]
    inherited = {name: value for name, value in os.environ.items() if "BYTECODE" not in name}

    def run() -> float:
        done = subprocess.run(
            command, env=inherited | environment, check=True, capture_output=True, text=True
        )
        return float(done.stdout)

    return run


def imports(table: Table) -> None:
    print("\nImport, over importing decorator, threading and logging")
    code = "begin = clock(); import {}; print(clock() - begin)"
    with tempfile.TemporaryDirectory() as folder:
        modules = {"ours": "memoize_once", "base": "decorator, threading, logging"}
        sides = {
            side: in_a_process(code.format(module), PYTHONPYCACHEPREFIX=folder)
            for side, module in modules.items()
        }
        table.row("import memoize_once", sides, 1.25, rounds=60)


NEW_SHAPES = """
import decorator, functools
from memoize_once import memoize

functions = []
for positional in range(6):
    for defaults in range(positional + 1):
        for named in range(1, 4):
            for star in "*", "*args":
                names = [f"a{{i}}" + "=1" * (i >= defaults) for i in range(positional)]
                names += [star, *[f"b{{i}}" for i in range(named)]]
                exec(f"def function({{', '.join(names)}}): ...")
                functions.append(function)
decorate = {}
decorate(lambda: None)
begin = clock()
for function in functions:
    decorate(function)
print(clock() - begin)
"""


def decorating(table: Table) -> None:
    print("\nDecorating a function, over decorator.decoratorx")
    base = "decorator.decoratorx(lambda f, *args, **kwargs: f(*args, **kwargs))"
    peers = {"ours": "memoize", "functools.cache": "functools.cache", "base": base}

    def known(a: int, b: int = 1, *, c: int = 2) -> None: ...

    def side(decorate: Any) -> Side:
        def run() -> float:
            begin = time.perf_counter()
            for _ in range(20):
                decorate(known)
            return time.perf_counter() - begin

        return run

    sides = {peer: side(eval(decorate)) for peer, decorate in peers.items()}
    table.row("with known parameters", sides, 1.5)
    sides = {peer: in_a_process(NEW_SHAPES.format(decorate)) for peer, decorate in peers.items()}
    table.row("with new ones", sides, 2.5, rounds=20)


# What grows ---------------------------------------------------------------------------------------


def many_objects(table: Table) -> None:
    print("\nMany objects")

    def function() -> Generator[object, None, None]:
        yield VALUE

    one = memoize(function)

    def alone() -> float:
        one()
        begin = time.perf_counter()
        reset(one)
        return time.perf_counter() - begin

    gc.collect()
    base = min(alone() for _ in range(200))
    few = 0.0
    for count in (1_000, 10_000, 100_000):
        others = [memoize(function) for _ in range(count)]
        for other in others:
            other()
        among = min(alone() for _ in range(200)) / base
        begin = time.perf_counter()
        reset()
        each = (time.perf_counter() - begin) / count
        few = few or each
        table.show(f"reset(f) among {count}, over alone", among, 2, f"ours {among:.2f}")
        if count > 1_000:
            growth = each / few
            table.show(f"reset() of {count}, each over 1000", growth, 3, f"ours {growth:.2f}")


WAITERS = 400
SECONDS = 0.01  # that a body takes to fail


class DownError(Exception):
    """What it raises."""


async def by_tasks(callers: Sequence[Callable[[], Awaitable[object]]]) -> float:
    """The seconds until all have called, each in a task."""

    async def call(function: Callable[[], Awaitable[object]]) -> None:
        with contextlib.suppress(DownError):
            await function()

    begin = time.perf_counter()
    await asyncio.gather(*map(call, callers))
    return time.perf_counter() - begin


def waiting_tasks(table: Table) -> None:
    print("\nTasks that wait for a body that fails, over one task alone")

    async def body() -> None:
        await asyncio.sleep(SECONDS)
        raise DownError

    async def by_hand() -> float:
        made = asyncio.create_task(body())
        return await by_tasks([lambda: asyncio.shield(made)] * WAITERS)

    ours = memoize(body)
    with asyncio.Runner() as runner:
        sides: dict[str, Side] = {
            "ours": lambda: runner.run(by_tasks([ours] * WAITERS)),
            "a shared task": lambda: runner.run(by_hand()),
            "one": lambda: runner.run(by_tasks([ours])),
        }
        table.row(f"{WAITERS} tasks", sides, WAITERS / 50, rounds=20)
        sides = {
            "ours": lambda: runner.run(by_tasks([ours] * 10 * WAITERS)) / 10,
            "fewer": lambda: runner.run(by_tasks([ours] * WAITERS)),
        }
        table.row(f"each of {10 * WAITERS}, over {WAITERS}", sides, 2, rounds=10)


def by_threads(callers: Sequence[Callable[[], object]]) -> float:
    """The seconds until all have called, each in a thread."""

    def call(function: Callable[[], object]) -> None:
        with contextlib.suppress(DownError):
            function()

    threads = [threading.Thread(target=call, args=[function]) for function in callers]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


def waiting_threads(table: Table) -> None:
    print("\nThreads that wait for a body that fails, over one thread alone")

    def body() -> None:
        time.sleep(SECONDS)
        raise DownError

    def by_hand() -> float:
        made: Future[None] = Future()

        def make() -> None:
            time.sleep(SECONDS)
            made.set_exception(DownError())

        return by_threads([make, *[made.result] * (WAITERS - 1)])

    ours = memoize(body)
    sides: dict[str, Side] = {
        "ours": lambda: by_threads([ours] * WAITERS),
        "a shared future": by_hand,
        "one": lambda: by_threads([ours]),
    }
    table.row(f"{WAITERS} threads", sides, WAITERS / 20, rounds=20)


PARTS: dict[str, Callable[[Table], None]] = {
    part.__name__: part
    for part in (
        cached_calls,
        awaited_calls,
        imports,
        decorating,
        many_objects,
        waiting_tasks,
        waiting_threads,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a budget is not kept")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args()
    print(f"{platform.python_implementation()} {platform.python_version()}{BUILD}")
    table = Table(options.quick)
    for name in options.parts or PARTS:
        PARTS[name](table)
    if table.over:
        print(f"\nover budget: {', '.join(table.over)}")
    sys.exit(options.check and bool(table.over))


if __name__ == "__main__":
    main()
