"""The application and its database, each seen from the other's side."""

from __future__ import annotations

import sqlite3
import uuid

import pytest
from application.fixtures import application, client, database, port
from application.gateway import Client

TEXTS = [
    pytest.param("naïve café, Ελληνικά, русский, 日本語, العربية", id="scripts"),
    pytest.param("👩‍🚀 🏳️‍🌈", id="beyond the basic plane"),
    pytest.param("e\u0301 and é", id="not normalized"),
    pytest.param("one\ntwo\ttab\0nul", id="control characters"),
    pytest.param("Robert'); DROP TABLE notes;--", id="SQL"),
    pytest.param('{"text": "\\"quoted\\""}', id="JSON"),
]
SELECT = "SELECT text FROM notes WHERE id = ?"


def number_of(location: str) -> int:
    return int(location.rpartition("/")[2])


@pytest.mark.parametrize("text", TEXTS)
def test_added_over_http(client: Client, database: sqlite3.Connection, text: str) -> None:
    """What is added over HTTP stands in the database, character by character."""
    note = client.post("/notes", json={"text": text}).headers["Location"]
    assert database.execute(SELECT, (number_of(note),)).fetchall() == [(text,)]


@pytest.mark.parametrize("text", TEXTS)
def test_written_into_the_database(client: Client, database: sqlite3.Connection, text: str) -> None:
    """What is written into the database is found over HTTP at once."""
    insert = "INSERT INTO notes (text) VALUES (?)"
    number = database.execute(insert, (text,)).lastrowid
    assert client.get(f"/notes/{number}").json() == {"id": number, "text": text}


def test_replaced_and_deleted(client: Client, database: sqlite3.Connection) -> None:
    """What is replaced and deleted over HTTP is replaced and deleted in the database."""
    note = client.post("/notes", json={"text": "a draft"}).headers["Location"]
    client.put(note, json={"text": "the fair copy"})
    assert database.execute(SELECT, (number_of(note),)).fetchall() == [("the fair copy",)]
    client.delete(note)
    assert database.execute(SELECT, (number_of(note),)).fetchall() == []


def test_counter_in_the_database(client: Client, database: sqlite3.Connection) -> None:
    """A counter goes on from what stands in the database."""
    name = f"à la carte {uuid.uuid4()}"
    database.execute("INSERT INTO counters VALUES (?, 41)", (name,))
    assert client.post(f"/counters/{name}").json() == {"name": name, "value": 42}
