"""Promises 12 and 13: what is torn down when the process ends, and when."""

from __future__ import annotations

import multiprocessing
import re
import shutil
import signal
from pathlib import Path
from textwrap import dedent

import pytest
from processes import (
    PRELUDE,
    Ended,
    no_threads_at_shutdown,
    refused_at_shutdown,
    run,
    run_all,
    said,
    usable,
)

import memoize_once

# However it ends ----------------------------------------------------------------------------------

ENDED = "threading._register_atexit(ended.set)\n"  # after the library's, thus before it

THING = """
import time
from concurrent.futures import ThreadPoolExecutor

@memoize
def thing():
    yield "thing"
    say("gone")
"""

# A program makes objects of every kind, and may leave work behind.
PROGRAM = """
import asyncio, multiprocessing
from concurrent.futures import ProcessPoolExecutor

@memoize
def with_a_thread():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    yield "with a thread"
    stop.set()
    thread.join()
    say("thread gone")

@memoize
def with_pools():
    yield "with pools"
    with ThreadPoolExecutor() as pool:
        pool.submit(say, "pool gone").result()
    asyncio.run(asyncio.to_thread(say, "loop gone"))

@memoize
def failing():
    finalizers.register(failing, say, "failing gone")
    finalizers.register(failing, sys.exit, 5)
    finalizers.register(failing, lambda: 1 / 0)
    finalizers.register(failing, say, "failing goes")

def program():
    global pools
    thing(), with_a_thread(), with_pools(), failing()
    if BUSY:
        threading.Thread(target=use_late, args=[thing]).start()
        idle, busy = pools = ThreadPoolExecutor(), ThreadPoolExecutor(1)
        idle.submit(int).result()
        busy.submit(use_late, thing), busy.submit(use_late, thing)
        methods = multiprocessing.get_all_start_methods()
        # not in a child of multiprocessing, which hangs without the library too: it joins its own
        if "fork" in methods and multiprocessing.parent_process() is None:
            pools = *pools, ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
            pools[-1].submit(int).result()
    threading._register_atexit(ended.set)

"""
PROCESS = """
if __name__ == "__main__":
    process = multiprocessing.get_context("METHOD").Process(target=program)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""
POOL = """
if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("METHOD")) as processes:
        processes.submit(program).result()
"""
WAYS = {
    "end": ("program()", 0, ""),
    "sys.exit": ("program(); sys.exit(3)", 3, ""),
    "exception": ("program(); raise ValueError(5)", 1, "ValueError: 5"),
    "SIGINT": ("program(); signal.raise_signal(2)", -signal.SIGINT, "KeyboardInterrupt"),
    "pytest": ("def test(): program()", 0, ""),
    "pytest-xdist": ("def test(): program()", 0, ""),
} | {
    f"{kind} {method}": (source.replace("METHOD", method), 0, "")
    for kind, source in (("Process", PROCESS), ("ProcessPoolExecutor", POOL))
    for method in multiprocessing.get_all_start_methods()
}
RUN = {
    "pytest": ["-m", "pytest", "-p", "no:terminal", "script.py"],
    "pytest-xdist": ["-m", "pytest", "-p", "no:terminal", "-p", "xdist", "-n1", "script.py"],
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_end(way: str, tmp_path: Path) -> None:
    """Promises 12 and 13: however the process ends, the program's threads and pools keep its
    objects until their work is done; then all are torn down, errors are printed, and the status is
    the script's, whatever a teardown raises."""
    end, status, error = WAYS[way]
    sources = {name: f"BUSY = {name == 'busy'}\n{THING}{PROGRAM}{end}" for name in ("idle", "busy")}
    results = run_all(sources, tmp_path, arguments=RUN.get(way, ["script.py"]))
    # a child of multiprocessing ends without the whole shutdown
    refused = "Process" not in way and no_threads_at_shutdown()
    for name, result in results.items():
        lines = ["used"] * 3 * (name == "busy") + ["failing goes", "failing gone"]
        lines += [] if refused else ["pool gone", "loop gone"]
        assert result.said == [[*lines, "thread gone", "gone"]]
        assert (result.stdout, result.status) == ("", status)
        errors = [re.sub(r".*\.failing", "failing", line) for line in result.stderr]
        expected = ["ZeroDivisionError: division by zero", "failing", "SystemExit: 5", "failing"]
        assert refused or errors == [*[error] * bool(error), *expected]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals end processes differently")
