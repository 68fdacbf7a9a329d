"""The application is a server in a process of its own."""

from __future__ import annotations

import os
import socket
from contextlib import closing

import pytest
from application.gateway import LIMIT, Application, Client


def test_process_of_its_own(client: Client, application: Application) -> None:
    """The application runs in another process than its tests, the one that it reported when it started."""
    assert client.get("/statistics").json()["pid"] == application.pid != os.getpid()


def test_port_is_taken(application: Application) -> None:
    """The application has the port that it reported for itself: nobody else can bind it."""
    with closing(socket.socket()) as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", application.port))


def test_port_is_the_systems_choice(port: int, application: Application) -> None:
    """The application is given no port, and takes the one that the system chooses."""
    assert port == 0 < application.port


def test_counts_its_requests(application: Application, client: Client) -> None:
    """The application counts what it answers, refusals too."""
    before = application.ask()
    client.get("/notes")
    client.get("/nothing")
    assert application.ask() == before + 3


@pytest.mark.parametrize("path", ["/notes", "/nothing"], ids=["found", "refused"])
def test_answers_are_json(client: Client, path: str) -> None:
    """Every answer with a body says that it is JSON, how long it is and who served it."""
    response = client.get(path)
    assert response.headers["Content-Type"] == "application/json"
    assert int(response.headers["Content-Length"]) == len(response.content) > 0
    assert response.headers["Server"].startswith("TornadoServer/")


def test_head(client: Client) -> None:
    """HEAD is answered as GET is, without the body."""
    asked, got = client.head("/counters/never"), client.get("/counters/never")
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.content))


def test_connection(client: Client) -> None:
    """A connection is kept for the next request, unless the client asks to close it."""
    assert "Connection" not in client.get("/statistics").headers
    assert client.get("/statistics", headers={"Connection": "close"}).headers["Connection"] == "close"


def test_many_connections(application: Application) -> None:
    """Connections that are open and idle keep nobody from being answered."""
    idle = [socket.create_connection(("127.0.0.1", application.port), LIMIT) for _ in range(20)]
    try:
        with application.client() as client:
            assert client.get("/notes").ok
    finally:
        for connection in idle:
            connection.close()
