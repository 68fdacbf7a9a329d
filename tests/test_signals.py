"""Promise 15: signal handlers and `__del__` methods that come in at any moment."""

from __future__ import annotations

import gc
import signal
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from processes import run, said

# Does one operation over and over, each time on a new function and with the action one step later, and says what it finds wrong.
EVERY_STEP = """
import collections, faulthandler, itertools
from memoize_once._finalizers import alive, running
from threads import Call

faulthandler.dump_traceback_later(50, exit=True)
gc.disable()  # what is left of an earlier scenario does not come into a later one

class Scenario:
    def __init__(self):
        self.count = count = collections.Counter()
        self.fails = False
        self.running = len(running())
        self.begun, self.go = threading.Event(), threading.Event()
        self.ending = self.waiter = None

        @memoize
        def thing():
            finalizers.register(thing, self.end, object())
            if self.fails:
                raise ValueError("fails")
            count["two at once"] += count["made"] != count["gone"]
            self.begun.set()
            if self.waiter and self.waiter is not threading.current_thread():
                self.waiter.until_it_waits()
            else:
                self.go.wait(0.003)
            count["made"] += 1
            yield object()
            if self.ending:
                self.ending.set()
                self.go.wait(0.01)
            count["gone"] += 1

        self.thing = thing

    def add(self, name):
        self.count[name] += 1

    def end(self, making):
        self.add("body")
        self.add(making)

    def wrong(self, interrupted):
        thing, count = self.thing, self.count
        if count["body"] and not count["gone"] and self.ending:
            yield "a finalizer ran before the end of the one that is due before"
        self.fails = False
        self.begun.set()
        self.go.set()
        if self.waiter:
            self.waiter.join(5)
            if self.waiter.is_alive():
                yield "who waited is left waiting"
            self.waiter = None
        if len(running()) > self.running:
            yield "the thread counts as making or tearing down for ever"
        if "object" not in (result := within(thing)):
            yield f"another thread's call: {result}"
        if (result := within(lambda: finalizers.register(thing, self.add, "later") and reset(thing))) != "None":
            yield f"another thread's reset: {result}"
        if count["made"] != count["gone"]:
            yield f"made {count['made']}, torn down {count['gone']}"
        if max(count[making] for making in count if type(making) is object) > 1:
            yield "a finalizer of a body ran twice"
        if count["two at once"]:
            yield "made before the last one was torn down"
        if count["later"] != 1:
            yield f"a finalizer ran {count['later']} times"
        if not count["promised"] <= count["registered"] <= count["promised"] + interrupted:
            yield f"registered {count['promised']}, run {count['registered']}"
        if alive:
            yield f"left: {len(alive)} objects, {len(finalizers)} finalizers"
            alive.clear()

def nothing(s): pass
def call(s): s.thing()
def fail(s):
    s.fails = True
    s.thing()
def wait(s):
    threading.Thread(target=s.thing).start()
    s.begun.wait()
def end_elsewhere(s):
    s.thing()
    s.ending = threading.Event()
    threading.Thread(target=reset, args=(s.thing,)).start()
    s.ending.wait()
def await_call(s):
    s.waiter = Call(lambda: s.begun.wait() and s.thing())
def wait_in_a_body(s):
    @memoize
    def inner():
        s.thing()
        raise ValueError("leaves nothing")
    @memoize
    def outer():
        inner()
    s.outer = outer
    wait(s)
def outer(s): s.outer()
def reset_it(s): reset(s.thing)
def reset_all(s): reset()
def register(s):
    finalizers.register(s.thing, s.add, "registered")
    s.count["promised"] += 1
def renew(s): reset(s.thing), s.thing()
def interrupt(s): raise KeyboardInterrupt

def quietly(action, scenario):
    def handler():
        try:
            action(scenario)
        except (DeadlockError, LookupError, ValueError):  # the thread's own making or teardown, no object, a body that fails
            pass
    return handler

def every_step(prepare, operation, action):
    raises, found = action is interrupt, 0
    for step in itertools.count():
        s = Scenario()
        prepare(s)
        place, error = interrupted(step, quietly(action, s), lambda: operation(s), s.thing, signals=raises)
        findings = list(s.wrong(raises))
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None and not isinstance(error, (ValueError, LookupError) + (KeyboardInterrupt,) * raises):
            findings.append(repr(error))
        if raises and place and not isinstance(error, KeyboardInterrupt):
            findings.append(f"Ctrl-C is lost, and {error!r} comes instead")
        for finding in findings:
            say(f"{step}, {place}: {finding}")
        found += bool(findings)
        if not place or found > 8:
            return step
"""

