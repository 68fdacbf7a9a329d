"""Promises 12 to 14, 18 and 19: how loops and processes end, without any noise in debug mode."""

from __future__ import annotations

import os
import sys
import sysconfig
from importlib.util import find_spec

import pytest
from processes import Ended, run_all

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


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """How the scripts ended, which have run side by side."""
    sources = DAEMONS | {name: source for name, (source, _) in SCRIPTS.items()}
    folder = tmp_path_factory.mktemp("scripts")
    return run_all(sources, folder, arguments=DEBUG, prelude=PRELUDE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_lost_or_noisy(name: str, ended: dict[str, Ended]) -> None:
    """Promises 8, 12 to 14, 18 and 19: however a loop or the process ends, what has a teardown is
    torn down, in order and by the process that has made it; errors are told once; nothing hangs,
    and nothing makes noise."""
    printed = "".join(f"{line}\n" for line in SCRIPTS[name][1])
    assert ended[name] == Ended([], printed, [], 0)


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_threads_loop_that_does_not_answer(name: str, ended: dict[str, Ended]) -> None:
    """Promises 12 and 19: where the loop of a daemon thread does not answer in a teardown, exit
    says so after a few seconds, and goes on, whichever thread has used the loop first."""
    assert ended[name].status == 0
    assert "thing" in ended[name].stdout
