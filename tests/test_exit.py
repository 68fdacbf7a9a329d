"""Promises 12 and 13: what is torn down when the process ends, however it ends and whatever is still going on."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import Ended, refused_at_shutdown, run, said

# The matrix -----------------------------------------------------------------------------------------------------------------------


class Thing(NamedTuple):
    """A memoized function `thing`, and `begin`, which makes its object."""

    source: str
    made: Sequence[str]
    torn_down: Sequence[str]
    errors: Sequence[str] = ()  # MODULE stands for the name of the module
    threads: int = 0  # how many its teardown starts, directly or through asyncio


THINGS = {
    "prints": Thing(
        """
        @memoize
        def thing():
            say("made")
            yield "thing"
            say("gone")

        begin = thing
        """,
        ["made"],
        ["gone"],
    ),
    "thread": Thing(
        """
        @memoize
        def thing():
            stop = threading.Event()
            thread = threading.Thread(target=stop.wait)
            thread.start()
            say("made")
            yield "thing"
            stop.set()
            thread.join()
            say("gone")

        begin = thing
        """,
        ["made"],
        ["gone"],
    ),
    "teardown-uses-pool": Thing(
        """
        @memoize
        def thing():
            say("made")
            yield "thing"
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor() as pool:
                pool.submit(say, "gone").result()

        begin = thing
        """,
        ["made"],
        ["gone"],
        threads=1,
    ),
    "teardown-uses-to_thread": Thing(
        """
        import asyncio  # here, since its import evaluates strings, and Python then forgets that SIGINT has ended the script

        @memoize
        def thing():
            say("made")
            yield "thing"
            asyncio.run(asyncio.to_thread(say, "gone"))

        begin = thing
        """,
        ["made"],
        ["gone"],
        threads=2,
    ),
    "one-finalizer-fails": Thing(
        """
        @memoize
        def thing():
            say("made")
            finalizers.register(thing, say, "gone")
            finalizers.register(thing, lambda: 1 / 0)
            finalizers.register(thing, say, "going")
            return "thing"

        begin = thing
        """,
        ["made"],
        ["going", "gone"],
        ["ZeroDivisionError: division by zero", "in the teardown of MODULE.thing"],
    ),
    "one-finalizer-exits": Thing(
        """
        @memoize
        def thing():
            say("made")
            finalizers.register(thing, say, "gone")
            finalizers.register(thing, sys.exit, 5)
            return "thing"

        begin = thing
        """,
        ["made"],
        ["gone"],
        ["SystemExit: 5", "in the teardown of MODULE.thing"],
    ),
    "teardown-makes-another": Thing(
        """
        @memoize
        def other():
            say("other made")
            yield "other"
            say("other gone")

        @memoize
        def thing():
            say("made")
            yield "thing"
            other()
            say("gone")

        def begin():
            thing(), other()
        """,
        ["made", "other made"],
        ["other gone", "other made", "gone", "other gone"],
    ),
    "two-make-each-other": Thing(
        """
        @memoize
        def other():
            yield "other"
            thing()

        @memoize
        def thing():
            yield "thing"
            other()

        @memoize
        def without_teardown():
            return "settings"

        def begin():
            thing(), without_teardown()
            say("made")
        """,
        ["made"],
        [],
        ["RuntimeError: left without teardown, since teardowns at exit made it anew 10 times: MODULE.thing"],
    ),
    "made-in-daemon-thread": Thing(
        """
        @memoize
        def thing():
            say("made")
            yield "thing"
            say("gone")

        def begin():
            daemon = threading.Thread(target=thing, daemon=True)
            daemon.start()
            daemon.join()
        """,
        ["made"],
        ["gone"],
    ),
    "daemon-still-makes": Thing(
        """
        @memoize
        def thing():
            say("made")
            yield "thing"
            say("gone")

        begun = threading.Event()

        @memoize
        def never():
            finalizers.register(never, say, "never")
            begun.set()
            threading.Event().wait()

        def begin():
            thing()
            threading.Thread(target=never, daemon=True).start()
            begun.wait()
        """,
        ["made"],
        ["gone"],
    ),
}


class Work(NamedTuple):
    """What the program has `still` going on when its script ends."""

    source: str
    said: Sequence[str] = ()


# The program's last step is a hook that says that the script has ended: registered after the library's it runs before it. Then the work
# gives a teardown that would come too early every chance to come.
LATE = """
import threading
ended, early = threading.Event(), threading.Event()

