"""What can be done with a note."""

from __future__ import annotations

import uuid

import pytest
from application.fixtures import application, client, database, port
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
    assert (response.status_code, response.json()["text"]) == (201, text)
    assert response.headers["Location"] == f"/notes/{response.json()['id']}"


def test_replace(client: Client, note: str) -> None:
    """A note that is replaced has its new text from then on, and keeps its number."""
    response = client.put(note, json={"text": "another text"})
    assert (response.status_code, response.json()["text"]) == (200, "another text")
    assert client.get(note).json() == response.json()


def test_delete(client: Client, note: str) -> None:
    """A note that is deleted is gone, for a second time too, and leaves its number to no other."""
    response = client.delete(note)
    assert (response.status_code, response.content) == (204, b"")
    assert client.get(note).status_code == client.delete(note).status_code == 404
    assert client.post("/notes", json={"text": "the next"}).headers["Location"] != note


def test_list(client: Client, note: str, text: str) -> None:
    """All notes are listed in the order of their numbers, those of other tests among them."""
    notes = client.get("/notes").json()
    assert text in [each["text"] for each in notes]
    assert notes == sorted(notes, key=lambda each: each["id"])


def test_search(client: Client, note: str, text: str) -> None:
    """A search finds the notes that contain the words, and no others."""
    found = client.get("/notes", params={"search": text}).json()
    assert [each["text"] for each in found] == [text]