def test_ends_without_a_shutdown(tmp_path: Path) -> None:
    """Promise 13: what ends the process without Python's shutdown tears nothing down; SIGTERM that
    is turned into `sys.exit` does."""
    statuses = {"os._exit(4)": 4, "signal.raise_signal(15)": -15, "os.kill(os.getpid(), 9)": -9}
    ended = run_all({end: f"{THING}thing(); {end}" for end in statuses}, tmp_path)
    assert ended == {end: Ended([], "", [], status) for end, status in statuses.items()}
    source = "signal.signal(15, lambda *_: sys.exit(143)); thing(); signal.raise_signal(15)"
    assert run(THING + source, tmp_path) == Ended([["gone"]], "", [], 143)


# As if the library were not there -----------------------------------------------------------------


def test_nothing_is_replaced(tmp_path: Path) -> None:
    """Promise 13: importing and using the library leaves every name of `threading`,
    `concurrent.futures` and `asyncio`, and of their classes, as it was."""
    prelude = """
import asyncio, concurrent.futures.process, concurrent.futures.thread, sys, threading, types

def names():
    for module in [*sys.modules.values()]:
        if module.__name__.split(".")[0] in ("threading", "concurrent", "asyncio"):
            for name, value in vars(module).items():
                yield f"{module.__name__}.{name}", value
                if isinstance(value, type):
                    for inner, method in vars(value).items():
                        yield f"{module.__name__}.{name}.{inner}", method

def callables():
    return {name: value for name, value in names() if callable(value)}

concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor  # lazy names
before = callables()
"""
    source = """
        from memoize_once import memoize, reset
        from processes import say

        memoize(finalizer=len)(dict)()
        asyncio.run(memoize(asyncio.sleep)(0))
        reset()
        after = callables()
        both = before.keys() | after.keys()
        say([name for name in both if before.get(name) is not after.get(name)])
        """
    assert run(source, tmp_path, prelude=prelude) == said(["[]"])


USES = {
    "import": "import memoize_once",
    "value": "from memoize_once import memoize\nmemoize(dict)()",
    "teardown": f"{PRELUDE}{THING}thing()",
}


@pytest.mark.parametrize("use", ["import", "value"])
def test_where_nothing_has_a_teardown(use: str, tmp_path: Path) -> None:
    """Promise 12: where nothing has a teardown, exit waits for nothing and imports nothing: a hook
    from before the import, which runs last, still has the thread end that waits for it."""
    source = f"""
import atexit, sys, threading

done = threading.Event()
threading._register_atexit(done.set)
threading.Thread(target=done.wait).start()
atexit.register(lambda: say(sorted(set(sys.modules) - modules)))
{USES[use]}
from processes import say
modules = set(sys.modules)
"""
    assert run(source, tmp_path, prelude="") == said(["[]"])


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads here")
@pytest.mark.parametrize("start", ["threading.Thread(target=wait).start()", "pool.submit(wait)"])
def test_one_ctrl_c_is_enough(start: str, tmp_path: Path) -> None:
    """Promise 12: one Ctrl-C ends a script whose thread goes on for ever, as it does without the
    library; where there are objects, they are torn down."""
    source = f"""
import signal, threading
from concurrent.futures import ThreadPoolExecutor

def interrupt():
    ended.wait()
    threading.Event().wait(0.2)  # until the exit waits
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

ended, wait, pool = threading.Event(), threading.Event().wait, ThreadPoolExecutor()
threading.Thread(target=interrupt, daemon=True).start()
{start}
{ENDED}
"""
    sources = {use: f"{USES.get(use, '')}\n{source}" for use in ("without", *USES)}
    results = run_all(sources, tmp_path, prelude="")
    for ended in results.values():  # from 3.13 on it names the step that Ctrl-C has broken off
        ended.stderr[:] = [line for line in ended.stderr if "Exception ignored" not in line]
    without = results.pop("without")
    assert "HANGS" not in without.stderr
    assert results == dict.fromkeys(USES, without) | {"teardown": without._replace(said=[["gone"]])}


