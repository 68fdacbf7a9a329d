"""Promises 14 and 15: what a forked child has, and what it leaves to its parent."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from processes import PRELUDE, run, run_all, said

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

# The object and the child's own -------------------------------------------------------------------

# A teardown says whether it runs in the process that has made the object.
KINDS = {
    "finalizer=": """
@memoize(inherit=False, finalizer=lambda value: gone(value[0]))
def thing():
    return [os.getpid()]
""",
    "keyed": """
@memoize(inherit=False, key=lambda number: number)
def thing(number=0):
    maker, pid, write = os.getpid(), os.getpid, os.write
    try:
        yield object()
    finally:
        if pid() != maker:  # as the interpreter ends, when the globals have gone
            write(2, b"WRONG PROCESS")
        gone(maker)
""",
}
GONE = """
import ctypes, itertools

def gone(maker):
    say("gone" if os.getpid() == maker else "WRONG PROCESS")

"""
VERBS = """
inherited = thing()

def drop():
    del globals()["thing"]
    gc.collect()

def work(verb, makes):
    say(f"{len(finalizers)} {thing in finalizers} {list(finalizers)}")
    if makes:
        say(f"own {thing() is not inherited} {len(finalizers)}")
    verb()
    say("end")

verbs = [reset, lambda: reset(thing), drop, lambda: None]
for verb, makes, leave in itertools.product(verbs, [False, True], [os._exit, sys.exit]):
    fork(lambda: work(verb, makes), leave)
say(f"parent {thing() is inherited} {len(finalizers)}")
"""


def test_a_child_starts_with_nothing(tmp_path: Path) -> None:
    """Promise 14: a forked child starts with no object, makes its own, and tears down that one
    alone: by reset, by its own exit and by garbage collection. The parent keeps its object."""
    ended = run_all({kind: GONE + source + VERBS for kind, source in KINDS.items()}, tmp_path)
    start, own = "0 False []", "own True 1"
    idle = [[start, "end"]] * 8
    by_reset = [[start, own, "gone", "end"]] * 4
    by_exit = [[start, own, "end", "gone"]] * 2
    by_nothing = [[start, own, "end"]] * 2  # left by os._exit
    children = [*idle, *by_reset, *by_exit, *by_nothing]
    assert ended == dict.fromkeys(KINDS, said(*children, ["parent True 1", "gone"]))


INHERIT = """
inherited = thing()

def work(resets):
    say(f"same {thing() is inherited} {len(finalizers)}")
    finalizers.register(thing, say, "the child's")
    if resets:
        reset()
    say(f"{len(finalizers)}")

for resets, leave in ((True, os._exit), (False, sys.exit)):
    fork(lambda: work(resets), leave)
say(f"parent {thing() is inherited} {len(finalizers)}")
"""


def test_inherit(tmp_path: Path) -> None:
    """Promise 14: with `inherit=True` a child keeps using the parent's object and never finalizes
    it; what it registers itself runs in it."""
    kinds = {kind: source.replace("False", "True") for kind, source in KINDS.items()}
    ended = run_all({kind: GONE + source + INHERIT for kind, source in kinds.items()}, tmp_path)
    by_reset, by_exit = ["same True 0", "the child's", "0"], ["same True 0", "1", "the child's"]
    assert ended == dict.fromkeys(KINDS, said(by_reset, by_exit, ["parent True 1", "gone"]))


@pytest.mark.skipif(sys.implementation.name == "pypy", reason="no ctypes.PyDLL")
def test_a_fork_that_python_does_not_see(tmp_path: Path) -> None:
    """Promise 14: where C code forks, the child uses its parent's object until it resets it, and
    never tears it down or frees it: not by `reset`, not at its exit."""
    source = """
inherited = thing()

def work(resets):
    say(f"same {thing() is inherited}")
    if resets:
        reset()
        say(f"own {thing() is not inherited}")

for resets, leave in itertools.product([False, True], [os._exit, sys.exit]):
    fork(lambda: work(resets), leave, ctypes.PyDLL(None).fork)
say(f"parent {thing() is inherited} {len(finalizers)}")
"""
    ended = run_all({kind: GONE + thing + source for kind, thing in KINDS.items()}, tmp_path)
    child, own = ["same True"], ["same True", "own True"]
    expected = said(child, child, own, [*own, "gone"], ["parent True 1", "gone"])
    assert ended == dict.fromkeys(KINDS, expected)


NAMESPACES = """
import ctypes

def enter_a_namespace():
    # for the children to come: CLONE_NEWPID, with CLONE_NEWUSER where only that permits it
    if any(ctypes.CDLL(None).unshare(flags) == 0 for flags in (0x20000000, 0x30000000)):
        return os.fork()
    say("not permitted")
    os._exit(0)

where = "parent"

@memoize(inherit=INHERIT)
def thing():
    maker = where
    yield [maker]
    say(f"{maker}'s gone in the {where}")

