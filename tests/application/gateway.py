"""The application in a process of its own, at the other end of an execnet gateway, and what that has cost."""

from __future__ import annotations

import time
from typing import Any

import execnet
import requests
from application import notes

LIMIT = 30  # seconds, for what would otherwise hang

started: list[Application] = []  # by this process, in whichever of its sessions


class Client(requests.Session):
    """Requests to the application, by path. Each thread needs a client of its own."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.base = url
        self.trust_env = False  # no proxy stands between

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", LIMIT)
        return super().request(method, f"{self.base}{url!s}", *args, **kwargs)


class Application:
    """A running application."""

    def __init__(self, port: int, path: str) -> None:
        begin = time.perf_counter()
        self.modules: set[str] = set()  # those that have used it
        self.requests = 0
        self.seconds_to_tear_down: float | None = None
        self.gateway = execnet.makegateway("popen")
        try:
            self._channel = self.gateway.remote_exec(notes)
            self._channel.send((port, path))
            self.pid, self.port = self._channel.receive(LIMIT)
        except BaseException:
            self._end()
            raise
        self.seconds_to_make = time.perf_counter() - begin
        started.append(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Client:
        return Client(self.url)

    def ask(self) -> int:
        """How many requests it has answered. It counts them itself, this one too."""
        with self.client() as client:
            self.requests = client.get("/statistics").json()["requests"]
        return self.requests

    def close(self) -> None:
        begin = time.perf_counter()
        try:
            self.ask()
            self._channel.close()
        finally:
            self._end()
        self.seconds_to_tear_down = time.perf_counter() - begin

    def _end(self) -> None:
        # group.terminate() does the same in threads, which CPython 3.12.1 refuses to start at exit
        self.gateway.exit()
        self.gateway.join()
        self.gateway._io.wait()


def figures() -> str:
    """What the applications of this process have cost, and saved where each module would have had one of its own."""
    modules = set().union(*(application.modules for application in started))
    to_make = sum(application.seconds_to_make for application in started)
    if any(application.seconds_to_tear_down is None for application in started):
        torn_down = "to be torn down at exit"
    else:
        torn_down = f"torn down in {sum(application.seconds_to_tear_down or 0 for application in started):.2f} s"
    served = sum(application.requests if application.seconds_to_tear_down else application.ask() for application in started)
    saved = (len(modules) - len(started)) * to_make / len(started)
    return f"{len(started)} made in {to_make:.2f} s, {served} requests served, {torn_down}, {saved:.2f} s saved, modules: {len(modules)}"