def test_lazy_modules(tmp_path: Path) -> None:
    """Promise 13: exit loads no module that waits for its first use, and one that cannot be loaded
    does not have objects torn down while they are in use."""
    source = """
        import importlib.util

        sys.path.append(".")
        for name, text in {"lazy": "print('loaded')", "broken": "import no_such_module"}.items():
            with open(f"{name}.py", "w") as file:
                file.write(text)
            spec = importlib.util.find_spec(name)
            spec.loader = importlib.util.LazyLoader(spec.loader)
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        thing()
        threading.Thread(target=use_late, args=[thing]).start()
        """
    assert run(THING + dedent(source) + ENDED, tmp_path) == said(["used", "gone"])


def test_a_first_import_during_the_shutdown(tmp_path: Path) -> None:
    """Promise 13: the library can be imported for the first time when the interpreter shuts down;
    `atexit` then tears down what it still can."""
    source = """
import atexit, threading
import concurrent.futures.thread  # which cannot be imported later

def late():
    from memoize_once import memoize
    from processes import say

    @memoize
    def thing():
        yield "thing"
        say("gone")

    say(thing() is thing())

"""
    registers = ["threading._register_atexit", "atexit.register"]
    sources = {register: f"{source}{register}(late)" for register in registers}
    by_threading, by_atexit = run_all(sources, tmp_path, prelude="").values()
    assert by_threading == said(["True", "gone"])
    assert by_atexit in (said(["True"]), said(["True", "gone"]))


# Whose threads, whose pools -----------------------------------------------------------------------


def test_copies_of_the_library(tmp_path: Path) -> None:
    """Promise 13: where a process holds several copies of the library, imported anew or vendored
    under another name, each knows the threads that belong to the objects of the others, and those
    threads are served by their own."""
    source = """
        import importlib

        def use(memoize):
            @memoize(key=lambda daemon: daemon)
            def thing(daemon):
                stop = threading.Event()

                def serve():
                    stop.wait()
                    say(thing(daemon) is stop)

                thread = threading.Thread(target=serve, daemon=daemon)
                thread.start()
                yield stop
                stop.set()
                thread.join()
                say("gone")

            thing(False), thing(True)

        use(memoize)
        sys.path.insert(0, ".")
        use(importlib.import_module("vendored").memoize)
        for _ in range(2):
            for name in [name for name in sys.modules if name.startswith("memoize_once")]:
                del sys.modules[name]
            use(importlib.import_module("memoize_once").memoize)
        """
    shutil.copytree(Path(memoize_once.__file__).parent, tmp_path / "vendored")
    assert run(source, tmp_path) == said(["True", "gone"] * 8)


def test_start_replaced_by_others(tmp_path: Path) -> None:
    """Promise 13: the threads of an object are told from the program's also where others have
    replaced `start`, before or after the import, or where a subclass has its own."""
    replace = """
import threading

start = threading.Thread.start
threading.Thread.start = lambda self: start(self)
threading.Timer.start = lambda self: start(self)
"""
    source = """
class Own(threading.Thread):
    def start(self):
        threading.Thread.start(self)

@memoize
def thing():
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait), Own(target=stop.wait)]
    for thread in [*threads, threading.Timer(0, stop.wait)]:
        thread.start()
    yield "thing"
    stop.set()
    for thread in threads:
        thread.join()
    say("gone")

thing()
Own(target=use_late, args=[thing]).start()
threading.Timer(0, use_late, [thing]).start()
"""
    sources = {
        "before the import": f"{replace}{PRELUDE}{source}{ENDED}",
        "after the import": f"{PRELUDE}{replace}{source}{ENDED}",
    }
    expected = said(["used", "used", "gone"])
    assert run_all(sources, tmp_path, prelude="") == dict.fromkeys(sources, expected)


