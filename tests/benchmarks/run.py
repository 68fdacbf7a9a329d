"""What memoize_once costs, as ratios within one run: `run.py [--check] [--quick]`.

Every ratio is between the fastest of many rounds of each side, and the rounds take turns, so that
whatever else the machine does meets both. Functions are measured in several copies, since where one
happens to lie in memory can make it half as slow again. With --check the run ends with status 1
where a budget of the library is not kept.
"""

import argparse
import asyncio
import functools
import gc
import itertools
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from typing import Any

import decorator

from memoize_once import memoize, reset

BUILD = ", free-threaded" if "free-threading" in sys.version else ""
CACHED = 1.35 if sys.version_info >= (3, 14) or BUILD else 1.25
VALUE = object()
Side = Callable[[], float]  # a round of it, which gives the seconds that it took


class Table:
    """Rows of ratios, and which of them are over their budgets."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.over: list[str] = []

    def row(self, name: str, sides: dict[str, Side], budget: float, rounds: int = 200) -> None:
        """Shows each side over the last one; the budget is for the first one, which is ours."""
        best = dict.fromkeys(sides, float("inf"))
        for _ in range(max(10, rounds // 8) if self.quick else rounds):
            for side, measure in sides.items():
                best[side] = min(best[side], measure())
        *_, base = best.values()
        ratios = {side: seconds / base for side, seconds in best.items()}
        ours, *_ = ratios.values()
        ratios.popitem()
        self.show(name, ours, budget, "  ".join(f"{s} {ratio:.2f}" for s, ratio in ratios.items()))

    def show(self, name: str, ours: float, budget: float, text: str) -> None:
        if ours > budget:
            text += "  OVER"
            self.over.append(name)
        print(f"  {name:36}{text}  (budget {budget})")


# Cached calls -------------------------------------------------------------------------------------


def in_a_loop(call: str, make: Callable[[], object]) -> Side:
    """Makes the call over and over, written out, so that the loop itself weighs little; each time
    of another copy, in another copy of the loop, since the interpreter fits it to what it calls."""
    lines = "\n        ".join([call] * 10)
    source = f"""
def run(f):
    begin = perf_counter()
    for _ in range(500):
        {lines}
    return perf_counter() - begin
"""

    def copy() -> Side:
        namespace: dict[str, Any] = {"perf_counter": time.perf_counter}
        exec(source, namespace)
        return functools.partial(namespace["run"], make())

    copies = itertools.cycle([copy() for _ in range(10)])
    return lambda: next(copies)()


@decorator.decorator
def ten_lines(function: Any, *args: Any, **kwargs: Any) -> Any:
    """The article's, without its atexit."""
    try:
        return function.result
    except AttributeError:
        function.result = function(*args, **kwargs)
        return function.result


def written(parameters: str, decorate: Callable[[Any], Any]) -> Any:
    """A new function that returns a global, decorated."""
    namespace: dict[str, Any] = {"VALUE": VALUE}
    exec(f"def function({parameters}): return VALUE", namespace)
    return decorate(namespace["function"])


def method(_: str, decorate: Callable[[Any], Any]) -> Any:
    """A bound method of a new class that does."""
    function = written("self, a", decorate)
    return type("Owner", (), {"method": function})()


def cached_calls(table: Table) -> None:
    print(
        "\nA cached call, over a hand-written function with these parameters that returns a global"
    )
    others: dict[str, Any] = {"functools.cache": functools.cache, "ten lines": ten_lines}
    try:
        import cachetools

        others["cachetools"] = lambda function: cachetools.cached({})(function)
    except ImportError:
        pass
    keyed = memoize(key=lambda a: a)
    for name, call, make, parameters, ours, budget in (
        ("no argument", "f()", written, "", memoize, CACHED),
        ("one argument", "f(1)", written, "a", memoize, CACHED),
        ("four arguments", "f(1, 2, 3, 4)", written, "a, b, c, d", memoize, CACHED),
        ("keywords and defaults", "f(1, b=2)", written, "a, *, b=2, c=3", memoize, CACHED),
        ("a method", "f.method(1)", method, "", memoize, CACHED),
        ("one argument, with key=lambda a: a", "f(1)", written, "a", keyed, float("inf")),
    ):
        peers = {"ours": ours, **others, "plain": lambda function: function}
        sides = {
            peer: in_a_loop(call, functools.partial(make, parameters, decorate))
            for peer, decorate in peers.items()
        }
        table.row(name, sides, budget)


def awaited_calls(table: Table) -> None:
    print("\nAn awaited cached call, over a coroutine function that returns a global")

    async def plain() -> object:
        return VALUE

    async def run(function: Callable[[], Any]) -> float:
        begin = time.perf_counter()
        for _ in range(2000):
            await function()
        return time.perf_counter() - begin

    with asyncio.Runner() as runner:

        def side(function: Any) -> Side:
            return lambda: runner.run(run(function))

        table.row("no argument", {"ours": side(memoize(plain)), "plain": side(plain)}, 1.25)


# What it costs before -----------------------------------------------------------------------------


def in_a_process(code: str, **environment: str) -> Side:
    """The seconds that a new process prints."""
    command = [sys.executable, "-c", f"from time import perf_counter\n{code}"]
    inherited = {name: value for name, value in os.environ.items() if "BYTECODE" not in name}

    def run() -> float:
        done = subprocess.run(
            command, env=inherited | environment, check=True, capture_output=True, text=True
        )
        return float(done.stdout)

    return run


def imports(table: Table) -> None:
    print("\nImport, over importing decorator, threading and logging")
    code = "begin = perf_counter(); import {}; print(perf_counter() - begin)"
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
begin = perf_counter()
for function in functions:
    decorate(function)
print(perf_counter() - begin)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a budget is not kept")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    print(f"{platform.python_implementation()} {platform.python_version()}{BUILD}")
    table = Table(options.quick)
    for part in (cached_calls, awaited_calls, imports, decorating, many_objects):
        part(table)
    if table.over:
        print(f"\nover budget: {', '.join(table.over)}")
    sys.exit(options.check and bool(table.over))


if __name__ == "__main__":
    main()
