"""Promises 12 to 14, 18 and 19: how loops and processes end, without any noise in debug mode."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from processes import Ended, refused_at_shutdown, run_all

PRELUDE = """
import asyncio, atexit, gc, os, signal, sys, threading
from memoize_once import DeadlockError, areset, finalizers, memoize, reset

"""
DEBUG = ("-X", "dev", "-W", "error", "script.py")

RUN = """
def run(main):
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(main)
asyncio.run = run
"""
EAGER = """
def new_event_loop(new=asyncio.new_event_loop):
    loop = new()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop
asyncio.new_event_loop = new_event_loop
"""
UVLOOP = "import uvloop\nasyncio.new_event_loop = uvloop.new_event_loop"
LOOPS = {"asyncio": "", "uvloop": UVLOOP + RUN, "eager tasks": EAGER + RUN}
if not find_spec("uvloop"):
    del LOOPS["uvloop"]
if sys.version_info < (3, 12):
    del LOOPS["eager tasks"]

ENDS = """
async def end(value):
    await asyncio.sleep(0)
    print(value)

@memoize(finalizer=end)
async def first():
    return "first"

@memoize
async def second():
    yield "second"
    assert asyncio.get_running_loop() is loop
    assert await second() == "second"
    if sys.version_info[:2] != (3, 12):  # early ones refuse to start threads at exit
        await asyncio.to_thread(int)
    print("second")

async def use(more=lambda: None):
    global loop
    loop = asyncio.get_running_loop()
    await first()
    await second()
    more()
    await asyncio.sleep(0)

for more in (lambda: None, lambda: sys.exit(3), lambda: signal.raise_signal(signal.SIGINT)):
    try:
        asyncio.run(use(more))
    except BaseException as error:
        print(repr(error))
"""
NEVER_CLOSED = """
loop = asyncio.new_event_loop()
loop.run_until_complete(use())
atexit.register(loop.close)
"""
IN_A_DAEMON_THREAD = """
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(use(), loop).result()
"""
DOWN = ["second", "first"]
ALL = [*DOWN, *DOWN, "SystemExit(3)", *DOWN, "KeyboardInterrupt()", *DOWN]

CANCELS = """
@memoize
async def thing():
    yield "object"
    await asyncio.sleep(0)
@memoize
async def slow():
    await asyncio.sleep(1000)
    yield 1
async def main():
    for pause in range(4):
        task = asyncio.create_task(slow())
        for _ in range(pause):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await thing()
    await areset()
    await thing()
    await asyncio.to_thread(reset, thing)
    main.left = asyncio.create_task(slow()), asyncio.create_task(thing())
    await asyncio.sleep(0)