def in_child(number):
    global where
    where = "child"
    say(f"same number {os.getpid() == number}")
    say(f"{thing()[0]}'s {len(finalizers)}")
    finalizers.register(thing, say, f"registered in the {where}")
    reset()
    say(f"{len(finalizers)}")

def in_parent(leave):
    thing()
    say(fork(partial(in_child, os.getpid()), leave, enter_a_namespace))
    say(f"{thing()[0]}'s {len(finalizers)}")

fork(partial(in_parent, LEAVE), sys.exit, enter_a_namespace)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no namespaces of processes here")
@pytest.mark.parametrize("inherit", [False, True])
def test_a_process_namespace(inherit: bool, tmp_path: Path) -> None:
    """Promise 14: a child in a process namespace of its own, as a container's first process is, may
    have its parent's number, and is a process of its own all the same."""
    source = NAMESPACES.replace("INHERIT", str(inherit))
    leaves = ("os._exit", "sys.exit")
    ended = run_all({leave: source.replace("LEAVE", leave) for leave in leaves}, tmp_path)
    if "not permitted" in str(ended):
        pytest.skip("no namespaces of processes for this user")
    kept = ["parent's 0", "registered in the child"]
    own = ["child's 1", "registered in the child", "child's gone in the child"]
    child = ["same number True", *(kept if inherit else own), "0"]
    # they write into one file, since they have one number
    lines = [*child, "None", "parent's 1", "parent's gone in the parent"]
    assert ended == dict.fromkeys(leaves, said(lines))


# At any moment ------------------------------------------------------------------------------------


def test_a_fork_inside_a_body_or_a_teardown(tmp_path: Path) -> None:
    """Promises 14 and 15: a child that was forked inside a body or a teardown makes objects of its
    own, that body's included, and tears down nothing else."""
    source = """
parent = os.getpid()

def work():
    say(f"child {len(finalizers)} {thing()[0] == os.getpid()} {len(finalizers)}")
    reset()

@memoize
def thing():
    maker = os.getpid()
    finalizers.register(thing, gone, maker)
    if os.getpid() == parent and WHERE == "body":
        fork(work, os._exit), fork(work, sys.exit)
    yield [maker]
    if os.getpid() == parent and WHERE == "teardown":
        fork(work, os._exit), fork(work, sys.exit)

thing()
reset(thing)
"""
    sources = {where: f"WHERE = '{where}'\n{GONE}{source}" for where in ("body", "teardown")}
    child = ["child 0 True 2", "gone"]
    assert run_all(sources, tmp_path) == dict.fromkeys(sources, said(child, child, ["gone"]))


BODIES_THAT_FORK = {
    "the child leaves": """
    if fork_once():
        say(f"in the child {thing()[0] == os.getpid()} {len(finalizers)}")
        LEAVE(0)
""",
    "the child goes on": """
    if fork_once():
        say("goes on")
""",
    "the child calls, and goes on": """
    if fork_once():
        say(f"in the child {thing()[0] == os.getpid()}")
""",
}
FORKING = """
parent, children = os.getpid(), []

def fork_once():
    if children:
        return False
    children.append(os.fork())
    return not children[0]

@memoize
def thing():
    say("begins")
BODY
    maker = os.getpid()
    yield [maker]
    gone(maker)

try:
    thing()
except RuntimeError:  # of the outer call, where the one inside has made the object
    pass
say(f"own {os.getpid() in thing()} {thing() is thing()}")
if os.getpid() == parent:
    os.waitpid(children[0], 0)
"""


@pytest.mark.parametrize("how", BODIES_THAT_FORK)
def test_a_body_that_forks(how: str, tmp_path: Path) -> None:
    """Promises 14 and 15: a body may fork, and its child call the function, which makes the child's
    own object there; it may go on with the body as well: parent and child have one object each in
    the end, and tear down what they have made."""
    body = BODIES_THAT_FORK[how]
    leaves = ("os._exit", "sys.exit") if "leaves" in how else ("",)
    sources = {
        leave: GONE + FORKING.replace("BODY", body.replace("LEAVE", leave)) for leave in leaves
    }
    parent = ["begins", "own True True", "gone"]
    for leave, ended in run_all(sources, tmp_path).items():
        assert (ended.stdout, ended.stderr, ended.status) == ("", [], 0)
        assert len(ended.said) == 2
        assert parent in ended.said
        ended.said.remove(parent)
        (child,) = ended.said
        if "leaves" in how:
            # what the body that is left by an exception has registered would run, and has none
            lines = ["begins", "in the child True 1", "gone"]
            assert child == lines[: 2 if leave == "os._exit" else 3]
        elif "calls" in how:
            assert child[:2] == ["begins", "in the child True"]
            assert "own True True" in child
            # of its two bodies the outer one has come too late, and may be refused
            assert child.count("gone") in (1, 2)
        else:
            assert child == ["goes on", "own True True", "gone"]


