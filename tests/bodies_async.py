"""Async bodies as people write them, each a row of the table that `test_with` runs."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from typing import TYPE_CHECKING, Any
from unittest import mock

from oracle import row, use
from oracle_async import ENDINGS

if TYPE_CHECKING:
    import aiohttp
    import aiosqlite
    import anyio.abc
    import anyio.from_thread
    import fastapi
    import httpx2
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

__all__ = ["ENDINGS"]

LEFT_TO_THE_LOOP = "what is left of a body's tasks is cancelled at once, and not by the loop's end"
LATER_TASKS = dict.fromkeys(
    ("asyncio.run", "Runner", "uvloop"),
    "a task that a server of the object starts for a request is the loop's, which cancels it first",
)
NEVER_CANCELLED = "a plain close cancels no task, and what the body leaves is destroyed"

# Yields, classes and managers ---------------------------------------------------------------------


@row()
async def value() -> AsyncGenerator[str, None]:
    print("up")
    yield "value"
    await asyncio.sleep(0)
    print("down")


@row()
async def in_a_finally() -> AsyncGenerator[str, None]:
    try:
        yield "value"
    finally:
        await asyncio.sleep(0.001)
        print("down")


@row()
async def told_what_it_sees() -> AsyncGenerator[str, None]:
    try:
        yield "value"
    except BaseException as error:
        print("thrown into:", type(error).__name__)
        raise
    else:
        print("resumed")


class Connection:
    """A class with both methods, which tells how it was left."""

    def __init__(self, name: str = "connection") -> None:
        self.name = name
        self.open = False

    async def __aenter__(self) -> Connection:
        await asyncio.sleep(0)
        self.open = True
        return self

    async def __aexit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        await asyncio.sleep(0)
        self.open = False
        print(self.name, "left by", error_type and error_type.__name__)

    async def ping(self) -> None:
        print(self.name, "is", "open" if self.open else "closed")


@row(Connection.ping)
async def class_with_aenter() -> AsyncGenerator[Connection, None]:
    async with Connection() as connection:
        yield connection
        await connection.ping()


@asynccontextmanager
async def connect(name: str = "connection") -> AsyncIterator[Connection]:
    connection = Connection(name)
    connection.open = True
    yield connection
    await asyncio.sleep(0)
    connection.open = False
    print(name, "disconnected")


@asynccontextmanager
async def connect_safely(name: str = "connection") -> AsyncIterator[Connection]:
    connection = Connection(name)
    connection.open = True
    try:
        yield connection
    finally:
        await asyncio.sleep(0)
        connection.open = False
        print(name, "disconnected")


@row(Connection.ping)
async def manager_without_finally() -> AsyncGenerator[Connection, None]:
    async with connect() as connection:
        yield connection
        await connection.ping()
    print("down")


@row(Connection.ping)
async def manager_with_finally() -> AsyncGenerator[Connection, None]:
    async with connect_safely() as connection:
        yield connection
        await connection.ping()
    print("down")


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[Connection]:
    try:
        yield connection
    except BaseException as error:
        print("rolled back for", type(error).__name__)
        raise
    await connection.ping()
    print("committed")


@row(Connection.ping)
async def transaction_that_commits() -> AsyncGenerator[Connection, None]:
    async with connect() as connection, transaction(connection):
        yield connection


@asynccontextmanager
async def session() -> AsyncIterator[Connection]:
    async with connect_safely("inner") as connection, transaction(connection):
        yield connection
    print("session over")


@row(Connection.ping)
async def nested_managers() -> AsyncGenerator[Connection, None]:
    async with connect("outer") as outer:
        async with session() as inner:
            yield inner
            await inner.ping()
        await outer.ping()


@row(Connection.ping)
async def manager_of_a_method() -> AsyncGenerator[Connection, None]:
    """An object's own method is the manager."""

    class Client:
        @asynccontextmanager
        async def stream(self) -> AsyncIterator[Connection]:
            async with connect("stream") as stream:
                yield stream
            print("client released")

    async with Client().stream() as stream:
        yield stream


