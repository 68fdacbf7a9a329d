"""Promise 24: functions that travel by value. Each process makes its own object, and all copies of a function share it."""

from __future__ import annotations

import importlib.util
import multiprocessing
from pathlib import Path
from textwrap import dedent

import pytest
from processes import Ended, run, said

# Pools of processes ---------------------------------------------------------------------------------------------------------------

POOL = """
import asyncio


class Thing:
    def __reduce__(self):
        raise TypeError("an object never travels")


@memoize
def plain(size=1):
    say("plain is made")
    return Thing()


@memoize
def generator():
    say("generator is made")
    yield plain(), Thing()
    say("generator is torn down")


@memoize
async def coroutine():
    say("coroutine is made")
    return generator(), Thing()


@memoize
async def async_generator():
    yield await coroutine(), Thing()


async def same():
    return await async_generator() is await async_generator()


def task(number):
    assert asyncio.run(same())
    return os.getpid(), *map(id, (plain(number), generator(), asyncio.run(coroutine())))


def main(compute):
    assert task(0)[0] == os.getpid()
    results = compute(range(12))
    assert len(results) == 12
    workers = {result[0] for result in results}
    assert os.getpid() not in workers
    assert len(set(results)) == len(workers)
    print(len(workers))


if __name__ == "__main__":
"""

POOLS = {
    "dask": """
    from dask.distributed import Client, LocalCluster

    with LocalCluster(processes=True, n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        main(lambda numbers: client.gather(client.map(task, numbers)))
""",
    "joblib": """
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    main(lambda numbers: Parallel(n_jobs=2, batch_size=1)(delayed(task)(number) for number in numbers))
    get_reusable_executor().shutdown()
""",
} | {
    method: f"""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("{method}")) as executor:
        main(lambda numbers: list(executor.map(task, numbers)))
"""
    for method in multiprocessing.get_all_start_methods()
}


@pytest.mark.parametrize("pool", POOLS)
def test_pools(pool: str, tmp_path: Path) -> None:
    """Promises 12, 13 and 24: many tasks in a script's workers share one object in each process, torn down where the worker ends."""
    if pool in ("dask", "joblib") and importlib.util.find_spec({"dask": "distributed"}.get(pool, pool)) is None:
        pytest.skip(f"{pool} is not installed")
    ended = run(POOL + POOLS[pool], tmp_path)
    each = ["coroutine is made", "generator is made", "plain is made", "generator is torn down"]
    assert ended.stdout in ("1\n", "2\n"), ended
    assert ended == said(*[each] * (1 + int(ended.stdout)))._replace(stdout=ended.stdout)


# cloudpickle itself ---------------------------------------------------------------------------------------------------------------

cloudpickled = pytest.mark.skipif(importlib.util.find_spec("cloudpickle") is None, reason="cloudpickle is not installed")

SENDER = """
import asyncio
import cloudpickle

class Thing:
    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        raise TypeError("an object never travels")

def call(function, /, *args, **kwargs):
    result = function(*args, **kwargs)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result
"""

SEND = """
copies = [cloudpickle.dumps(function) for _ in range(3)]
cloudpickle.dump(copies, open("copies", "wb"))
"""

RECEIVER = """
import asyncio
import pickle

def call(function, /, *args, **kwargs):
    result = function(*args, **kwargs)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result

copies = [pickle.loads(copy) for copy in pickle.load(open(sys.argv[1], "rb"))]
"""


def sent(functions: str, receiver: str, folder: Path) -> Ended:
    """How a process ended that has received three pickles of what another, which has its own object by then, calls `function`."""
    for name in ("sender", "receiver"):
        (folder / name).mkdir()
    sender = run(SENDER + dedent(functions) + SEND, folder / "sender")
    assert sender == said(*sender.said)
    return run(RECEIVER + dedent(receiver), folder / "receiver", ("script.py", str(folder / "sender" / "copies")))