asyncio.run(main())
gc.collect()
print(len(finalizers))
"""

SCRIPTS = {
    f"{name} on {loop}": (prefix + source, lines)
    for loop, prefix in LOOPS.items()
    for name, source, lines in [
        ("loops that end, and one that is never closed", ENDS + NEVER_CLOSED, ALL),
        ("one in a daemon thread", ENDS + IN_A_DAEMON_THREAD, ALL),
        ("cancels and resets from everywhere", CANCELS, ["0"]),
    ]
} | {
    "a loop that rests in a thread of a pool": (
        """
        from concurrent.futures import ThreadPoolExecutor
        @memoize
        async def thing():
            yield 1
            await asyncio.sleep(0)
            print("down")
        loop, pool = asyncio.new_event_loop(), ThreadPoolExecutor(1)
        atexit.register(loop.close)
        pool.submit(lambda: loop.run_until_complete(thing())).result()
        """,
        ["down"],
    ),
    "a loop that rests, and whose thread, the only other one, C code has started": (
        """
        import _thread, time
        @memoize
        async def thing():
            yield 1
            print("down")
        loop = asyncio.new_event_loop()
        atexit.register(loop.close)
        _thread.start_new_thread(loop.run_until_complete, (thing(),))
        while not len(finalizers) or len(sys._current_frames()) > 1:
            time.sleep(0.001)
        reset()
        """,
        ["down"],
    ),
    "a reset that waits longer for a loop that runs than for one that rests": (
        """
        @memoize
        async def thing():
            yield 1
            await asyncio.sleep(1.5)
            print("down")
        async def main():
            await thing()
            await asyncio.to_thread(reset, thing)
            print("reset")
        asyncio.run(main())
        """,
        ["down", "reset"],
    ),
    "a thread of the body, and the loop's own pool, which the body was the first to use": (
        """
        async def start(stop):
            threading.Thread(target=stop.wait).start()
        @memoize
        async def thing():
            stop = threading.Event()
            await asyncio.to_thread(int)
            async with asyncio.TaskGroup() as group:
                group.create_task(start(stop))
            yield 1
            stop.set()
            print("down")
        def work():
            ended.wait()
            print("done")
        async def main():
            await thing()
            loop.run_in_executor(None, work)
        ended, loop = threading.Event(), asyncio.new_event_loop()
        loop.run_until_complete(main())
        threading._register_atexit(ended.set)  # runs before what is to wait
        atexit.register(loop.close)
        """,
        ["done", "down"],
    ),
    "teardowns that make each other's object anew without end": (
        """
        def down():
            count.append(1)
            if len(count) > 1000:
                os._exit(7)
        @memoize
        async def ping():
            yield asyncio.get_running_loop()
            down()
            await pong()
        @memoize
        async def pong():
            yield asyncio.get_running_loop()
            down()
            await ping()
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: None)
            print(await ping() is await pong() is loop)  # and not what the last loop has given up
        count = []
        asyncio.run(main())
        asyncio.run(main())
        print(len(count) >= 3)
        """,
        ["True", "True", "True"],
    ),
    "loops that are closed, or shut down, while a task waits for an object": (
        """
        @memoize
        async def thing():
            await asyncio.Event().wait()
            yield 1
        async def main():
            loop.set_exception_handler(lambda loop, context: None)
            main.task = asyncio.create_task(thing())
            for _ in range(5):
                await asyncio.sleep(0)
        for shut_down in (False, True):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            if shut_down:
                loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            print("closed")
        """,
        ["closed", "closed"],
    ),
    "Ctrl-C in a teardown where the loop ends": (
        """
        @memoize
        async def first():
            yield 1
            print("first")
        @memoize
        async def second():
            await first()
            yield 2
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await asyncio.sleep(0)
            print("second")
        try:
            asyncio.run(second())
        except BaseException as error:
            print(repr(error), len(finalizers))
        asyncio.run(first())
        """,
        ["second", "first", "KeyboardInterrupt() 0", "first"],
    ),
    "a task of the body that resets the object as it is cancelled": (
        """
        async def read():
            try:
                await asyncio.Event().wait()
            finally:
                try:
                    await areset(thing)
                except DeadlockError:
                    print("refused")
        @memoize
        async def thing():
            yield asyncio.create_task(read())
        asyncio.run(thing())
        """,
        ["refused"],
    ),
}
BUILT = """
@memoize
async def base():
    yield "base"
    await asyncio.sleep(0)
    print("base down")
@memoize
async def built():
    await base()
    STARTS
    yield "built"
    TEARDOWN
    print("built down")
loop = asyncio.new_event_loop()
atexit.register(loop.close)
"""
# where Ctrl-C comes: between two steps of the teardown, in one of them, or while the loop waits
CTRL_C = {
    "between two steps": (
        "asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)",
        "await asyncio.sleep(0); await asyncio.sleep(0)",
    ),
    "while the loop waits": (
        "timer = threading.Timer(0.1, signal.pthread_kill, "
        "(threading.main_thread().ident, signal.SIGINT)); timer.start()",
        "await asyncio.to_thread(timer.join); await asyncio.sleep(0.1)",
    ),
    "in a step": ("signal.raise_signal(signal.SIGINT)", "await asyncio.sleep(0)"),
}
if not hasattr(signal, "pthread_kill") or sys.version_info[:2] == (3, 12):
    del CTRL_C["while the loop waits"]  # early ones refuse to start threads at exit
RESET = """
loop.run_until_complete(built())
try:
    reset()
