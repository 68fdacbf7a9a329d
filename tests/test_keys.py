"""Promises 26 and 27: one object for each key."""

from __future__ import annotations

import asyncio
import functools
import threading
import warnings
from collections.abc import Generator
from typing import Any

import pytest
from threads import Call, Point

from memoize_once import DeadlockError, finalizers, memoize, reset
from memoize_once._finalizers import living, running


class Request:
    """What pytest's `request` is to a memoized function: something with a `param`, or without."""

    def __init__(self, *param: object) -> None:
        if param:
            (self.param,) = param


class TestInjection:
    def test_it_names_what_it_needs(self) -> None:
        """Promise 26: the key function is given by name those parameters that it names, defaults included."""

        @memoize(key=lambda timeout, request: (request.param, timeout))
        def database(request: Request, port: int, timeout: float = 10) -> list[object]:
            return [request.param, timeout]

        one = database(Request("sqlite"), 1)
        assert one == ["sqlite", 10]
        assert database(Request("sqlite"), 2) is database(timeout=10, port=3, request=Request("sqlite")) is one
        assert database(Request("postgres"), 1) is not one
        assert database(Request("sqlite"), 1, 20) is not one

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            (lambda *args, **kwargs: (args, tuple(kwargs.items())), ((1, 2, 3, 4), (("d", 5), ("e", 6), ("f", 7)))),
            (lambda x, /, *rest, d, **kwargs: (x, rest, d), (1, (2, 3, 4), 5)),
            (lambda **kwargs: tuple(sorted(kwargs)), ("a", "args", "b", "d", "e", "kwargs")),
            (lambda args, kwargs: (args, tuple(kwargs)), ((3, 4), ("f",))),
            (lambda a, absent="its own": (a, absent), (1, "its own")),
            (lambda: "constant", "constant"),
        ],
        ids=["star", "positional-only", "double star", "names of the variadic ones", "own default", "none"],
    )
    def test_what_it_is_given(self, key: Any, expected: object) -> None:
        """Promise 26: one that takes `*args` or has positional-only parameters gets all arguments as they stand in the signature."""
        given = []

        def keep(*args: Any, **kwargs: Any) -> Any:
            given.append(key(*args, **kwargs))
            return given[-1]

        @memoize(key=functools.wraps(key)(keep))
        def function(a: int, /, b: int, *args: int, d: int, e: int = 6, **kwargs: int) -> object:
            return object()

        value = function(1, 2, 3, 4, d=5, f=7)
        assert given == [expected]
        assert function(1, 2, 3, 4, f=7, d=5, e=6) is value

    @pytest.mark.parametrize("key", [str, max], ids=["class", "unknown signature"])
    def test_one_that_is_no_plain_function(self, key: Any) -> None:
        """Promise 26: one whose signature is unknown or positional-only gets all arguments as they stand in the signature."""

        @memoize(key=key)
        def function(name: str) -> object:
            return object()

        assert function("a") is function(name="a") is not function("b")

    def test_any_name(self) -> None:
        """Promise 26: no name of a parameter is reserved, neither in the function nor in the key function."""

        @memoize(key=lambda p1, k, t, *, key, p0: (p1, k, t, key, p0))
        def function(k: int, t: int, p0: int, p1: int, *, key: int, once: int = 6) -> list[int]:
            return [k, t, p0, p1, key, once]

        value = function(1, 2, 3, 4, key=5)
        assert value == [1, 2, 3, 4, 5, 6]
        assert function(key=5, once=7, p1=4, p0=3, t=2, k=1) is value
        assert function(1, 2, 3, 4, key=6) is not value

    def test_a_wrapper_declares_its_parameters(self) -> None:
        """Promise 26: the parameters of a decorated function are those that it declares."""

        def database(name: str, port: int = 1) -> object:
            return object()

        @functools.wraps(database)
        def wrapper(*args: Any, **kwargs: Any) -> object:
            return database(*args, **kwargs)

        function = memoize(wrapper, key=lambda port, name: (name, port))
        assert function("a") is function(name="a", port=1) is not function("a", 2)
        with pytest.raises(TypeError):
            function()
        by_port = memoize(wrapper, key=lambda port: port)
        assert by_port("a") is by_port("b", 1) is not by_port("a", 2)

    def test_a_wrapper_and_all_arguments(self) -> None:
        """Promise 26: a key function that takes `*args` gets all arguments as they stand in the signature that a wrapper declares."""
        given = []

        def database(name: str, *, port: int = 1) -> object:
            return object()

        @functools.wraps(database)
        def wrapper(*args: Any, **kwargs: Any) -> object:
            return database(*args, **kwargs)

        def key(*args: Any, **kwargs: Any) -> object:
            given.append((args, kwargs))
            return args

        memoize(wrapper, key=key)(name="a")
        assert given == [(("a",), {"port": 1})]

    def test_a_parameter_that_is_not_there(self) -> None:
        """Promise 26: one that names a parameter that the function has not raises TypeError when decorating, and says which there are."""

        def function(request: Request, port: int) -> None: ...

        with pytest.raises(TypeError, match=r"names fixture, and .*function\(request, port\) has none such"):
            memoize(function, key=lambda fixture: fixture)

    @pytest.mark.parametrize("hit", [False, True], ids=["miss", "hit"])
    def test_not_hashable(self, hit: bool) -> None:
        """Promise 26: a key that is not hashable raises TypeError that names the function and says what to return, and nothing is made."""
        made = []

        @memoize(key=lambda a: a)
        def function(a: object) -> None:
            made.append(a)

        if hit:
            function(1)
        with pytest.raises(
            TypeError, match=r"the key \[2\] of .*function is not hashable .*: let the key function return a tuple"
        ) as raised:
            function([2])
        assert raised.value.__context__ is None or raised.value.__suppress_context__
        assert made == [1] * hit

    @pytest.mark.parametrize("kind", [TypeError, KeyError, ValueError])
    @pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine function"])
    def test_one_that_cannot_be_compared(self, kind: type[Exception], is_async: bool) -> None:
        """Promises 3 and 26: an error of a key's comparison reaches the caller as it was raised, and leaves nothing behind."""

        class Key:
            def __hash__(self) -> int:
                return 1

            def __eq__(self, other: object) -> bool:
                raise kind("not to be compared")

        @memoize(key=lambda key: key)
        def plain(key: object) -> object:
            return object()

        @memoize(key=lambda key: key)
        async def coroutine(key: object) -> object:
            return object()

        def call(key: object) -> object:
            return asyncio.run(coroutine(key)) if is_async else plain(key)

        first = call(1)
        before = set(living())
        with pytest.raises(kind, match="not to be compared") as raised:
            call(Key())
        assert raised.value.__context__ is None
        assert call(1) is first
        assert running() == []
        assert set(living()) <= before

    def test_an_error_of_the_key_function(self) -> None:
        """Promise 26: what the key function raises reaches the caller as it is."""

        @memoize(key=lambda a: {}[a])
        def function(a: object) -> object:
            return object()

        with pytest.raises(KeyError, match="x"):
            function("x")