KINDS = {
    "plain": "@memoize\ndef function(name='one'):\n    say('made')\n    return Thing(name)\n",
    "generator": "@memoize\ndef function(name='one'):\n    say('made')\n    yield Thing(name)\n    say('torn down')\n",
    "coroutine": "@memoize\nasync def function(name='one'):\n    say('made')\n    return Thing(name)\n",
    "async_generator": "@memoize\nasync def function(name='one'):\n    say('made')\n    yield Thing(name)\n    say('torn down')\n",
}


@cloudpickled
@pytest.mark.parametrize("kind", KINDS)
def test_copies_share(kind: str, tmp_path: Path) -> None:
    """Promise 24: however often a function arrives, its copies share one object, and the sender's stays where it is."""
    ended = sent(
        KINDS[kind] + "call(function)\n",
        """
        import inspect

        first, second, third = copies
        assert inspect.iscoroutinefunction(first) is ASYNC

        async def all_copies():
            return await asyncio.gather(first(), second("two"), third())

        things = asyncio.run(all_copies()) if ASYNC else [first("one"), second("two"), third()]
        assert things[0] is things[1] is things[2]
        say(things[0].name)
        """.replace("ASYNC", str(kind in ("coroutine", "async_generator"))),
        tmp_path,
    )
    teardown = {"generator": ["one", "torn down"], "async_generator": ["torn down", "one"]}.get(kind, ["one"])
    assert ended == said(["made", *teardown])


@cloudpickled
def test_object_survives_its_copies(tmp_path: Path) -> None:
    """Promise 24: the object of a function that has arrived stays while no copy is alive, for the next one to arrive."""
    ended = sent(
        KINDS["plain"],
        """
        first = id(copies.pop()())
        copies.clear()
        gc.collect()
        [again, *_] = [pickle.loads(copy) for copy in pickle.load(open(sys.argv[1], "rb"))]
        say(id(again()) == first)
        """,
        tmp_path,
    )
    assert ended == said(["made", "True"])


@cloudpickled
@pytest.mark.parametrize("kind", KINDS)
def test_reset_and_finalizers(kind: str, tmp_path: Path) -> None:
    """Promises 10, 11 and 24: `reset` and `finalizers` take any copy and mean the one object; afterwards all copies make anew."""
    if kind == "async_generator":
        body = """
        from memoize_once import areset

        async def main():
            first, second, third = copies
            old = await first()
            finalizers.register(second, say, "registered")
            assert third in finalizers
            await areset(third)
            assert first not in finalizers
            assert await second() is await third() is not old

        asyncio.run(main())
        """
    else:
        body = """
        first, second, third = copies
        old = call(first)
        finalizers.register(second, say, "registered")
        assert third in finalizers
        assert list(finalizers)[0] in copies
        reset(third)
        assert first not in finalizers
        assert call(second) is call(third) is not old
        """
    teardown = ["torn down"] * kind.endswith("generator")
    assert sent(KINDS[kind], body, tmp_path) == said(["made", "registered", *teardown, "made", *teardown])


@cloudpickled
@pytest.mark.parametrize("options", ["key=lambda name: name", "finalizer=lambda thing: say(f'{thing.name} is finalized')", "inherit=True"])
def test_options_travel(options: str, tmp_path: Path) -> None:
    """Promise 24: what was given to `memoize` goes along, for the generator too that is suspended where it comes from."""
    ended = sent(
        KINDS["generator"].replace("@memoize", f"@memoize({options})") + "function('one')\nfunction('two')\n",
        "for copy in copies:\n    say([copy(name).name for name in ('three', 'four')])\n",
        tmp_path,
    )
    finalized = ["three is finalized"] * options.startswith("finalizer")
    if options.startswith("key"):
        assert ended == said(["made", "made", *["['three', 'four']"] * 3, "torn down", "torn down"])
    else:
        assert ended == said(["made", *["['three', 'three']"] * 3, *finalized, "torn down"])


