"""Promises 3 and 15: Ctrl-C, and signal handlers and `__del__` methods that use the library."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from processes import run, run_all, said


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads here")
def test_ctrl_c(tmp_path: Path) -> None:
    """Promises 2 and 3: KeyboardInterrupt in a body, a wait or a finalizer reaches its caller; the
    finalizers run, nobody is left waiting, and the next call makes its object."""
    source = """
        def interrupt():
            say("Ctrl-C")
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        @memoize
        def thing():
            finalizers.register(thing, say, "finalized")
            actions.pop()()
            finalizers.register(thing, actions.pop())
            return "made"

        def wait():
            begun.set()
            go.wait()

        def call_while_another_makes():
            other.start()
            begun.wait()
            threading.Timer(0.2, interrupt).start()
            thing()

        begun, go = threading.Event(), threading.Event()
        other = threading.Thread(target=thing)
        actions = [int, wait, interrupt, int, interrupt]
        for operation in thing, thing, reset, call_while_another_makes:
            say(outcome(operation).split(":")[0])
        go.set()
        other.join()
        say(thing())
        """
    body = ["Ctrl-C", "finalized", "KeyboardInterrupt"]
    finalizer = ["made", "Ctrl-C", "finalized", "BaseExceptionGroup"]
    wait = ["Ctrl-C", "KeyboardInterrupt", "made", "finalized"]
    assert run(source, tmp_path) == said([*body, *finalizer, *wait])


# Does one operation over and over, each time on a new function and with the action some steps
# later, and says what it finds wrong.
STEPS = """
import collections

class Scenario:
    def __init__(self):
        self.count = count = collections.Counter()
        self.fails, self.begun = False, threading.Event()

        @memoize
        def thing():
            finalizers.register(thing, self.add, "finalized")
            self.add("begun")
            if self.fails:
                raise ValueError("fails")
            self.add("made")
            if count["made"] != count["gone"] + 1:
                self.add("made before the last one was torn down")
            self.begun.set()
            threading.Event().wait(0.003)
            yield "object"
            self.add("gone")

        self.thing = thing

    def add(self, name):
        self.count[name] += 1

    def check(self, where):
        self.fails = False
        results = within(self.thing), within(lambda: reset(self.thing)), len(finalizers)
        pairs = ("begun", "finalized"), ("made", "gone"), ("registered", "ran")
        wrong = [pair for pair in pairs if self.count[pair[0]] != self.count[pair[1]]]
        if results != ("object", "None", 0) or wrong or any(" " in name for name in self.count):
            say(f"{where}: {results} {dict(self.count)}")

def nothing(s): pass
def call(s): s.thing()
def fail(s):
    s.fails = True
    s.thing()
def wait(s):
    threading.Thread(target=s.thing).start()
    s.begun.wait()
def reset_it(s): reset(s.thing)
def reset_all(s): reset()
def register(s):
    finalizers.register(s.thing, s.add, "ran")
    s.add("registered")
def renew(s): reset(s.thing), s.thing()

def quietly(action, scenario):
    try:
        action(scenario)
    except* (DeadlockError, LookupError, ValueError):  # its own thread's, no object, a failing one
        pass

def at_steps(prepare, operation):
    for action in (call, reset_it, reset_all, register, renew):
        for step in steps():
            s = Scenario()
            prepare(s)
            act, operate = partial(quietly, action, s), partial(quietly, operation, s)
            place = interrupted(step, act, operate, s.thing)
            s.check(f"{action.__name__} at {step}, {place}")
            if not place:
                break
    say("finished")

"""
OPERATIONS = [  # what has to be done before, and the operation
    ["nothing, call", "call, call", "nothing, fail", "wait, call"],
    ["call, reset_it", "call, reset_all", "wait, reset_it", "call, register"],
]


@pytest.mark.parametrize("operations", OPERATIONS, ids=["calls", "resets"])
def test_a_handler_at_any_step(operations: list[str], tmp_path: Path) -> None:
    """Promise 15: a handler that calls, resets or registers while its thread is anywhere in the
    library hangs nothing, loses no finalizer, and leaves each object made with one teardown."""
    sources = {operation: f"{STEPS}at_steps({operation})" for operation in operations}
    ended = run_all(sources, tmp_path, measured=False)
    assert ended == dict.fromkeys(sources, said(["finished"]))


# Everything at once, on one function with keys; `disturb` is what comes in at any moment.
ROUNDS = """
import collections, itertools

count, numbers, done = collections.Counter(), itertools.count(), False

@memoize(key=lambda key: key)
def thing(key):
    finalizers.register(thing, add, "gone")
    add("made")
    yield object()

def add(name):
    count[name, next(numbers)] += 1  # which nothing can come into

def late():
    finalizers.register(thing, add, "late")

def disturb(*_):
    for action in [lambda: thing(0), late, lambda: reset(thing), lambda: thing(1), reset]:
        try:
            action()
        except* (DeadlockError, LookupError):  # the thread's own, or no object
            pass

def rounds():
    for _ in range(200):
        disturb()

"""
DISTURBED = {
    "by signals": """
def handle(*_):
    disturb()
    again()

def again():
    if not done:
        signal.setitimer(signal.ITIMER_REAL, 0.0003)

signal.signal(signal.SIGALRM, handle)
again()
others = [threading.Thread(target=rounds) for _ in range(2)]
for other in others:
    other.start()
rounds()
for other in others:
    other.join()
done = True
signal.setitimer(signal.ITIMER_REAL, 0)
""",
    "by collections": """
class Garbage:
    def __init__(self):
        self.me = self

    def __del__(self):
        if not done:
            Garbage()
            disturb()

getattr(gc, 'set_threshold', int)(1)  # which PyPy has not
Garbage()
rounds()
done = True
""",
}
FINISH = """
reset()
totals = collections.Counter(name for name, _ in count)
say(f"torn down: {totals['made'] > 0 and totals['gone'] == totals['made']}, {len(finalizers)}")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that send signals here")
def test_signals_and_collections_at_a_high_rate(tmp_path: Path) -> None:
    """Promise 15: a signal handler or a `__del__` that calls, resets and registers hangs nothing
    and loses nothing, whatever it comes into."""
    sources = {name: ROUNDS + source + FINISH for name, source in DISTURBED.items()}
    ended = run_all(sources, tmp_path, measured=False)
    assert ended == dict.fromkeys(sources, said(["torn down: True, 0"]))
