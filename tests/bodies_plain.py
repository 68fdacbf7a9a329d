"""Plain bodies as people write them, each a row of the table that `test_with` runs."""

from __future__ import annotations

import concurrent.futures
import logging
import multiprocessing
import multiprocessing.pool
import queue
import sched
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import (
    ExitStack,
    closing,
    contextmanager,
    suppress,
)
from typing import Any

from oracle import ENDINGS, ended, row, use

Join = Callable[[], object]  # waits for what the interpreter waits for when the script has ended

__all__ = ["ENDINGS"]

# Yields, classes and managers ---------------------------------------------------------------------


@row()
def plain_value() -> Generator[str, None, None]:
    print("up")
    yield "value"
    print("down")


@row()
def plain_finally() -> Generator[str, None, None]:
    try:
        yield "value"
    except BaseException as error:
        print("thrown into:", type(error).__name__)
        raise
    finally:
        print("down")


class Connection:
    """A class with both methods, which tells how it was left."""

    def __init__(self, name: str = "connection") -> None:
        self.name = name
        self.open = False

    def __enter__(self) -> Connection:
        self.open = True
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self.open = False
        print(self.name, "left by", error_type and error_type.__name__)

    def close(self) -> None:
        self.open = False
        print(self.name, "closed")

    def ping(self) -> None:
        print(self.name, "is", "open" if self.open else "closed")


@row(Connection.ping)
def plain_class() -> Generator[Connection, None, None]:
    with Connection() as connection:
        yield connection
        connection.ping()


@contextmanager
def connect(name: str = "connection") -> Iterator[Connection]:
    connection = Connection(name)
    connection.open = True
    yield connection
    connection.open = False
    print(name, "disconnected")


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    try:
        yield connection
    except BaseException as error:
        print("rolled back for", type(error).__name__)
        raise
    connection.ping()
    print("committed")


@row(Connection.ping)
def plain_manager() -> Generator[Connection, None, None]:
    with connect() as connection:
        yield connection
        connection.ping()


@row(Connection.ping)
def plain_transaction() -> Generator[Connection, None, None]:
    with connect("outer"), connect("inner") as connection, transaction(connection):
        yield connection


@row(Connection.ping)
def plain_exit_stack() -> Generator[Connection, None, None]:
    with ExitStack() as stack:
        stack.callback(print, "callback")
        connections = [stack.enter_context(connect(name)) for name in ("first", "second")]
        stack.callback(connections[0].ping)
        kept = stack.pop_all()
    yield connections[1]
    kept.close()


@row(Connection.ping)
def plain_closing() -> Generator[Connection, None, None]:
    with closing(Connection()) as connection:
        yield connection


@row()
def yield_from() -> Generator[str, None, str]:
    def inner() -> Generator[str, None, str]:
        with connect("inner"):
            yield "value"
        return "result"

    result = yield from inner()
    print("down with", result)
    return result


@row()
def plain_loop_over_a_generator() -> Generator[Connection, None, None]:
    def inner() -> Iterator[Connection]:
        with connect("inner") as connection:
            yield connection
        print("inner down")

    for connection in inner():
        print("from the inside")
        yield connection
    print("outer down")


@row()
def generator_kept_open() -> Generator[list[Iterator[int]], None, None]:
    def numbers() -> Generator[int, None, None]:
        try:
            yield from range(10)
        finally:
            print("numbers closed")

    stream = numbers()
    next(stream)
    yield [stream]
    print("goes on with", next(stream))
    stream.close()


def pool() -> Generator[Connection, None, None]:
    with connect("pool") as connection:
        yield connection


def table() -> Generator[Connection, None, None]:
    connection = use(pool)
    yield connection
    connection.ping()
    print("table dropped")


@row(Connection.ping)
def plain_object_on_another() -> Generator[Connection, None, None]:
    connection = use(table)
    with transaction(connection):
        yield connection


# Threads ------------------------------------------------------------------------------------------


@row()
def thread() -> Generator[threading.Thread, None, None]:
    stop = threading.Event()

    def serve() -> None:
        stop.wait()
        print("told to stop")

    thread = threading.Thread(target=serve)
    thread.start()
    yield thread
    print("alive:", thread.is_alive())
    stop.set()
    thread.join()
    print("down")


@row()
def daemon_thread() -> Generator[queue.SimpleQueue[str | None], None, None]:
    inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def serve() -> None:
        for item in iter(inbox.get, None):
            print("got", item)
        print("told to stop")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield inbox
    inbox.put("last")
    inbox.put(None)
    thread.join()