@row(Connection.ping)
async def exit_stack() -> AsyncGenerator[Connection, None]:
    async with AsyncExitStack() as stack:
        stack.callback(print, "callback")
        first = await stack.enter_async_context(connect("first"))
        stack.push_async_callback(first.ping)
        second = await stack.enter_async_context(connect_safely("second"))
        stack.push_async_callback(second.ping)
        yield second


@row(Connection.ping)
async def exit_stack_taken_over() -> AsyncGenerator[Connection, None]:
    """Only what has been made completely outlives the block."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(connect("first"))
        await stack.enter_async_context(connect("second"))
        kept = stack.pop_all()
    yield first
    await kept.aclose()


@contextmanager
def lease(name: str) -> Iterator[str]:
    yield name
    print(name, "given back")


@row()
async def plain_managers() -> AsyncGenerator[str, None]:
    with lease("lease"), tempfile.TemporaryDirectory() as folder:
        yield folder
        print("folder is there:", os.path.isdir(folder))
    print("folder is there:", os.path.isdir(folder))


@row()
async def patched_environment() -> AsyncGenerator[None, None]:
    with mock.patch.dict(os.environ, ORACLE="patched"):
        yield
        print(os.environ["ORACLE"])
    print(os.environ.get("ORACLE"))


@row(Connection.ping)
async def under_a_timeout() -> AsyncGenerator[Connection, None]:
    async with asyncio.timeout(600), connect() as connection:
        yield connection
    print("in time")


@row()
async def lock_held() -> AsyncGenerator[asyncio.Lock, None]:
    lock = asyncio.Lock()
    async with lock:
        yield lock
    print("locked:", lock.locked())


# Generators ---------------------------------------------------------------------------------------


async def numbers() -> AsyncGenerator[int, None]:
    try:
        for number in range(1_000_000):
            yield number
            await asyncio.sleep(0)
    finally:
        print("numbers closed")


@row()
async def aclosing_stream() -> AsyncGenerator[int, None]:
    async with aclosing(numbers()) as stream:
        yield await anext(stream)
        print("goes on with", await anext(stream))


@row()
async def loop_over_a_generator() -> AsyncGenerator[str, None]:
    async def inner() -> AsyncGenerator[str, None]:
        async with connect("inner"):
            yield "value"
        print("inner down")

    async for each in inner():
        yield each
    print("outer down")


@row()
async def generator_closed_by_hand() -> AsyncGenerator[int, None]:
    stream = numbers()
    try:
        yield await anext(stream)
        print("goes on with", await anext(stream))
    finally:
        await stream.aclose()


class Cursor:
    """An iterator by its methods, and a manager too."""

    def __init__(self) -> None:
        self.left = 3

    def __aiter__(self) -> Cursor:
        return self

    async def __anext__(self) -> int:
        self.left -= 1
        if self.left < 0:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        return self.left

    async def aclose(self) -> None:
        print("cursor closed with", self.left)


@row()
async def iterator_by_its_methods() -> AsyncGenerator[Cursor, None]:
    async with aclosing(Cursor()) as cursor:
        await anext(cursor)
        yield cursor
        print([each async for each in cursor])


@row()
async def stream_read_by_a_task() -> AsyncGenerator[asyncio.Event, None]:
    seen = asyncio.Event()

    async def read() -> None:
        async for number in numbers():
            if number == 2:
                seen.set()

    task = asyncio.create_task(read())
    await seen.wait()
    yield seen
    print("reads:", not task.done())
    task.cancel()
    await asyncio.wait([task])
    print("reader cancelled:", task.cancelled())


@row()
async def pipeline() -> AsyncGenerator[list[AsyncGenerator[int, None]], None]:
    """What is a generator itself is wrapped in something (promise 6)."""

    async def even() -> AsyncGenerator[int, None]:
        async with aclosing(numbers()) as source:
            async for number in source:
                if number % 2 == 0:
                    yield number

    async with aclosing(even()) as stream:
        print([await anext(stream), await anext(stream)])
        yield [stream]
        print(await anext(stream))


# Tasks --------------------------------------------------------------------------------------------


async def tick(seen: asyncio.Event) -> None:
    try:
        while True:
            seen.set()
            await asyncio.sleep(0.001)
    except asyncio.CancelledError:
        print("ticker cancelled")
        raise


async def next_tick(seen: asyncio.Event) -> None:
    seen.clear()
    await seen.wait()


@row(next_tick)
async def task_cancelled_by_hand() -> AsyncGenerator[asyncio.Event, None]:
    seen = asyncio.Event()
    task = asyncio.create_task(tick(seen))
    yield seen
    await next_tick(seen)
    print("lives on")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    print("down")


@row(
    next_tick,
    without=dict.fromkeys(("areset", "reset at rest"), LEFT_TO_THE_LOOP)
    | {"close": NEVER_CANCELLED},
)
async def task_left_to_the_loop() -> AsyncGenerator[asyncio.Event, None]:
    seen = asyncio.Event()
    background = {asyncio.create_task(tick(seen))}
    await seen.wait()
    yield seen
    await next_tick(seen)
    print("down, with tasks:", len(background))


@row(next_tick)
async def task_group() -> AsyncGenerator[asyncio.Event, None]:
    seen = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(tick(seen))
        yield seen
        await next_tick(seen)
        task.cancel()
    print("down")


@asynccontextmanager
async def ticker() -> AsyncIterator[asyncio.Event]:
    seen = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(tick(seen))
        try:
            yield seen
        finally:
            task.cancel()
    print("ticker closed")


@row(next_tick)
async def task_group_in_a_manager() -> AsyncGenerator[asyncio.Event, None]:
    async with ticker() as seen:
        yield seen
        await next_tick(seen)
    print("down")


@row(next_tick)
async def task_groups_nested() -> AsyncGenerator[asyncio.Event, None]:
    async with asyncio.TaskGroup() as outer:
        work = outer.create_task(asyncio.sleep(0.001, "worked"))
        async with AsyncExitStack() as stack:
            seen = await stack.enter_async_context(ticker())
            yield seen
            await next_tick(seen)
        print("inner down")
    print(work.result())


@row(next_tick)
async def group_that_waits_for_its_tasks() -> AsyncGenerator[asyncio.Event, None]:
    """No cancel: the tasks are told, and the group waits for them."""
    stop, seen = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        while not stop.is_set():
            seen.set()
            await asyncio.sleep(0.001)
        return "done"

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work()) for _ in range(2)]
        yield seen
        stop.set()
    print([task.result() for task in tasks])


@row()
async def tasks_in_the_teardown() -> AsyncGenerator[list[str], None]:
    async def flush(name: str) -> str:
        await asyncio.sleep(0.001)
        return f"{name} flushed"

    yield ["a", "b"]
    print(await asyncio.gather(flush("a"), flush("b")))
    print(await asyncio.wait_for(flush("c"), 600))
    print(await asyncio.shield(flush("d")))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(flush("e"))
    print(task.result())


async def put_three(queue: asyncio.Queue[int | None]) -> None:
    for number in range(3):
        await queue.put(number)


@row(put_three)
async def queue_with_workers() -> AsyncGenerator[asyncio.Queue[int | None], None]:
    queue: asyncio.Queue[int | None] = asyncio.Queue()
    done: list[int | None] = []

    async def work() -> None:
        while True:
            item = await queue.get()
            await asyncio.sleep(0.001)
            done.append(item)
            queue.task_done()

    workers = [asyncio.create_task(work()) for _ in range(2)]
    yield queue
    await queue.join()
    print("done", sorted(filter(None, done)), [worker.done() for worker in workers])
    for worker in workers:
        worker.cancel()
    print(await asyncio.gather(*workers, return_exceptions=True))


@row(put_three)
async def queue_with_an_end() -> AsyncGenerator[asyncio.Queue[int | None], None]:
    queue: asyncio.Queue[int | None] = asyncio.Queue(1)

    async def write() -> None:
        while (item := await queue.get()) is not None:
            await asyncio.sleep(0.001)
            print("written", item)
        print("writer done")

    writer = asyncio.create_task(write())
    yield queue
    await queue.put(None)
    await writer
    print("down")


@row(put_three)
async def writer_that_flushes_when_cancelled() -> AsyncGenerator[asyncio.Queue[int | None], None]:
    queue: asyncio.Queue[int | None] = asyncio.Queue()

    async def write() -> None:
        batch = []
        try:
            while True:
                batch.append(await queue.get())
        finally:
            await asyncio.sleep(0)
            print("flushed", batch)

    writer = asyncio.create_task(write())
    yield queue
    while not queue.empty():
        await asyncio.sleep(0)
    writer.cancel()
    await asyncio.wait([writer])
    print("down")


@row()
async def task_that_has_failed() -> AsyncGenerator[asyncio.Task[None], None]:
    async def fail() -> None:
        raise ConnectionError("lost")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    yield task
    print("failed with", repr(task.exception()))


@row(asyncio.Event.wait)
async def heartbeat_by_call_later() -> AsyncGenerator[asyncio.Event, None]:
    loop = asyncio.get_running_loop()
    beaten = asyncio.Event()

    handles: list[asyncio.Handle] = []

    def beat() -> None:
        beaten.set()
        handles.append(loop.call_later(0.001, beat))

    beat()
    yield beaten
    beaten.clear()
    await beaten.wait()
    handles[-1].cancel()
    print("stopped")


@row()
async def future_waited_for() -> AsyncGenerator[asyncio.Future[str], None]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()
    loop.call_later(0.02, future.set_result, "arrived")
    yield future
    print(await future)


# One object on another ----------------------------------------------------------------------------


async def pool() -> AsyncGenerator[Connection, None]:
    async with connect("pool") as connection:
        yield connection
    print("pool down")


async def table() -> AsyncGenerator[Connection, None]:
    connection = await use(pool)
    yield connection
    await connection.ping()
    print("table dropped")


@row(Connection.ping)
async def object_on_another() -> AsyncGenerator[Connection, None]:
    connection = await use(table)
    async with transaction(connection):
        yield connection


@row(next_tick)
async def object_on_the_tasks_of_another() -> AsyncGenerator[asyncio.Event, None]:
    seen = await use(task_group_in_a_manager)
    yield seen
    await next_tick(seen)
    print("its base still ticks")


async def use_late(body: Callable[[], AsyncGenerator[Connection, None]]) -> None:
    await (await use(body)).ping()


@row(lambda _: use_late(table))
async def made_before_another() -> AsyncGenerator[str, None]:
    """What is made later goes first."""
    yield "value"
    print("down last")


# Context variables --------------------------------------------------------------------------------

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


@row()
async def context_variable() -> AsyncGenerator[str, None]:
    request.set("of the body")
    yield request.get()
    await asyncio.sleep(0)
    print(request.get())


@row()
async def context_variable_given_back() -> AsyncGenerator[str, None]:
    token = request.set("of the body")
    try:
        yield "value"
    finally:
        request.reset(token)
        print(request.get())


@row()
async def context_variable_in_tasks() -> AsyncGenerator[str, None]:
    async def read() -> str:
        return request.get()

    request.set("of the body")
    yield await asyncio.create_task(read())
    print(await asyncio.create_task(read()), await asyncio.to_thread(request.get))


# Threads and executors ----------------------------------------------------------------------------


@row()
async def to_thread() -> AsyncGenerator[list[str], None]:
    log: list[str] = []
    await asyncio.to_thread(log.append, "opened")
    yield log
    await asyncio.to_thread(log.append, "closed")
    print(log)


@row()
async def executor_of_its_own() -> AsyncGenerator[ThreadPoolExecutor, None]:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(2) as executor:
        print(await loop.run_in_executor(executor, sum, [1, 2]))
        yield executor
        print(await loop.run_in_executor(executor, sum, [3, 4]))
    print("shut down")


@row()
async def executor_set_as_default() -> AsyncGenerator[ThreadPoolExecutor, None]:
    executor = ThreadPoolExecutor(1, thread_name_prefix="body")
    asyncio.get_running_loop().set_default_executor(executor)
    yield executor
    thread = await asyncio.to_thread(threading.current_thread)
    print(thread.name)
    executor.shutdown()


@row(asyncio.Event.wait)
async def thread_that_feeds_the_loop() -> AsyncGenerator[asyncio.Event, None]:
    loop = asyncio.get_running_loop()
    fed, stop = asyncio.Event(), threading.Event()

    def feed() -> None:
        while not stop.wait(0.001):
            loop.call_soon_threadsafe(fed.set)

    thread = threading.Thread(target=feed)
    thread.start()
    yield fed
    fed.clear()
    await fed.wait()
    stop.set()
    await asyncio.to_thread(thread.join)
    print("thread ended")


@row()
async def thread_that_waits_for_the_loop() -> AsyncGenerator[threading.Thread, None]:
    """The thread's last work needs the loop during the teardown."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def serve() -> None:
        stop.wait()
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.001, "from the loop"), loop)
        print(future.result())

    thread = threading.Thread(target=serve)
    thread.start()
    yield thread
    stop.set()
    await asyncio.to_thread(thread.join)
    print("down")