def late():
    ended.wait()
    early.wait(0.1)
    say(f"used {thing()}")

"""
PROGRAM = """
def program():
    begin()
    still()
    threading._register_atexit(ended.set)
"""

WORKS = {
    "nothing": Work("def still(): pass"),
    "thread": Work("def still(): threading.Thread(target=late).start()", ["used thing"]),
    "queued": Work(
        """
        from concurrent.futures import ThreadPoolExecutor
        def still():
            global pool
            pool = ThreadPoolExecutor(1)
            pool.submit(late), pool.submit(late)
        """,
        ["used thing", "used thing"],
    ),
    "idle-pool": Work(
        """
        from concurrent.futures import ThreadPoolExecutor
        def still():
            global pool
            pool = ThreadPoolExecutor()
            pool.submit(int).result()
        """
    ),
    "idle-processes": Work(
        """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        def still():
            global pool
            pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
            pool.submit(int).result()
        """
    ),
}


class Way(NamedTuple):
    """A way to run `program` and to end."""

    source: str
    arguments: tuple[str, ...] = ("script.py",)
    name: str = "script.py"
    module: str = "__main__"
    errors: Sequence[str] = ()
    status: int = 0
    processes: int = 1
    shutdown: bool = True  # multiprocessing ends its children without the interpreter's whole shutdown


def in_process(method: str) -> Way:
    return Way(
        f"""
        if __name__ == "__main__":
            import multiprocessing
            process = multiprocessing.get_context("{method}").Process(target=program)
            process.start()
            process.join()
            sys.exit(process.exitcode)
        """,
        module="__main__" if method == "fork" else "__mp_main__",
        shutdown=False,
    )


def in_pool(method: str) -> Way:
    return Way(
        f"""
        if __name__ == "__main__":
            import concurrent.futures, multiprocessing
            with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("{method}")) as processes:
                processes.submit(program).result()
        """,
        module="__main__" if method == "fork" else "__mp_main__",
        shutdown=False,
    )


WAYS = {
    "end": Way("program()"),
    "sys.exit": Way("program(); sys.exit(3)", status=3),
    "exception": Way("program(); raise ValueError('unhandled')", errors=["ValueError: unhandled"], status=1),
    "SIGINT": Way("program(); signal.raise_signal(signal.SIGINT)", errors=["KeyboardInterrupt"], status=-signal.SIGINT),
    "pytest": Way(
        "def test(): program()",
        ("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:terminal", "test_script.py"),
        "test_script.py",
        "test_script",
    ),
    "pytest-n2": Way(
        """
        import traceback
        sys.excepthook = lambda *error: os.write(2, "".join(traceback.format_exception(*error)).encode())  # whole, or two would mix
        def test(): program()
        """,
        ("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:terminal", "-p", "xdist", "-n2", "--dist=each", "test_script.py"),
        "test_script.py",
        "test_script",
        processes=2,
    ),
    "python-c": Way("program()", ("-c", "SOURCE")),
    "python-m": Way("program()", ("-m", "script")),
    **{f"Process-{method}": in_process(method) for method in multiprocessing.get_all_start_methods()},
    **{f"ProcessPoolExecutor-{method}": in_pool(method) for method in multiprocessing.get_all_start_methods()},
}

# Every object with all that the program may have going on; every way to end with every object; and of the rest, which these two span,
# every way to end with every work, each time with another object. A process pool that is left running in a child of multiprocessing
# hangs without this library too: such a child joins its own children before all else.
CELLS = dict.fromkeys(
    [
        *itertools.product(["end"], THINGS, WORKS),
        *itertools.product(WAYS, THINGS, ["nothing"]),
        *(
            (way, thing, work)
            for (way, work), thing in zip(itertools.product(WAYS, WORKS), itertools.cycle(THINGS), strict=False)
            if WAYS[way].shutdown or work != "idle-processes"
        ),
    ]
)


@pytest.mark.parametrize(("way", "thing", "work"), [pytest.param(*cell, id="/".join(cell)) for cell in CELLS])
def test_matrix(way: str, thing: str, work: str, tmp_path: Path) -> None:
    """Promises 12 and 13: however the process ends, the program's work keeps its object to its end, then the object is torn down, errors
    are printed, and the status is the script's. What the interpreter refuses during its shutdown is printed as an error too."""
    end, of, still = WAYS[way], THINGS[thing], WORKS[work]
    torn_down, errors = of.torn_down, of.errors
    if of.threads and end.shutdown and (refused := refused_at_shutdown("threading.Thread(target=int).start()")):
        torn_down, errors = [], [refused] * of.threads + ["in the teardown of MODULE.thing"]
    lines = [*of.made, *still.said, *torn_down]

    source = "\n".join(map(textwrap.dedent, (LATE, of.source, still.source, PROGRAM, end.source)))
    ended = run(source, tmp_path, end.arguments, end.name)

    expected = [line.replace("MODULE", end.module) for line in [*end.errors, *list(errors) * end.processes]]
    if end.processes > 1:  # which may print at the same time
        ended, expected = ended._replace(stderr=sorted(ended.stderr)), sorted(expected)
    assert ended == Ended([lines] * end.processes, "", expected, end.status)


