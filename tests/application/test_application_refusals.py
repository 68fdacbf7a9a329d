"""What the application refuses, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest
from application import notes
from application.gateway import Client

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/notes/", "/notes/0", "/notes/first", "/notes/-1", "/notes/" + "9" * 30, "/counters/a/b"]
)
def test_not_found(client: Client, path: str) -> None:
    """What is not there is answered with 404, whatever the path looks like."""
    response = client.get(path)
    assert response.status_code == 404
    assert response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/notes", "HEAD, GET, POST"),
        ("POST", "/notes/1", "HEAD, GET, PUT, DELETE"),
        ("PATCH", "/notes/1", "HEAD, GET, PUT, DELETE"),
        ("PUT", "/counters/visits", "HEAD, GET, POST"),
        ("POST", "/statistics", "HEAD, GET"),
    ],
)
def test_method_not_allowed(client: Client, method: str, path: str, allowed: str) -> None:
    """A method that does not go with a path is answered with 405 and those that do."""
    response = client.request(method, path)
    assert (response.status_code, response.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"text": ', id="half an object"),
        pytest.param(b'"text"', id="no object"),
        pytest.param(b"{}", id="no text"),
        pytest.param(b'{"text": 1}', id="a number"),
        pytest.param(b'{"text": ""}', id="an empty text"),
        pytest.param(b'{"text": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"text": "\xff"}', id="not UTF-8"),
        pytest.param(b'{"text": "%s"}' % (b"a" * (notes.LONGEST + 1)), id="too long"),
    ],
)
def test_bad_note(client: Client, body: bytes) -> None:
    """What is no note is answered with 400 and what a note is."""
    response = client.post("/notes", data=body, headers=JSON)
    assert response.status_code == 400
    assert "a note" in response.json()["error"]


def test_longest_note(client: Client) -> None:
    """A note of the greatest length is none too long."""
    assert client.post("/notes", json={"text": "a" * notes.LONGEST}).status_code == 201


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/jsonlines"}], ids=str)
def test_other_media_types(client: Client, headers: dict[str, Any]) -> None:
    """What does not come as JSON is answered with 415."""
    assert client.post("/notes", data=b'{"text": "a note"}', headers=headers).status_code == 415


def test_media_type_with_charset(client: Client) -> None:
    """A media type may bring its parameters."""
    response = client.post("/notes", data=b'{"text": "a note"}', headers={"Content-Type": "application/json; charset=utf-8"})
    assert response.status_code == 201


def test_a_refusal_changes_nothing(client: Client) -> None:
    """A note stays as it is when its replacement is refused."""
    note = client.post("/notes", json={"text": "the first text"}).headers["Location"]
    assert client.put(note, json={"text": ""}).status_code == 400
    assert client.get(note).json()["text"] == "the first text"


def test_path_that_is_no_text(client: Client) -> None:
    """A path that is not UTF-8 is answered with 400."""
    assert client.get("/counters/%FF").status_code == 400