# Servers, processes, signals ----------------------------------------------------------------------


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(server: asyncio.Server) -> None:
    """Leaves when the server has left the connection too."""
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\n")
    writer.write_eof()
    print(await reader.readline(), await reader.read())
    writer.close()
    await writer.wait_closed()


@row(ask)
async def server() -> AsyncGenerator[asyncio.Server, None]:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server
        await ask(server)
    print("serves:", server.is_serving())


@row(ask)
async def server_in_a_task() -> AsyncGenerator[asyncio.Server, None]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0, start_serving=False)
    task = asyncio.create_task(server.serve_forever())
    while not server.is_serving():
        await asyncio.sleep(0)
    yield server
    await ask(server)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    print("serves:", server.is_serving())


@row(without=LATER_TASKS)
async def client_of_a_server() -> AsyncGenerator[asyncio.StreamWriter, None]:
    """The server's task for the connection has begun when the client's body ends."""
    port = (await use(server)).sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"before\n")
    print(await reader.readline())
    yield writer
    writer.write(b"after\n")
    print(await reader.readline())
    writer.close()
    await writer.wait_closed()


@row()
async def datagrams() -> AsyncGenerator[asyncio.DatagramTransport, None]:
    class Protocol(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.received: asyncio.Queue[bytes] = asyncio.Queue()
            self.lost = asyncio.Event()

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.received.put_nowait(data)

        def connection_lost(self, error: Exception | None) -> None:
            print("lost by", error)
            self.lost.set()

    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    yield transport
    transport.sendto(b"ping", transport.get_extra_info("sockname"))
    print(await protocol.received.get())
    transport.close()
    await protocol.lost.wait()


@row(without={} if os.name == "posix" else dict.fromkeys(ENDINGS, "its loop watches no sockets"))
async def socket_watched() -> AsyncGenerator[socket.socket, None]:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ready = asyncio.Event()
    with ours, theirs:
        loop.add_reader(ours, ready.set)
        yield theirs
        theirs.send(b"x")
        await ready.wait()
        print(ours.recv(1), "then removed:", loop.remove_reader(ours))


@row()
async def child_process() -> AsyncGenerator[asyncio.subprocess.Process, None]:
    code = "for line in iter(input, 'stop'): print(line.upper(), flush=True)"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", code),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    yield child
    child.stdin.write(b"still there\n")
    print((await child.stdout.readline()).strip())
    child.stdin.write(b"stop\n")
    print("ended with", await child.wait())


@row()
async def child_process_terminated() -> AsyncGenerator[asyncio.subprocess.Process, None]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", "input()"), stdin=asyncio.subprocess.PIPE
    )
    try:
        yield child
    finally:
        print("ran until now:", child.returncode is None)
        child.kill()
        await child.communicate()
        print("killed:", child.returncode != 0)


