"""Promise 22, for type checkers: the four kinds of function, and what else can be memoized. What must be refused stands beside it, and
its comment fails the check where it is not."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import Any, TypeVar, assert_type

import pytest

from memoize_once import areset, finalizers, memoize, reset

T = TypeVar("T")


class Thing:
    def __init__(self, size: int = 0) -> None:
        self.size = size

    def __call__(self, more: int) -> str:
        return str(self.size + more)


# Four kinds of function -----------------------------------------------------------------------------------------------------------


@memoize
def plain(a: int, /, b: str = "b", *args: bytes, c: float, **kwargs: bool) -> Thing:
    return Thing(a)


assert_type(plain(1, c=0.5), Thing)
assert_type(plain(1, "b", b"d", c=0.5, d=True), Thing)
plain()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
plain(1, b="b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
plain(a=1, c=0.5)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
plain("1", c=0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
plain(1, 2, c=0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
plain(1, "b", "d", c=0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
plain(1, c=0.5, d="d")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
print(plain(1, c=0.5).name)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
same: Callable[[int, str], Thing] = partial(plain, c=0.5)
other: Callable[[], Thing] = plain  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


@memoize
def generator(a: int, *, b: str = "b") -> Generator[Thing, None, None]:
    yield Thing(a)


assert_type(generator(1, b="b"), Thing)
assert_type(generator, Callable[..., Thing])  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]
generator("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
generator(1, c=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
next(generator(1))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


@memoize
async def coroutine(a: int, *, b: str = "b") -> Thing:
    return Thing(a)


@memoize
async def async_generator(a: int, *, b: str = "b") -> AsyncGenerator[Thing, None]:
    yield Thing(a)


async def use() -> None:
    still_a_coroutine: Coroutine[Any, Any, Thing] = coroutine(1, b="b")
    assert_type(await still_a_coroutine, Thing)
    await coroutine("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(coroutine(1).size)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]

    now_a_coroutine: Coroutine[Any, Any, Thing] = async_generator(1, b="b")
    assert_type(await now_a_coroutine, Thing)
    await async_generator("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await async_generator(1, c=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await anext(async_generator(1))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

    assert_type(await areset(coroutine, async_generator), None)


# Results that stay as they are ----------------------------------------------------------------------------------------------------


@memoize
def iterator() -> Iterator[Thing]:
    return iter([Thing()])


@memoize
def file() -> io.TextIOWrapper:
    return open("/dev/null")


@memoize
def async_iterator() -> AsyncIterator[Thing]:
    raise NotImplementedError


@memoize
def awaitable() -> Awaitable[Thing]:
    raise NotImplementedError


@memoize
def nothing() -> None: ...


@memoize
@contextlib.contextmanager
def manager() -> Generator[Thing, None, None]:
    yield Thing()


@memoize
def list_of(argument: T) -> list[T]:
    return [argument]


@memoize
def given_anything(request: Any, **options: Any) -> Generator[Thing, None, None]:
    yield Thing()


@memoize
def several() -> Generator[tuple[Thing, int], str, bytes]:
    yield Thing(), 1
    return b""


@memoize
def anything(a: int) -> Any:
    return a


assert_type(iterator(), Iterator[Thing])
assert_type(file(), io.TextIOWrapper)
assert_type(async_iterator(), AsyncIterator[Thing])
assert_type(awaitable(), Awaitable[Thing])
assert_type(list_of(1), list[int])
assert_type(given_anything(None, port=1), Thing)
given_anything()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
assert_type(several(), tuple[Thing, int])
with manager() as managed:
    assert_type(managed, Thing)
assert_type(anything(1), Any)
anything()  # pyright: ignore[reportCallIssue]  # mypy gives up the parameters where Any fits more than one overload
to_nothing: Callable[[], None] = nothing


# Other callables, and functions above and below -----------------------------------------------------------------------------------

assert_type(memoize(Thing)(1), Thing)
memoize(Thing)("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(memoize(Thing(1))(1), str)
assert_type(memoize(partial(plain, 1, c=0.5))(), Thing)
assert_type(memoize(lambda: Thing())(), Thing)
assert_type(memoize(memoize(generator))(1), Thing)
memoize(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
memoize("plain")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


@pytest.fixture(scope="session")
@memoize
def fixture(tmp_path_factory: pytest.TempPathFactory) -> Generator[Thing, None, None]:
    with contextlib.closing(open(tmp_path_factory.getbasetemp() / "thing")):
        yield Thing()


# The rest of the public names -----------------------------------------------------------------------------------------------------


def callback(thing: Thing) -> int:
    return thing.size


assert_type(reset(), None)
assert_type(reset(plain, generator, coroutine, async_generator, fixture), None)
assert_type(len(finalizers), int)
assert_type(plain in finalizers, bool)
assert_type(list(finalizers), list[Callable[..., Any]])
assert_type(finalizers.register(plain, callback, Thing())(Thing()), int)
assert_type(finalizers.unregister(plain, callback), None)
finalizers.register(plain, 1)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
