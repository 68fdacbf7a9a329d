"""What memoize_once costs, as ratios measured within one run: `python tests/benchmarks/run.py [--check] [--quick]`.

Every ratio is between the fastest of many rounds of each side, and the rounds take turns, so that whatever else the machine does
meets both. Functions are measured in several copies, since where one happens to lie in memory can make it half as slow again. With
--check the run ends with status 1 where a budget of the library is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import decorator

from memoize_once import memoize, reset

LATER = sys.version_info >= (3, 14) or "free-threading" in sys.version
HIT = 1.35 if LATER else 1.25
VALUE = object()
KEYED = "with key=lambda a: a"


# Measuring ------------------------------------------------------------------------------------------------------------------------


class Table:
    """Rows of figures, and which budgets they do not keep."""

    def __init__(self, quick: bool) -> None:
        self.rounds = 30 if quick else 200
        self.over: list[str] = []

    def head(self, title: str) -> None:
        print(f"\n{title}")

    def row(self, name: str, figures: dict[str, float | None], budget: float | None = None, unit: str = "") -> None:
        """The first figure is ours, and what the budget is for."""
        cells = "  ".join(f"{key} {'-' if value is None else f'{value:.2f}{unit}'}" for key, value in figures.items())
        ours = next(iter(figures.values()))
        missed = budget is not None and ours is not None and ours > budget
        print(f"  {name:34}{cells}{'' if budget is None else f'  (budget {budget})'}{'  OVER' if missed else ''}")
        if missed:
            self.over.append(name)

    def fastest(self, sides: dict[str, Callable[[], float]], rounds: int | None = None) -> dict[str, float]:
        """The fastest round of each side."""
        best = dict.fromkeys(sides, float("inf"))
        for _ in range(rounds or self.rounds):
            for name, side in sides.items():
                best[name] = min(best[name], side())
        return best

    def ratios(self, sides: dict[str, Callable[[], float]], rounds: int | None = None) -> dict[str, float | None]:
        """Each side over the last one, which is not shown."""
        best = self.fastest(sides, rounds)
        base = best.pop(list(sides)[-1])
        return {name: seconds / base for name, seconds in best.items()}


def looped(call: str, make: Callable[[], object], number: int = 5000) -> Callable[[], float]:
    """The seconds that the call takes in a loop, written out so that the loop itself weighs little; of another copy each time, whose
    loop is a copy too, since the interpreter fits it to what it calls."""
    lines = "\n        ".join([call] * 10)
    source = f"""