@row()
async def logger() -> AsyncGenerator[logging.Logger, None]:
    logger = logging.getLogger("oracle")
    handler = logging.StreamHandler(sys.stdout)
    logger.addHandler(handler)
    yield logger
    logger.warning("last words")
    logger.removeHandler(handler)
    handler.close()


# anyio --------------------------------------------------------------------------------------------


async def anyio_tick(seen: Any) -> None:
    import anyio

    try:
        while True:
            seen.set()
            await anyio.sleep(0.001)
    except anyio.get_cancelled_exc_class():
        print("ticker cancelled")
        raise


@row(needs=("anyio",))
async def anyio_task_group() -> AsyncGenerator[anyio.abc.TaskGroup, None]:
    import anyio

    seen = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio_tick, seen)
        await seen.wait()
        yield group
        await anyio.sleep(0)
        group.cancel_scope.cancel()
    print("down")


@asynccontextmanager
async def anyio_client() -> AsyncIterator[str]:
    import anyio

    seen = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio_tick, seen)
        await seen.wait()
        try:
            yield "client"
        finally:
            group.cancel_scope.cancel()
    print("client closed")


@row(needs=("anyio",))
async def anyio_task_group_in_a_manager() -> AsyncGenerator[str, None]:
    async with anyio_client() as client:
        yield client
    print("down")