class TestEachKeyOnItsOwn:
    def test_makings_do_not_block_each_other(self) -> None:
        """Promise 26: all promises hold for each key on its own: one key is made, used and torn down while another is being made."""
        point = Point()

        @memoize(key=lambda name: name)
        def thing(name: str) -> object:
            if name == "slow":
                point.pass_()
            return object()

        maker = Call(thing, "slow")
        point.reached()
        assert thing("quick") is thing("quick")
        waiter = Call(thing, "slow").until_it_waits()
        point.go()
        assert maker.result() is waiter.result() is thing("slow")

    def test_one_key_may_need_another(self) -> None:
        """Promise 26: recursion over different keys is none, and over the same key is a deadlock."""

        @memoize(key=lambda n: n)
        def fibonacci(n: int) -> int:
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

        assert fibonacci(80) == 23416728348467685

        @memoize(key=lambda n: n % 3)
        def ring(n: int) -> int:
            return ring(n + 1)

        with pytest.raises(DeadlockError):
            ring(0)

    def test_teardown(self) -> None:
        """Promise 26: each key has its finalizers, and `reset(f)` takes all keys, what was made last first."""
        ran: list[str] = []

        @memoize(key=lambda name: name)
        def thing(name: str) -> Generator[str, None, None]:
            finalizers.register(thing, ran.append, f"registered for {name}")
            yield name
            ran.append(name)

        thing("a")
        finalizers.register(thing, ran.append, "registered from outside")
        thing("b")
        with pytest.raises(LookupError, match="holds 2 objects under different keys: register in its own body"):
            finalizers.register(thing, print)
        reset(thing)
        assert ran == ["b", "registered for b", "registered from outside", "a", "registered for a"]

    def test_a_race_for_each_key(self) -> None:
        """Promise 26: however many threads ask for however many keys, each key is made once."""
        made: list[int] = []
        barrier = threading.Barrier(8)

        @memoize(key=lambda n: n)
        def thing(n: int) -> object:
            made.append(n)
            return object()

        def call() -> list[object]:
            barrier.wait(30)
            return [thing(n) for n in range(50)]

        first, *rest = [call.result() for call in [Call(call) for _ in range(8)]]
        assert all(a is b for each in rest for a, b in zip(first, each, strict=True))
        assert sorted(made) == list(range(50))