def run(f):
    begin = perf_counter()
    for _ in range({number // 10}):
        {lines}
    return perf_counter() - begin
"""

    def copy() -> Callable[[], float]:
        namespace: dict[str, Any] = {"perf_counter": time.perf_counter}
        exec(source, namespace)
        return functools.partial(namespace["run"], make())

    copies = itertools.cycle([copy() for _ in range(10)])
    return lambda: next(copies)()


# What is measured -----------------------------------------------------------------------------------------------------------------


@decorator.decorator
def ten_lines(function: Any, *args: Any, **kwargs: Any) -> Any:
    """The article's, without its atexit."""
    try:
        return function.result
    except AttributeError:
        function.result = function(*args, **kwargs)
        return function.result


def cached() -> Any:
    try:
        import cachetools
    except ImportError:
        return None
    return lambda function: cachetools.cached({})(function)


def hits(table: Table) -> None:
    table.head("A hit, over a hand-written function of the same signature that returns a global")
    rows: dict[str, tuple[str, Callable[..., object]]] = {
        "no argument": ("f()", functools.partial(plain, "")),
        "one argument": ("f(1)", functools.partial(plain, "a")),
        "four arguments": ("f(1, 2, 3, 4)", functools.partial(plain, "a, b, c, d")),
        "keywords and defaults": ("f(1, b=2)", functools.partial(plain, "a, *, b=2, c=3")),
        "a method": ("f.method(1)", owner),
        KEYED: ("f(1)", functools.partial(plain, "a")),
    }
    for name, (call, make) in rows.items():
        keyed = name == KEYED
        ours = memoize(key=lambda a: a) if keyed else memoize
        peers = {"ours": ours, "functools.cache": functools.cache, "cachetools": cached(), "ten lines": ten_lines, "plain": as_it_is}
        sides = {peer: looped(call, functools.partial(make, decorate)) for peer, decorate in peers.items() if decorate}
        table.row(name, table.ratios(sides), None if keyed else HIT)


def as_it_is(function: Any) -> Any:
    return function


def plain(signature: str, decorate: Callable[[Any], Any]) -> object:
    """A new function that returns a global, decorated."""
    namespace: dict[str, Any] = {"VALUE": VALUE}
    exec(f"def plain({signature}): return VALUE", namespace)
    return decorate(namespace["plain"])


def owner(decorate: Callable[[Any], Any]) -> object:
    """An instance of a new class with a method that does."""

    class Owner:
        @decorate
        def method(self, a: int) -> object:
            return VALUE

    return Owner()


def awaited_hits(table: Table) -> None:
    table.head("An awaited hit, over a coroutine function that returns a global")

    async def plain() -> object:
        return VALUE

    memoized = memoize(plain)
    peers: dict[str, Any] = {"ours": memoized}
    try:
        from async_lru import alru_cache

        peers["async-lru"] = alru_cache(plain)
    except ImportError:
        pass
    peers["plain"] = plain

    async def measure(function: Any) -> float:
        begin = time.perf_counter()
        for _ in range(2000):
            await function()
        return time.perf_counter() - begin

    async def main() -> dict[str, float | None]:
        best = dict.fromkeys(peers, float("inf"))
        for _ in range(table.rounds):
            for name, function in peers.items():
                best[name] = min(best[name], await measure(function))
        base = best.pop("plain")
        return {name: seconds / base for name, seconds in best.items()}

    table.row("no argument", asyncio.run(main()), 1.25)


def imports(table: Table) -> None:
    table.head("Import, over importing decorator, threading and logging")

    def seconds(modules: str) -> Callable[[], float]:
        code = f"from time import perf_counter as t; b = t(); import {modules}; print(t() - b)"
        command = [sys.executable, "-c", code]
        return lambda: float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)

    with tempfile.TemporaryDirectory() as folder:  # whether or not this Python is told to write bytecode
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        sides = {"ours": seconds("memoize_once"), "base": seconds("decorator, threading, logging")}
        table.row("import memoize_once", table.ratios(sides, max(10, table.rounds // 5)), 1.25)


def decorating(table: Table) -> None:
    table.head("Decorating a function, over decorator.decoratorx")
    decoratorx = decorator.decoratorx(lambda function, *args, **kwargs: function(*args, **kwargs))

    def known(a: int, b: int = 1, *, c: int = 2) -> None: ...

    def decorating(decorate: Callable[[Any], Any]) -> Callable[[], float]:
        def run() -> float:
            begin = time.perf_counter()
            for _ in range(20):
                decorate(known)
            return time.perf_counter() - begin

        return run

    sides = {"ours": decorating(memoize), "functools.cache": decorating(functools.cache), "base": decorating(decoratorx)}
    table.row("a known shape of parameters", table.ratios(sides), 1.5)

    def in_a_new_process(decorate: str) -> Callable[[], float]:
        command = [sys.executable, "-c", NEW_SHAPES.format(decorate)]
        return lambda: float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    peers = {
        "ours": "memoize",
        "functools.cache": "functools.cache",
        "base": "decorator.decoratorx(lambda f, *args, **kwargs: f(*args, **kwargs))",
    }
    table.row("a new one", table.ratios({name: in_a_new_process(peer) for name, peer in peers.items()}, max(10, table.rounds // 10)), 1.5)


NEW_SHAPES = """
import decorator, functools, time
from memoize_once import memoize

decorate = {}
functions = []
for positional in range(6):
    for defaults in range(positional + 1):
        for keywords in range(1, 4):
            for star in "*, ", "*args, ":
                plain = "".join(f"a{{i}}, " for i in range(positional - defaults))
                optional = "".join(f"b{{i}}=1, " for i in range(defaults))
                named = "".join(f"c{{i}}, " for i in range(keywords))
                exec(f"def f({{plain}}{{optional}}{{star}}{{named}}): ...")
                functions.append(f)
decorate(lambda: None)
begin = time.perf_counter()
for function in functions:
    decorate(function)
print(time.perf_counter() - begin)
"""


def first_call(table: Table) -> None:
    table.head("The first call, over the first call of functools.cache")

    def measure(decorate: Callable[[Any], Any]) -> Callable[[], float]:
        def run() -> float:
            functions = [decorate(lambda: VALUE) for _ in range(100)]
            begin = time.perf_counter()
            for function in functions:
                function()
            return time.perf_counter() - begin

        return run

    table.row("of a plain function", table.ratios({"ours": measure(memoize), "base": measure(functools.cache)}))


def memory(table: Table) -> None:
    table.head("Memory, over that of functools.cache")
    if platform.python_implementation() != "CPython":
        print("  tracemalloc is CPython's")
        return
    import tracemalloc

    def size(decorate: Callable[[Any], Any]) -> float:
        def plain(a: int) -> object:
            return VALUE

        decorate(plain)(1)
        tracemalloc.start()
        kept = [decorate(plain) for _ in range(500)]
        for function in kept:
            function(1)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return used / len(kept)

    ours, theirs = size(memoize), size(functools.cache)
    table.row("a memoized function with its object", {"ours": ours / theirs, "bytes": ours})


def scale(table: Table) -> None:
    table.head("Many objects")

    def function() -> Generator[object, None, None]:
        yield VALUE

    one = memoize(function)
    figures: dict[str, float | None] = {}
    base = None
    for count in (0, 1_000, 10_000, 100_000):
        others = [memoize(function) for _ in range(count)]
        for other in others:
            other()

        def call_and_reset() -> float:
            one()
            begin = time.perf_counter()
            reset(one)
            return time.perf_counter() - begin

        seconds = table.fastest({"": call_and_reset})[""]
        base = base or seconds
        if count:
            figures[f"{count}"] = seconds / base
        begin = time.perf_counter()
        reset()
        per_object = (time.perf_counter() - begin) / max(count, 1)
        if count == 1_000:
            per_object_of_few = per_object
        del others
    table.row("reset(f) among others, over alone", dict(reversed(figures.items())), 2)
    table.row("reset() of 100000, each over 1000", {"ours": per_object / per_object_of_few}, 3)


def crowd(table: Table) -> None:
    table.head("64 threads that want one object at once, over the time of its body")
    body = 0.05

    @memoize
    def slow() -> object:
        time.sleep(body)
        return object()

    def run() -> float:
        barrier = threading.Barrier(65)

        def call() -> None:
            barrier.wait()
            slow()

        threads = [threading.Thread(target=call) for _ in range(64)]
        for thread in threads:
            thread.start()
        barrier.wait()
        begin = time.perf_counter()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begin
        reset(slow)
        return seconds / body

    table.row("64 threads", {"ours": table.fastest({"": run}, 5)[""]})


def parallel(table: Table) -> None:
    table.head("Hits from several threads, in all, over those of one")

    def plain() -> object:
        return VALUE

    number = 200_000

    def work(function: Callable[[], object], barrier: threading.Barrier) -> None:
        barrier.wait()
        for _ in range(number):
            function()

    def rate(function: Callable[[], object], count: int) -> float:
        barrier = threading.Barrier(count + 1)
        threads = [threading.Thread(target=work, args=(function, barrier)) for _ in range(count)]
        for thread in threads:
            thread.start()
        barrier.wait()
        begin = time.perf_counter()
        for thread in threads:
            thread.join()
        return (time.perf_counter() - begin) / count

    for name, function in {"ours": memoize(plain), "the hand-written function": plain}.items():
        function()
        best = table.fastest({str(count): functools.partial(rate, function, count) for count in (1, 2, 4)}, 5)
        table.row(name, {count: best["1"] / seconds for count, seconds in best.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="end with status 1 where a budget is not kept")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    build = ", free-threaded" if "free-threading" in sys.version else ""
    print(f"{platform.python_implementation()} {platform.python_version()}{build}")
    table = Table(options.quick)
    for part in (hits, awaited_hits, imports, decorating, first_call, memory, scale, crowd, parallel):
        part(table)
    if table.over:
        print(f"\nover budget: {', '.join(table.over)}")
        if options.check:
            sys.exit(1)


if __name__ == "__main__":
    main()