except BaseException as error:
    group = BaseExceptionGroup("", [error])
    print(len(finalizers), "interrupted" if group.subgroup(KeyboardInterrupt) else repr(error))
"""
INTERRUPTED = ["built down", "base down", "0 interrupted"]
for place, (interrupt, rest) in CTRL_C.items():
    SCRIPTS[f"Ctrl-C in a reset of what a resting loop holds, {place}"] = (
        BUILT.replace("STARTS", "pass").replace("TEARDOWN", f"{interrupt}; {rest}") + RESET,
        INTERRUPTED,
    )
SLOW = """
@memoize
async def base():
    yield "base"
    print("base down")
@memoize
async def built():
    await base()
    begun.set()
    await asyncio.sleep(2.5)
    print("built")
    yield "built"
    print("built down")
begun = threading.Event()
loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()
caller = asyncio.run_coroutine_threadsafe(built(), loop)
begun.wait()
reset()
assert caller.result() == "built"
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
"""
SCRIPTS |= {
    "a reset that waits for a making of more than a second on another loop": (
        SLOW,
        ["built", "built down", "base down"],
    ),
    "Ctrl-C while the main task waits for a body, which cleans up": (
        """
        @memoize
        async def base():
            yield 1
            await asyncio.sleep(0)
            print("base down")
        @memoize
        async def built():
            await base()
            try:
                asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                print("cleaned up")
        try:
            asyncio.run(built())
        except KeyboardInterrupt:
            print(len(finalizers), "interrupted")
        """,
        ["cleaned up", "base down", "0 interrupted"],
    ),
    "an areset that waits for a making of more than a second on another loop": (
        SLOW.replace("reset()", "asyncio.run(areset())"),
        ["built", "built down", "base down"],
    ),
    "a reset that waits for other loops says so after five seconds": (
        """
        import logging
        class Told(logging.Handler):
            def emit(self, record):
                told.add((record.levelname, *(n for n in NAMES if n in record.getMessage())))
                if len(told) == 3:
                    go.set()
        NAMES = "making", "ending", "blocked"
        told, go = set(), threading.Event()
        logging.getLogger("memoize_once").addHandler(Told())
        def serve(loop):
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.get_loop().run_forever()
        @memoize
        async def making():
            await asyncio.to_thread(go.wait, 30)
            yield 1
        @memoize
        async def ending():
            yield 1
            await asyncio.to_thread(go.wait, 30)
        @memoize
        async def blocked():
            yield 1
        loops = [asyncio.new_event_loop() for _ in range(3)]
        threads = [threading.Thread(target=serve, args=(loop,)) for loop in loops]
        for thread in threads:
            thread.start()
        async def begin():
            begin.task = asyncio.create_task(making())
            await asyncio.sleep(0.1)
        for loop, start in zip(loops, (begin, ending, blocked)):
            asyncio.run_coroutine_threadsafe(start(), loop).result()
        loops[2].call_soon_threadsafe(go.wait, 30)  # as a test that waits for its TestClient
        asks = [
            threading.Thread(target=reset, args=(making,)),
            threading.Thread(target=reset, args=(ending,)),
            threading.Thread(target=lambda: asyncio.run(areset(blocked))),
        ]
        for ask in asks:
            ask.start()
        for ask in asks:
            ask.join()
        print(sorted(told), len(finalizers))
        for loop, thread in zip(loops, threads):
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
        """,
        ["[('WARNING', 'blocked'), ('WARNING', 'ending'), ('WARNING', 'making')] 0"],
    ),
    "a body's own watcher that resets it, in a task group of the body": (
        """
        def body(watch):
            async def connection():
                lost = asyncio.Event()
                async with asyncio.TaskGroup() as group:
                    group.create_task(watch(lost))
                    yield lost.set
                    lost.set()
            return memoize(connection)
        async def careful(lost):
            await lost.wait()
            try:
                await areset(connections[0])
            except Exception:
                pass
        async def careless(lost):
            await lost.wait()
            await areset(connections[1])
        async def twice(lost):
            await lost.wait()
            for _ in range(2):
                try:
                    await areset(connections[2])
                except DeadlockError:
                    pass
        async def main():
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            for connection in connections:
                lose = await connection()
                lose()
                for _ in range(20):
                    await asyncio.sleep(0)
                try:
                    await areset(connection)
                except* DeadlockError:
                    pass
                print(await connection() is not lose, connection in finalizers)
        connections = list(map(body, [careful, careless, twice]))
        asyncio.run(main())
        """,
        ["True True"] * 3,
    ),
    "two copies of the library on one loop, in turn": (
        """
        import shutil, importlib, memoize_once
        shutil.copytree(os.path.dirname(memoize_once.__file__), "vendored")
        importlib.invalidate_caches()
        vendored = importlib.import_module("vendored")
        def new(library, name):
            @library.memoize
            async def thing():
                yield name
                await asyncio.sleep(0)
                down.append(name)
            return thing
        async def main():
            for name, thing in things.items():
                assert await thing() == name
            await vendored.areset(things["1"])
            await areset(things["2"])
            await things["2"]()
            await things["1"]()
        def by_run(loop):
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(main())
        def by_close(loop):
            loop.run_until_complete(main())
            loop.close()
        down = []
        libraries = [memoize_once, vendored, memoize_once, vendored]
        things = {name: new(library, name) for name, library in zip("0123", libraries)}
        for end in (by_run, by_close):
            for loop in (asyncio.new_event_loop(), asyncio.new_event_loop()):
                names = set(vars(loop))
                end(loop)
                print(sorted(down), loop.is_closed(), set(vars(loop)) - names)
                down.clear()
                loop.close()
        """,
        ["['0', '1', '1', '2', '2', '3'] True set()"] * 4,
    ),
    "an exception handler that raises SystemExit at the loop's end": (
        """
        @memoize
        async def first():
            yield 1
            await asyncio.sleep(0)
            print("first")
        @memoize
        async def second():
            await first()
            yield 2
            await asyncio.sleep(0)
            raise ValueError("second")
        def handle(loop, context):
            print(context["exception"])
            sys.exit(3)
        async def main():
            await second()
            asyncio.get_running_loop().set_exception_handler(handle)
        for _ in range(2):
            try:
                asyncio.run(main())
            except SystemExit as error:
                print(error.code, len(finalizers))
        """,
        ["second", "first", "3 0"] * 2,
    ),
    "a making whose loop ends, for which a task on another loop waits": (
        """
        @memoize
        async def thing():
            made.append(asyncio.get_running_loop())
            if len(made) == 1:
                begun.set()
                await asyncio.Event().wait()
            yield len(made)
            print("down")
        async def first():
            asyncio.create_task(thing())
            await asyncio.to_thread(begun.wait)
            await asyncio.to_thread(waits.wait)
        async def second():
            task = asyncio.create_task(thing())
            await asyncio.sleep(0.1)
            waits.set()
            print(await task)
        made, begun, waits = [], threading.Event(), threading.Event()
        thread = threading.Thread(target=asyncio.run, args=(first(),))
        thread.start()
        begun.wait()
        asyncio.run(second())
        thread.join()
        """,
        ["2", "down"],
    ),
}
CHANGED_KEY = """
        class Tenant:
            def __init__(self, id):
                self.id = id
            def __hash__(self):
                return HASH
            def __eq__(self, other):
                return self.id == other.id
        @memoize(key=lambda tenant: tenant)
        async def schema(tenant):
            yield 1
            print("down")
        def told(loop, context):
            errors.append(type(context["exception"]))
            if len(errors) > 2:
                os._exit(7)
        async def main():
            asyncio.get_running_loop().set_exception_handler(told)
            for tenant in tenants:
                await schema(tenant)
            del tenant.id
        errors, tenants = [], [Tenant(1), Tenant(2)]
        asyncio.run(main())
        print(errors)
        """
for kind, source in {"hashed": "hash(self.id)", "compared": "0"}.items():
    SCRIPTS[f"a key that cannot be {kind} any more when its object is torn down"] = (
        CHANGED_KEY.replace("HASH", source),
        ["down", "down", "[<class 'AttributeError'>]"],
    )
if find_spec("Cython") and os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    SCRIPTS["a generator that is compiled, and lacks what native ones have"] = (
        """
        import subprocess, textwrap
        with open("compiled.pyx", "w") as file:
            file.write(textwrap.dedent('''
                async def connection():
                    yield object()
                    print("down")
                '''))
        compiler = "from Cython.Build.Cythonize import main; main(['-q', '-i', 'compiled.pyx'])"
        command = [sys.executable, "-c", compiler]
        flags = os.environ | {"CFLAGS": "-O0"}
        subprocess.run(command, env=flags, capture_output=True, check=True)
        import compiled
        connection = memoize(compiled.connection)
        async def main():
            asyncio.get_running_loop().set_exception_handler(lambda *told: os._exit(7))
            assert await connection() is await connection()
            await areset(connection)
            await connection()
        asyncio.run(main())
        """,
        ["down", "down"],
    )
if find_spec("trio"):
    SCRIPTS["calls outside of asyncio, which raise RuntimeError that says so"] = (
        """
        import trio
        @memoize
        async def function():
            return 1
        @memoize
        async def generator():
            yield 2
        def by_hand(function, *arguments):
            function(*arguments).send(None)
        for how in (trio.run, by_hand):
            for call in [(function,), (generator,), (areset,), (areset, generator)]:
                try:
                    how(*call)
                except RuntimeError as error:
                    print("asyncio" in str(error))
        gc.collect()
        print(asyncio.run(function()), asyncio.run(generator()))
        """,
        [*["True"] * 8, "1 2"],
    )
if find_spec("starlette"):
    SCRIPTS["an areset in a TestClient's lifespan, which says after five seconds why it waits"] = (
        """
        import contextlib, logging
        from starlette.applications import Starlette
        from starlette.testclient import TestClient
        class Told(logging.Handler):
            def emit(self, record):
                print(record.levelname, "pool" in record.getMessage())
                loop, limit = waits.pop()
                loop.call_soon_threadsafe(limit.reschedule, 0)
        logging.getLogger("memoize_once").addHandler(Told())
        waits = []
        @memoize
        async def pool():
            yield 1
            await asyncio.sleep(0)
            print("down")
        @contextlib.asynccontextmanager
        async def lifespan(app):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(30) as limit:
                    waits.append((asyncio.get_running_loop(), limit))
                    await areset()
                    print("reset")
            yield
        async def main():
            await pool()
            with TestClient(Starlette(lifespan=lifespan)):  # blocks the loop of the pool
                print("served")
        asyncio.run(main())
        """,
        ["WARNING True", "served", "down"],
    )
if find_spec("grpc"):
    SCRIPTS["a server of grpc, which runs in a task of the body"] = (
        """
        import grpc
        @memoize
        async def server():
            server = grpc.aio.server()
            server.add_insecure_port("localhost:0")
            await server.start()
            yield server
            await server.stop(None)
            print("stopped")
        asyncio.run(server())
        """,
        ["stopped"],
    )
FORKED = ["the child's by the child", "refused", "0"]
FORKED += ["what is inherited by the parent", "the parent's by the parent"]
if hasattr(os, "fork"):
    SCRIPTS["a child that is forked while the loop rests"] = (
        """
        parent = os.getpid()
        def who():
            return "parent" if os.getpid() == parent else "child"
        @memoize
        async def thing():
            owner = who()
            try:
                yield owner
            finally:
                print(f"the {owner}'s by the {who()}", flush=True)
        @memoize(inherit=True)
        async def inherited():
            try:
                yield who()
            finally:
                print(f"what is inherited by the {who()}", flush=True)
        async def main():
            await thing()
            await inherited()
        with asyncio.Runner() as runner:
            runner.run(main())
            if child := os.fork():
                print(os.waitpid(child, 0)[1])
            else:
                reset(thing)
                assert asyncio.run(thing()) == "child"
                assert asyncio.run(inherited()) == "parent"
                try:
                    finalizers.register(inherited, print)
                except LookupError:
                    print("refused", flush=True)
                gc.collect()
                sys.exit()
        """,
        FORKED,
    )

DAEMON = """
sys.excepthook = lambda kind, error, traceback: print(error)
@memoize
async def thing():
    yield 1
    loop.call_soon(threading.Event().wait)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
