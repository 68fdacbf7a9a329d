"""The application is a server in a process of its own."""

from __future__ import annotations

import os

from application.fixtures import application, client, database, port
from application.gateway import Application, Client


def test_process_of_its_own(client: Client, application: Application) -> None:
    """The application runs in another process than its tests, on a port that the system chose."""
    assert client.get("/statistics").json()["pid"] == application.pid != os.getpid()
    assert application.port > 0


def test_counts_its_requests(client: Client) -> None:
    """The application counts what it answers, refusals too."""
    before = client.get("/statistics").json()["requests"]
    client.get("/nothing")
    assert client.get("/statistics").json()["requests"] == before + 2


def test_answers_are_json(client: Client) -> None:
    """Answers, refusals too, say that they are JSON, how long they are and who served them."""
    response = client.get("/nothing")
    assert response.headers["Content-Type"] == "application/json"
    assert int(response.headers["Content-Length"]) == len(response.content) > 0
    assert response.headers["Server"].startswith("TornadoServer/")