@row(needs=("anyio",))
async def anyio_shield_in_the_teardown() -> AsyncGenerator[str, None]:
    import anyio

    try:
        yield "value"
    finally:
        with anyio.CancelScope(shield=True), anyio.fail_after(600):
            await anyio.sleep(0.001)
            print("closed gracefully")


async def send_three(sender: anyio.abc.ObjectSendStream[int]) -> None:
    for number in range(3):
        await sender.send(number)


@row(send_three, needs=("anyio",))
async def anyio_streams() -> AsyncGenerator[anyio.abc.ObjectSendStream[int], None]:
    import anyio

    sender, receiver = anyio.create_memory_object_stream[int](0)

    async def read() -> None:
        async with receiver:
            print("received", [item async for item in receiver])

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        async with sender:
            yield sender
            await sender.send(7)
    print("down")


@row(needs=("anyio",))
async def anyio_task_started() -> AsyncGenerator[int, None]:
    import anyio

    async def serve(*, task_status: anyio.abc.TaskStatus[int]) -> None:
        try:
            task_status.started(7)
            await anyio.sleep_forever()
        finally:
            print("server over")

    async with anyio.create_task_group() as group:
        port = await group.start(serve)
        yield port
        group.cancel_scope.cancel()


@row(needs=("anyio",))
async def anyio_worker_thread() -> AsyncGenerator[list[str], None]:
    import anyio.to_thread

    log: list[str] = []
    await anyio.to_thread.run_sync(log.append, "opened")
    yield log
    await anyio.to_thread.run_sync(log.append, "closed")
    print(log)