SLOW = """
        @memoize
        def slow():
            begun.set()
            ended.wait()
            time.sleep(0.1)
            yield thing()
            with ThreadPoolExecutor() as pool:
                pool.submit(say, "slow gone").result()

        begun = threading.Event()
"""

WORK = {
    "jobs of a memoized pool use another object": (
        """
        @memoize
        def pool():
            with ThreadPoolExecutor(2) as pool:
                yield pool
            say("pool gone")

        pool().submit(thing).result()
        for number in range(4):
            pool().submit(use_late, thing)
        """,
        [*["used"] * 4, "gone", "pool gone"],
    ),
    "a body was the first to use a pool": (
        """
        @memoize
        def first():
            pool.submit(say, "made").result()
            yield "thing"

        pool = ThreadPoolExecutor(1)
        first()
        pool.submit(use_late, thing)
        """,
        ["made", "used", "gone"],
    ),
    "a body submits an endless job to its pool": (
        """
        @memoize
        def endless():
            stop = threading.Event()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(stop.wait)
                yield thing()
                stop.set()

        endless()
        """,
        ["gone"],
    ),
    "threads wait for the end of the main thread": (
        """
        def poll():
            while threading.main_thread().is_alive():
                threading.Event().wait(0.01)
            use_late(thing)

        def join():
            threading.main_thread().join()
            use_late(thing)

        thing()
        threading.Thread(target=poll).start(), threading.Thread(target=join).start()
        """,
        ["used", "used", "gone"],
    ),
    "the collector starts threads": (
        """
        import gc

        class Cycle:
            def __init__(self):
                self.itself = self

            def __del__(self):
                threading.Thread(target=int).start()

        def wait():  # in a new frame, for which 3.11 may collect
            time.sleep(0.05)

        def work():
            for _ in range(10):
                Cycle()
                wait()
            gc.collect()  # or the interpreter would, when nothing can start any more
            use_late(thing)

        thing()
        getattr(gc, "set_threshold", id)(1)  # not on PyPy
        threading.Thread(target=work).start()
        """,
        ["used", "gone"],
    ),
    "daemon threads hang in a body and in a teardown": (
        """
        def hang():
            hanging.release()
            threading.Event().wait()

        @memoize
        def made():
            finalizers.register(made, say, "never gone")
            hang()

        @memoize
        def torn_down():
            yield "torn down"
            hang()

        thing(), torn_down()
        hanging = threading.Semaphore(0)
        threading.Thread(target=made, daemon=True).start()
        threading.Thread(target=reset, args=[torn_down], daemon=True).start()
        hanging.acquire(), hanging.acquire()
        """,
        ["gone"],
    ),
    "a pool of processes works, and is dropped": (
        """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        if __name__ == "__main__":
            thing()
            working = ProcessPoolExecutor(1, get_context("spawn")).submit(time.sleep, 0.5)
            working.add_done_callback(lambda _: use_late(thing))
        """,
        ["used", "gone"],
    ),
    "a job submits itself again": (
        """
        def poll():
            threading.Event().wait(0.02)
            pool.submit(poll)

        thing()
        pool = ThreadPoolExecutor(2)
        pool.submit(poll)
        """,
        ["gone"],
    ),
    "a chain of callbacks submits jobs": (
        """
        from contextlib import suppress

        def renew(_):
            with suppress(RuntimeError):  # pools refuse more work
                pool.submit(time.sleep, 0.02).add_done_callback(renew)

        thing()
        pool = ThreadPoolExecutor(2)
        renew(None)
        """,
        ["gone"],
    ),
    "a chain of callbacks submits jobs to processes": (
        """
        from concurrent.futures import ProcessPoolExecutor
        from contextlib import suppress
        from multiprocessing import get_context

        def renew(_):
            with suppress(RuntimeError):
                pool.submit(time.sleep, 0.02).add_done_callback(renew)

        if __name__ == "__main__":
            thing()
            pool = ProcessPoolExecutor(1, get_context("spawn"))
            renew(None)
        """,
        ["gone"],
    ),
    "a pool of processes has a queue": (
        """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        if __name__ == "__main__":
            thing()
            pool = ProcessPoolExecutor(1, get_context("spawn"))
            for _ in range(8):
                pool.submit(time.sleep, 0.02).add_done_callback(lambda _: say(thing()))
        """,
        [*["thing"] * 8, "gone"],
    ),
    "jobs wait behind an initializer": (
        """
        @memoize
        def server():
            stop = threading.Event()
            with ThreadPoolExecutor(1, initializer=time.sleep, initargs=(0.1,)) as pool:
                pool.submit(stop.wait)
                yield pool
                stop.set()
            say("server gone")

        def initialize():
            ended.wait()
            time.sleep(0.1)

        thing()
        ThreadPoolExecutor(1, initializer=initialize).submit(use_late, thing)
        server()
        """,
        ["used", "server gone", "gone"],
    ),
    "a body submits to an idle pool": (
        """
        @memoize
        def user():
            pool.submit(use_late, thing)
            yield pool
            say("user gone")

        pool = ThreadPoolExecutor(1)
        pool.submit(int).result()
        thing(), user()
        """,
        ["used", "user gone", "gone"],
    ),
    "a thread still makes an object": (
        SLOW
        + """
        threading.Thread(target=slow).start()
        begun.wait()
        """,
        ["slow gone", "gone"],
    ),
    "a job of a pool still makes an object": (
        SLOW
        + """
        ThreadPoolExecutor(1).submit(slow)
        begun.wait()
        """,
        ["slow gone", "gone"],
    ),
    "a thread of a child still makes an object": (
        """
        from multiprocessing import get_all_start_methods, get_context

        @memoize
        def slow():
            begun.set()
            ended.wait()
            time.sleep(0.1)
            yield thing()
            say("slow gone")

        begun = threading.Event()

        def program():
            threading._register_atexit(ended.set)
            threading.Thread(target=slow).start()
            begun.wait()

        if __name__ == "__main__":
            # whose children leave without `atexit` on 3.11 and 3.12
            method = "fork" if "fork" in get_all_start_methods() else "spawn"
            process = get_context(method).Process(target=program)
            process.start()
            process.join()
        """,
        ["slow gone", "gone"],
    ),
    "a thread makes an object that fails": (
        """
        @memoize
        def slow():
            finalizers.register(slow, say, "finalized")
            begun.set()
            ended.wait()
            time.sleep(0.1)
            thing()
            raise ValueError

        begun = threading.Event()
        threading.Thread(target=outcome, args=[slow]).start()
        begun.wait()
        """,
        ["finalized", "gone"],
    ),
    "an object's thread uses it to the end": (
        """
        def serve(stop, owner):
            stop.wait()
            say(owner() == "owner")
            reset()

        @memoize(key=lambda daemon: daemon)
        def owner(daemon):
            stop = threading.Event()
            target = partial(serve, stop, partial(owner, daemon))
            thread = threading.Thread(target=target, daemon=daemon)
            thread.start()
            yield "owner"
            stop.set()
            thread.join()
            say("owner gone")

        owner(False), owner(True), thing()
        """,
        ["gone", "True", "True", "owner gone", "owner gone"],
    ),
    "clocks stand still": (
        """
        thing()
        pool = ThreadPoolExecutor(1)
        pool.submit(use_late, thing)
        threading.Thread(target=use_late, args=[thing]).start()
        time.monotonic = time.time = time.perf_counter = lambda: 0.0
        """,
        ["used", "used", "gone"],
    ),
}


