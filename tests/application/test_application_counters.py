"""Counters, from one client and from many at once."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from application.gateway import Application, Client

CLIENTS, TIMES = 8, 5


@pytest.fixture
def counter() -> str:
    """The path of a counter that no other test counts on."""
    return f"/counters/{uuid.uuid4()}"


def test_begins_with_nothing(client: Client, counter: str) -> None:
    """A counter that has counted nothing stands at 0."""
    assert client.get(counter).json()["value"] == 0


def test_counts(client: Client, counter: str) -> None:
    """Each POST counts one, and is answered with the sum."""
    assert [client.post(counter).json()["value"] for _ in range(3)] == [1, 2, 3]
    assert client.get(counter).json()["value"] == 3


def test_counters_are_apart(client: Client, counter: str) -> None:
    """A counter does not count for another."""
    client.post(counter)
    assert client.get(f"{counter}-other").json()["value"] == 0


def test_many_clients_count(application: Application, client: Client, counter: str) -> None:
    """Clients in many threads are each answered with a sum that no other got, and none is lost."""

    def count(_: int) -> list[int]:
        with application.client() as own:
            return [own.post(counter).json()["value"] for _ in range(TIMES)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        values = [value for counted in pool.map(count, range(CLIENTS)) for value in counted]
    assert sorted(values) == list(range(1, CLIENTS * TIMES + 1))
    assert client.get(counter).json()["value"] == CLIENTS * TIMES


def test_many_clients_add(application: Application, client: Client) -> None:
    """Notes that many threads add at once get numbers of their own, and all are found."""
    word = str(uuid.uuid4())

    def add(number: int) -> str:
        with application.client() as own:
            return own.post("/notes", json={"text": f"{word} {number}"}).headers["Location"]

    with ThreadPoolExecutor(CLIENTS) as pool:
        places = set(pool.map(add, range(CLIENTS)))
    found = client.get("/notes", params={"search": word}).json()
    assert places == {f"/notes/{note['id']}" for note in found}
    assert {note["text"] for note in found} == {f"{word} {number}" for number in range(CLIENTS)}


def test_many_clients_delete(application: Application, client: Client) -> None:
    """Of many who delete the same note at once, one does."""
    note = client.post("/notes", json={"text": "fought over"}).headers["Location"]

    def delete(_: int) -> int:
        with application.client() as own:
            return own.delete(note).status_code

    with ThreadPoolExecutor(CLIENTS) as pool:
        statuses = sorted(pool.map(delete, range(CLIENTS)))
    assert statuses == [204] + [404] * (CLIENTS - 1)