@row(needs=("anyio",))
async def anyio_portal_for_threads() -> AsyncGenerator[anyio.from_thread.BlockingPortal, None]:
    import anyio.from_thread

    async def answer() -> str:
        return "from the loop"

    stop = threading.Event()
    async with anyio.from_thread.BlockingPortal() as portal:

        def serve() -> None:
            stop.wait()
            print(portal.call(answer))

        thread = threading.Thread(target=serve)
        thread.start()
        yield portal
        stop.set()
        await asyncio.to_thread(thread.join)
    print("down")


async def ask_by_anyio(port: int) -> None:
    import anyio

    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"hello")
        print(await stream.receive())


@row(needs=("anyio",), without=LATER_TASKS)
async def anyio_server() -> AsyncGenerator[int, None]:
    import anyio

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(await stream.receive())

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = int(listener.extra(anyio.abc.SocketAttribute.local_port))
        yield port
        await ask_by_anyio(port)
        group.cancel_scope.cancel()
    print("down")


# Databases ----------------------------------------------------------------------------------------

URL = "sqlite+aiosqlite://"
DATABASE = ("sqlalchemy", "aiosqlite", "greenlet")


async def count_rows(connection: AsyncConnection) -> None:
    from sqlalchemy import text

    print("rows:", await connection.scalar(text("SELECT count(*) FROM item")))


async def sqlalchemy_engine() -> AsyncGenerator[AsyncEngine, None]:
    from sqlalchemy import event, text
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import StaticPool

    engine = create_async_engine(URL, poolclass=StaticPool)
    for name in ("commit", "rollback"):
        event.listen(engine.sync_engine, name, lambda _, name=name: print(name))
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE item (name TEXT)"))
    yield engine
    async with engine.connect() as connection:
        await count_rows(connection)
    await engine.dispose()
    print("disposed")


