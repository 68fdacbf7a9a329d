"""Plain bodies with servers, event loops and libraries: more rows of the table that `test_with`
runs, in a module of their own because their imports take long."""

from __future__ import annotations

import asyncio
import contextvars
import http.server
import io
import logging
import logging.handlers
import multiprocessing
import multiprocessing.managers
import multiprocessing.pool
import os
import queue
import signal
import socket
import socketserver
import sqlite3
import sys
import tempfile
import threading
import time
import types
import urllib.request
import wsgiref.simple_server
import xmlrpc.client
import xmlrpc.server
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    asynccontextmanager,
    chdir,
    closing,
    contextmanager,
    redirect_stdout,
)
from typing import TYPE_CHECKING, Any
from unittest import mock

from oracle import ENDINGS, row, use

if TYPE_CHECKING:
    import anyio.from_thread
    import fastapi.testclient
    import httpx2
    import requests
    from sqlalchemy import Connection as SQLConnection
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session


__all__ = ["ENDINGS"]

# What belongs to the process ----------------------------------------------------------------------


@row()
def environment() -> Generator[None, None, None]:
    with mock.patch.dict(os.environ, ORACLE="patched"):
        yield
        print(os.environ["ORACLE"])
    print(os.environ.get("ORACLE"))


@row()
def attribute_patched() -> Generator[Any, None, None]:
    with mock.patch.object(socket, "gethostname", return_value="patched") as patched:
        yield patched
        print(socket.gethostname())
    print(socket.gethostname() == "patched")


@row()
def module_put_in_place() -> Generator[types.ModuleType, None, None]:
    module = types.ModuleType("oracle_plugin")
    with mock.patch.dict(sys.modules, oracle_plugin=module):
        yield module
        print("oracle_plugin" in sys.modules)
    print("oracle_plugin" in sys.modules)


@row()
def working_directory() -> Generator[str, None, None]:
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        with chdir(folder):
            yield folder
            print("there:", os.path.samefile(os.getcwd(), folder))
        print("back:", os.getcwd() == here)
    print("folder is there:", os.path.isdir(folder))


@row(lambda _: print("to the file"))
def stdout_redirected() -> Generator[None, None, None]:
    with tempfile.TemporaryFile("w+") as file:
        with redirect_stdout(file):
            yield
        file.seek(0)
        print("kept:", file.read().split("\n")[0])


@row()
def signal_handler() -> Generator[None, None, None]:
    previous = signal.signal(signal.SIGINT, lambda *_: print("interrupted"))
    yield
    signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, previous)


request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


@row(lambda _: print(request.get()))
def plain_context_variable() -> Generator[None, None, None]:
    token = request.set("of the body")
    yield
    print(request.get())
    request.reset(token)
    print(request.get())


# Servers ------------------------------------------------------------------------------------------


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args: object) -> None:
        pass


def get(server: socketserver.TCPServer) -> None:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as response:
        print(response.status, response.read())


@row(get, starts_threads=True)
def http_server() -> Generator[http.server.HTTPServer, None, None]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        get(server)
        server.shutdown()
        thread.join()
    print("closed")


@row(get)
def http_server_in_a_daemon() -> Generator[http.server.HTTPServer, None, None]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
        get(server)
    finally:
        server.shutdown()
        server.server_close()
        print("closed")


@row(get)
def http_server_in_a_pool() -> Generator[http.server.HTTPServer, None, None]:
    with (
        http.server.HTTPServer(("127.0.0.1", 0), Hello) as server,
        ThreadPoolExecutor(1) as executor,
    ):
        served = executor.submit(server.serve_forever, 0.01)
        yield server
        get(server)
        server.shutdown()
        print(served.result())
    print("closed")


class Upper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