loop = asyncio.new_event_loop()
FIRST_USE
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(thing(), loop).result()
"""
DAEMONS = {
    "used there only": DAEMON.replace("FIRST_USE", ""),
    "used here first": DAEMON.replace("FIRST_USE", "loop.run_until_complete(thing())"),
}

# How a program ends where a teardown is interrupted as its loop ends: as with plain `async with`
INTERRUPTED_END = """
from contextlib import asynccontextmanager
async def first():
    try:
        yield "first"
    finally:
        await asyncio.sleep(0)
        print("first down")
async def second():
    try:
        yield "second"
    finally:
        print("second begins")
        INTERRUPT
        await asyncio.sleep(0)
@asynccontextmanager
async def plainly():
    async with asynccontextmanager(first)(), asynccontextmanager(second)():
        yield
async def main():
    if PLAIN:
        async with plainly():
            pass
    else:
        await memoize(first)()
        await memoize(second)()
atexit.register(print, "exit")
RUN
print("the program goes on")
"""
INTERRUPTS = {
    "Ctrl-C": "signal.raise_signal(signal.SIGINT)",
    "Ctrl-C that the loop hears": (
        "asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)"
    ),
    "sys.exit": "sys.exit(3)",
}
RUNS = {"asyncio.run": "asyncio.run(main())"}
RUNS["uvloop"] = UVLOOP + RUN + RUNS["asyncio.run"]
RUNS["close"] = """
loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(main())
finally:
    loop.close()