@row(needs=DATABASE)
async def sqlalchemy_engine_disposed() -> AsyncGenerator[AsyncEngine, None]:
    from sqlalchemy import text

    engine = await use(sqlalchemy_engine)
    yield engine
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO item VALUES ('last')"))


@row(count_rows, needs=DATABASE)
async def sqlalchemy_begin() -> AsyncGenerator[AsyncConnection, None]:
    """Commits after the yield."""
    from sqlalchemy import text

    engine = await use(sqlalchemy_engine)
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO item VALUES ('first')"))
        yield connection
        await connection.execute(text("INSERT INTO item VALUES ('last')"))


@row(needs=DATABASE)
async def sqlalchemy_session() -> AsyncGenerator[AsyncSession, None]:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import async_sessionmaker

    maker = async_sessionmaker(await use(sqlalchemy_engine))
    async with maker() as session, session.begin():
        await session.execute(text("INSERT INTO item VALUES ('first')"))
        yield session
        await session.execute(text("INSERT INTO item VALUES ('last')"))


@row(needs=DATABASE)
async def sqlalchemy_rolled_back() -> AsyncGenerator[AsyncConnection, None]:
    """As in a test: nothing is kept."""
    from sqlalchemy import text

    engine = await use(sqlalchemy_engine)
    async with engine.connect() as connection:
        outer = await connection.begin()
        await connection.execute(text("INSERT INTO item VALUES ('first')"))
        yield connection
        await count_rows(connection)
        await outer.rollback()


@row(needs=DATABASE)
async def sqlalchemy_stream() -> AsyncGenerator[Any, None]:
    from sqlalchemy import text

    engine = await use(sqlalchemy_engine)
    async with engine.connect() as connection:
        numbers = text("VALUES (1), (2), (3)")
        async with connection.stream(numbers) as result:
            print(await result.fetchone())
            yield result
            print([each async for each in result])


@row(needs=("aiosqlite",))
async def aiosqlite_connection() -> AsyncGenerator[aiosqlite.Connection, None]:
    import aiosqlite

    async with aiosqlite.connect(":memory:") as database:
        await database.execute("CREATE TABLE item (name TEXT)")
        yield database
        await database.execute("INSERT INTO item VALUES ('last')")
        await database.commit()
        async with database.execute("SELECT name FROM item") as cursor:
            print([each async for each in cursor])
    print("closed")


# HTTP ---------------------------------------------------------------------------------------------


async def get_by_aiohttp(session: aiohttp.ClientSession) -> None:
    async with session.get("/") as response:
        print(response.status, await response.text())


async def aiohttp_site() -> AsyncGenerator[int, None]:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def cleaned(app: web.Application) -> AsyncIterator[None]:
        yield
        print("application cleaned up")

    app = web.Application()
    app.router.add_get("/", hello)
    app.cleanup_ctx.append(cleaned)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()
    print("site down")


@row(get_by_aiohttp, needs=("aiohttp",))
async def aiohttp_session() -> AsyncGenerator[aiohttp.ClientSession, None]:
    import aiohttp

    port = await use(aiohttp_site)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    print("session closed:", session.closed)


@row(get_by_aiohttp, needs=("aiohttp",), without=LATER_TASKS)
async def aiohttp_request_in_the_teardown() -> AsyncGenerator[aiohttp.ClientSession, None]:
    """Over the connection that the program has used, which a task of the site's serves."""
    session = await use(aiohttp_session)
    yield session
    await get_by_aiohttp(session)


async def get(client: httpx2.AsyncClient) -> None:
    response = await client.get("/")
    print(response.status_code, response.text)


def application() -> fastapi.FastAPI:
    import fastapi

    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        async with connect("lifespan"):
            yield

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get("/")
    async def hello() -> str:
        return "hello"

    return app


@row(get, needs=("httpx2",))
async def httpx_client() -> AsyncGenerator[httpx2.AsyncClient, None]:
    import httpx2

    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, text="mocked"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://mock") as client:
        yield client
        await get(client)
    print("closed:", client.is_closed)


@row(get, needs=("httpx2", "fastapi"))
async def fastapi_application() -> AsyncGenerator[httpx2.AsyncClient, None]:
    import httpx2

    app = application()
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        yield client
        await get(client)