def test_a_fork_beside_other_threads(tmp_path: Path) -> None:
    """Promise 15: a signal handler may fork while its thread waits for another's object, and more
    threads make, wait and tear down: the child goes on with objects of its own, and so does the
    parent with its."""
    source = """
        reached, go, children = threading.Semaphore(0), threading.Event(), []

        def pause():
            if threading.current_thread() is not threading.main_thread():
                reached.release()
                go.wait()

        @memoize
        def made():
            pause()
            yield [os.getpid()]

        @memoize
        def torn_down():
            yield [os.getpid()]
            pause()

        def handle(*_):
            children.append(os.fork())
            go.set()

        signal.signal(signal.SIGUSR1, handle)
        torn_down()
        for work in (made, made, lambda: reset(torn_down), torn_down):
            threading.Thread(target=work).start()
        reached.acquire(), reached.acquire()
        main = threading.main_thread().ident
        threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGUSR1]).start()
        for function in (made, torn_down):
            say(f"own {function() == [os.getpid()]} {function in finalizers}")
        if children[0]:
            os.waitpid(children[0], 0)
        reset()
        say(f"{len(finalizers)}")
        """
    # forks beside threads are warned of
    ended = run(source, tmp_path, ("-W", "ignore", "script.py"))
    assert ended == said(*[["own True True", "own True True", "0"]] * 2)


# Does one operation over and over, each time on a new function, and forks some steps later.
STEPS = """
class Scenario:
    def __init__(self, inherit):
        self.parent, self.gone = os.getpid(), []

        @memoize(inherit=inherit)
        def thing():
            maker = os.getpid()
            finalizers.register(thing, int)
            yield [maker]
            self.gone.append(maker)

        self.thing = thing

    def use(self):
        reset(self.thing)
        self.gone.clear()
        if self.thing() != [os.getpid()]:
            return "has not made its own"
        finalizers.register(self.thing, int)
        reset(self.thing)
        return f"{self.gone == [os.getpid()]} {len(finalizers)}"

    def in_child(self):
        self.gone.clear()
        reset(self.thing)
        return "tore down its parent's" if self.parent in self.gone else self.use()

def call(s): s.thing()
def reset_it(s): reset(s.thing)
def register(s): finalizers.register(s.thing, int)

def fork_beside(step, operation, s):
    reached, go, places = threading.Event(), threading.Event(), []
    def pause():
        reached.set()
        go.wait()
    def work():
        places.append(interrupted(step, pause, lambda: operation(s), s.thing))
        reached.set()
    thread = threading.Thread(target=work)
    thread.start()
    reached.wait()
    child = fork(lambda: within(s.in_child))
    go.set()
    thread.join()
    return places[0], child

for step in steps():
    s = Scenario(INHERIT)
    if OPERATION is not call:
        s.thing()
    place, child = fork_beside(step, OPERATION, s)
    parent = within(s.use)
    if not place:
        break
    if (child, parent) != ("True 0", "True 0"):
        say(f"{step}, {place}: child {child}, parent {parent}")
say("finished")
"""


@pytest.mark.parametrize("inherit", ["False", "True"])
def test_a_fork_at_any_step(inherit: str, tmp_path: Path) -> None:
    """Promise 15: a child that was forked while another thread stood anywhere in the library makes,
    resets and tears down its own object; and so does the parent."""
    source = STEPS.replace("INHERIT", inherit)
    operations = ("call", "reset_it", "register")
    sources = {operation: source.replace("OPERATION", operation) for operation in operations}
    ended = run_all(sources, tmp_path, measured=False)
    assert ended == dict.fromkeys(sources, said(["finished"]))


GREENLETS = """
import gevent
from gevent.event import Event

begun, go = Event(), Event()

@memoize
def thing():
    say("made")
    gevent.sleep(0.01)
    yield object()
    say("gone")
    begun.set()
    go.wait()

def value_of(*greenlets):
    gevent.joinall(greenlets, raise_error=True)
    return [greenlet.value for greenlet in greenlets]

values = value_of(*(gevent.spawn(thing) for _ in range(3)))
say(f"shared {len(set(values)) == 1}")
resetting = gevent.spawn(reset, thing)
begun.wait()
waiting = gevent.spawn(thing)
gevent.sleep(0.01)
say(f"waits {not waiting.ready()}")
go.set()
say(f"anew {value_of(resetting, waiting)[1] not in values}")
"""


def test_greenlets(tmp_path: Path) -> None:
    """Promise 4: greenlets count as threads, also where gevent patches after the import: they share
    one object, none is told of a deadlock, and who comes while one resets waits and makes anew."""
    pytest.importorskip("gevent")
    patch = "from gevent import monkey\nmonkey.patch_all()\n"
    sources = {
        "before the import": patch + PRELUDE + GREENLETS,
        "after the import": PRELUDE + patch + GREENLETS,
    }
    lines = ["made", "shared True", "gone", "waits True", "made", "anew True", "gone"]
    assert run_all(sources, tmp_path, prelude="") == dict.fromkeys(sources, said(lines))