# what an operation needs before, and the operation
OPERATIONS = {
    "call": "nothing, call",
    "hit": "call, call",
    "call-that-fails": "nothing, fail",
    "call-that-waits": "wait, call",
    "reset": "call, reset_it",
    "reset-all": "call, reset_all",
    "reset-that-waits": "wait, reset_it",
    "register": "call, register",
}


@pytest.mark.parametrize("action", ["call", "reset_it", "reset_all", "register", "renew"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_handler_at_every_step(operation: str, action: str, tmp_path: Path) -> None:
    """Promise 15: a handler that uses the library between any two of its instructions hangs nothing, loses no finalizer, and leaves
    every making with one teardown."""
    assert run(EVERY_STEP + f'every_step({operation}, {action}); say("finished")', tmp_path, measured=False) == said(["finished"])


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="where signals can arrive is known of CPython only")
@pytest.mark.parametrize(
    "operation",
    [*OPERATIONS.values(), "await_call, call", "wait_in_a_body, outer", "end_elsewhere, call", "end_elsewhere, reset_it"],
    ids=[
        *OPERATIONS,
        "call-that-others-wait-for",
        "call-that-waits-in-a-body",
        "call-that-waits-for-a-teardown",
        "reset-that-waits-for-a-teardown",
    ],
)
def test_ctrl_c_at_every_step(operation: str, tmp_path: Path) -> None:
    """Promise 3: wherever in the library KeyboardInterrupt arrives, no other thread is left waiting, the next call works, and each
    finalizer runs exactly once."""
    assert run(EVERY_STEP + f'every_step({operation}, interrupt); say("finished")', tmp_path, measured=False) == said(["finished"])


ASYNC_EVERY_STEP = """
import asyncio, faulthandler, itertools
from memoize_once import areset
from threads import Call

faulthandler.dump_traceback_later(50, exit=True)

@memoize
async def neighbour():
    yield

def every_step(is_generator, how, closes):
    for step in itertools.count():
        made, gone, told = [], [], []

        async def plain():
            finalizers.register(thing, gone.append, value := object())
            made.append(value)
            await asyncio.sleep(0)
            return value

        async def generating():
            finalizers.register(thing, gone.append, value := object())
            made.append(value)
            await asyncio.sleep(0)
            made.append(other := object())
            try:
                yield value
            finally:
                gone.append(other)

        async def use():
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
            await thing()
            if how == "areset":
                await areset(thing)

        def operation():
            if closes:
                asyncio.run(use())
            else:
                loop.run_until_complete(use())
            if how == "reset":
                reset(thing)

        def interrupt():
            raise KeyboardInterrupt

        def again():
            asyncio.run(thing())
            reset(thing)

        def elsewhere():
            try:
                reset(neighbour)
            except BaseExceptionGroup as group:  # of a task that Ctrl-C has ended, and another waited for
                raise group.exceptions[0]

        thing = memoize(generating if is_generator else plain)
        loop = asyncio.new_event_loop()
        if how == "reset":
            Call(loop.run_until_complete, neighbour()).result()
        # in a thread, since another thread's `reset` runs the loop at once when its own has ended
        place, error = Call(lambda: interrupted(step, interrupt, operation, thing, signals=True)).result()
        if place and not isinstance(error, (KeyboardInterrupt, BaseExceptionGroup)) and not told:
            say(f"{step}, {place}: Ctrl-C is lost, and {error!r} comes instead")
        for work in (elsewhere, loop.close, lambda: reset(thing), again):
            if (result := within(work)) not in ("None", "KeyboardInterrupt: "):
                say(f"{step}, {place}: {result}")
        if not set(made) <= set(gone) or len(gone) > len(set(gone)) or list(finalizers):
            say(f"{step}, {place}: made {made}, gone {gone}")
        if not place:
            return say("finished")
"""


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="where signals can arrive is known of CPython only")
@pytest.mark.parametrize("closes", [True, False], ids=["asyncio.run", "loop.close"])
@pytest.mark.parametrize("how", ["areset", "reset", "end"])
@pytest.mark.parametrize("is_generator", [True, False], ids=["generator", "coroutine"])
def test_ctrl_c_at_every_step_of_a_loop(is_generator: bool, how: str, closes: bool, tmp_path: Path) -> None:
    """Promises 3, 7 and 18: wherever in the library KeyboardInterrupt ends an event loop, nobody is left waiting, each making has one
    teardown, and the next call works."""
    ended = run(ASYNC_EVERY_STEP + f"every_step({is_generator}, {how!r}, {closes})", tmp_path, measured=False)
    assert (ended.said, ended.status) == ([["finished"]], 0)  # asyncio is noisy about what was interrupted in its midst


