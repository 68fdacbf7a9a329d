"""Notes and counters over HTTP, kept in SQLite: a WSGI application, and tornado that serves it.

An execnet gateway runs the text of this module in a process of its own: it stands by itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.wsgi import WSGIContainer

SCHEMA = """
CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
LONGEST = 1000  # characters of a note
THREADS = 4

Headers = dict[str, str]
Answer = tuple[HTTPStatus, Any, Headers]


class RefusedError(Exception):
    """The client has asked for what it cannot have."""

    def __init__(self, status: HTTPStatus, reason: str, headers: Headers | None = None) -> None:
        super().__init__(reason)
        self.answer: Answer = (status, {"error": reason}, headers or {})


class Service:
    """The WSGI application, which several threads run at once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._requests = 0
        note = {"GET": self.read, "PUT": self.replace, "DELETE": self.delete}
        self._routes: dict[str, dict[str, Callable[..., Answer]]] = {
            r"/notes": {"GET": self.search, "POST": self.add},
            r"/notes/(\d{1,18})": note,
            r"/counters/([^/]+)": {"GET": self.value, "POST": self.count},
            r"/statistics": {"GET": self.statistics},
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._lock:
            self._requests += 1
        try:
            status, body, headers = self.answer(environ)
        except RefusedError as refused:
            status, body, headers = refused.answer
        content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        headers |= {"Content-Length": str(len(content))}
        if content:
            headers |= {"Content-Type": "application/json"}
        start_response(f"{status.value} {status.phrase}", list(headers.items()))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]

    def answer(self, environ: WSGIEnvironment) -> Answer:
        method = environ["REQUEST_METHOD"].replace("HEAD", "GET")
        try:
            path = environ["PATH_INFO"].encode("latin-1").decode()  # WSGI takes bytes for Latin-1
        except UnicodeDecodeError:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the path is not UTF-8") from None
        for pattern, methods in self._routes.items():
            if match := re.fullmatch(pattern, path):
                if method not in methods:
                    allow = {"Allow": ", ".join(["HEAD", *methods])}
                    reason = f"{method} does not go with {path}"
                    raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, reason, allow)
                return methods[method](environ, *match.groups())
        raise RefusedError(HTTPStatus.NOT_FOUND, f"there is no {path}")

    def execute(self, statement: str, *arguments: object) -> list[Any]:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            return connection.execute(statement, arguments).fetchall()

    def search(self, environ: WSGIEnvironment) -> Answer:
        wanted = parse_qs(environ["QUERY_STRING"]).get("search", [""])[0]
        select = "SELECT id, text FROM notes WHERE instr(text, ?) ORDER BY id"
        rows = self.execute(select, wanted)
        return HTTPStatus.OK, [{"id": number, "text": text} for number, text in rows], {}

    def add(self, environ: WSGIEnvironment) -> Answer:
        text = _text(environ)
        [(number,)] = self.execute("INSERT INTO notes (text) VALUES (?) RETURNING id", text)
        return HTTPStatus.CREATED, {"id": number, "text": text}, {"Location": f"/notes/{number}"}

    def read(self, environ: WSGIEnvironment, number: str) -> Answer:
        return _note(number, self.execute("SELECT text FROM notes WHERE id = ?", int(number)))

    def replace(self, environ: WSGIEnvironment, number: str) -> Answer:
        update = "UPDATE notes SET text = ? WHERE id = ? RETURNING text"
        return _note(number, self.execute(update, _text(environ), int(number)))

    def delete(self, environ: WSGIEnvironment, number: str) -> Answer:
        _note(number, self.execute("DELETE FROM notes WHERE id = ? RETURNING text", int(number)))
        return HTTPStatus.NO_CONTENT, None, {}

    def value(self, environ: WSGIEnvironment, name: str) -> Answer:
        rows = self.execute("SELECT value FROM counters WHERE name = ?", name)
        return HTTPStatus.OK, {"name": name, "value": rows[0][0] if rows else 0}, {}

    def count(self, environ: WSGIEnvironment, name: str) -> Answer:
        count = (
            "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
        )
        [(value,)] = self.execute(f"{count} RETURNING value", name)
        return HTTPStatus.OK, {"name": name, "value": value}, {}

    def statistics(self, environ: WSGIEnvironment) -> Answer:
        return HTTPStatus.OK, {"pid": os.getpid(), "requests": self._requests}, {}


def _note(number: str, rows: list[Any]) -> Answer:
    if not rows:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"there is no note {number}")
    return HTTPStatus.OK, {"id": int(number), "text": rows[0][0]}, {}


def _text(environ: WSGIEnvironment) -> str:
    """The text of the note in the request's body."""
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip() != "application/json":
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a note is application/json")
    try:
        body = json.loads(environ["wsgi.input"].read())
        text = body["text"]
        text.encode()  # half a surrogate pair is no text
    except (ValueError, LookupError, TypeError, AttributeError):
        reason = 'a note is an object like {"text": "..."}'
        raise RefusedError(HTTPStatus.BAD_REQUEST, reason) from None
    if not 0 < len(text) <= LONGEST:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"a note has 1 to {LONGEST} characters")
    return str(text)


async def serve(channel: Any) -> None:
    """Binds the port that the channel brings, reports the one that it got, and serves until the
    channel closes."""
    port, path = channel.receive()
    loop, closed = asyncio.get_running_loop(), asyncio.Event()
    logging.getLogger("tornado.access").disabled = True  # refusals are what tests ask for
    with ThreadPoolExecutor(THREADS) as executor:
        server = HTTPServer(WSGIContainer(Service(path), executor))
        sockets = bind_sockets(port, "127.0.0.1")
        server.add_sockets(sockets)
        # without it the gateway would be waited for, and interrupted after 5 seconds
        channel.setcallback(lambda _: loop.call_soon_threadsafe(closed.set), endmarker=None)
        channel.send((os.getpid(), sockets[0].getsockname()[1]))
        await closed.wait()
        server.stop()
        await server.close_all_connections()


if __name__ == "__channelexec__":
    # for those who count processes: one file for each, with the process that has started it
    if folder := os.environ.get("APPLICATION_PIDS"):
        Path(folder, str(os.getpid())).write_text(str(os.getppid()))
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches this process too, which the tests' process ends
    asyncio.run(serve(channel))  # type: ignore[name-defined]  # noqa: F821  execnet puts it there
