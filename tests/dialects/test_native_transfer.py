"""Exports and imports of the native dialect, over HTTP."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.conftest import MakeApp
from tests.transfer.samples import regenerated, webui

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def talked(client: FlaskClient) -> FlaskClient:
    """A client of an app in which something was said."""
    client.post("/api/v1/conversations/demo/messages", json={"content": "Hi"})
    return client


@pytest.mark.parametrize("path", ["/api/v1/export", "/api/v1/conversations/demo/export"])
def test_download_has_name_and_type(talked: FlaskClient, path: str) -> None:
    """JSON unless Markdown is asked for, as a file."""
    answer = talked.get(path)
    assert answer.content_type == "application/json"
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    [chat] = answer.json or []
    assert [row["role"] for row in chat["messages"]] == ["user", "assistant"]
    answer = talked.get(path + "?format=markdown")
    assert answer.content_type == "text/markdown; charset=utf-8"
    assert answer.headers["Content-Disposition"].endswith('.md"')
    assert "## User, " in answer.text


def test_refusals_have_the_envelope(client: FlaskClient) -> None:
    """An unknown chat, an unknown form, an id that is none."""
    for path, status in (
        ("/api/v1/conversations/none/export", 404),
        ("/api/v1/export?format=pdf", 400),
        ("/api/v1/conversations/.x/export", 400),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json["data"]["success"]) == (status, False)  # type: ignore[index]


def test_export_is_an_import(talked: FlaskClient, make_app: MakeApp) -> None:
    """What one server gives the other takes, once."""
    exported = talked.get("/api/v1/export").data
    other = make_app().test_client()
    for state in ("imported", "skipped"):
        answer = other.post("/api/v1/import", data=exported, headers=JSON)
        assert answer.status_code == 200
        assert answer.json["data"][state] == 1  # type: ignore[index]
    assert other.get("/api/v1/export").data == exported


def test_report_names_each_chat(client: FlaskClient) -> None:
    """With its title, what became of it, and its id here."""
    answer = client.post("/api/v1/import", json=[regenerated(), {"no": "chat"}, webui(), webui()])
    data: Any = answer.json["data"]  # type: ignore[index]
    assert (data["imported"], data["skipped"], data["failed"]) == (2, 1, 1)
    assert [chat["state"] for chat in data["chats"]] == ["imported", "failed", "imported", "skipped"]
    found = data["chats"][0]
    detail = client.get(f"/api/v1/conversations/{found['conversation_id']}").json
    assert detail["data"]["name"] == "On rivers"  # type: ignore[index]


@pytest.mark.parametrize("body", [b"", b"[]"])
def test_body_without_a_chat(client: FlaskClient, body: bytes) -> None:
    """400, which says what was expected."""
    answer = client.post("/api/v1/import", data=body, headers=JSON)
    assert answer.status_code == 400
    assert "mapping" in answer.text


def test_other_sites_cannot_import(client: FlaskClient) -> None:
    """A form or plain text is refused before a byte of it is read, and so is a foreign page."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = client.post("/api/v1/import", data=json.dumps([webui()]), content_type=kind)
        assert answer.status_code == 415
    answer = client.post("/api/v1/import", json=[webui()], headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


def test_body_has_a_limit_of_its_own(make_app: MakeApp) -> None:
    """More than MAX_BODY_BYTES is taken; more than MAX_IMPORT_BYTES is 413, with a length or without."""
    client = make_app(max_body_bytes=1000, max_import_bytes=20_000).test_client()
    assert client.post("/api/v1/import", json=[webui(), regenerated()]).status_code == 200
    big = json.dumps([webui(title="x" * 30_000)]).encode()
    assert client.post("/api/v1/import", data=big, headers=JSON).status_code == 413

    class Chunks:
        def __init__(self) -> None:
            self.rest: Iterator[bytes] = iter([big])

        def read(self, size: int = -1) -> bytes:
            return next(self.rest, b"")

    answer = client.open(
        "/api/v1/import",
        method="POST",
        headers=JSON,
        environ_overrides={"wsgi.input": Chunks(), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )
    assert answer.status_code == 413
    assert client.post("/api/v1/conversations/demo/messages", json={"content": "x" * 2000}).status_code == 413


def test_half_a_request(client: FlaskClient) -> None:
    """A body that breaks off is 400; what was whole of it is here, and the next time the rest comes."""
    data = json.dumps([webui(), regenerated()]).encode()

    class Broken:
        def __init__(self) -> None:
            self.rest = iter([data[:-50]])

        def read(self, size: int = -1) -> bytes:
            for piece in self.rest:
                return piece
            raise OSError("gone")

    answer = client.open(
        "/api/v1/import",
        method="POST",
        headers=JSON,
        environ_overrides={"wsgi.input": Broken(), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )
    assert answer.status_code == 400
    report: Any = client.post("/api/v1/import", data=data, headers=JSON).json
    assert (report["data"]["imported"], report["data"]["skipped"]) == (1, 1)


def test_compressed_body_is_no_json(client: FlaskClient) -> None:
    """It is refused with a reason, not taken for an empty file."""
    answer = client.post("/api/v1/import", data=gzip.compress(b"[]"), headers=JSON)
    assert answer.status_code in (200, 400)
    assert "failed" in answer.text or "success" in answer.text


def test_users_export_their_own(make_app: MakeApp) -> None:
    """With tokens, each has what is theirs."""
    import time

    import jwt

    client = make_app(auth_enabled=True, jwt_secret="s" * 32).test_client()

    def as_user(name: str) -> dict[str, str]:
        token = jwt.encode({"sub": name, "exp": time.time() + 600}, "s" * 32, algorithm="HS256")
        return {"Authorization": f"Bearer {token}"}

    for name in ("ada", "bob"):
        answer: Any = client.post("/api/v1/import", json=[regenerated()], headers=as_user(name)).json
        assert answer["data"]["imported"] == 1
    first, second = (client.get("/api/v1/export", headers=as_user(name)).json for name in ("ada", "bob"))
    assert first[0]["conversation_id"] != second[0]["conversation_id"]  # type: ignore[index]
    path = f"/api/v1/conversations/{first[0]['conversation_id']}/export"  # type: ignore[index]
    assert client.get(path, headers=as_user("bob")).status_code == 404
    assert client.get("/api/v1/export").status_code == 401
