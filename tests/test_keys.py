"""Promises 26 and 27: one object for each key."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import operator
import os
import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from types import SimpleNamespace as Request
from typing import Any, NamedTuple, cast
from unittest.mock import MagicMock, Mock

import pytest
from processes import fork, run, said
from threads import LIMIT, Call, Point, busy, server

from memoize_once import DeadlockError, areset, finalizers, memoize, reset


class Param(NamedTuple):
    """What can be a key itself, has a `param`, and looks like what it is."""

    param: int


ONE = Param(1)


def plain(request: Param = ONE) -> list[Param]:
    return [request]


def generator(request: Param = ONE) -> Generator[list[Param], None, None]:
    yield [request]


async def coroutine(request: Param = ONE) -> list[Param]:
    return [request]


async def async_generator(request: Param = ONE) -> AsyncGenerator[list[Param], None]:
    yield [request]


@functools.wraps(plain)
def wrapped(*args: Any, **kwargs: Any) -> list[Param]:
    return plain(*args, **kwargs)


@functools.wraps(coroutine)
async def wrapped_coroutine(*args: Any, **kwargs: Any) -> list[Param]:
    return await coroutine(*args, **kwargs)


class Maker:
    """What is called, and no function."""

    def __call__(self, request: Param = ONE) -> list[Param]:
        return [request]


FUNCTIONS: dict[str, Any] = {
    "plain": plain,
    "generator": generator,
    "coroutine": coroutine,
    "async generator": async_generator,
    "wrapped": wrapped,
    "wrapped coroutine": wrapped_coroutine,
    "instance": Maker(),
    "bound method": Maker().__call__,
    "partial": functools.partial(plain),
}
POSITIONAL: dict[str, Callable[..., Any]] = {
    "str": str,
    "id": id,
    "repr": repr,
    "hash": hash,
    "attrgetter": operator.attrgetter("param"),
    "itemgetter": operator.itemgetter(0),
    "format": "{0}".format,
    "partial": functools.partial(str.format, "{0} of mine"),
    "partial of *args": functools.partial(lambda *args: args, "mine"),
    "*args": lambda *args: args,
    "x, /": lambda x, /: x,
    "*args, **kwargs": lambda *args, **kwargs: (args, *kwargs),
}


class TestByPosition:
    @pytest.mark.parametrize("function", FUNCTIONS)
    @pytest.mark.parametrize("key", POSITIONAL)
    def test_a_key_function_by_position(self, key: str, function: str) -> None:
        """Promise 26: a key function that takes `*args`, that has positional-only parameters or
        whose signature is unknown gets the arguments by position, however the call gives them,
        defaults included, of functions of every kind."""
        memoized = memoize(FUNCTIONS[function], key=POSITIONAL[key])

        async def call(*args: Param, **kwargs: Param) -> Any:
            result = memoized(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        async def calls() -> list[Any]:
            two = Param(2)
            ways = [call(ONE), call(request=ONE), call(), call(two), call(request=two)]
            return [await way for way in ways]

        by_position, by_name, by_default, *others = asyncio.run(calls())
        assert by_position is by_name is by_default
        assert by_position == [ONE]
        assert others[0] is others[1]
        assert others[0] == [Param(2)]

    def test_several_parameters(self) -> None:
        """Promise 26: they come as they stand in the signature, whatever the order of the call,
        those that are keyword-only too."""
        keys: list[object] = []

        def keep(*args: Any, **kwargs: Any) -> str:
            keys.append((args, kwargs))
            return repr(keys[-1])

        @memoize(key=keep)
        def function(a: int, b: int = 2, *, c: int = 3) -> list[int]:
            return [a, b, c]

        values = [function(1), function(b=2, a=1), function(1, 2, c=3), function(c=3, b=2, a=1)]
        assert keys == [((1, 2, 3), {})] * 4
        assert all(value is values[0] for value in values)
        named = memoize(key=lambda *args, **kwargs: (args, kwargs.popitem()))
        thing = named(lambda **options: [options])
        assert thing(x=1) is thing(x=1) is not thing(y=1)  # what `**` collects keeps its names
        assert memoize(key=str)(lambda a, b="ascii": [a, b])(b"1") == [b"1", "ascii"]
        by_param = memoize(key=operator.attrgetter("param"))(lambda *, request: [request])
        assert by_param(request=ONE) is by_param(request=Param(1)) == [ONE]

    def test_a_method(self) -> None:
        """Promises 21 and 26: `id` tells instances of a class apart, and a getter what they are."""

        class Owner(Request):
            @memoize(key=id)
            def by_instance(self) -> object:
                return object()

            @memoize(key=operator.attrgetter("name"))
            def by_name(self) -> object:
                return object()

        one, two, same = Owner(name="one"), Owner(name="two"), Owner(name="one")
        assert one.by_instance() is Owner.by_instance(self=one) is one.by_instance()
        assert len({id(each.by_instance()) for each in (one, two, same)}) == 3
        assert one.by_name() is same.by_name() is not two.by_name()

    def test_an_async_key_function(self) -> None:
        """Promise 26: an async key function is refused when decorating: nobody would await it."""

        async def key(request: Param) -> int:
            return request.param

        class Instance:
            async def __call__(self, request: Param) -> int:
                return request.param

        keys: list[Any] = [key, functools.partial(key), Instance(), async_generator]
        functions: list[Any] = [plain, coroutine]
        for wrong in keys:
            for function in functions:
                with pytest.raises(TypeError, match="async"):
                    memoize(function, key=wrong)


class TestInjection:
    def test_it_names_what_it_needs(self) -> None:
        """Promise 26: the key function is given by name those parameters that it names, defaults
        included."""

        @memoize(key=lambda timeout, request: (request.param, timeout))
        def database(request: Request, port: int, timeout: float = 10) -> list[object]:
            return [request.param, timeout]

        one = database(Request(param="sqlite"), 1)
        assert one == ["sqlite", 10]
        assert database(Request(param="sqlite"), 2) is one
        assert database(timeout=10, port=3, request=Request(param="sqlite")) is one
        assert database(Request(param="postgres"), 1) is not one
        assert database(Request(param="sqlite"), 1, 20) is not one

    @pytest.mark.parametrize("is_decorated", [False, True])
    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            (lambda *args, **kwargs: (args, kwargs), ((1, 2, 3, 5, 6), {"f": 7})),
            (lambda x, /, *rest, **kwargs: (x, rest), (1, (2, 3, 5, 6))),
            (lambda **kwargs: sorted(kwargs), ["a", "args", "b", "d", "e", "kwargs"]),
            (lambda args, kwargs: (args, kwargs), ((3,), {"f": 7})),
            (lambda a, absent="its own": (a, absent), (1, "its own")),
            (lambda: "constant", "constant"),
        ],
    )
    def test_what_it_is_given(self, key: Any, expected: object, is_decorated: bool) -> None:
        """Promise 26: one that takes `*args` or has positional-only parameters gets all arguments
        by position, as they stand in the signature, any other what it names; and so for a function
        with a decorator of its own."""
        given = []

        @functools.wraps(key)
        def keep(*args: Any, **kwargs: Any) -> Any:
            given.append(key(*args, **kwargs))
            return repr(given[-1])

        def plain(a: int, /, b: int, *args: int, d: int, e: int = 6, **kwargs: int) -> object:
            return object()

        @functools.wraps(plain)
        def decorated(*args: Any, **kwargs: Any) -> object:
            return plain(*args, **kwargs)

        function = memoize(decorated if is_decorated else plain, key=keep)
        value = function(1, 2, 3, d=5, f=7)
        assert given == [expected]
        assert function(1, 2, 3, f=7, d=5, e=6) is value

    def test_a_wrapper_declares_its_parameters(self) -> None:
        """Promise 26: the parameters of a decorated function are those that it declares."""

        @functools.wraps(lambda name, *, port=1: None)
        def wrapper(*args: Any, **kwargs: Any) -> object:
            return [args, kwargs]

        for key in (lambda port, name: (name, port), lambda *args, **kwargs: (args, str(kwargs))):
            function: Any = memoize(wrapper, key=key)
            assert function("a") is function(name="a", port=1) is not function("a", port=2)

    def test_a_parameter_that_is_not_there(self) -> None:
        """Promise 26: one that names a parameter that the function has not raises TypeError when
        decorating, and says which there are."""

        def database(request: Request, port: int) -> None: ...

        with pytest.raises(TypeError, match=r"fixture.*database\(request, port\)"):
            memoize(database, key=lambda fixture: fixture)

    def test_not_hashable(self) -> None:
        """Promise 26: a key that is not hashable raises TypeError, and
        nothing is made, whether there are other objects or not."""
        given = []

        @memoize(key=lambda a: a)
        def function(a: object) -> None:
            given.append(a)

        for _ in range(2):
            with pytest.raises(TypeError, match="hashable") as raised:
                function([2])
            assert raised.value.__context__ is None or raised.value.__suppress_context__
            function(1)
        assert given == [1]


class Armed:
    """A key that raises the error at the step with this number of what it is asked, from 1 on."""

    def __init__(self, name: str, error: BaseException, step: int = 0) -> None:
        self.name, self.error, self.step = name, error, step

    def ask(self) -> None:
        self.step -= 1
        if self.step == 0:
            raise self.error

    def __hash__(self) -> int:
        self.ask()
        return 1  # as all others: each is compared with what stands there

    def __eq__(self, other: object) -> bool:
        self.ask()
        return isinstance(other, Armed) and self.name == other.name


ERRORS = [ValueError("of the key"), RecursionError(), KeyboardInterrupt(), SystemExit()]


class TestKeysThatRaise:
    @pytest.mark.parametrize("error", ERRORS, ids=repr)
    def test_while_the_object_is_stored(self, error: BaseException, ran: list[str]) -> None:
        """Promises 3 and 26: whatever a key raises when it is hashed or compared, wherever that is,
        reaches the caller, and leaves nothing half made: the next call makes its object, and
        nobody waits."""

        @memoize(key=lambda key: key)
        def thing(key: Armed) -> Generator[str, None, None]:
            ran.append(f"{key.name} made")
            yield key.name
            ran.append(f"{key.name} gone")

        kept: list[BaseException] = []  # with the frames that they have come through
        for step in itertools.count(1):
            neighbour, key = Armed("neighbour", error), Armed("key", error, step)
            thing(neighbour)
            ran.clear()
            try:
                thing(key)
            except BaseException as raised:
                kept.append(raised)
            has_raised, key.step = key.step <= 0, 0
            assert Call(thing, key).result() == "key"
            assert Call(reset).error() is None
            assert ran.count("key made") == ran.count("key gone")
            assert ran.count("neighbour gone") == 1
            assert len(finalizers) == 0
            if not has_raised:
                break
        assert len(kept) > 1
        assert all(raised is error for raised in kept)


BROKEN = """
class Tenant:
    def __init__(self, id):
        self.id = id

    def __hash__(self):
        return hash(self.id)

    def __eq__(self, other):
        return self.id == other.id