@cloudpickled
def test_sent_on(tmp_path: Path) -> None:
    """Promise 24: a copy that is sent on shares the object with those that come from where the function was defined."""
    ended = sent(
        KINDS["plain"] + "call(function)\n",
        """
        import cloudpickle

        sent = pickle.load(open(sys.argv[1], "rb"))
        pickle.dump([*sent, cloudpickle.dumps(copies[0])], open("copies", "wb"))
        """,
        tmp_path,
    )
    assert ended == said()
    folder = tmp_path / "third"
    folder.mkdir()
    ended = run(
        f"{RECEIVER}\nfirst, *_, sent_on = copies\nassert first() is sent_on()",
        folder,
        ("script.py", str(tmp_path / "receiver" / "copies")),
    )
    assert ended == said(["made"])


@cloudpickled
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    """Promise 24: in the process that it comes from a copy shares the object of the original, whichever makes it."""
    ended = run(
        f"""{SENDER}
{KINDS[kind]}

import inspect

async def both(first, second):
    return await first() is await second()

def share(first, second):
    return asyncio.run(both(first, second)) if inspect.iscoroutinefunction(first) else first() is second()

copy = cloudpickle.loads(cloudpickle.dumps(function))
assert copy is not function
assert share(copy, function)
reset(copy)
assert share(function, copy)
assert share(cloudpickle.loads(cloudpickle.dumps(copy)), function)
""",
        tmp_path,
    )
    each = ["made", *["torn down"] * kind.endswith("generator")]
    made = 3 if kind == "async_generator" else 2  # which lives as long as its loop
    assert ended == said(each * made)


@cloudpickled
def test_local_functions(tmp_path: Path) -> None:
    """Promise 24: closures are functions of their own, each with its own object, and carry what they close over."""
    ended = sent(
        """
        def closure(name):
            @memoize
            def local():
                say(f"{name} is made")
                return Thing(name)
            return local

        one, two = closure("one"), closure("two")
        function = lambda: [one(), two(), one(), two()]
        """,
        """
        made = [copy() for copy in copies]
        assert len({id(thing) for things in made for thing in things}) == 2
        say([thing.name for thing in made[0]])
        """,
        tmp_path,
    )
    assert ended == said(["one is made", "two is made", "['one', 'two', 'one', 'two']"])


@cloudpickled
def test_recursive_references(tmp_path: Path) -> None:
    """Promises 4 and 24: functions that refer to each other, and to themselves, arrive together; a ring of objects is still told."""
    ended = sent(
        """
        @memoize
        def ping(ring=False):
            return Thing((pong(), ping)[0] if ring else "ping")

        @memoize
        def pong():
            finalizers.register(pong, say, "pong is torn down")
            return Thing(ping(ring=True).name)

        function = [ping, pong]
        """,
        """
        (ping, pong), (other, _), _ = copies
        try:
            pong()
        except DeadlockError as error:
            say(str(error).partition(": ")[2].partition(". ")[0])
        assert ping() is other()
        say(pong().name)
        """,
        tmp_path,
    )
    assert ended == said(["pong is torn down", "__main__.pong -> __main__.ping -> __main__.pong", "ping", "pong is torn down"])


@cloudpickled
def test_methods(tmp_path: Path) -> None:
    """Promises 21 and 24: a class travels with its memoized methods, which have one object in each process."""
    ended = sent(
        """
        class Owner:
            @memoize
            def thing(self):
                say("made")
                return Thing("method")

            @classmethod
            @memoize
            def class_thing(cls):
                yield Thing("class method")
                say("torn down")

        Owner().thing(), Owner.class_thing()
        function = Owner
        """,
        """
        assert len({id(copy().thing()) for copy in copies}) == len({id(copy.class_thing()) for copy in copies}) == 1
        """,
        tmp_path,
    )
    assert ended == said(["made", "torn down"])