"""
if "uvloop" not in LOOPS:
    del RUNS["uvloop"]
INTERRUPTED_ENDS = {
    f"{interrupt} in a teardown, {how}": INTERRUPTED_END.replace("INTERRUPT", source).replace(
        "RUN", run
    )
    for interrupt, source in INTERRUPTS.items()
    for how, run in RUNS.items()
    # where the loop alone hears it and nobody runs it again, `async with` leaves all as it is
    if (interrupt, how) != ("Ctrl-C that the loop hears", "close")
}

# Ctrl-C at exit, in the teardown of what a resting loop holds
INTERRUPTED_EXITS = {
    place: BUILT.replace("STARTS", "pass").replace("TEARDOWN", f"{interrupt}; {rest}")
    + "loop.run_until_complete(built())"
    for place, (interrupt, rest) in CTRL_C.items()
}

# Loops that cannot be run at exit: fifteen, for each of which nobody would wait five seconds
THINGS = """
sys.excepthook = lambda kind, error, traceback: print(kind.__name__, "thing" in str(error))
@memoize(key=lambda number: number)
async def thing(number):
    yield number
    print("down")
@memoize
def plain():
    yield "plain"
    print("plain down")
plain()
"""
ANOTHER_RUNS = """
loops = [asyncio.new_event_loop() for _ in range(16)]
for number, loop in enumerate(loops[1:]):
    loop.run_until_complete(thing(number))
