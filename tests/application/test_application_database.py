"""The application and its database, each seen from the other's side."""

from __future__ import annotations

import sqlite3
import uuid

import pytest
from application.gateway import Client

TEXTS = [
    pytest.param("naïve café", id="accents"),
    pytest.param("Ελληνικά, русский, 日本語, العربية", id="scripts"),
    pytest.param("👩‍🚀 🏳️‍🌈", id="beyond the basic plane"),
    pytest.param("e\u0301 and é", id="not normalized"),
    pytest.param("one\ntwo\ttab\0nul", id="control characters"),
    pytest.param("Robert'); DROP TABLE notes;--", id="SQL"),
    pytest.param('{"text": "\\"quoted\\""}', id="JSON"),
]


def number_of(location: str) -> int:
    return int(location.rpartition("/")[2])


@pytest.mark.parametrize("text", TEXTS)
def test_added_over_http(client: Client, database: sqlite3.Connection, text: str) -> None:
    """What is added over HTTP stands in the database, character by character, and comes back the same."""
    note = client.post("/notes", json={"text": text}).headers["Location"]
    assert database.execute("SELECT text FROM notes WHERE id = ?", (number_of(note),)).fetchall() == [(text,)]
    assert client.get(note).json()["text"] == text


@pytest.mark.parametrize("text", TEXTS)
def test_written_into_the_database(client: Client, database: sqlite3.Connection, text: str) -> None:
    """What is written into the database is found over HTTP at once: the application keeps nothing to itself."""
    number = database.execute("INSERT INTO notes (text) VALUES (?)", (text,)).lastrowid
    assert client.get(f"/notes/{number}").json() == {"id": number, "text": text}


def test_replaced_and_deleted(client: Client, database: sqlite3.Connection) -> None:
    """What is replaced and deleted over HTTP is replaced and deleted in the database."""
    note = client.post("/notes", json={"text": "a draft"}).headers["Location"]
    found = "SELECT text FROM notes WHERE id = ?", (number_of(note),)
    client.put(note, json={"text": "the fair copy"})
    assert database.execute(*found).fetchall() == [("the fair copy",)]
    client.delete(note)
    assert database.execute(*found).fetchall() == []


def test_counter_in_the_database(client: Client, database: sqlite3.Connection) -> None:
    """A counter goes on from what stands in the database."""
    name = f"à la carte {uuid.uuid4()}"
    database.execute("INSERT INTO counters VALUES (?, 41)", (name,))
    assert client.post(f"/counters/{name}").json() == {"name": name, "value": 42}
    assert database.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchall() == [(42,)]


def test_sound(database: sqlite3.Connection) -> None:
    """The database that two processes write stays sound."""
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
