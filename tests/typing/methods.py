"""Promise 22, for type checkers: methods, class methods, static methods and properties of the four kinds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Self, assert_type

from memoize_once import memoize


class Owner:
    @memoize
    def plain(self, a: int) -> str:
        return str(a)

    @memoize
    def generator(self, a: int) -> Generator[str, None, None]:
        yield str(a)

    @memoize
    async def coroutine(self, a: int) -> str:
        return str(a)

    @memoize
    async def async_generator(self, a: int) -> AsyncGenerator[str, None]:
        yield str(a)

    @memoize(key=lambda self: self)
    def with_key(self, a: int) -> Generator[str, None, None]:
        yield str(a)

    @classmethod
    @memoize
    def class_method(cls, a: int) -> Self:
        return cls()

    @classmethod
    @memoize
    def class_generator(cls, a: int) -> Generator[Self, None, None]:
        yield cls()

    @classmethod
    @memoize(finalizer=print)
    async def class_coroutine(cls, a: int) -> Self:
        return cls()

    @classmethod
    @memoize(key=lambda cls: cls)
    async def class_async_generator(cls, a: int) -> AsyncGenerator[Self, None]:
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
assert_type(owner.plain(1), str)
assert_type(Owner.plain(owner, 1), str)
owner.plain()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
owner.plain("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Owner.plain(1)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
assert_type(owner.generator(1), str)
owner.generator("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(owner.with_key(1), str)
owner.with_key(1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

assert_type(Owner.class_method(1), Owner)
assert_type(owner.class_method(1), Owner)
assert_type(Heir.class_method(1), Heir)
assert_type(Owner.class_generator(1), Owner)
assert_type(Heir.class_generator(1), Heir)
Owner.class_method("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Owner.class_generator()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

assert_type(Owner.static_method(1), str)
assert_type(owner.static_method(1), str)
owner.static_method(owner, 1)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
assert_type(owner.attribute, str)
owner.attribute()  # type: ignore[operator]  # pyright: ignore[reportCallIssue]


async def use() -> None:
    assert_type(await owner.coroutine(1), str)
    assert_type(await owner.async_generator(1), str)
    assert_type(await Owner.class_coroutine(1), Owner)
    assert_type(await Heir.class_async_generator(1), Heir)
    await owner.coroutine("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await owner.async_generator()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await Owner.class_async_generator("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
