"""Promises 14 and 15: what a forked child has, and what it leaves to its parent."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest
from processes import run, said

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

# The object and the child's own ---------------------------------------------------------------------------------------------------

# a teardown says which process made the object and which one tears it down
KINDS = {
    "with": """
        class Resource:
            def __enter__(self):
                self.maker = os.getpid()

            def __exit__(self, *_):
                say("gone" if os.getpid() == self.maker else "WRONG PROCESS")

        @memoize
        def thing():
            with Resource():
                yield object()
        """,
    "finally": """
        @memoize
        def thing():
            maker = os.getpid()
            try:
                yield object()
            finally:
                say("gone" if os.getpid() == maker else "WRONG PROCESS")
        """,
    "finalizer=": """
        @memoize(finalizer=lambda maker: say("gone" if os.getpid() == maker else "WRONG PROCESS"))
        def thing():
            return os.getpid()
        """,
    "registered": """
        @memoize
        def thing():
            maker = os.getpid()
            finalizers.register(thing, lambda: say("gone" if os.getpid() == maker else "WRONG PROCESS"))
            return object()
        """,
    "keyed": """
        @memoize(key=lambda number: number)
        def thing(number=0):
            maker = os.getpid()
            try:
                yield object()
            finally:
                say("gone" if os.getpid() == maker else "WRONG PROCESS")
        """,
}

# What the child does in the end, and how it leaves. The whole shutdown clears the modules, which collects generators.
VERBS = {
    "reset": ("reset()", "os._exit"),
    "reset-it": ("reset(thing)", "os._exit"),
    "exit": ("None", "sys.exit"),
    "collect": ("globals().pop('thing') and gc.collect()", "os._exit"),
    "collect-and-exit": ("globals().pop('thing') and gc.collect()", "sys.exit"),
}


@pytest.mark.parametrize("makes", [False, True], ids=["inherited-only", "makes-its-own"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_child_starts_with_nothing(kind: str, verb: str, makes: bool, tmp_path: Path) -> None:
    """Promise 14: a forked child starts with no object, makes its own, and tears down that one alone: by reset, by its own exit and by
    garbage collection. The parent still has its object and tears it down."""
    statement, leave = VERBS[verb]
    source = f"""
        inherited = thing()

        def work():
            say(f"child: {{len(finalizers)}} {{thing in finalizers}} {{list(finalizers)}}")
            if {makes}:
                say(f"own {{thing() is not inherited or '{kind}' == 'finalizer='}} {{len(finalizers)}}")
            {statement}
            say("end")

        fork(work, {leave})
        say(f"parent {{thing() is inherited}} {{len(finalizers)}}")
        """
    own = ["gone"] if makes and verb != "collect" else []
    child = ["child: 0 False []", *["own True 1"] * makes, *(["end", *own] if leave == "sys.exit" else [*own, "end"])]
    assert run(dedent(KINDS[kind]) + dedent(source), tmp_path) == said(child, ["parent True 1", "gone"])


def test_what_the_end_of_the_childs_interpreter_frees(tmp_path: Path) -> None:
    """Promise 14: a generator that waits at its `yield` is not even closed when the child's interpreter clears its modules."""
    source = """
        @memoize
        def thing(write=os.write, pid=os.getpid, parent=os.getpid()):  # the globals may be gone by then
            try:
                yield "thing"
            finally:
                write(1, b"in the parent" if pid() == parent else b"in the child, ")

        thing()
        fork(lambda: None, sys.exit)
        """
    assert run(source, tmp_path).stdout == "in the parent"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_inherit(kind: str, leave: str, tmp_path: Path) -> None:
    """Promise 14: with `inherit=True` the child keeps using the parent's object and never finalizes it; what it registers runs in it."""
    source = f"""
        inherited = thing()

        def work():
            say(f"same {{thing() is inherited}} {{len(finalizers)}}")
            finalizers.register(thing, say, "the child's")
            if "{leave}" == "os._exit":
                reset()
                say(f"own {{len(finalizers)}}")

        fork(work, {leave})
        say(f"parent {{thing() is inherited}} {{len(finalizers)}}")
        """
    definition = KINDS[kind].replace("@memoize(", "@memoize(inherit=True, ").replace("@memoize\n", "@memoize(inherit=True)\n")
    child = ["same True 0", "the child's", *["own 0"] * (leave == "os._exit")]
    assert run(dedent(definition) + dedent(source), tmp_path) == said(child, ["parent True 1", "gone"])