def test_whose_work_it_is(tmp_path: Path) -> None:
    """Promises 12 and 13: the program's threads, and the work in its pools, keep its objects to
    their end; what a body has started, and is at work when it ends, belongs to the object."""
    sources = {name: THING + dedent(source) + ENDED for name, (source, _) in WORK.items()}
    ended = run_all(sources, tmp_path)
    expected = {name: said(lines) for name, (_, lines) in WORK.items()}
    for name, end in ended.items():
        if refused_at_shutdown(end.stderr):
            expected[name] = end
    assert ended == expected


def test_pools_while_exit_waits(tmp_path: Path) -> None:
    """Promise 12: while exit waits, thread pools refuse more work, those that are there and new
    ones, as in plain Python at that point; in the teardown they are open again."""
    source = """
        @memoize
        def user():
            yield pool
            say(f"teardown {pool.submit(int).result()}")
            with ThreadPoolExecutor() as new:
                say(f"teardown {new.submit(int).result()}")

        def refuses(pool):
            return "cannot schedule new futures" in outcome(lambda: pool.submit(int))

        def work():
            while not refuses(pool):
                time.sleep(0.01)
            say(refuses(ThreadPoolExecutor()))
            use_late(user)

        pool = ThreadPoolExecutor(1)
        pool.submit(int).result()
        user()
        threading.Thread(target=work).start()
        """
    lines = ["True", "used", *["teardown 0"] * (1 if no_threads_at_shutdown() else 2)]
    ended = run(THING + dedent(source) + ENDED, tmp_path)
    expected = said(lines)
    assert ended == (expected._replace(stderr=ended.stderr) if len(lines) == 3 else expected)


