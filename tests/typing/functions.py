"""Promise 22, for type checkers: the four kinds of function, and what else can be memoized. What
must be refused stands beside it, and its comment fails the check where it is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import Any, Self, assert_type

import pytest

from memoize_once import areset, finalizers, memoize, reset


class Thing:
    def __call__(self, more: int) -> str:
        return str(more)


# Four kinds of function ---------------------------------------------------------------------------


@memoize
def plain(a: int, /, b: str = "b", *args: bytes, c: float, **kwargs: bool) -> Thing:
    return Thing()


assert_type(plain(1, "b", b"d", c=0.5, d=True), Thing)
plain()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
plain(1, b="b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
plain(a=1, c=0.5)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
plain("1", c=0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
plain(1, c=0.5, d="d")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@memoize
def generator(a: int, *, b: str = "b") -> Generator[Thing, str, bytes]:
    yield Thing()
    return b""


assert_type(generator(1, b="b"), Thing)
generator("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@memoize
async def coroutine(a: int, *, b: str = "b") -> Thing:
    return Thing()


@memoize
async def async_generator(a: int, *, b: str = "b") -> AsyncGenerator[Thing, None]:
    yield Thing()


async def use() -> None:
    still_a_coroutine: Coroutine[Any, Any, Thing] = coroutine(1, b="b")
    assert_type(await still_a_coroutine, Thing)
    await coroutine("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    now_a_coroutine: Coroutine[Any, Any, Thing] = async_generator(1, b="b")
    assert_type(await now_a_coroutine, Thing)
    await async_generator(1, c=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# Results that stay as they are --------------------------------------------------------------------


@memoize
def iterator() -> Iterator[Thing]:
    return iter([Thing()])


@memoize
def anything(a: int) -> Any:
    return a


assert_type(iterator(), Iterator[Thing])
assert_type(anything(1), Any)


# Methods, other callables, and functions above and below ------------------------------------------


class Owner:
    @memoize
    def method(self, a: int) -> str:
        return str(a)

    @memoize(key=lambda self: self)
    async def with_key(self, a: int) -> AsyncGenerator[str, None]:
        yield str(a)

    @classmethod
    @memoize
    def class_method(cls, a: int) -> Generator[Self, None, None]:
        yield cls()

    @staticmethod
    @memoize
    def static_method(a: int) -> Generator[str, None, None]:
        yield str(a)

    @property
    @memoize
    def attribute(self) -> Generator[str, None, None]:
        yield "attribute"


class Heir(Owner): ...


owner = Owner()
assert_type(owner.method(1), str)
owner.method()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
owner.method("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(Heir.class_method(1), Heir)
Owner.class_method("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(Owner.static_method(1), str)
assert_type(owner.attribute, str)


async def use_method() -> None:
    assert_type(await owner.with_key(1), str)
    await owner.with_key()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


assert_type(memoize(Thing)(), Thing)
memoize(Thing)(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
assert_type(memoize(Thing())(1), str)
assert_type(memoize(partial(plain, 1, c=0.5))(), Thing)
assert_type(memoize(memoize(generator))(1), Thing)


@pytest.fixture(scope="session")
@memoize
def fixture(tmp_path_factory: pytest.TempPathFactory) -> Generator[Thing, None, None]:
    yield Thing()  # noqa: PT022


# The rest of the public names ---------------------------------------------------------------------


def callback(thing: Thing, times: int = 1) -> int:
    return times


async def use_areset() -> None:
    assert_type(await areset(coroutine, async_generator, plain), None)
    assert_type(await areset(plain, key=("a", 1)), None)
    await areset(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await areset(key=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


assert_type(reset(), None)
assert_type(reset(plain, generator, coroutine, async_generator, owner.method, fixture), None)
assert_type(reset(plain, key=None), None)
reset(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
reset(key=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
reset(plain, generator, key=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
reset(plain, key=[])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
assert_type(len(finalizers), int)
assert_type(plain in finalizers, bool)
assert_type(list(finalizers), list[Callable[..., Any]])
assert_type(finalizers.register(plain, callback, Thing(), times=2)(Thing()), int)
assert_type(finalizers.unregister(plain, callback), None)
finalizers.register(plain, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
finalizers.register(plain, callback)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
finalizers.register(plain, callback, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