def test_a_fork_of_a_fork(tmp_path: Path) -> None:
    """Promise 14: each generation starts with nothing and tears down its own."""
    source = """
        @memoize
        def thing():
            maker = os.getpid()
            yield maker
            say(f"generation {generation} {os.getpid() == maker}")

        generation = 0

        def work():
            global generation
            generation += 1
            say(f"generation {generation} starts with {len(finalizers)}")
            thing()
            if generation < 3:
                fork(work, sys.exit)

        work()
        """
    # each leaves by unwinding through its parents' frames, which are its own
    assert run(source, tmp_path) == said(*([f"generation {n} starts with 0", f"generation {n} True"] for n in (1, 2, 3)))


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_a_fork_inside_a_body(leave: str, tmp_path: Path) -> None:
    """Promises 14 and 15: a child that was forked inside a body makes objects of its own, that body's included."""
    source = f"""
        parent = os.getpid()

        @memoize
        def thing():
            if os.getpid() == parent:
                fork(work, {leave})
            maker = os.getpid()
            finalizers.register(thing, lambda: say(f"gone {{os.getpid() == maker}}"))
            return maker

        def work():
            say(f"child {{thing() == os.getpid()}} {{len(finalizers)}}")
            reset()

        say(f"parent {{thing() == parent}} {{len(finalizers)}}")
        """
    assert run(source, tmp_path) == said(["child True 1", "gone True"], ["parent True 1", "gone True"])


@pytest.mark.parametrize("where", ["a body", "an async body", "a thread that a body has started"])
def test_the_exit_of_a_child_forked_inside_a_body(where: str, tmp_path: Path) -> None:
    """Promises 12 and 14: the child is inside no body: what it starts is the program's, and is waited for before it tears down."""
    source = f"""
        import asyncio, multiprocessing

        @memoize
        def other():
            yield
            say("gone")

        def work():
            other()
            threading.Thread(target=use_it).start()

        def use_it():
            threading.main_thread().join()
            other()
            say("used")

        def fork_a_child():
            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join()

        @memoize
        def thing():
            if {where == "a body"}:
                fork_a_child()
            else:
                thread = threading.Thread(target=fork_a_child)
                thread.start()
                thread.join()

        @memoize
        async def async_thing():
            fork_a_child()

        asyncio.run(async_thing()) if {where == "an async body"} else thing()
        """
    assert run(source, tmp_path) == said(["used", "gone"])


def test_a_child_that_finishes_the_body(tmp_path: Path) -> None:
    """Promises 14 and 15: where the child returns from the body in which it was forked, the object is the child's, which can reset it and
    tears it down."""
    source = """
        @memoize
        def thing():
            child = os.fork()
            if child:
                os.waitpid(child, 0)
            maker = os.getpid()
            yield maker
            say(f"gone {os.getpid() == maker}")

        maker = thing()
        say(f"{maker == os.getpid()} {len(finalizers)} {thing() is maker}")
        reset(thing)
        say(f"reset {len(finalizers)} {thing in finalizers}")
        """
    lines = ["True 1 True", "gone True", "reset 0 False"]
    assert run(source, tmp_path) == said(lines, lines)


