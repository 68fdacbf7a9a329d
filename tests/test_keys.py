"""Promises 26 and 27: one object for each key."""

from __future__ import annotations

import functools
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace as Request
from typing import Any

import pytest
from processes import run, said
from threads import Call, Point, busy

from memoize_once import DeadlockError, finalizers, memoize, reset


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

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            (lambda *args, **kwargs: (args, kwargs), ((1, 2, 3), {"d": 5, "e": 6, "f": 7})),
            (lambda x, /, *rest, d, **kwargs: (x, rest, d), (1, (2, 3), 5)),
            (lambda **kwargs: sorted(kwargs), ["a", "args", "b", "d", "e", "kwargs"]),
            (lambda args, kwargs: (args, kwargs), ((3,), {"f": 7})),
            (lambda a, absent="its own": (a, absent), (1, "its own")),
            (lambda: "constant", "constant"),
        ],
    )
    def test_what_it_is_given(self, key: Any, expected: object) -> None:
        """Promise 26: one that takes `*args` or has positional-only parameters gets all arguments
        as they stand in the signature, any other what it names."""
        given = []

        @functools.wraps(key)
        def keep(*args: Any, **kwargs: Any) -> Any:
            given.append(key(*args, **kwargs))
            return repr(given[-1])

        @memoize(key=keep)
        def function(a: int, /, b: int, *args: int, d: int, e: int = 6, **kwargs: int) -> object:
            return object()

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