# Cases of their own ---------------------------------------------------------------------------------------------------------------


def test_threads_that_begin_in_a_row_keep_the_object(tmp_path: Path) -> None:
    """Promise 12: non-daemon threads that were started while one of them made the object are the program's; all use it to the end."""
    source = """
        ended, go = threading.Event(), threading.Event()
        threading._register_atexit(ended.set)

        @memoize
        def thing():
            go.wait()
            say("made")
            yield "thing"
            say("gone")

        def use():
            thing()
            ended.wait()
            threading.Event().wait(0.1)
            say(f"used {thing()}")

        for _ in range(8):
            threading.Thread(target=use).start()
        go.set()
        """
    assert run(source, tmp_path) == said(["made", *["used thing"] * 8, "gone"])


def test_threads_of_an_objects_threads_are_not_waited_for(tmp_path: Path) -> None:
    """Promise 13: what an object's own non-daemon thread starts later belongs to the object too, and only the teardown ends it."""
    source = """
        stop, more, started = threading.Event(), threading.Event(), threading.Event()

        def accept():
            more.wait()
            threading.Thread(target=stop.wait).start()
            started.set()
            stop.wait()

        @memoize
        def server():
            threading.Thread(target=accept).start()
            yield "server"
            stop.set()
            say("gone")

        server()
        more.set()
        started.wait()
        """
    assert run(source, tmp_path) == said(["gone"])


def importing_first(module: str) -> tuple[str, str]:
    """Arguments that run the script when this module has been imported."""
    return "-c", f"import {module}\nexec(open('script.py').read())"


@pytest.mark.parametrize("first", ["memoize_once", "concurrent.futures.process"])
@pytest.mark.parametrize("work", ["idle", "queued"])
def test_process_pools_end(first: str, work: str, tmp_path: Path) -> None:
    """Promise 12: a process pool that the program leaves running finishes its work and does not hang the exit."""
    source = f"""
        import concurrent.futures, multiprocessing

        @memoize
        def thing():
            yield "thing"
            say("gone")

        def task(number):
            say(f"task {{number}}")

        if __name__ == "__main__":
            thing()
            pool = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
            futures = [pool.submit(task, number) for number in range(3)]
            if "{work}" == "idle":
                concurrent.futures.wait(futures)
            for future in futures:
                future.add_done_callback(lambda _: say("done"))
        """
    ended = run(source, tmp_path, importing_first(first))
    assert ended == said(["done", "done", "done", "gone"], ["task 0", "task 1", "task 2"])


def test_work_in_a_pool_that_a_body_was_first_to_use(tmp_path: Path) -> None:
    """Promise 12: work that is queued in a pool of the program's own keeps its objects, also where a body used that pool first."""
    source = """
        from concurrent.futures import ThreadPoolExecutor

        ended, pool = threading.Event(), ThreadPoolExecutor(1)
        threading._register_atexit(ended.set)

        @memoize
        def thing():
            pool.submit(say, "made").result()
            yield "thing"
            say("gone")

        def use():
            ended.wait()
            threading.Event().wait(0.1)
            say(f"used {thing()}")

        thing()
        pool.submit(use)
        """
    assert run(source, tmp_path) == said(["made", "used thing", "gone"])


def test_an_objects_pool_serves_its_teardown(tmp_path: Path) -> None:
    """Promise 13: a pool that a body made is the object's own, whoever gave it its first work: the teardown may still use it."""
    source = """
        from concurrent.futures import ThreadPoolExecutor

        @memoize
        def client():
            with ThreadPoolExecutor(1) as pool:
                yield pool
                pool.submit(say, "gone").result()

        client().submit(say, "used").result()
        """
    assert run(source, tmp_path) == said(["used", "gone"])


