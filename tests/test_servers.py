"""Promises 12, 13 and 18 in real servers: with the README's recipes what they hold is torn down,
and without them where the table "Is it torn down?" says so."""

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
from readme import file, handler, torn_down

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
    ("`uvicorn`", UVICORN),
    ("`uvicorn --workers 2`, `uvicorn --reload`", [*UVICORN, "--workers", "2"]),
    ("`uvicorn --workers 2`, `uvicorn --reload`", [*UVICORN, "--reload"]),
    ("`gunicorn` with uvicorn's worker", [*GUNICORN, "-k", "uvicorn_worker.UvicornWorker"]),
]


@pytest.mark.parametrize(("row", "command"), ASGI)
def test_lifespan(row: str, command: list[str], start: Start) -> None:
    """`areset` at the end of the lifespan tears down under each server, by SIGTERM and Ctrl-C."""
    for module in ("fastapi", command[0], "uvicorn_worker"):
        pytest.importorskip(module)
    recipe = file("app.py")
    runs = [(recipe, number, True) for number in (SIGTERM, SIGINT)]
    bare = without("await areset(engine, sessions)", recipe)
    runs += [(bare, SIGTERM, torn_down(row, SIGTERM))]
    if torn_down(row, SIGINT):  # where it says no, a Ctrl-C that comes first does tear down
        runs += [(bare, SIGINT, True)]
    servers = [start({"app.py": text}, *command) for text, _, _ in runs]
    for server in servers:
        server.get()
    for server, (_, number, expected) in zip(servers, runs, strict=True):
        printed = server.stop(number)
        assert ("disposed of" in printed) == expected, printed


CONNECTION = """
import signal, sys
from memoize_once import memoize

@memoize
def connection():
    yield "up"
    print("closed", flush=True)

"""
FLASK = f"""{CONNECTION}
from flask import Flask

app = Flask(__name__)
app.get("/")(connection)
"""
DJANGO = f"""{CONNECTION}
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

settings.configure(DEBUG=True, ROOT_URLCONF=__name__)
urlpatterns = [path("", lambda request: HttpResponse(connection()))]
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""
PLAIN = "`flask run`, `manage.py runserver --noreload`, `waitress-serve`"
RELOADED = "`flask run --debug`, `manage.py runserver`"
WSGI_SERVERS = [
    (PLAIN, FLASK, ["flask", "run", "--port", "0"]),
    (PLAIN, FLASK, ["waitress", "--listen", "127.0.0.1:0", "app:app"]),
    (PLAIN, DJANGO, ["app", "runserver", "0", "--noreload"]),
    (RELOADED, FLASK, ["flask", "run", "--port", "0", "--debug"]),
    (RELOADED, DJANGO, ["app", "runserver", "0"]),
]


@pytest.mark.parametrize(("row", "application", "command"), WSGI_SERVERS)
def test_handler(row: str, application: str, command: list[str], start: Start) -> None:
    """Development servers and waitress end by Ctrl-C as a script does, and by SIGTERM with the
    README's handler, but their reloaders kill what they have started."""
    for module in {"flask", command[0]} - {"app"} if application == FLASK else ["django"]:
        pytest.importorskip(module)
    runs = [(application, SIGTERM, torn_down(row, SIGTERM))]
    if row == PLAIN:  # the others have 0.25 seconds after a Ctrl-C, which are enough or not
        handled = application.replace("\n\n", f"\n{handler()}\n", 1)
        runs += [(application, SIGINT, torn_down(row, SIGINT)), (handled, SIGTERM, True)]
    servers = [start({"app.py": text}, *command) for text, _, _ in runs]
    for server in servers:
        server.get()
    for server, (_, number, expected) in zip(servers, runs, strict=True):
        printed = server.stop(number)
        assert ("closed" in printed) == expected, printed


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
        torn = torn_down("`gunicorn`, sync and threads", number)
        assert ("torn down" in printed) == torn, printed
        assert ("[WARNING] Exception during worker exit" in printed) == (server is cured), printed


CONFIGURATION = """
from pathlib import Path

folder = str(Path(__file__).parent)
broker_url = "filesystem://"
names = ["data_folder_in", "data_folder_out", "control_folder"]
broker_transport_options = dict.fromkeys(names, folder)
"""

CELERY = """
from celery import Celery
from memoize_once import memoize

app = Celery("tasks", config_source="celeryconfig")

@memoize
def model():
    yield 42
    print("unloaded", flush=True)

@app.task
def answer():
    return model()

"""


def test_celery(start: Start) -> None:
    """Celery's prefork workers are torn down with the README's signal and not without it; those of
    other pools need none."""
    pytest.importorskip("celery")
    recipe = CELERY + file("tasks.py")
    bare = without("reset()", recipe)
    prefork, others = "`celery worker`, prefork", "`celery worker --pool solo` or `threads`"
    runs = [
        (recipe, "prefork", SIGTERM, True),
        (recipe, "prefork", SIGINT, True),
        (bare, "prefork", SIGTERM, torn_down(prefork, SIGTERM)),
        (bare, "prefork", SIGINT, torn_down(prefork, SIGINT)),
        (bare, "solo", SIGTERM, torn_down(others, SIGTERM)),
        (bare, "threads", SIGINT, torn_down(others, SIGINT)),
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


BROKER = """
import dramatiq
from dramatiq.brokers.stub import StubBroker

class Send(dramatiq.Middleware):
    def after_worker_boot(self, broker, worker):
        broker.actors["answer"].send()

broker = StubBroker()
broker.add_middleware(Send())
dramatiq.set_broker(broker)
"""
ACTOR = """
import os
from memoize_once import memoize

@memoize
def model():
    yield 42
    os.write(1, b"unloaded")
    raise OSError("the model is still in use")

@dramatiq.actor
def answer():
    model()
    print("(answered)", flush=True)
"""


def test_dramatiq(start: Start) -> None:
    """Dramatiq's workers are torn down; with the README's middleware, an error of that is in the
    log."""
    pytest.importorskip("dramatiq")
    recipe = file("actors.py")
    bare = without("reset()", recipe)
    command = ["dramatiq", "broker", "actors", "--processes", "1", "--threads", "1"]

    def end(text: str, number: signal.Signals, reported: bool) -> None:
        worker = start({"broker.py": BROKER, "actors.py": text + ACTOR}, *command)
        worker.wait_for(r"(\(answered\))")
        printed = worker.stop(number)
        assert ("unloaded" in printed) == torn_down("`dramatiq`", number), printed
        assert ("[CRITICAL] Unexpected failure in after_worker" in printed) == reported, printed

    runs = [(recipe, SIGTERM, True), (bare, SIGTERM, False), (bare, SIGINT, False)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(end, *zip(*runs, strict=True)))