def test_a_child_that_finishes_the_body_too_late(tmp_path: Path) -> None:
    """Promises 14 and 15: where the child has made another object meanwhile, it keeps that one, and never finalizes the other."""
    source = """
        numbers = iter(range(9))

        @memoize
        def thing():
            number = next(numbers)
            if number == 0:
                child = os.fork()
                if child:
                    os.waitpid(child, 0)
                else:
                    thing()
            try:
                yield number
            finally:
                say(f"gone {number}")

        say(f"{thing()}, from now on {thing()}, {len(finalizers)}")
        """
    assert run(source, tmp_path) == said(["0, from now on 0, 1", "gone 0"], ["0, from now on 1, 1", "gone 1"])


def test_a_fork_while_a_thread_runs_the_loop_for_a_reset(tmp_path: Path) -> None:
    """Promise 14: in the child nobody waits for a thread that it has not."""
    source = """
        import asyncio

        @memoize
        async def thing():
            yield
            begun.set()
            while not go.is_set():
                await asyncio.sleep(0)

        begun, go = threading.Event(), threading.Event()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(thing())
        resetting = threading.Thread(target=reset, args=(thing,))
        resetting.start()
        begun.wait()
        say(fork(loop.close))
        go.set()
        resetting.join()
        loop.close()
        """
    assert run(source, tmp_path) == said(["RuntimeError: Cannot close a running event loop"])


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_a_fork_inside_a_teardown(leave: str, tmp_path: Path) -> None:
    """Promises 14 and 15: a child that was forked inside a teardown has nothing to tear down but what it makes itself."""
    source = f"""
        parent = os.getpid()

        @memoize
        def thing():
            maker = os.getpid()
            finalizers.register(thing, say, "last")
            yield maker
            say(f"gone {{os.getpid() == maker}}")
            if os.getpid() == parent:
                fork(work, {leave})

        def work():
            say(f"child {{len(finalizers)}} {{thing() == os.getpid()}}")
            if "{leave}" == "os._exit":
                reset()

        thing()
        reset(thing)
        """
    ended = run(source, tmp_path)
    assert ended == said(["child 0 True", "gone True", "last"], ["gone True", "last"])


def test_a_child_that_finishes_the_teardown(tmp_path: Path) -> None:
    """Promise 14: a child that a teardown forks, and that goes on with it, comes out of the reset, and makes its own."""
    source = """
        @memoize
        def thing():
            yield os.getpid()
            children.append(os.fork())

        children = []
        thing()
        reset(thing)
        if children[0]:
            os.waitpid(children[0], 0)
        say(thing() == os.getpid())
        os._exit(0)  # or the teardown would fork again
        """
    assert run(source, tmp_path) == said(["True"], ["True"])


# Other threads --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_a_fork_beside_other_threads(leave: str, tmp_path: Path) -> None:
    """Promise 15: a child is usable though other threads of its parent make, wait, tear down and register; and so is the parent."""
    source = f"""
        parent = os.getpid()
        making, ending, go = threading.Event(), threading.Event(), threading.Event()

        def pause(event):
            if os.getpid() == parent:
                event.set()
                go.wait()

        @memoize
        def made():
            pause(making)
            yield object()

        @memoize
        def torn_down():
            yield object()
            pause(ending)

        @memoize
        def registered():
            return object()

        def register():
            while not go.is_set():
                finalizers.register(registered, int)
                finalizers.unregister(registered, int)

        torn_down(), registered()
        threads = [threading.Thread(target=work) for work in (made, made, made, lambda: reset(torn_down), torn_down, register)]
        for thread in threads:
            thread.start()
        making.wait(), ending.wait()

        def work():
            for function in (made, torn_down, registered):
                say(f"{{function() is function()}} {{function in finalizers}}")
                reset(function)
            say(f"{{len(finalizers)}}")

        for _ in range(2):
            fork(work, {leave})
        go.set()
        for thread in threads:
            thread.join()
        say(f"parent {{len(finalizers)}}")
        """
    child = ["True True", "True True", "True False", "0"]
    assert run(source, tmp_path) == said(child, child, ["parent 2"])