EXECUTORS = [
    "concurrent.futures.ThreadPoolExecutor",
    "concurrent.futures.ProcessPoolExecutor",
    "joblib.externals.loky.ProcessPoolExecutor",
]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_teardown_may_use_pools(executor: str, tmp_path: Path) -> None:
    """Promise 13: at exit a teardown may use its own pool, the program's or a new one, of threads
    or processes, whether their module was imported before the library or after it."""
    module, _, name = executor.rpartition(".")
    if not usable(module):
        pytest.skip(f"no {module} here")
    new = 0 if "loky" in module or no_threads_at_shutdown() else 1  # nobody may start one then
    source = f"""
@memoize
def client():
    with Executor(1) as own:
        own.submit(int).result()
        yield own
        for pool in [own, program, *map(Executor, [1] * {new})]:
            say(f"teardown {{pool.submit(int).result()}}")
            pool.shutdown()

if __name__ == "__main__":
    program = Executor(1)
    program.submit(int).result()
    client()
"""
    imports = f"from {module} import {name} as Executor\n"
    firsts = {"library": PRELUDE + imports, "pools": imports + PRELUDE}
    sources = {first: start + source for first, start in firsts.items()}
    expected = said(["teardown 0"] * (2 + new))
    assert run_all(sources, tmp_path, prelude="") == dict.fromkeys(sources, expected)


# What is torn down, and when ----------------------------------------------------------------------


def test_usable_to_the_end(tmp_path: Path) -> None:
    """Promises 12 and 13: an object without a finalizer is there for teardowns, for the hook of
    their errors, for `atexit`, and for what runs last; what `atexit` makes is torn down, too."""
    source = """
        import atexit

        @memoize
        def settings():
            say("made")
            return "settings"

        @memoize
        def other():
            yield "other"
            say(f"teardown {settings()}")
            raise ValueError("fails")

        sys.excepthook = lambda kind, error, traceback: say(f"{error}, {settings()}")
        atexit.register(thing)
        atexit.register(lambda: say(f"atexit {settings()}"))
        other(), settings()
        """
    lines = ["made", "teardown settings", "fails, settings", "atexit settings", "gone"]
    assert run(THING + dedent(source), tmp_path) == said(lines)