@row()
def threads_with_a_queue() -> Generator[queue.Queue[int], None, None]:
    jobs: queue.Queue[int] = queue.Queue()
    done: list[int] = []

    def work() -> None:
        while (job := jobs.get()) >= 0:
            done.append(job)
            jobs.task_done()
        jobs.task_done()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    jobs.put(1)
    yield jobs
    jobs.put(2)
    jobs.join()
    print("done", sorted(done))
    for _ in threads:
        jobs.put(-1)
    for thread in threads:
        thread.join()


class Heartbeat:
    """A timer that renews itself."""

    def __init__(self, daemon: bool) -> None:
        self.daemon = daemon
        self.beats: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.stopped = False
        self.beat()

    def beat(self) -> None:
        with self.lock:
            if not self.stopped:
                self.timer = threading.Timer(0.002, self.beat)
                self.timer.daemon = self.daemon
                self.timer.start()
                self.beats.put("beat")

    def three_times(self) -> None:
        print([self.beats.get() for _ in range(3)])

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            self.timer.cancel()
        self.timer.join()
        print("stopped")


@row(Heartbeat.three_times, starts_threads=True)
def timer_that_renews_itself() -> Generator[Heartbeat, None, None]:
    heartbeat = Heartbeat(daemon=False)
    yield heartbeat
    heartbeat.three_times()
    heartbeat.stop()


@row(Heartbeat.three_times, starts_threads=True)
def daemon_timer_that_renews_itself() -> Generator[Heartbeat, None, None]:
    heartbeat = Heartbeat(daemon=True)
    yield heartbeat
    heartbeat.three_times()
    heartbeat.stop()


@row()
def timer_cancelled() -> Generator[threading.Timer, None, None]:
    timer = threading.Timer(600, print, ["too late"])
    timer.start()
    yield timer
    timer.cancel()
    timer.join()
    print("cancelled")


@row()
def scheduler_in_a_thread() -> Generator[sched.scheduler, None, None]:
    scheduler = sched.scheduler()
    ran = threading.Event()
    stopped = False

    def tick() -> None:
        ran.set()
        if not stopped:
            scheduler.enter(0.002, 1, tick)

    tick()
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    yield scheduler
    ran.clear()
    print("ticks:", ran.wait(10))
    stopped = True
    thread.join()
    print("down")


@row()
def thread_that_starts_threads() -> Generator[threading.Event, None, None]:
    stop = threading.Event()
    children: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()

    def accept() -> None:
        child = threading.Thread(target=stop.wait)
        child.start()
        children.put(child)
        stop.wait()

    thread = threading.Thread(target=accept)
    thread.start()
    child = children.get()
    yield stop
    print("child alive:", child.is_alive())
    stop.set()
    child.join()
    thread.join()
    print("down")


def used_late(connection: Connection) -> Join:
    """A thread of the program uses the object when the script has ended."""

    def use_it() -> None:
        ended.wait()
        time.sleep(0.05)  # a teardown that comes too early has every chance to come
        connection.ping()

    thread = threading.Thread(target=use_it)
    thread.start()
    return thread.join


@row(used_late)
def used_by_a_thread_of_the_program() -> Generator[Connection, None, None]:
    with connect() as connection:
        yield connection


# Pools --------------------------------------------------------------------------------------------


@row(starts_threads=True)
def thread_pool() -> Generator[ThreadPoolExecutor, None, None]:
    with ThreadPoolExecutor(2) as executor:
        print(list(executor.map(abs, [-1, -2])))
        yield executor
        print(list(executor.map(abs, [-3, -4])))
    print("shut down")


@row()
def thread_pool_with_an_initializer() -> Generator[ThreadPoolExecutor, None, None]:
    stop = threading.Event()
    with ThreadPoolExecutor(1, initializer=time.sleep, initargs=(0.05,)) as executor:
        executor.submit(stop.wait)
        yield executor
        stop.set()
    print("shut down")


@row()
def thread_pool_whose_jobs_fail() -> Generator[ThreadPoolExecutor, None, None]:
    def fail(number: int) -> None:
        raise ConnectionError(number)

    with ThreadPoolExecutor(2) as executor:
        early = executor.submit(fail, 1)
        concurrent.futures.wait([early])
        yield executor
        late = executor.submit(fail, 2)
        print(repr(early.exception()), repr(late.exception()))
    print("shut down")


@row()
def thread_pool_whose_initializer_fails() -> Generator[ThreadPoolExecutor, None, None]:
    def fail() -> None:
        raise ConnectionError("no connection")

    logging.getLogger("concurrent.futures").setLevel(logging.CRITICAL + 1)
    executor = ThreadPoolExecutor(1, initializer=fail)
    concurrent.futures.wait([executor.submit(print, "not reached")])
    yield executor
    try:
        executor.submit(print, "not reached")
    except concurrent.futures.BrokenExecutor as error:
        print(type(error).__name__)
    executor.shutdown()


