"""Promise 22, for type checkers: with and without parentheses, and the options."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, assert_type

from memoize_once import memoize


class Engine:
    def dispose(self) -> None: ...

    def close(self, when: float) -> None: ...

    async def aclose(self) -> int:
        return 0


@memoize()
def plain(a: int, *, b: str = "b") -> Engine:
    return Engine()


@memoize(finalizer=Engine.dispose)
def generator(a: int) -> Generator[Engine, None, None]:
    yield Engine()


@memoize(key=lambda request: request.param)
def database(request: Any, port: int = 0) -> Generator[Engine, None, None]:
    yield Engine()


@memoize(key=lambda a: a, finalizer=Engine.aclose, inherit=True)
async def async_generator(a: int) -> AsyncGenerator[Engine, None]:
    yield Engine()


assert_type(plain(1, b="b"), Engine)
assert_type(generator(1), Engine)
assert_type(database(None), Engine)
assert_type(memoize(plain, finalizer=Engine.dispose)(1), Engine)
plain("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
generator()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
database()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def use() -> None:
    assert_type(await async_generator(1), Engine)
    await async_generator(1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


memoize(finalizer=print)
memoize(finalizer=lambda engine: engine.dispose())
memoize(finalizer=Engine.close)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
memoize(finalizer=lambda: None)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
memoize(key=list[str])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
memoize(key="name")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
memoize(inherit="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
memoize(typed=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
memoize(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
memoize(plain, plain)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