@memoize(key=lambda tenant: tenant)
def database(tenant):
    yield [tenant]
    say("torn down")

def break_one(id):
    tenant = Tenant(id)
    assert database(tenant) is database(Tenant(id))
    del tenant.id

break_one(1)
say(within(lambda: reset(database))[:14])
say(within(reset))
say(len(finalizers))
break_one(2)
"""


class TestEachKeyOnItsOwn:
    def test_they_do_not_block_each_other(self) -> None:
        """Promise 26: all promises hold for each key on its own: one key's object is made and used
        while another's is being made."""
        point = Point()

        @memoize(key=lambda name: name)
        def thing(name: str) -> object:
            if name == "slow":
                point.pass_()
            return object()

        maker = busy(lambda: thing("slow"), point, "made")
        assert thing("quick") is thing("quick")
        waiter = Call(thing, "slow").until_it_waits()
        point.go()
        assert maker.result() is waiter.result() is thing("slow")

    def test_one_key_may_need_another(self) -> None:
        """Promises 4 and 26: to need another key is no deadlock, to need the same one is."""

        @memoize(key=lambda n: n)
        def fibonacci(n: int) -> int:
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

        assert fibonacci(80) == 23416728348467685

        @memoize(key=lambda n: n % 3)
        def ring(n: int) -> int:
            return ring(n + 1)

        with pytest.raises(DeadlockError):
            ring(0)

    def test_teardown(self, ran: list[str]) -> None:
        """Promises 11 and 26: each key has its finalizers, and `reset(f)` takes all keys, what was
        made last first; where there are several, `register` outside of the body is refused."""

        @memoize(key=lambda name: name)
        def thing(name: str) -> Generator[str, None, None]:
            finalizers.register(thing, ran.append, f"registered for {name}")
            yield name
            ran.append(name)

        thing("a")
        finalizers.register(thing, ran.append, "from outside")
        thing("b")
        with pytest.raises(LookupError, match=r"thing.* key"):
            finalizers.register(thing, print)
        reset(thing)
        assert ran == ["b", "registered for b", "from outside", "a", "registered for a"]

    def test_a_key_that_breaks(self, tmp_path: Path) -> None:
        """Promises 8 and 12: a key that cannot be hashed any more when its object is torn down is
        an error, once, of a reset and at exit, and each object is torn down once."""
        ended = run(BROKEN, tmp_path)
        lines = ["torn down", "ExceptionGroup", "None", "0", "torn down"]
        assert ended == said(lines)._replace(stderr=ended.stderr)
        assert "\n".join(ended.stderr).count("AttributeError") == 1


