"""The endings of an event loop, by which `oracle` runs async bodies."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from oracle import Entered, Row, set_variant, use

from memoize_once import areset, reset


async def _awaited(each: Row) -> None:
    thing = await use(each.body)
    done = each.rest(thing)
    if done is not None:
        await done
    print("end of main")


async def _after() -> None:
    """Goes on when the object has gone; its tasks have gone too."""
    print("after it,", len(asyncio.all_tasks()) - 1, "tasks")


def _main(each: Row, memoized: bool, times: int = 1) -> Coroutine[Any, Any, None]:
    """The main coroutine, with `async with` around it where nothing is memoized."""

    async def main() -> None:
        for _ in range(times):
            await _awaited(each)

    async def around() -> None:
        async with AsyncExitStack() as stack:
            set_variant(Entered(stack))
            await main()

    return main() if memoized else around()


def by_asyncio_run(each: Row, memoized: bool) -> None:
    asyncio.run(_main(each, memoized))


def by_uvloop(each: Row, memoized: bool) -> None:
    uvloop = importlib.import_module("uvloop")
    uvloop.run(_main(each, memoized))


def by_runner(each: Row, memoized: bool) -> None:
    with asyncio.Runner() as runner:
        if memoized:
            runner.run(_main(each, memoized))
            runner.run(_main(each, memoized))
        else:  # a manager is entered and left in one task
            runner.run(_main(each, memoized, times=2))


def by_close(each: Row, memoized: bool) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_main(each, memoized))
    loop.close()


def by_areset(each: Row, memoized: bool) -> None:
    async def main() -> None:
        await _main(each, memoized)
        if memoized:
            await areset()
        await _after()

    asyncio.run(main())


def by_reset_at_rest(each: Row, memoized: bool) -> None:
    with asyncio.Runner() as runner:
        runner.run(_main(each, memoized))
        if memoized:
            reset()
        runner.run(_after())


ENDINGS: dict[str, Callable[[Row, bool], None]] = {
    "asyncio.run": by_asyncio_run,
    "Runner": by_runner,
    "uvloop": by_uvloop,
    "close": by_close,
    "areset": by_areset,
    "reset at rest": by_reset_at_rest,
}