class TestWarning:
    def test_a_parametrized_request_without_key(self) -> None:
        """Promise 27: a body made from a `request` with a `param` and without `key=` warns once, blames the function and names `key=`."""

        @memoize
        def database(request: Request) -> object:
            return object()

        with pytest.warns(UserWarning, match=r"database would hand .*memoize it with key=lambda request: request\.param") as caught:
            value = database(Request(1))
        assert (caught[0].filename, caught[0].lineno) == (__file__, database.__code__.co_firstlineno)
        assert database(Request(2)) is value
        reset(database)
        database(Request(1))

    def test_a_request_that_a_wrapper_is_given(self) -> None:
        """Promise 27: the request may come in the `**kwargs` of a wrapper."""

        def database(request: Request) -> object:
            return object()

        @functools.wraps(database)
        def wrapper(**kwargs: Any) -> object:
            return database(**kwargs)

        with pytest.warns(UserWarning, match="would hand"):
            memoize(wrapper)(request=Request(1))

    def test_as_an_error(self) -> None:
        """Promise 27: where warnings of the module are errors nothing is made, whoever comes first or next."""

        @memoize
        def database(request: Request) -> object:
            return object()

        for param in (1, 2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", module=rf"{__name__}\Z")
                with pytest.raises(UserWarning, match="would hand"):
                    database(Request(param))

    def test_no_warning(self) -> None:
        """Promise 27: there is no warning with `key=`, for a request without param, or for a parameter of another name."""

        @memoize
        def plain(request: Request) -> object:
            return object()

        @memoize(key=lambda request: request.param)
        def keyed(request: Request) -> object:
            return object()

        @memoize
        def other(demand: Request) -> object:
            return object()

        plain(Request())
        assert plain(Request(1)) is plain(Request())
        keyed(Request(1))
        other(Request(1))

    def test_under_pytest(self, pytester: pytest.Pytester) -> None:
        """Promises 26 and 27: under a parametrized fixture `key=` makes one object for each param in whatever order, and its lack warns."""
        pytester.makepyfile(
            """
            import functools

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

            def logged(function):
                @functools.wraps(function)
                def wrapper(*args, **kwargs):
                    return function(*args, **kwargs)
                return wrapper

            @pytest.fixture(params=["a", "b"])
            @memoize
            @logged
            def wrapped(request):
                return request.param

            @pytest.fixture
            @memoize
            def unparametrized(request):
                return request.node.name

            def test_one(keyed, request): assert keyed == [request.node.callspec.params["keyed"]]
            def test_two(keyed): pass
            def test_three(unparametrized): pass
            def test_unkeyed(unkeyed): assert unkeyed == "a"
            def test_wrapped(wrapped): assert wrapped == "a"
            def test_made(): assert made == ["a", "b"]
            """
        )
        result = pytester.runpytest("-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "default")
        result.assert_outcomes(passed=10, warnings=2)
        lines = [
            f"*test_under_pytest.py:{line}: UserWarning: test_under_pytest.{name} would hand*key=lambda request*"
            for line, name in ((14, "unkeyed"), (25, "wrapped"))
        ]
        result.stdout.fnmatch_lines(lines)