def keyed(ran: list[str]) -> Callable[[str], str]:
    """A memoized function with a key, whose objects say when they are torn down."""

    @memoize(key=lambda name: name)
    def thing(name: str) -> Generator[str, None, None]:
        yield name
        ran.append(name)

    return thing


class TestResetOfOneKey:
    def test_it_takes_the_object_of_this_key_alone(self, ran: list[str]) -> None:
        """Promise 26: `reset(function, key=k)` tears down the object of that key and no other, any
        key, None included; of one that holds no object it does nothing."""
        thing: Any = keyed(ran)
        for name in ("a", None, "b", "c"):
            thing(name)
        reset(thing, key="b")
        assert ran == ["b"]
        reset(thing, key="b")
        reset(thing, key="absent")
        assert ran == ["b"]
        reset(thing, key=None)
        assert ran == ["b", None]
        assert len(finalizers) == 2
        thing("b")
        reset(thing)
        assert ran == ["b", None, "b", "c", "a"]

    def test_what_wraps_one(self, ran: list[str]) -> None:
        """Promises 10 and 26: it takes whatever `reset` takes: methods, fixtures, what is made by
        functools.wraps."""

        class Owner:
            @memoize(key=lambda name: name)
            def method(self, name: str) -> list[str]:
                return [name]

        thing, owner = keyed(ran), Owner()
        first = owner.method("a")
        reset(owner.method, key="a")
        second = owner.method("a")
        assert second is not first
        reset(Owner.method, key="b")
        assert owner.method("a") is second
        for wrapper in (functools.wraps(thing)(lambda name: thing(name)), pytest.fixture(thing)):
            thing("a")
            reset(wrapper, key="a")
        assert ran == ["a", "a"]

    def test_wrong_use(self, ran: list[str]) -> None:
        """Promise 26: it raises TypeError unless it is given exactly one function that has a
        `key=`, and a key that is hashable; nothing is torn down then."""
        thing, other, wrong = keyed(ran), keyed(ran), cast(Any, reset)
        without: Any = server([])
        thing("a"), other("a"), without()
        for functions in ((), (thing, other), (thing, thing), (without,), (thing, without)):
            with pytest.raises(TypeError, match="key"):
                wrong(*functions, key="a")
        with pytest.raises(TypeError, match="not memoized"):
            wrong(len, key="a")
        with pytest.raises(TypeError, match="a key has to be hashable"):
            wrong(thing, key=["a"])
        assert ran == []
        assert len(finalizers) == 3

    def test_inside(self, ran: list[str]) -> None:
        """Promises 10 and 26: inside the making or the teardown of that key's object it raises
        DeadlockError; of another key's it is a reset like any other."""

        @memoize(key=lambda name: name)
        def thing(name: str) -> Generator[str, None, None]:
            if name == "outer":
                use()
            yield name
            if name == "outer":
                use()
            ran.append(name)

        def use() -> None:
            thing("inner")
            with pytest.raises(DeadlockError, match="thing"):
                reset(thing, key="outer")
            reset(thing, key="inner")

        thing("outer")
        assert ran == ["inner"]
        reset(thing, key="outer")
        assert ran == ["inner", "inner", "outer"]

    def test_it_waits_for_another_thread(self, ran: list[str]) -> None:
        """Promises 10 and 26: it waits for who makes or tears down that key's object, and for no
        other."""
        point = Point()

        @memoize(key=lambda name: name)
        def thing(name: str) -> Generator[str, None, None]:
            if name == "slow":
                point.pass_()
            yield name
            ran.append(name)

        maker = busy(lambda: thing("slow"), point, "made")
        thing("quick")
        reset(thing, key="quick")
        assert ran == ["quick"]
        resetter = Call(lambda: reset(thing, key="slow")).until_it_waits()
        point.go()
        resetter.result()
        maker.result()
        assert ran == ["quick", "slow"]

    def test_from_a_coroutine(self, ran: list[str]) -> None:
        """Promises 19 and 26: `await areset(function, key=k)` is the same from a coroutine, of
        async functions too; where their loop runs, `reset` says to await that, and tears nothing
        down."""

        @memoize(key=lambda name: name)
        async def connection(name: str) -> AsyncGenerator[str, None]:
            yield name
            ran.append(name)

        thing = keyed(ran)

        async def main() -> None:
            for name in ("a", "b"):
                await connection(name)
                thing(name)
            with pytest.raises(RuntimeError, match=r"await areset\("):
                reset(connection, key="a")
            await areset(connection, key="a")
            await areset(thing, key="b")
            assert ran == ["a", "b"]
            with pytest.raises(TypeError, match="key"):
                await cast(Any, areset)(thing, connection, key="a")
            with pytest.raises(TypeError, match="hashable"):
                await cast(Any, areset)(connection, key=[])
            assert ran == ["a", "b"]

        asyncio.run(asyncio.wait_for(main(), LIMIT))
        assert ran == ["a", "b", "b"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
    def test_in_a_forked_child(self, ran: list[str]) -> None:
        """Promise 14: in a forked child it tears down what the child has made under that key, and
        never its parent's."""
        thing = keyed(ran)
        thing("a")

        def in_child() -> str:
            reset(thing, key="a")
            before = list(ran)
            thing("a"), thing("b")
            reset(thing, key="a")
            return f"{before} {ran} {len(finalizers)}"

        assert fork(in_child) == "[] ['a'] 1"
        assert ran == []
        reset(thing, key="a")
        assert ran == ["a"]


class Unloaded:
    """A proxy that minds being asked for anything, its class included."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"it is asked for {name}")

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise AssertionError("it is asked for its class")


class TestWarning:
    def test_a_parametrized_request_without_key(self) -> None:
        """Promise 27: a body made from a `request` with a `param` and without `key=` warns once,
        blames the function's file and line, and names `key=`."""

        @memoize
        def database(request: Request) -> object:
            return object()

        with pytest.warns(UserWarning, match=r"database.*key=lambda request: request\.p") as told:
            value = database(Request(param=1))
        assert (told[0].filename, told[0].lineno) == (__file__, database.__code__.co_firstlineno)
        assert database(Request(param=2)) is value
        reset(database)
        database(Request(param=1))

    def test_no_warning(self) -> None:
        """Promise 27: there is no warning with `key=`, for a request without param, or for a
        parameter of another name."""
        plain = memoize(lambda request: [request])
        assert plain(Request()) is plain(Request(param=1))
        memoize(lambda request: request, key=lambda request: request.param)(Request(param=1))
        memoize(lambda demand: demand)(Request(param=1))

    def test_whom_it_blames(self) -> None:
        """Promise 27: it blames the function's own file and line also where that is wrapped, or
        where the arguments come by position, and each function once, whichever thread comes
        first."""

        def one(request: Request) -> object:
            return object()

        @functools.wraps(one)
        def other(*args: Any, **kwargs: Any) -> object:
            return one(*args, **kwargs)

        line = inspect.getsourcelines(one)[1]
        functions = [memoize(one), memoize(lambda request: [request]), memoize(other)]
        lines = [line, inspect.currentframe().f_lineno - 1, line]  # type: ignore[union-attr]
        for function, its_line in zip(functions, lines, strict=True):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                for _ in range(3):
                    calls = [Call(lambda f=function: f(request=Request(param=1))) for _ in "ab"]
                    assert len({id(call.result()) for call in calls}) == 1
                    reset(function)
            assert [(each.filename, each.lineno) for each in told] == [(__file__, its_line)]

    @pytest.mark.parametrize("kind", [Mock, MagicMock, Unloaded])
    def test_what_answers_every_question(self, kind: Any) -> None:
        """Promises 21 and 27: a mock, which has every attribute, and a lazy proxy, which would have
        to load, as `request` are asked by their type, and warned of nothing."""
        request_ = kind()
        thing = memoize(lambda request: [id(request)])
        assert thing(request_) == thing(request=request_) == [id(request_)]

    @pytest.mark.usefixtures("plain_pytest")
    def test_under_pytest(self, pytester: pytest.Pytester) -> None:
        """Promises 26 and 27: under a parametrized fixture `key=` makes one object for each param
        in whatever order, and its lack warns."""
        pytester.makepyfile(
            """
            import pytest
            from memoize_once import memoize

            made = []

            @pytest.fixture(scope="session", params=["a", "b"])
            @memoize(key=lambda request: request.param)
            def keyed(request):
                made.append(request.param)
                return [request.param]

            @pytest.fixture(params=["a", "b"])
            @memoize
            def unkeyed(request):
                return request.param

            def test_one(keyed, request): assert keyed == [request.node.callspec.params["keyed"]]
            def test_two(keyed): pass
            def test_unkeyed(unkeyed): assert unkeyed == "a"
            def test_made(): assert made == ["a", "b"]
            """
        )
        result = pytester.runpytest("-p", "no:cacheprovider", "-W", "default")
        result.assert_outcomes(passed=7, warnings=1)
        result.stdout.fnmatch_lines(["*.py:12: UserWarning: *unkeyed*key=lambda request*"])
