"""Counters, from one client and from many at once."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from application.fixtures import application, client, database, port
from application.gateway import Application, Client

CLIENTS, TIMES = 8, 5


@pytest.fixture
def counter() -> str:
    """The path of a counter that no other test counts on."""
    return f"/counters/{uuid.uuid4()}"


def test_counts(client: Client, counter: str) -> None:
    """A counter begins with 0, and each POST counts one and is answered with the sum."""
    assert client.get(counter).json()["value"] == 0
    assert [client.post(counter).json()["value"] for _ in range(3)] == [1, 2, 3]
    assert client.get(counter).json()["value"] == 3
    assert client.get(f"{counter}-other").json()["value"] == 0


def test_many_clients_count(application: Application, client: Client, counter: str) -> None:
    """Clients in many threads are each answered with a sum that no other got; none is lost."""

    def count(_: int) -> list[int]:
        with application.client() as own:
            return [own.post(counter).json()["value"] for _ in range(TIMES)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        values = [value for counted in pool.map(count, range(CLIENTS)) for value in counted]
    assert sorted(values) == list(range(1, CLIENTS * TIMES + 1))
    assert client.get(counter).json()["value"] == CLIENTS * TIMES
