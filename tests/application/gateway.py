"""The application in a process of its own, at the other end of an execnet gateway."""

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

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        kwargs.setdefault("timeout", LIMIT)
        return super().request(method, f"{self.base}{url}", *args, **kwargs)


class Application:
    """A running application, and what it has cost."""

    def __init__(self, port: int, path: str) -> None:
        begin = time.perf_counter()
        self.modules: set[str] = set()  # those that have used it
        self.stopped = "stops it at its exit"
        self.gateway = execnet.makegateway("popen")
        try:
            self._channel = self.gateway.remote_exec(notes)
            self._channel.send((port, path))
            self.pid, self.port = self._channel.receive(LIMIT)
        except BaseException:
            self._end()
            raise
        self.seconds = time.perf_counter() - begin
        started.append(self)

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}")

    def close(self) -> None:
        begin = time.perf_counter()
        self._channel.close()
        self._end()
        self.stopped = f"stopped it in {time.perf_counter() - begin:.2f} s"

    def _end(self) -> None:
        # group.terminate() does the same in threads, which CPython 3.12.1 refuses to start at exit
        self.gateway.exit()
        self.gateway.join()
        self.gateway._io.wait()


def story(process: str) -> tuple[str, float]:
    """What this process did with its application, for a reader who has never heard of it, and how
    much longer one for each module would have taken."""
    [application] = started
    count = len(application.modules)
    modules = f"{count} test module{'s' * (count > 1)}"
    return (
        f"{process} started it in {application.seconds:.2f} s, shared it among {modules}, "
        f"and {application.stopped}."
    ), application.seconds * (count - 1)
