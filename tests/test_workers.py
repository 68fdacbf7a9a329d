"""Promise 24: functions that travel by value. Each process makes its own object, and all copies of
a function share it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from processes import Ended, run, said, usable
from readme import torn_down

# Pools of processes -------------------------------------------------------------------------------

POOL = """
class Thing:
    def __reduce__(self):
        raise TypeError("an object never travels")

@memoize
def plain(size=1):
    say("plain is made")
    return Thing()

@memoize
def generator():
    yield plain(), Thing()
    say("generator is torn down")

def task(number):
    return os.getpid(), id(plain(number)), id(generator())

def main(compute):
    assert task(0)[0] == os.getpid()
    results = compute(range(12))
    workers = {result[0] for result in results}
    assert os.getpid() not in workers
    assert len(set(results)) == len(workers)
    print(len(workers))

if __name__ == "__main__":
"""

POOLS = {
    "dask": """
    os.environ["DASK_LOGGING__DISTRIBUTED"] = "critical"  # its end may lose a heartbeat
    from dask.distributed import Client, LocalCluster

    options = dict(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with LocalCluster(processes=True, **options) as cluster, Client(cluster) as client:
        main(lambda numbers: client.gather(client.map(task, numbers)))
""",
    "joblib": """
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    main(lambda numbers: Parallel(n_jobs=2, batch_size=1)(delayed(task)(n) for n in numbers))
    get_reusable_executor().shutdown()
""",
}


@pytest.mark.parametrize("pool", POOLS)
def test_pools(pool: str, tmp_path: Path) -> None:
    """Promises 12, 13 and 24: many tasks in a script's workers share one object in each process,
    torn down where the worker ends."""
    if not usable(pool):
        pytest.skip(f"no {pool} here")
    assert torn_down("joblib's and Dask's workers")
    ended = run(POOL + POOLS[pool], tmp_path)
    assert ended.stdout in ("1\n", "2\n"), ended
    each = ["plain is made", "generator is torn down"]
    assert ended == said(*[each] * (1 + int(ended.stdout)))._replace(stdout=ended.stdout)


# cloudpickle itself -------------------------------------------------------------------------------

cloudpickled = pytest.mark.skipif(not usable("cloudpickle"), reason="no cloudpickle")

SENDER = """
import asyncio, inspect, pickle, cloudpickle

class Thing:
    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        raise TypeError("an object never travels")

def call(function):
    result = function()
    return asyncio.run(result) if inspect.iscoroutine(result) else result
"""
SEND = """
with open("copies", "wb") as file:
    pickle.dump([cloudpickle.dumps(function) for _ in range(3)], file)
"""
RECEIVER = """
import asyncio, inspect, pickle
sent = pickle.load(open(sys.argv[1], "rb"))
copies = [pickle.loads(copy) for copy in sent]
"""
KINDS = {
    "plain": "def function(name='one'):\n    say('made')\n    return Thing(name)\n",
    "generator": "def function(name='one'):\n    say('made')\n    yield Thing(name)\n"
    "    say('torn down')\n",
}
KINDS |= {"coroutine": f"async {KINDS['plain']}", "async_generator": f"async {KINDS['generator']}"}


def sent(functions: str, receiver: str, folder: Path) -> Ended:
    """How a process ended that has received three pickles of what another, which has its own object
    by then, calls `function`."""
    sender = run(SENDER + dedent(functions) + SEND, folder / "sender")
    assert sender == said(*sender.said)
    arguments = ("script.py", str(folder / "sender" / "copies"))
    return run(RECEIVER + dedent(receiver), folder / "receiver", arguments)


SHARE = """
from memoize_once import areset

async def get(copy, *args):
    made = copy(*args)
    return await made if inspect.isawaitable(made) else made

async def main():
    first, second, third = copies
    old = await get(first)
    assert await get(second, "two") is await get(third) is old
    finalizers.register(first, say, "registered")
    assert third in finalizers
    await areset(second)
    assert first not in finalizers
    assert await get(second) is await get(third) is not old

asyncio.run(main())
"""


@cloudpickled
@pytest.mark.parametrize("kind", KINDS)
def test_copies_share(kind: str, tmp_path: Path) -> None:
    """Promises 10, 11 and 24: however often a function arrives, its copies share one object, and
    the sender's stays where it is; `reset` and `finalizers` take any copy and mean the one."""
    ended = sent(f"@memoize\n{KINDS[kind]}call(function)\n", SHARE, tmp_path)
    teardown = ["torn down"] * kind.endswith("generator")
    assert ended == said(["made", "registered", *teardown, "made", *teardown])


@cloudpickled
@pytest.mark.parametrize(
    "options", ["key=lambda name: name", "finalizer=lambda thing: say(thing.name)", "inherit=True"]
)
def test_options_travel(options: str, tmp_path: Path) -> None:
    """Promise 24: what was given to `memoize` goes along, and a generator that is suspended where
    it comes from is no obstacle."""
    ended = sent(
        f"@memoize({options})\n{KINDS['generator']}function('one')\nfunction('two')\n",
        "for copy in copies:\n    say([copy(name).name for name in ('three', 'four')])\n",
        tmp_path,
    )
    if options.startswith("key"):
        expected = ["made", "made", *["['three', 'four']"] * 3, "torn down", "torn down"]
    else:
        finalized = ["three"] * options.startswith("finalizer")
        expected = ["made", *["['three', 'three']"] * 3, *finalized, "torn down"]
    assert ended == said(expected)


@cloudpickled
def test_travels(tmp_path: Path) -> None:
    """Promise 24: the object stays while no copy is alive, for the next one to arrive, and a copy
    that is sent on, or back, shares it too."""
    ended = sent(
        f"""
@memoize
{KINDS["plain"]}
copy = cloudpickle.loads(cloudpickle.dumps(function))
assert copy is not function
assert copy() is function() is cloudpickle.loads(cloudpickle.dumps(copy))()
""",
        """
        first = id(copies.pop()())
        copies.clear()
        gc.collect()
        again = pickle.loads(sent[0])
        assert id(again()) == first
        import cloudpickle
        assert id(pickle.loads(cloudpickle.dumps(again))()) == first
        """,
        tmp_path,
    )
    assert ended == said(["made"])
