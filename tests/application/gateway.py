"""The application in a process of its own, at the other end of an execnet gateway."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import execnet
import requests
from application import notes

LIMIT = 30  # seconds, for what would otherwise hang


@dataclasses.dataclass
class Count:
    """For which modules a process was asked for the application, and how long its starts took."""

    modules: list[str] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)


counted = Count()  # by this process, in whichever of its sessions


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
    """A running application."""

    def __init__(self, port: int, path: str) -> None:
        begin = time.perf_counter()
        self.gateway = execnet.makegateway("popen")
        try:
            self._channel = self.gateway.remote_exec(notes)
            self._channel.send((port, path))
            self.pid, self.port = self._channel.receive(LIMIT)
        except BaseException:
            self._end()
            raise
        counted.seconds.append(time.perf_counter() - begin)

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}")

    def close(self) -> None:
        self._channel.close()
        self._end()

    def _end(self) -> None:
        # group.terminate() does the same in threads, which CPython 3.12.1 refuses to start at exit
        self.gateway.exit()
        self.gateway.join()
        self.gateway._io.wait()