@row()
def socket_server_with_a_client() -> Generator[socket.socket, None, None]:
    """The connection, and the thread that serves it, last as long as the object."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Upper) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with socket.create_connection(("127.0.0.1", server.server_address[1])) as client:
            client.sendall(b"before\n")
            print(client.recv(100))
            yield client
            client.sendall(b"after\n")
            print(client.recv(100))
        server.shutdown()
        thread.join()
    print("closed")


@row()
def xmlrpc_server() -> Generator[xmlrpc.client.ServerProxy, None, None]:
    with xmlrpc.server.SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False) as server:
        server.register_introspection_functions()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{server.server_address[1]}") as proxy:
            yield proxy
            print(proxy.system.methodSignature("no"))
        server.shutdown()
        thread.join()
    print("closed")


class QuietHandler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@row(get)
def wsgi_server() -> Generator[http.server.HTTPServer, None, None]:
    def application(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"wsgi"]

    make = wsgiref.simple_server.make_server
    with make("127.0.0.1", 0, application, handler_class=QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        get(server)
        server.shutdown()
        thread.join()
    print("closed")


# Logging ------------------------------------------------------------------------------------------


@row(lambda logger: logger.warning("of the program"))
def queue_listener() -> Generator[logging.Logger, None, None]:
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    logger = logging.getLogger("oracle.queue")
    logger.propagate = False
    handler = logging.handlers.QueueHandler(records)
    logger.addHandler(handler)
    written = io.StringIO()
    listener = logging.handlers.QueueListener(records, logging.StreamHandler(written))
    listener.start()
    yield logger
    logger.warning("last words")
    listener.stop()
    logger.removeHandler(handler)
    print(written.getvalue().splitlines())


@row(lambda logger: logger.warning("of the program"))
def log_file() -> Generator[logging.Logger, None, None]:
    logger = logging.getLogger("oracle.file")
    logger.propagate = False
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "log")
        memory = logging.handlers.MemoryHandler(100, target=logging.FileHandler(path))
        logger.addHandler(memory)
        yield logger
        logger.warning("last words")
        logger.removeHandler(memory)
        assert memory.target is not None
        target = memory.target
        memory.close()
        target.close()
        with open(path) as file:
            print(file.read().split())


# Event loops --------------------------------------------------------------------------------------


@row(lambda run: print(run(asyncio.sleep(0, "of the program"))))
def loop_in_a_thread() -> Generator[Callable[[Any], Any], None, None]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    yield run
    print(run(asyncio.sleep(0, "of the teardown")))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@row(lambda runner: print(runner.run(asyncio.sleep(0, "of the program"))))
def runner() -> Generator[asyncio.Runner, None, None]:
    with asyncio.Runner() as runner:
        yield runner
        print(runner.run(asyncio.sleep(0, "of the teardown")))
    print("loop closed")


@row(lambda portal: print(portal.call(asyncio.sleep, 0, "of the program")), needs=("anyio",))
def anyio_portal() -> Generator[anyio.from_thread.BlockingPortal, None, None]:
    import anyio.from_thread

    with anyio.from_thread.start_blocking_portal() as portal:
        yield portal
        print(portal.call(asyncio.sleep, 0, "of the teardown"))
    print("portal closed")


@asynccontextmanager
async def async_connect() -> AsyncIterator[str]:
    print("connected")
    yield "connection"
    await asyncio.sleep(0)
    print("disconnected")


@row(needs=("anyio",))
def manager_in_a_portal() -> Generator[str, None, None]:
    import anyio.from_thread

    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(async_connect()) as connection,
    ):
        yield connection
    print("portal closed")


# Libraries ----------------------------------------------------------------------------------------


@row(lambda shared: shared.append("of the program"))
def multiprocessing_manager() -> Generator[Any, None, None]:
    with multiprocessing.Manager() as manager:
        shared = manager.list(["of the body"])
        yield shared
        print(list(shared))
    print("manager shut down")


@row()
def sqlite_transaction() -> Generator[sqlite3.Connection, None, None]:
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as database:
        database.execute("CREATE TABLE item (name TEXT)")
        with database:
            database.execute("INSERT INTO item VALUES ('first')")
            yield database
            database.execute("INSERT INTO item VALUES ('last')")
        print(database.in_transaction, database.execute("SELECT name FROM item").fetchall())


def engine() -> Generator[Engine, None, None]:
    from sqlalchemy import create_engine, event, text
    from sqlalchemy.pool import StaticPool

    arguments = {"check_same_thread": False}
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=arguments)
    for name in ("commit", "rollback"):
        event.listen(engine, name, lambda _, name=name: print(name))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE item (name TEXT)"))
    yield engine
    with engine.connect() as connection:
        print("rows:", connection.scalar(text("SELECT count(*) FROM item")))
    engine.dispose()
    print("disposed")


@row(needs=("sqlalchemy",))
def sqlalchemy_connection() -> Generator[SQLConnection, None, None]:
    """Commits after the yield."""
    from sqlalchemy import text

    with use(engine).begin() as connection:
        connection.execute(text("INSERT INTO item VALUES ('first')"))
        yield connection
        connection.execute(text("INSERT INTO item VALUES ('last')"))


@row(needs=("sqlalchemy",))
def sqlalchemy_plain_session() -> Generator[Session, None, None]:
    from sqlalchemy import text
    from sqlalchemy.orm import sessionmaker

    with sessionmaker(use(engine)).begin() as session:
        session.execute(text("INSERT INTO item VALUES ('first')"))
        yield session
        session.execute(text("INSERT INTO item VALUES ('last')"))


def get_root(client: Any) -> None:
    response = client.get("/")
    print(response.status_code, response.text)


@row(get_root, needs=("httpx2",))
def httpx_plain_client() -> Generator[httpx2.Client, None, None]:
    import httpx2

    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, text="mocked"))
    with httpx2.Client(transport=transport, base_url="http://mock") as client:
        yield client
        get_root(client)
    print("closed:", client.is_closed)


@row(needs=("requests",), starts_threads=True)
def requests_session() -> Generator[requests.Session, None, None]:
    import requests

    with requests.Session() as session:
        session.trust_env = False
        url = f"http://127.0.0.1:{use(http_server).server_address[1]}"
        yield session
        print(session.get(url).text)
    print("session closed")


def application(plain: bool = True) -> fastapi.FastAPI:
    import fastapi

    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        async with async_connect():
            yield

    app = fastapi.FastAPI(lifespan=lifespan)

    def hello() -> str:  # runs in a worker thread
        return "hello"

    async def ahello() -> str:
        return "hello"

    app.get("/")(hello if plain else ahello)
    return app


@row(get_root, needs=("fastapi", "httpx2"))
def fastapi_test_client() -> Generator[fastapi.testclient.TestClient, None, None]:
    import fastapi.testclient

    with fastapi.testclient.TestClient(application()) as client:
        yield client
        get_root(client)
    print("down")


@row(needs=("starlette", "httpx2"))
def starlette_websocket() -> Generator[Any, None, None]:
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.testclient import TestClient
    from starlette.websockets import WebSocket

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)
        print("websocket left")

    app = Starlette(routes=[WebSocketRoute("/", echo)])
    with TestClient(app) as client, client.websocket_connect("/") as websocket:
        yield websocket
        websocket.send_text("hello")
        print(websocket.receive_text())
    print("down")


@contextmanager
def served(application: fastapi.FastAPI, daemon: bool | None = None) -> Iterator[httpx2.Client]:
    import httpx2
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(application, log_level="critical", lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=daemon)
        thread.start()
        while not server.started:
            time.sleep(0.001)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx2.Client(base_url=url, trust_env=False) as client:
            yield client
            get_root(client)
        server.should_exit = True
        thread.join()
    print("served")


UVICORN = ("fastapi", "httpx2", "uvicorn")


@row(get_root, needs=UVICORN)
def uvicorn_in_a_daemon() -> Generator[httpx2.Client, None, None]:
    with served(application(), daemon=True) as client:
        yield client


@row(get_root, needs=UVICORN)
def uvicorn_in_a_thread() -> Generator[httpx2.Client, None, None]:
    with served(application(plain=False)) as client:
        yield client


# Nothing tells which thread has started another, and exit waits for the threads of the program.
LATER_THREADS = "a thread that an object's threads start after the body is the program's"


@row(get_root, needs=UVICORN, without=dict.fromkeys(("exit", "sys.exit"), LATER_THREADS))
def uvicorn_with_workers_that_are_no_daemons() -> Generator[httpx2.Client, None, None]:
    with served(application()) as client:
        yield client