def test_a_fork_in_a_handler_while_the_thread_waits(tmp_path: Path) -> None:
    """Promise 15: a signal handler may fork while its thread waits for another's making: both go on, the child with its own object."""
    source = """
        parent = os.getpid()
        making, forked = threading.Event(), threading.Event()

        @memoize
        def thing():
            if os.getpid() == parent:
                making.set()
                forked.wait()
            yield os.getpid()
            say("gone")

        child = None

        def handle(*_):
            global child
            if child is None:
                child = os.fork()
            forked.set()

        signal.signal(signal.SIGUSR1, handle)
        threading.Thread(target=thing).start()
        making.wait()

        def interrupt():
            while not forked.wait(0.05):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

        threading.Thread(target=interrupt).start()
        say(thing() == os.getpid())
        if child:
            os.waitpid(child, 0)
        """
    assert run("import warnings\nwarnings.simplefilter('ignore')\n" + dedent(source), tmp_path) == said(["True", "gone"], ["True", "gone"])


# Does one operation over and over, each time on a new function, and forks one step later.
EVERY_STEP = """
import itertools
from memoize_once._finalizers import alive

class Scenario:
    def __init__(self, inherit):
        self.parent, self.gone = os.getpid(), []
        self.begun = threading.Event()

        @memoize(inherit=inherit)
        def thing():
            maker = os.getpid()
            finalizers.register(thing, int)
            self.begun.set()
            yield object()
            self.gone.append(maker)

        self.thing = thing

    def in_child(self):
        thing, mine = self.thing, os.getpid()
        self.gone.clear()
        if (result := within(lambda: thing() is thing() or "another object")) != "True":
            return f"call: {result}"
        if (result := within(lambda: reset(thing))) != "None":
            return f"reset: {result}"
        if self.parent in self.gone:
            return "tore down its parent's object"
        if within(lambda: thing() and finalizers.register(thing, int) and reset(thing)) != "None" or self.gone[-1] != mine:
            return f"its own object: {self.gone}"
        return "left something" if alive else "usable"

def in_parent(s):
    result = within(lambda: s.thing() is s.thing() and reset(s.thing))
    return "usable" if result == "None" and s.parent in s.gone else result

def nothing(s): pass
def call(s): s.thing()
def reset_it(s): reset(s.thing)
def register(s): finalizers.register(s.thing, int)

def in_this_thread(step, operation, s):
    result = ["usable"]
    place, error = interrupted(step, lambda: result.append(fork(s.in_child)), lambda: operation(s), s.thing)
    return place, result[-1]

def in_another_thread(step, operation, s):
    places, reached, go = [("", None)], threading.Event(), threading.Event()

    def pause():
        reached.set()
        go.wait()

    def target():
        places.append(interrupted(step, pause, lambda: operation(s), s.thing))
        reached.set()

    thread = threading.Thread(target=target)
    thread.start()
    reached.wait()
    result = fork(s.in_child)
    go.set()
    thread.join()
    return places[-1][0], result

def every_step(where, inherit, prepare, operation):
    found = 0
    for step in itertools.count():
        s = Scenario(inherit)
        prepare(s)
        place, child = where(step, operation, s)
        if (parent := in_parent(s)) != "usable" or child != "usable":
            say(f"{step}, {place}: child {child}, parent {parent}")
            found += 1
        if not place or found > 8:
            return step
"""

OPERATIONS = {"call": "nothing, call", "reset": "call, reset_it", "register": "call, register"}


@pytest.mark.parametrize(("where", "inherit"), [("in_this_thread", False), ("in_another_thread", True)])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_fork_at_every_step(operation: str, where: str, inherit: bool, tmp_path: Path) -> None:
    """Promise 15: a child that was forked while its thread, in a signal handler, or another stands anywhere in the library makes, resets
    and tears down its own object; and so does the parent."""
    assert run(EVERY_STEP + f'every_step({where}, {inherit}, {operation}); say("finished")', tmp_path, measured=False) == said(["finished"])
