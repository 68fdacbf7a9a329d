"""Promise 22, for type checkers: with and without parentheses, and the options."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, assert_type

from memoize_once import memoize


class Engine:
    def dispose(self) -> None: ...

    def close(self, when: float) -> None: ...

    async def aclose(self) -> int:
        return 0


def forget(name: str) -> bool:
    return bool(name)


def two(first: object, second: object) -> None: ...


# Parentheses ----------------------------------------------------------------------------------------------------------------------


@memoize()
def plain(a: int, *, b: str = "b") -> Engine:
    return Engine()


@memoize()
def generator(a: int) -> Generator[Engine, None, None]:
    yield Engine()


@memoize()
async def coroutine(a: int) -> Engine:
    return Engine()


@memoize()
async def async_generator(a: int) -> AsyncGenerator[Engine, None]:
    yield Engine()


assert_type(plain(1, b="b"), Engine)
assert_type(generator(1), Engine)
plain("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
generator()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# finalizer= takes a callable of one argument of any type --------------------------------------------------------------------------


@memoize(finalizer=Engine.dispose)
def disposed(a: int) -> Engine:
    return Engine()


@memoize(finalizer=Engine.dispose)
def disposed_generator(a: int) -> Generator[Engine, None, None]:
    yield Engine()


@memoize(finalizer=Engine.aclose)
async def closed(a: int) -> Engine:
    return Engine()


@memoize(finalizer=Engine.aclose)
async def closed_generator(a: int) -> AsyncGenerator[Engine, None]:
    yield Engine()


assert_type(disposed(1), Engine)
assert_type(disposed_generator(1), Engine)
disposed("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(memoize(plain, finalizer=Engine.dispose)(1), Engine)
assert_type(memoize(generator, finalizer=print)(1), Engine)
memoize(finalizer=forget)
memoize(finalizer=lambda engine: engine.dispose())
memoize(finalizer=Engine.close)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
memoize(finalizer=two)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
memoize(finalizer=lambda: None)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
memoize(finalizer=Engine())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


# key= and inherit= ----------------------------------------------------------------------------------------------------------------


def by_name(name: str, number: int = 0) -> tuple[str, int]:
    return name, number


def unhashable(name: str) -> list[str]:
    return [name]


@memoize(key=by_name)
def with_key(name: str, number: int = 1) -> Engine:
    return Engine()


@memoize(key=lambda request: request.param)
def database(request: Any, port: int = 0) -> Generator[Engine, None, None]:
    yield Engine()


@memoize(key=lambda a: a, finalizer=Engine.dispose, inherit=True)
async def every_option(a: int) -> Engine:
    return Engine()


@memoize(inherit=True)
def inherited(a: int) -> Engine:
    return Engine()


assert_type(with_key("name"), Engine)
assert_type(database(None), Engine)
assert_type(inherited(1), Engine)
with_key(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
database()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
inherited("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
memoize(key=unhashable)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
memoize(key="name")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
memoize(inherit="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
memoize(typed=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
memoize(by_name, two)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

untouched: Callable[[int], Engine] = inherited


async def use() -> None:
    assert_type(await coroutine(1), Engine)
    assert_type(await async_generator(1), Engine)
    assert_type(await closed(1), Engine)
    assert_type(await closed_generator(1), Engine)
    assert_type(await every_option(1), Engine)
    await coroutine("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await async_generator(1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await closed()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await every_option("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
