"""One object, made once and torn down once, among threads.

The function that users call reads `once.value` and returns it. Where there is none it enters `once.making()`:

1. The thread notes the new life among those that it runs, then tries to become its maker. Noted first, so that a signal handler
   that calls the same function in between sees a recursion and does not wait for its own thread.
2. Who is not the maker waits for the state to change and looks again. Before it blocks, it writes down what its own lives now wait
   for; whoever closes a ring is the one that is told (`Wait`).
3. The maker calls the body, publishes the object, and only then sets the state to ALIVE, since from that on a reset may take it.
   A body that raises has its finalizers run, leaves no trace, and the waiters try again.
4. A teardown unpublishes first and gives the place free last, so that callers wait while finalizers run.

No user code runs where another thread's progress depends on it, but for the life's own body and finalizers.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import itertools
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType, TracebackType
from typing import Any, cast

from ._finalizers import (
    ALIVE,
    ENDING,
    GONE,
    MAKING,
    Life,
    Memoized,
    alive,
    find,
    finished,
    in_order,
    leak,
    living,
    logger,
    note,
    of_thread,
    running,
)

__tracebackhide__ = True


class DeadlockError(RuntimeError):
    """An object needs itself, directly or through others, in one thread or across threads; the message names the functions of the cycle.

    New in 0.1.0.
    """


# Waiting --------------------------------------------------------------------------------------------------------------------------

_begun = itertools.count()  # numbers waits in the order in which they were written down
_SLICE = 0.1 if sys.platform == "win32" else -1  # Windows delivers Ctrl-C between two waits for a lock, not during one


class Wait:
    """Entered, it says that our own lives cannot go on before `target` does; raises DeadlockError where that waits, directly or not,
    for one of them.

    Two that close a ring at once must not both be told. So a wait is written down first and numbered then, and each looks along
    older waits only: the youngest of a ring sees all others, and no other sees it.
    """

    __slots__ = ("number", "own", "target")

    def __init__(self, target: Life, own: list[Life]) -> None:
        self.target = target
        self.own = own
        self.number: float = float("inf")

    def __enter__(self) -> None:
        try:
            for life in self.own:
                life.waits.append(self)
            self.number = next(_begun)
            path = _cycle(self.target, self.own, self.number)
            if path:
                raise deadlock(path, self.own)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        for life in self.own:
            if self in life.waits:  # pragma: no branch  it is not where Ctrl-C came on the way in
                life.waits.remove(self)


def _cycle(target: Life, own: list[Life], before: float) -> list[Life]:
    """The way from `target` along waits older than `before` to one of our own lives, or nothing."""
    came_from: dict[Life, Life | None] = {target: None}
    queue = [target]
    for life in queue:
        if life in own:
            path: list[Life] = []
            step: Life | None = life
            while step is not None:
                path.append(step)
                step = came_from[step]
            return path[::-1]
        for wait in list(life.waits):
            if wait.number < before and wait.target not in came_from:  # pragma: no branch  false only while another ring closes
                came_from[wait.target] = life
                queue.append(wait.target)
    return []


def deadlock(path: list[Life], own: list[Life]) -> DeadlockError:
    ring = own[own.index(path[-1]) :] + path
    return DeadlockError(
        "an object cannot be had before itself: "
        + " -> ".join(life.name for life in ring)
        + ". Break the ring, or move a call out of a body"
    )


def wait(life: Life, state: str, own: list[Life], patience: float | None = None) -> None:
    """Blocks until the life leaves the state, or until patience is at an end."""
    gate = threading.Lock()
    gate.acquire()

    def wake() -> None:
        with suppress(RuntimeError):  # woken twice
            gate.release()

    with Wait(life, own):
        life.waiters.append(wake)
        try:
            if life.state == state:  # looked at after the waiter is in place, or the change could go unnoticed
                while not gate.acquire(timeout=_SLICE if patience is None else patience):
                    if patience is not None:  # pragma: no branch  but on Windows
                        break
        finally:
            life.waiters.remove(wake)


def wait_for(life: Life, own: list[Life]) -> None:
    """Blocks until the life is gone."""
    while (state := life.state) != GONE:
        wait(life, state, own)


# Making ---------------------------------------------------------------------------------------------------------------------------


NOTHING = ("no object", "a generator function yields it once")
AGAIN = ("more than once", "yield one object, and tear it down after that yield")


def _rest(generator: Generator[object, None, None], once: Once) -> tuple[Any, ...]:
    """The rest of a generator is its teardown, and a finalizer: resumed, it gives itself, which stands for nothing."""

    def judge(result: object) -> None:
        if result is not generator:
            try:
                generator.close()
            finally:
                raise once.yields(*AGAIN)

    return next, (generator, generator), {}, judge


# Frames that call a body carry the name, the file and the line of its function, so that tracebacks and warnings show the user's file


def innermost(function: Any) -> Any:
    """What is left without functools.wraps and functools.partial."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    return function


