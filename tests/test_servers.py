"""The README's recipes for servers, in real ones: with the recipe what they hold is torn down, and
without it where the table "Is it torn down?" says so."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGINT, SIGTERM

import pytest
from readme import file, torn_down

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGTERM that a process can handle")
LIMIT = 60  # seconds, for what would otherwise hang


class Server:
    """A server in a folder of its own, with all its processes, and what it has printed."""

    def __init__(self, folder: Path, files: dict[str, str], command: list[str]) -> None:
        self.folder = folder
        for name, text in files.items():
            (folder / name).write_text(text)
        command = [sys.executable, "-m", *command]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )

    def printed(self) -> str:
        return (self.folder / "log").read_text()

    def wait_for(self, pattern: str) -> str:
        """What the pattern's group has matched, once it stands in the output."""
        until = time.monotonic() + LIMIT
        while not (match := re.search(pattern, self.printed())):
            assert self.process.poll() is None, self.printed()
            assert time.monotonic() < until, self.printed()
            time.sleep(0.02)
        return match[1]

    def get(self) -> None:
        """A request, as soon as it listens."""
        port = int(self.wait_for(r"http://127\.0\.0\.1:(\d+)"))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        until = time.monotonic() + LIMIT
        while connection.sock is None:
            assert time.monotonic() < until, self.printed()
            with contextlib.suppress(ConnectionRefusedError):
                connection.connect()
        connection.request("GET", "/", headers={"Connection": "close"})
        assert connection.getresponse().read()
        connection.close()

    def stop(self, number: signal.Signals) -> str:
        """All that it has printed when it has ended. Ctrl-C in a terminal reaches all processes, a
        worker of uvicorn first, which skips the lifespan if its master's SIGTERM was faster."""
        main = self.process.pid
        started = map(int, re.findall(r"Started server process \[(\d+)\]", self.printed()))
        workers = {*started} - {main}
        for pid in [main] if number == SIGTERM else [*workers, main] if workers else [-main]:
            os.kill(pid, number)
        self.process.wait(LIMIT)
        return self.printed()


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers, of which none is left."""
    started: list[Server] = []

    def start(files: dict[str, str], *command: str) -> Server:
        server = Server(Path(tempfile.mkdtemp(dir=tmp_path)), files, list(command))
        started.append(server)
        return server

    yield start
    for server in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


def without(recipe: str, text: str) -> str:
    """The README's file without what its recipe comes to."""
    assert recipe in text
    return text.replace(recipe, "pass")


UVICORN = ["uvicorn", "--port", "0", "app:app"]
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:0", "app:app"]
ASGI = [
    ("`uvicorn`, SIGTERM", UVICORN),
    ("`uvicorn`, Ctrl-C", UVICORN),
    ("`uvicorn --workers 2`, `uvicorn --reload`", [*UVICORN, "--workers", "2"]),
    ("`uvicorn --workers 2`, `uvicorn --reload`", [*UVICORN, "--reload"]),
    ("`gunicorn` with uvicorn's worker", [*GUNICORN, "-k", "uvicorn_worker.UvicornWorker"]),
]


@pytest.mark.parametrize(("row", "command"), ASGI)
def test_lifespan(row: str, command: list[str], start: Start) -> None:
    """`areset()` at the end of the lifespan tears down under each server, by SIGTERM and Ctrl-C."""
    for module in ("fastapi", command[0], "uvicorn_worker"):
        pytest.importorskip(module)
    recipe = file("app.py")
    signals = [SIGINT] if "Ctrl-C" in row else [SIGTERM] if "SIGTERM" in row else [SIGTERM, SIGINT]
    runs = [(without("await areset()", recipe), signals[0], torn_down(row))]
    runs += [(recipe, number, True) for number in signals]
    servers = [start({"app.py": text}, *command) for text, _, _ in runs]
    for server in servers:
        server.get()
    for server, (_, number, expected) in zip(servers, runs, strict=True):
        printed = server.stop(number)
        assert ("disposed of" in printed) == expected, printed


WSGI = """
from memoize_once import memoize

@memoize
def failing():
    yield b"up"
    print("torn down", flush=True)
    raise OSError("the port is still open")

def app(environ, start_response):
    start_response("200 OK", [])
    return [failing()]
"""


def test_gunicorn(start: Start) -> None:
    """gunicorn's own workers are torn down; with the hook, an error of that is in its log."""
    pytest.importorskip("gunicorn")
    hook = file("gunicorn.conf.py")
    cured = start({"app.py": WSGI, "gunicorn.conf.py": hook}, *GUNICORN)
    bare = start({"app.py": WSGI}, *GUNICORN), start({"app.py": WSGI}, *GUNICORN, "--threads", "2")
    # not SIGINT for the one with threads: where the SIGQUIT of its master interrupts the handler,
    # gunicorn's own pool hangs in a lock, now and then
    for server, number in zip((cured, *bare), (SIGTERM, SIGINT, SIGTERM), strict=True):
        server.get()
        printed = server.stop(number)
        assert ("torn down" in printed) == torn_down("`gunicorn`, sync and threads"), printed
        assert ("[WARNING] Exception during worker exit" in printed) == (server is cured), printed


CONFIGURATION = """
from pathlib import Path

folder = str(Path(__file__).parent)
broker_url = "filesystem://"
names = ["data_folder_in", "data_folder_out", "control_folder"]
broker_transport_options = dict.fromkeys(names, folder)
"""


def test_celery(start: Start) -> None:
    """Celery's prefork workers are torn down with the README's signal and not without it; those of
    other pools need none."""
    pytest.importorskip("celery")
    recipe = file("tasks.py")
    bare = without("reset()", recipe)
    others = torn_down("`celery worker --pool solo` or `threads`")
    runs = [
        (recipe, "prefork", SIGTERM, True),
        (recipe, "prefork", SIGINT, True),
        (bare, "prefork", SIGTERM, torn_down("`celery worker`, prefork")),
        (bare, "solo", SIGTERM, others),
        (bare, "threads", SIGINT, others),
    ]

    def end(text: str, kind: str, number: signal.Signals, expected: bool) -> None:
        celery = ["celery", "-A", "tasks"]
        options = f"-l INFO -c 1 -P {kind} --without-mingle --without-gossip --without-heartbeat"
        files = {"tasks.py": text, "celeryconfig.py": CONFIGURATION}
        worker = start(files, *celery, "worker", *options.split())
        call = [sys.executable, "-m", *celery, "call", "tasks.answer"]
        subprocess.run(call, cwd=worker.folder, check=True, capture_output=True, timeout=LIMIT)
        worker.wait_for("(succeeded in)")
        printed = worker.stop(number)
        assert ("unloaded" in printed) == expected, printed

    with ThreadPoolExecutor() as pool:
        list(pool.map(end, *zip(*runs, strict=True)))