# Real signals and collections -----------------------------------------------------------------------------------------------------

# Everything at once, on one function with keys; `disturb` is what comes in at any moment.
ROUNDS = """
import collections, itertools

count, numbers = collections.Counter(), itertools.count()

@memoize(key=lambda key: key)
def thing(key):
    finalizers.register(thing, add, "gone")
    add("made")
    yield object()

def add(name):
    count[name, next(numbers)] += 1  # one operation, which nothing can come into

def disturb(*_):
    for action in (lambda: thing(0), lambda: finalizers.register(thing, add, "late"), lambda: reset(thing), lambda: thing(1), reset):
        try:
            action()
        except (DeadlockError, LookupError):  # the thread's own making or teardown, or no object
            pass

def rounds():
    for _ in range(200):
        for action in (lambda: thing(0), lambda: thing(1), lambda: finalizers.register(thing, add, "late"), lambda: reset(thing), reset):
            try:
                action()
            except LookupError:  # reset by what came in
                pass

def finish():
    reset()
    totals = collections.Counter(name for name, _ in count)
    say(f"torn down: {totals['made'] > 0 and totals['gone'] == totals['made']}, left: {len(finalizers)}")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that send signals here")
@pytest.mark.parametrize("threads", [0, 2])
def test_signals_at_a_high_rate(threads: int, tmp_path: Path) -> None:
    """Promise 15: a signal handler that calls, resets and registers hangs nothing and loses nothing, whatever it comes into."""
    source = f"""
        def handle(*_):
            disturb()
            again()

        def again():
            if not done:
                signal.setitimer(signal.ITIMER_REAL, 0.0003)

        done = False
        signal.signal(signal.SIGALRM, handle)
        again()
        others = [threading.Thread(target=rounds) for _ in range({threads})]
        for other in others:
            other.start()
        rounds()
        for other in others:
            other.join()
        done = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        finish()
        """
    assert run(ROUNDS + dedent(source), tmp_path, measured=False) == said(["torn down: True, left: 0"])


@pytest.mark.skipif(not hasattr(gc, "set_threshold"), reason="no threshold for the collector")
def test_collections_at_any_moment(tmp_path: Path) -> None:
    """Promise 15: a `__del__` that calls, resets and registers hangs nothing and loses nothing, whatever it comes into."""
    source = """
        class Garbage:
            def __init__(self):
                self.me = self

            def __del__(self):
                Garbage()
                if not sys.is_finalizing() and not done:
                    disturb()

        done = False
        gc.set_threshold(1)
        Garbage()
        rounds()
        done = True
        gc.set_threshold(700)
        finish()
        """
    assert run(ROUNDS + dedent(source), tmp_path) == said(["torn down: True, left: 0"])


POINTS = {
    "body": "raised in the body",
    "teardown": "raised in the teardown",
    "callback": "raised in a callback",
    "key": "raised in the key function",
}


@pytest.mark.parametrize("point", POINTS)
def test_signals_in_user_code(point: str, tmp_path: Path) -> None:
    """Promise 15: in a handler that comes into a body, a key function or a finalizer, what would wait for itself raises DeadlockError,
    and a teardown's own object is still there."""
    source = f"""
        heard, points = [], [{point!r}]

        def handle(*_):
            for name, action in dict(call=lambda: thing(1), reset=lambda: reset(thing), all=reset, register=register).items():
                try:
                    action()
                except (DeadlockError, LookupError) as error:
                    heard.append(f"{{name}}: {{type(error).__name__}}")
                else:
                    heard.append(name)

        def register():
            finalizers.register(thing, say, "registered")

        def point(name):
            if name in points:
                points.remove(name)
                signal.raise_signal(signal.SIGINT)

        def key(number):
            point("key")
            return number

        @memoize(key=key)
        def thing(number):
            point("body")
            finalizers.register(thing, point, "callback")
            say("made")
            yield number
            say("gone")
            point("teardown")

        signal.signal(signal.SIGINT, handle)
        thing(1)
        reset(thing)
        thing(1)
        reset()
        say(", ".join(heard))
        """
    own = ["made", "gone"]
    expected = {
        "body": ["made", "gone", "registered", *own, "call: DeadlockError, reset: DeadlockError, all, register"],
        "teardown": ["made", "gone", "registered", *own, "call, reset: DeadlockError, all, register"],
        "callback": ["made", "gone", "registered", *own, "call, reset: DeadlockError, all, register"],
        "key": ["made", "gone", *own, *own, "call, reset, all, register: LookupError"],
    }
    assert run(source, tmp_path) == said(expected[point])