def test_a_thread_that_begins_while_atexit_runs(tmp_path: Path) -> None:
    """Promises 12 and 13: a thread that another atexit hook starts keeps the object that it makes to its end, too."""
    if refused_at_shutdown("threading.Thread(target=int).start()"):
        pytest.skip("refuses threads")
    source = """
        import atexit

        @memoize
        def thing():
            say("made")
            yield "thing"
            say("gone")

        def late():
            thing()
            threading.Event().wait(0.1)
            say(f"used {thing()}")

        thing()
        atexit.register(lambda: threading.Thread(target=late).start())
        """
    assert run(source, tmp_path) == said(["made", "gone", "made", "used thing", "gone"])


def test_hooks_of_others(tmp_path: Path) -> None:
    """What others have the interpreter call at its shutdown is called as they say."""
    assert run("threading._register_atexit(print, 'hook', end='!')", tmp_path) == Ended([], "hook!", [], 0)


def test_an_import_during_the_shutdown(tmp_path: Path) -> None:
    """Promise 13: where the library is first imported when the interpreter shuts down already, `atexit` tears down."""
    source = """
import concurrent.futures.thread, threading

def late():
    from memoize_once import memoize

    @memoize
    def thing():
        yield "thing"
        print("gone")

    thing()

threading._register_atexit(late)
"""
    assert run("", tmp_path, ("-c", source)) == Ended([], "gone\n", [], 0)


@pytest.mark.parametrize("first", ["memoize_once", "concurrent.futures.process", "joblib"])
@pytest.mark.parametrize("kind", ["concurrent.futures", "joblib.externals.loky"])
def test_an_objects_processes_serve_its_teardown(first: str, kind: str, tmp_path: Path) -> None:
    """Promise 13: a teardown may use a pool of processes, also one of a module that is imported after the library."""
    if "joblib" in first + kind:
        pytest.importorskip("joblib")
    source = """
        @memoize
        def client():
            with executor(1) as pool:
                pool.submit(int).result()
                yield pool
                say(f"gone {pool.submit(int).result()}")

        if __name__ == "__main__":
            from KIND import ProcessPoolExecutor as executor
            client()
        """
    ended = run(source.replace("KIND", kind), tmp_path, importing_first(first))
    assert ended == said(["gone 0"])


def test_a_pool_of_processes_that_is_dropped(tmp_path: Path) -> None:
    """Promise 12: work in a pool of processes that nothing refers to keeps its objects to the end, too."""
    source = """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        from time import sleep

        @memoize
        def thing():
            yield "thing"
            say("gone")

        if __name__ == "__main__":
            thing()
            working = ProcessPoolExecutor(1, get_context("spawn")).submit(sleep, 1)
            working.add_done_callback(lambda _: say("done"))
        """
    assert run(source, tmp_path) == said(["done", "gone"])


def test_ctrl_c_while_the_exit_waits(tmp_path: Path) -> None:
    """Promise 12: Ctrl-C while the exit waits for the program's threads ends that wait; the teardown still runs."""
    source = """
        ended, gone = threading.Event(), threading.Event()
        threading._register_atexit(ended.set)

        @memoize
        def thing():
            yield "thing"
            say("gone")
            gone.set()

        def interrupt():
            ended.wait()
            while not gone.wait(0.05):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        thing()
        threading.Thread(target=interrupt).start()
        """
    ended = run(source, tmp_path)
    assert (ended.said, set(ended.stderr), ended.status) == ([["gone"]], {"KeyboardInterrupt"}, 0)


def test_without_finalizer_usable_to_the_end(tmp_path: Path) -> None:
    """Promise 12: an object without a finalizer is there for teardowns, for `atexit`, and for whatever runs last."""
    source = """
        import atexit

        @memoize
        def settings():
            say("made")
            return "settings"

        @memoize
        def thing():
            yield "thing"
            say(f"teardown {settings()}")

        class Last:
            def __del__(self, say=say, settings=settings):
                settings()

        atexit.register(lambda: say(f"atexit {settings()}"))
        thing(), settings()
        last = Last()
        """
    assert run(source, tmp_path) == said(["made", "teardown settings", "atexit settings"])


