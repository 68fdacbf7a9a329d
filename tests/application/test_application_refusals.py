"""What the application refuses, and how it says so."""

from __future__ import annotations

import pytest
from application import notes
from application.fixtures import application, client, database, port
from application.gateway import Client

JSON = {"Content-Type": "application/json"}
PATHS = f"/ /notes/ /notes/0 /notes/first /notes/-1 /notes/{'9' * 30} /counters/".split()
METHODS = [
    ("DELETE", "/notes", "HEAD, GET, POST"),
    ("PATCH", "/notes/1", "HEAD, GET, PUT, DELETE"),
    ("POST", "/statistics", "HEAD, GET"),
]
BODIES = [
    pytest.param(b"", id="nothing"),
    pytest.param(b'{"text": ', id="half an object"),
    pytest.param(b'"text"', id="no object"),
    pytest.param(b"{}", id="no text"),
    pytest.param(b'{"text": 1}', id="a number"),
    pytest.param(b'{"text": ""}', id="an empty text"),
    pytest.param(b'{"text": "\\ud800"}', id="half a surrogate pair"),
    pytest.param(b'{"text": "\xff"}', id="not UTF-8"),
    pytest.param(b'{"text": "%s"}' % (b"a" * (notes.LONGEST + 1)), id="too long"),
]


@pytest.mark.parametrize("path", PATHS)
def test_not_found(client: Client, path: str) -> None:
    """What is not there is answered with 404, whatever the path looks like."""
    response = client.get(path)
    assert response.status_code == 404
    assert response.json()["error"]


@pytest.mark.parametrize(("method", "path", "allowed"), METHODS)
def test_method_not_allowed(client: Client, method: str, path: str, allowed: str) -> None:
    """A method that does not go with a path is answered with 405 and those that do."""
    response = client.request(method, path)
    assert (response.status_code, response.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize("body", BODIES)
def test_bad_note(client: Client, body: bytes) -> None:
    """What is no note is answered with 400 and what a note is, and changes nothing."""
    note = client.post("/notes", json={"text": "a" * notes.LONGEST}).headers["Location"]
    for method, path in (("POST", "/notes"), ("PUT", note)):
        response = client.request(method, path, data=body, headers=JSON)
        assert response.status_code == 400
        assert "a note" in response.json()["error"]
    assert client.get(note).json()["text"] == "a" * notes.LONGEST


@pytest.mark.parametrize("media", ["", "text/plain", "application/jsonlines"])
def test_other_media_types(client: Client, media: str) -> None:
    """What does not come as JSON is answered with 415; a media type may bring its parameters."""
    body = b'{"text": "a note"}'
    assert client.post("/notes", body, headers={"Content-Type": media}).status_code == 415
    media = "application/json; charset=utf-8"
    assert client.post("/notes", body, headers={"Content-Type": media}).status_code == 201