def namespace(function: Any) -> dict[str, Any]:
    """The globals of its frames. C code that imports something looks there for `__builtins__`, and warnings for the module."""
    found = getattr(innermost(function), "__globals__", None)  # PyPy's builtins have None
    return found or {"__builtins__": builtins, "__name__": getattr(function, "__module__", None) or "builtins"}


def headroom(frames: int = 12) -> None:
    """Raises RecursionError where there is none, since one in the midst of what follows could leave a life for ever as it is."""
    if frames:
        headroom(frames - 1)


def placed(code: CodeType, function: Any, place: CodeType, **changes: Any) -> CodeType:
    """The code under the name of the function, all of it on the first line of the other code; with other changes."""
    inner = function if hasattr(function, "__name__") else innermost(function)
    name = getattr(inner, "__name__", type(inner).__name__)
    if sys.implementation.name == "cpython":  # pragma: no branch  the format is in its Objects/locations.md, and this is without columns
        eights, rest = divmod(len(code.co_code) // 2, 8)
        changes["co_linetable"] = b"\xef\x00" * eights + bytes([0xE7 + rest, 0]) * (rest > 0)
    return code.replace(
        co_name=name,
        co_qualname=getattr(function, "__qualname__", name),
        co_filename=place.co_filename,
        co_firstlineno=place.co_firstlineno,
        **changes,
    )


def _start(generator: Generator[Any, Any, Any], default: object) -> Any:  # pragma: no cover  runs under the name of a file of the user's
    __tracebackhide__ = True
    for value in generator:
        return value
    return default


class Parameters:
    """The parameters of a function, in the order of its code: positional, keyword-only, `*args`, `**kwargs`."""

    __slots__ = ("args", "declared", "keyword_only", "kwargs", "names", "positional", "positional_only")

    def __init__(
        self,
        names: tuple[str, ...],
        positional_only: int,
        positional: int,  # these included
        keyword_only: int,
        args: bool,
        kwargs: bool,
        declared: dict[str, Any],  # defaults of what is no function: not handed on, since what is not given may be looked for elsewhere
    ) -> None:
        self.names = names
        self.positional_only = positional_only
        self.positional = positional
        self.keyword_only = keyword_only
        self.args = args
        self.kwargs = kwargs
        self.declared = declared

    def handed_on(self, values: list[str]) -> list[str]:
        """What a call reads, in source, that hands on the values."""
        forms = ["{}"] * self.positional + ["{0}={0}"] * self.keyword_only + ["*{}"] * self.args + ["**{}"] * self.kwargs
        return [form.format(value) for form, value in zip(forms, values, strict=True)]

    def bind(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Callable[[], Any]:
        """The call that hands on the arguments, given by parameter; it adds no frame to a traceback."""
        values = [arguments[name] for name in self.names]
        named = self.positional + self.keyword_only
        args = values[: self.positional]
        more = values[named] if self.args else ()
        while not more and args and args[-1] is self.declared.get(self.names[len(args) - 1], values):
            args.pop()
        kwargs = {name: arguments[name] for name in self.names[self.positional : named]}
        for name, default in self.declared.items():
            if kwargs.get(name, values) is default:
                del kwargs[name]
        if self.kwargs:
            kwargs |= values[-1]
        return functools.partial(function, *args, *more, **kwargs)


def check_key(once: Once, key: object) -> None:
    try:
        hash(key)
    except TypeError as error:
        text = f"the key {key!r} of {once.name} is not hashable ({error}): let the key function return a tuple, a string or the like"
        raise TypeError(text) from None


class Making:
    """What the function that users call does when it finds no object; entered, it is `fresh` or another has made the `value` meanwhile.

    It is entered twice, so that Ctrl-C on the way into one `__exit__` still meets the other.
    """

    __slots__ = ("_arguments", "_generator", "_life", "_own", "_since", "body", "entered", "fresh", "key", "once", "value")

    def __init__(self, once: Once, arguments: dict[str, Any], key: object) -> None:
        self.once = once
        self.key = key
        self.entered = self.fresh = False
        self._arguments = arguments
        self._generator: Any = None
        self._own = of_thread()
        self._life: Life | None = None

    def __enter__(self) -> None:
        once, own = self.once, self._own
        if self.entered:
            return
        self.entered = True
        headroom()
        check_key(once, self.key)
        self._life = mine = Life(once, self.key)
        try:
            while not self._won(mine):
                found = once.lives.get(self.key)
                state = GONE if found is None else found.state
                if found is None or state == GONE:
                    continue  # pragma: no cover  only where another leaves between two instructions
                if state == ALIVE or (state == ENDING and found in own):
                    self.value = found.value
                    self._leave(None)
                    return
                wait(found, state, [life for life in running() if life is not mine])
            self.fresh = True
            self._since = time.perf_counter()
            self.body = once.body(self._arguments)
        except BaseException:
            self._leave(None)
            raise

    def _won(self, mine: Life) -> bool:
        if mine not in self._own:
            self._own.append(mine)
        mine.state = MAKING  # a fork in a signal handler leaves it behind
        alive.add(mine.ref)  # before it is anybody's, so that no fork can overlook it
        if self.once.lives.setdefault(self.key, mine) is mine:
            return True
        alive.discard(mine.ref)
        return False

    def keep(self, result: Any) -> None:
        """What the body has made is the object from here on; a generator is what yields it."""
        once = self.once
        rest: tuple[Any, ...] = ()
        kind = type(result)  # isinstance() would ask a lazy object for its class
        if issubclass(kind, CoroutineType | AsyncGeneratorType):
            if kind is CoroutineType:
                result.close()
            raise TypeError(f"{once.name} is no async function but returns {result!r}: write it, or what wraps it, with `async def`")
        if issubclass(kind, Generator):
            self._generator = result
            rest = _rest(result, once)
            result = once.framed(_start)(result, self)
            if result is self:
                raise once.yields(*NOTHING)
        self.value = result
        once.keep(self._life, result, *rest)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._life is None:
            return
        self._leave(error)
        if error is None:
            logger.debug("made %s in %.6f seconds", self.once.name, time.perf_counter() - self._since)

    def _leave(self, error: BaseException | None) -> None:
        once, life = self.once, self._life
        assert life is not None
        if life.state == MAKING:
            if getattr(self._generator, "gi_suspended", False):  # Ctrl-C right after its yield
                life.push(*_rest(self._generator, once))  # pragma: no cover
            errors: list[BaseException] = []
            life.finalize(errors)
            if error is not None:
                once.note(error, errors)
            errors.clear()  # a traceback of theirs holds the frame that holds this list
            once.forget(life)
        else:
            life.wake()  # whom Ctrl-C has kept from it; the state may be another thread's by now
        if life in self._own:
            self._own.remove(life)
        self._life = None


class Once(Memoized):
    """What a memoized function is behind the scenes. The object is `value`, which is not there at all while there is none: catching
    the AttributeError costs a hit nothing, where comparing with a sentinel (`if once.value is EMPTY`) would."""

    __slots__ = ("code", "finalizer", "function", "parameters", "token", "value", "warned")

    missing: Any = AttributeError
    locals = staticmethod(locals)  # whatever stands in the user's globals

    parameters: Parameters

    token: str
    value: Any

    def __init__(self, name: str, code: CodeType, function: Any, finalizer: Callable[[Any], object] | None, inherit: bool) -> None:
        super().__init__(name, inherit)
        self.code = code
        self.function = function
        self.finalizer = finalizer
        self.warned = False

    def define(self, newer: Any) -> None:
        """The same function, executed again: what is made from now on is made by the newer definition."""
        for name in ("code", "function", "finalizer", "inherit"):
            setattr(self, name, getattr(newer, name))

    @property
    def where(self) -> str:
        return f"{self.code.co_filename}:{self.code.co_firstlineno}"

    def yields(self, what: str, instead: str) -> RuntimeError:
        return RuntimeError(f"{self.name} yields {what} ({self.where}): {instead}")

    def note(self, error: BaseException, errors: list[BaseException]) -> None:
        """On the body's error, what finalizers of the failed making have raised."""
        for each in errors:
            note(error, f"a finalizer of {self.name} failed too: {each!r}")

    def making(self, arguments: dict[str, Any], key: object = None) -> Any:
        return Making(self, dict(arguments), key)  # a tracer adds the Making itself to those of the frame

    def body(self, arguments: dict[str, Any]) -> Callable[[], Any]:
        """The call of the newest definition."""
        self.check(arguments)
        return self.parameters.bind(self.function, arguments)

    def check(self, arguments: dict[str, Any]) -> None:
        """Warns of a parametrized pytest fixture, whose first parameter's object would serve for all."""
        if self.parameters.kwargs:  # a wrapper may be given it there
            arguments = arguments | arguments[self.parameters.names[-1]]
        if hasattr(arguments.get("request"), "param") and not self.warned:
            text = f"{self.name} would hand the object of its first request.param to all: memoize it with key=lambda request: request.param"
            warnings.warn_explicit(
                text, UserWarning, self.code.co_filename, self.code.co_firstlineno, module=getattr(self.function, "__module__", None)
            )
            self.warned = True  # not before, since the warning may be raised as an error

    def framed(self, function: Any) -> Callable[..., Any]:
        """The function, in a frame that shows the user's file."""
        return FunctionType(placed(function.__code__, self.function, self.code), namespace(self.function))

    def keep(self, life: Any, value: Any, *rest: Any) -> None:
        """What the body has made is the object from here on; the rest of a generator is its first finalizer after those of the body."""
        life.value = value
        if life.state == GONE and not self._again(life):
            leak((value, rest))
            return
        if rest:
            life.push(*rest)
        if self.finalizer is not None:
            life.push(self.finalizer, (value,))
        finished(life)
        self.publish(life)
        life.settle(ALIVE)

    def _again(self, life: Life) -> bool:
        """In a child that was forked by the body, and goes on with it: the object is the child's, unless it has made another meanwhile."""
        alive.add(life.ref)
        if self.lives.setdefault(life.key, life) is not life:
            alive.discard(life.ref)
            return False
        life.state = MAKING
        return True

    def publish(self, life: Life) -> None:
        self.value = life.value

    def unpublish(self, life: Life) -> None:
        with suppress(AttributeError):
            del self.value

    def forget(self, life: Life) -> None:
        """The place is free again, if it was this life's at all: one that has lost the race, or was left behind by a fork, has none."""
        if life.in_place():
            self.unpublish(life)
            del self.lives[life.key]
        alive.discard(life.ref)
        life.settle(GONE)
        life.release()  # after that, so that who registers too late sees it

    def end(self, life: Life, errors: list[BaseException], and_wait: bool) -> None:
        own, token, since = of_thread(), object(), time.perf_counter()
        headroom()
        try:
            own.append(life)  # before it is claimed: see the first of the four points above
            if life.claimed(token):
                self._end(life, errors)
        except BaseException as error:  # pragma: no cover  Ctrl-C in between: the rest is still due
            if life.claims.get(None) is not token:
                raise
            errors.append(error)
            self._end(life, errors)
        finally:
            if life in own:  # pragma: no branch  it is not in a child forked here, and where Ctrl-C came first
                own.remove(life)
        if life.claims.get(None) is token:
            logger.debug("tore down %s in %.6f seconds", self.name, time.perf_counter() - since)
        elif and_wait:
            wait_for(life, running())

    def _end(self, life: Life, errors: list[BaseException]) -> None:
        if life.state != GONE:  # pragma: no branch  it is where Ctrl-C came last
            life.state = ENDING
            self.unpublish(life)
        life.finalize(errors)
        self.forget(life)

    def made(self, life: Life, own: list[Life]) -> None:
        wait(life, MAKING, own)

    def cache_clear(self) -> None:
        reset(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """By value, as cloudpickle sends functions that cannot be imported: what makes the object travels, and the object never does."""
        if not hasattr(self, "token"):
            self.token = os.urandom(16).hex()
        _sent[self.token] = self
        state = {name: getattr(self, name) for name in ("code", "finalizer", "key", "parameters", "function") if hasattr(self, name)}
        return _arrive, (self.token, type(self), self.name, self.inherit), {"twin": self.twin(), **state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if self.function is None:  # not a further copy
            twin = state.pop("twin")
            self.twin = lambda: twin
            for name, value in state.items():  # the function comes last
                setattr(self, name, value)


# Records that this process has sent by value; it shares those that come back
_sent: weakref.WeakValueDictionary[str, Once] = weakref.WeakValueDictionary()
_arrived: dict[str, Once] = {}  # for good: the copies of a function come and go, and their object stays


def _arrive(token: str, kind: type[Once], name: str, inherit: bool) -> Once:
    """The one record in this process for all copies of a function."""
    sent = _sent.get(token)
    if sent is not None:
        return sent
    once = kind(name, cast("CodeType", None), None, None, inherit)
    once.token = token
    return _arrived.setdefault(token, once)


class Keyed(Once):
    """The same with one object for each key."""

    __slots__ = ("key", "values")

    missing = (KeyError, TypeError)  # TypeError: not hashable, which entering says in full

    key: Callable[..., Any]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.values: dict[Any, Any] = {}

    def define(self, newer: Any) -> None:
        super().define(newer)
        self.key = newer.key

    def check(self, arguments: dict[str, Any]) -> None:
        """There is one object for each parameter, or as the key says."""

    def publish(self, life: Life) -> None:
        self.values[life.key] = life.value

    def unpublish(self, life: Life) -> None:
        self.values.pop(life.key, None)


# Reset ----------------------------------------------------------------------------------------------------------------------------


def reset(*functions: Any) -> None:
    """Tear down what the functions hold and forget it; without arguments, everything that is alive.

    Takes memoized functions and whatever wraps one (`__wrapped__`, a bound method, a pytest fixture object), with all their keys,
    and tears down in the reverse of the order in which the objects were finished. When it returns they are gone: it waits for
    other threads that make them or tear them down. Where there is no object it does nothing. The functions may be called again at any
    time, and make anew.

    Errors of finalizers stop no other finalizer: they are raised together in an ExceptionGroup (a BaseExceptionGroup where one is no
    Exception), each with a note that names its function; none is only logged.

    Inside the making or the teardown of one of the functions it raises DeadlockError; without arguments it leaves out there what is
    being made or torn down. For anything that is not memoized it raises TypeError. In both cases nothing is torn down. New in 0.1.0.
    """
    own = running()
    lives = selected(functions, own)
    for life in lives:
        if life.here():
            raise RuntimeError(f"{life.name} lives on the event loop that runs here, and has to be waited for: write `await areset()`")
    for life in lives:
        while life.state == MAKING and (once := life.once()) is not None:
            once.made(life, own)
    errors: list[BaseException] = []
    for life in in_order(lives):
        once = life.once()
        if once is not None and life.state != GONE:
            try:
                once.end(life, errors, and_wait=bool(functions) or not own)
            except BaseException as error:  # a wait that was interrupted, or that would never end: the others are still due
                errors.append(error)
    raise_together(errors)


def selected(functions: tuple[Any, ...], own: list[Life]) -> list[Life]:
    """The lives that a reset takes; raises before anything is torn down."""
    if not functions:  # a caller's that is about to find another's object has no place and no end
        return [life for life in living() if life.in_place() and (not own or life.state == ALIVE)]
    records = {id(record): record for record in map(find, functions)}.values()
    lives = [life for record in records for life in list(record.lives.values())]
    for life in lives:
        if life in own:
            raise DeadlockError(f"{life.name} is being made or torn down here: reset it when that is done")
    return lives


def raise_together(errors: list[BaseException]) -> None:
    try:
        if errors:
            raise BaseExceptionGroup("errors of finalizers", list(errors))
    finally:
        errors.clear()  # a traceback of theirs holds the frame that holds this list