def test_made_in_atexit(tmp_path: Path) -> None:
    """Promise 13: what an `atexit` callback makes is torn down by the second line."""
    source = """
        import atexit

        @memoize
        def thing():
            say("made")
            yield "thing"
            say("gone")

        atexit.register(thing)
        """
    assert run(source, tmp_path) == said(["made", "gone"])


def test_order(tmp_path: Path) -> None:
    """Promise 12: at exit objects go in the reverse of the order in which their making finished."""
    source = """
        @memoize
        def low():
            yield "low"
            say("low")

        @memoize
        def high():
            low()
            yield "high"
            say("high")

        @memoize
        def side():
            yield "side"
            say("side")

        high(), side()
        """
    assert run(source, tmp_path) == said(["side", "high", "low"])


def test_a_broken_excepthook_stops_nothing(tmp_path: Path) -> None:
    """Promise 12: errors go through `sys.excepthook`; a hook that raises itself stops no finalizer and changes no status."""
    source = """
        def hook(kind, error, traceback):
            say(f"hook {error}")
            sys.exit(7)

        sys.excepthook = hook

        @memoize
        def thing():
            finalizers.register(thing, say, "gone")
            finalizers.register(thing, lambda: 1 / 0)

        thing()
        """
    ended = run(source, tmp_path)
    assert ended == Ended(
        [["gone", "hook division by zero"]], "", ["ZeroDivisionError: division by zero", "in the teardown of __main__.thing"], 0
    )


def test_no_excepthook_works(tmp_path: Path) -> None:
    """Promise 12: where not even Python's own hook works, the rest still runs, and the exit status is the script's."""
    source = """
        def hook(*_):
            raise SystemExit(7)

        sys.excepthook = sys.__excepthook__ = hook

        @memoize
        def thing():
            finalizers.register(thing, say, "gone")
            finalizers.register(thing, lambda: 1 / 0)

        thing()
        """
    assert run(source, tmp_path) == said(["gone"])


@pytest.mark.parametrize("times", [9, 10])
def test_made_anew_by_teardowns(times: int, tmp_path: Path) -> None:
    """Promise 13: what a teardown makes anew is torn down too, ten rounds in all; what is left then is named."""
    source = f"""
        def end(number):
            say(f"gone {{number}}")
            if number < {times}:
                (odd if number % 2 == 0 else even)(number + 1)

        @memoize(finalizer=end)
        def even(number):
            return number

        @memoize(finalizer=end)
        def odd(number):
            return number

        even(0)
        """
    ended = run(source, tmp_path)
    left = ["RuntimeError: left without teardown, since teardowns at exit made it anew 10 times: __main__.even"]
    assert ended == Ended([[f"gone {number}" for number in range(10)]], "", left if times == 10 else [], 0)


def test_a_daemon_thread_in_a_teardown(tmp_path: Path) -> None:
    """Promise 12: exit does not wait for a daemon thread that has begun the teardown of an object before it was its turn."""
    if refused_at_shutdown("threading.Thread(target=int).start()"):
        pytest.skip("no thread can be started at exit")
    source = """
        begun = threading.Event()

        @memoize
        def low():
            yield "low"
            begun.set()
            threading.Event().wait()

        @memoize
        def high():
            yield "high"
            threading.Thread(target=reset, args=(low,), daemon=True).start()
            begun.wait()
            say("gone")

        low(), high()
        """
    assert run(source, tmp_path) == said(["gone"])


KILLED = {
    "os._exit": ("os._exit(4)", 4, []),
    "SIGTERM": ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM, []),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -getattr(signal, "SIGKILL", 9), []),
    "SIGTERM-as-exit": (
        "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number)); signal.raise_signal(signal.SIGTERM)",
        128 + signal.SIGTERM,
        [["gone"]],
    ),
}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals end processes differently here")
@pytest.mark.parametrize(("statement", "status", "lines"), KILLED.values(), ids=KILLED)
def test_ends_without_a_shutdown(statement: str, status: int, lines: list[list[str]], tmp_path: Path) -> None:
    """Promise 13: what ends the process without Python's shutdown tears nothing down; SIGTERM that is turned into `sys.exit` does."""
    source = f"""
        @memoize
        def thing():
            yield "thing"
            say("gone")

        thing()
        {statement}
        """
    assert run(source, tmp_path) == Ended(lines, "", [], status)