@row()
def thread_pool_with_callbacks() -> Generator[ThreadPoolExecutor, None, None]:
    stop = threading.Event()
    with ThreadPoolExecutor(2) as executor:
        served = executor.submit(stop.wait)
        served.add_done_callback(lambda _: print("served"))
        yield executor
        print("serves:", served.running())
        stop.set()
    print("shut down")


def poll(connection: Connection) -> Join:
    """A job of the program's submits itself anew until the pool refuses."""
    executor = ThreadPoolExecutor(2)
    polled = threading.Event()

    def job() -> None:
        time.sleep(0.005)
        polled.set()
        with suppress(RuntimeError):
            executor.submit(job)

    executor.submit(job)
    polled.wait()
    return executor.shutdown


@row(poll)
def beside_a_job_that_renews_itself() -> Generator[Connection, None, None]:
    with connect() as connection:
        yield connection
        connection.ping()


def queue_up(connection: Connection) -> Join:
    """The pool has work left when the script ends."""
    executor = ThreadPoolExecutor(1)
    executor.submit(time.sleep, 0.05)
    executor.submit(connection.ping)
    executor.submit(connection.ping)
    return executor.shutdown


@row(queue_up)
def used_by_a_pool_of_the_program() -> Generator[Connection, None, None]:
    with connect() as connection:
        yield connection


@row(starts_threads=True)
def program_s_pool_in_the_teardown() -> Generator[ThreadPoolExecutor, None, None]:
    """The module's pool, which nobody shuts down."""
    yield shared
    print(shared.submit(abs, -1).result())


shared = ThreadPoolExecutor(1)


@row()
def process_pool() -> Generator[ProcessPoolExecutor, None, None]:
    with ProcessPoolExecutor(1) as executor:
        print(executor.submit(abs, -1).result())
        yield executor
        print(executor.submit(abs, -2).result())
    print("shut down")


@row()
def process_pool_whose_jobs_fail() -> Generator[ProcessPoolExecutor, None, None]:
    with ProcessPoolExecutor(1) as executor:
        early = executor.submit(int, "early")
        concurrent.futures.wait([early])
        yield executor
        late = executor.submit(int, "late")
        print(repr(early.exception()), repr(late.exception()))
    print("shut down")


def square_late(number: int) -> int:
    time.sleep(0.05)
    return number * number


def queue_up_for_processes(connection: Connection) -> Join:
    executor = ProcessPoolExecutor(1)

    def tell(future: Future[int]) -> None:
        connection.ping()
        print(future.result())

    for number in (1, 2):
        executor.submit(square_late, number).add_done_callback(tell)
    return executor.shutdown


@row(queue_up_for_processes)
def used_by_a_process_pool_of_the_program() -> Generator[Connection, None, None]:
    with connect() as connection:
        yield connection


@row()
def multiprocessing_pool() -> Generator[multiprocessing.pool.Pool, None, None]:
    with multiprocessing.Pool(1) as pool:
        yield pool
        print(pool.apply(abs, [-1]))
        pool.close()
        pool.join()
    print("joined")


@row()
def multiprocessing_thread_pool() -> Generator[multiprocessing.pool.ThreadPool, None, None]:
    with multiprocessing.pool.ThreadPool(2) as pool:
        print(sorted(pool.map(abs, [-1, -2])))
        yield pool
        print(sorted(pool.map(abs, [-3, -4])))
        pool.close()
        pool.join()
    print("joined")


# Child processes ----------------------------------------------------------------------------------


@row()
def child() -> Generator[subprocess.Popen[str], None, None]:
    code = "for line in iter(input, 'stop'): print(line.upper(), flush=True)"
    command = [sys.executable, "-I", "-S", "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        yield child
        print("still there", file=child.stdin, flush=True)
        print(child.stdout.readline().strip())
        print("stop", file=child.stdin, flush=True)
    print("ended with", child.returncode)


@row()
def child_killed() -> Generator[subprocess.Popen[bytes], None, None]:
    command = [sys.executable, "-I", "-S", "-c", "input()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield child
    finally:
        print("ran until now:", child.poll() is None)
        child.kill()
        child.communicate()
        print("killed:", child.returncode != 0)


def upper(inbox: Any, outbox: Any) -> None:
    for text in iter(inbox.get, None):
        outbox.put(text.upper())


@row()
def multiprocessing_child() -> Generator[multiprocessing.Process, None, None]:
    inbox, outbox = multiprocessing.SimpleQueue(), multiprocessing.SimpleQueue()  # type: ignore[var-annotated]
    child = multiprocessing.Process(target=upper, args=(inbox, outbox))
    child.start()
    inbox.put("before")
    yield child
    inbox.put("after")
    print(outbox.get(), outbox.get())
    inbox.put(None)
    child.join()
    print("ended with", child.exitcode)
    child.close()
    inbox.close()
    outbox.close()