def close():
    asyncio._set_running_loop(None)
    for loop in loops:
        loop.close()
atexit.register(close)
asyncio._set_running_loop(loops[0])
"""
FROM_INSIDE = """
import ctypes
async def main():
    for number in range(15):
        await thing(number)
    sys.stdout.flush()
    ctypes.pythonapi.Py_Exit(0)
asyncio.run(main())
"""
UNABLE = {"another loop counts as running": THINGS + ANOTHER_RUNS}
if sys.implementation.name == "cpython":
    UNABLE["exit comes from inside the loop"] = THINGS + FROM_INSIDE


SOURCES = DAEMONS | UNABLE | {name: source for name, (source, _) in SCRIPTS.items()}
SOURCES |= {f"Ctrl-C at exit, {place}": source for place, source in INTERRUPTED_EXITS.items()}
for name, source in INTERRUPTED_ENDS.items():
    SOURCES |= {f"{name}, plain: {kind}": f"PLAIN = {kind}\n{source}" for kind in (True, False)}
# those that wait for seconds
PATIENT = {name for name in SOURCES if "second on" in name or "seconds" in name or "longer" in name}
PATIENT |= DAEMONS.keys()


EndOf = Callable[[str], Ended]


@pytest.fixture(scope="module")
def end_of(tmp_path_factory: pytest.TempPathFactory) -> EndOf:
    """Runs the script of this name, and gives how it ended. Those that wait run side by side."""
    folder = tmp_path_factory.mktemp("scripts")
    ended: dict[str, Ended] = {}

    def end_of(name: str) -> Ended:
        if name not in ended:
            sources = {each: SOURCES[each] for each in (PATIENT if name in PATIENT else [name])}
            ended.update(run_all(sources, folder, arguments=DEBUG, prelude=PRELUDE))
        return ended[name]

    return end_of


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_lost_or_noisy(name: str, end_of: EndOf) -> None:
    """Promises 8, 12 to 14, 18 and 19: however a loop or the process ends, what has a teardown is
    torn down, in order and by the process that has made it; errors are told once; nothing hangs,
    and nothing makes noise."""
    printed = "".join(f"{line}\n" for line in SCRIPTS[name][1])
    end = end_of(name)
    if refused_at_shutdown(end.stderr):
        pytest.skip("a loop that closes at exit starts a thread")
    assert end == Ended([], printed, [], 0)


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_threads_loop_that_does_not_answer(name: str, end_of: EndOf) -> None:
    """Promises 12 and 19: where the loop of a daemon thread does not answer in a teardown, exit
    says so after a few seconds, and goes on, whichever thread has used the loop first."""
    end = end_of(name)
    assert end.status == 0
    assert "thing" in end.stdout


@pytest.mark.parametrize("name", INTERRUPTED_ENDS)
def test_an_interrupt_in_a_teardown_ends_the_program(name: str, end_of: EndOf) -> None:
    """Promise 18: an interrupt in a teardown at the loop's end is raised when the others have been
    torn down, and ends the program as it would with `async with` in place of the library."""
    plain, memoized = (end_of(f"{name}, plain: {kind}") for kind in (True, False))
    assert "first down" in plain.stdout
    assert "the program goes on" not in plain.stdout
    assert memoized.stdout == plain.stdout
    assert memoized.status == plain.status != 0
    assert memoized.stderr[-1:] == plain.stderr[-1:]
    assert "never" not in "".join(memoized.stderr)
    assert "destroyed" not in "".join(memoized.stderr)


@pytest.mark.parametrize("place", INTERRUPTED_EXITS)
def test_ctrl_c_at_exit(place: str, end_of: EndOf) -> None:
    """Promise 18: a first Ctrl-C at exit never leaves an async teardown half-way, and what its
    object was built on is torn down after it; the exit status stays the script's (promise 12)."""
    end = end_of(f"Ctrl-C at exit, {place}")
    assert (end.stdout, end.status) == ("built down\nbase down\n", 0)
    assert {line.partition(":")[0] for line in end.stderr} <= {"KeyboardInterrupt"}


@pytest.mark.parametrize("name", UNABLE)
def test_a_loop_that_cannot_be_run_at_exit(name: str, end_of: EndOf) -> None:
    """Promise 19: what lives on a loop that cannot be run at exit is given up once, and said so;
    all else is torn down."""
    end = end_of(name)
    assert end.status == 0
    assert end.stderr == []
    assert sorted(end.stdout.splitlines()) == ["RuntimeError True"] * 15 + ["plain down"]