def test_errors_of_teardowns(tmp_path: Path) -> None:
    """Promise 12: whatever teardowns raise, at exit or from `atexit`, `sys.excepthook` gets it,
    also where that fails itself; the rest runs, and the status is the script's."""
    source = """
        import atexit

        def hook(kind, error, traceback):
            say(f"{kind.__name__} {error}")
            raise kind

        @memoize(key=lambda error: str(error))
        def failing(error):
            yield error
            raise error

        def fail():
            for error in (SystemExit(5), KeyboardInterrupt("of"), ValueError("it"), SystemExit()):
                failing(error)

        sys.excepthook = hook
        thing(), fail()
        WHEN
        END
        """
    ends = {"end": ("", 0), "exit": ("sys.exit(3)", 3), "exception": ("raise ArithmeticError", 1)}
    sources, expected = {}, {}
    for name, (end, status) in ends.items():
        for when in ("", "atexit.register(fail)"):
            sources[name + when] = THING + dedent(source.replace("WHEN", when).replace("END", end))
            errors = ["SystemExit ", "ValueError it", "KeyboardInterrupt of", "SystemExit 5"]
            before = ["ArithmeticError "] * (name == "exception")
            lines = [*before, *errors, "gone", *(errors if when else [])]
            expected[name + when] = said(lines)._replace(status=status)
    results = run_all(sources, tmp_path)
    for name, ended in results.items():  # Python itself says that the hook has failed
        results[name] = ended._replace(stderr=[] if "exception" in name else ended.stderr)
    assert results == expected


def test_registrations_by_daemon_threads(tmp_path: Path) -> None:
    """Promises 11 and 12: daemon threads that register and unregister while the process ends do not
    keep the teardown from running."""
    source = """
        from contextlib import suppress

        def register():
            with suppress(LookupError):
                while True:
                    finalizers.register(thing, int)
                    finalizers.unregister(thing, int)

        sys.setswitchinterval(1e-6)
        thing()
        for _ in range(2):
            threading.Thread(target=register, daemon=True).start()
        """
    sources = {str(number): THING + dedent(source) for number in range(24)}
    assert run_all(sources, tmp_path) == dict.fromkeys(sources, said(["gone"]))


def test_made_anew_by_teardowns(tmp_path: Path) -> None:
    """Promise 13: what a teardown makes anew at exit is torn down too, a bounded number of times;
    what is left then is named, and what was not made anew is not left."""
    source = """
        @memoize(key=lambda number: number % 2, finalizer=lambda number: made_anew(number + 1))
        def made_anew(number):
            say(number)
            return number

        thing(), made_anew(0)
        """
    [lines], stdout, stderr, status = run(THING + dedent(source), tmp_path)
    lines.remove("gone")
    assert lines == [str(number) for number in range(len(lines))]
    assert len(lines) > 2
    assert "__main__.made_anew" in str(stderr)
    assert (stdout, status) == ("", 0)


def test_the_log_says_what_exit_waits_for(tmp_path: Path) -> None:
    """Promise 12: what exit waits for, the log says at INFO, by the thread's name."""
    source = """
        import logging

        logging.basicConfig(level=logging.INFO)
        thing()
        threading.Thread(target=use_late, args=[thing], name="the last one").start()
        """
    ended = run(THING + dedent(source) + ENDED, tmp_path)
    assert ended.said == [["used", "gone"]]
    assert [line for line in ended.stderr if line.startswith("INFO") and "the last one" in line]


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_a_filter_that_raises(level: str, tmp_path: Path) -> None:
    """Promises 12 and 28: a `logging.Filter` that raises in the line which exit writes while it
    waits, or of a teardown, does not end the waiting, and keeps nothing from being torn down."""
    source = f"""
        import logging

        class Broken(logging.Filter):
            def filter(self, record):
                raise ArithmeticError("of the filter")

        thing()
        logging.getLogger("memoize_once").setLevel(logging.{level})
        logging.getLogger("memoize_once").addFilter(Broken())
        threading.Thread(target=use_late, args=[thing]).start()
        """
    ended = run(THING + dedent(source) + ENDED, tmp_path)
    assert (ended.said, ended.status) == ([["used", "gone"]], 0)
