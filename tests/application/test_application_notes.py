"""What can be done with a note."""

from __future__ import annotations

import uuid

import pytest
from application.gateway import Client


@pytest.fixture
def text() -> str:
    """A text that no other test writes."""
    return f"a note of {uuid.uuid4()}"


@pytest.fixture
def note(client: Client, text: str) -> str:
    """The path of a note with this text."""
    return client.post("/notes", json={"text": text}).headers["Location"]


def test_add(client: Client, text: str) -> None:
    """A note that is added is answered with its number, and with the place where it is found."""
    response = client.post("/notes", json={"text": text})
    assert response.status_code == 201
    assert response.headers["Location"] == f"/notes/{response.json()['id']}"
    assert response.json()["text"] == text


def test_read(client: Client, note: str, text: str) -> None:
    """A note is read as it was written, by another connection too."""
    response = client.get(note)
    assert (response.status_code, response.json()["text"]) == (200, text)


def test_replace(client: Client, note: str) -> None:
    """A note that is replaced has its new text from then on, and keeps its number."""
    response = client.put(note, json={"text": "another text"})
    assert (response.status_code, response.json()["text"]) == (200, "another text")
    assert client.get(note).json() == response.json()


def test_replace_twice(client: Client, note: str) -> None:
    """Replacing a note by the same text again changes nothing."""
    first, second = (client.put(note, json={"text": "the same"}) for _ in range(2))
    assert first.json() == second.json()


def test_delete(client: Client, note: str) -> None:
    """A note that is deleted is answered with nothing, and is gone."""
    response = client.delete(note)
    assert (response.status_code, response.content) == (204, b"")
    assert client.get(note).status_code == 404


def test_delete_twice(client: Client, note: str) -> None:
    """What is gone cannot be deleted again."""
    assert [client.delete(note).status_code for _ in range(2)] == [204, 404]


def test_list(client: Client, note: str, text: str) -> None:
    """All notes are listed in the order of their numbers, those of other tests among them."""
    notes = client.get("/notes").json()
    assert text in [each["text"] for each in notes]
    assert notes == sorted(notes, key=lambda each: each["id"])


def test_search(client: Client, note: str, text: str) -> None:
    """A search finds the notes that contain the words, and no others."""
    found = client.get("/notes", params={"search": text}).json()
    assert [each["text"] for each in found] == [text]


def test_numbers_are_not_used_again(client: Client, note: str) -> None:
    """The number of a note that was deleted is given to no other."""
    client.delete(note)
    assert client.post("/notes", json={"text": "the next"}).headers["Location"] != note
