"""The gates that every request passes."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask, request

from core import web
from core.config import Settings
from core.errors import StorageFull, UpstreamRateLimited, body


def client(**settings: Any):  # type: ignore[no-untyped-def]
    app = Flask(__name__)
    web.install(app, Settings(**settings), lambda error, path: (body(error), error.status))
    web.install_body(app)

    @app.route("/x/<id>", methods=["GET", "POST", "DELETE"])
    def view(id: str) -> Any:
        return {"id": id, "json": request.get_json(silent=True), "text": "你好"}

    @app.get("/fail/<kind>")
    def fail(kind: str) -> Any:
        raise {"full": StorageFull("disk full"), "rate": UpstreamRateLimited("slow", retry_after=7)}.get(
            kind, RuntimeError("secret /path/to/file")
        )

    return app.test_client()


# --- hosts and origins


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:80", "[::1]:5000", "LOCALHOST."])
def test_local_host_is_served(host: str) -> None:
    """The names of this computer are served, with any port."""
    assert client().get("/x/1", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:5000", "10.0.0.5"])
def test_foreign_host_is_refused(host: str) -> None:
    """A name that a web page rebound to this address gets nothing."""
    answer = client().get("/x/1", headers={"Host": host})
    assert answer.status_code == 403
    assert "ALLOWED_HOSTS" in answer.json["data"]["error"]


def test_listed_host_is_served() -> None:
    """ALLOWED_HOSTS adds names, a star all of them, and the wildcard address is no name."""
    assert client(allowed_hosts="chat.lan, other").get("/x/1", headers={"Host": "Chat.lan:8"}).status_code == 200
    assert client(allowed_hosts="*").get("/x/1", headers={"Host": "any.example"}).status_code == 200
    assert client(host="192.168.1.5").get("/x/1", headers={"Host": "192.168.1.5:5000"}).status_code == 200
    assert client(host="0.0.0.0").get("/x/1", headers={"Host": "0.0.0.0:5000"}).status_code == 403


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:8", "tauri://localhost", "app://-", "file://"],
)
def test_local_origin_may_call(origin: str) -> None:
    """Pages of this computer and desktop shells may read the answers."""
    answer = client().get("/x/1", headers={"Origin": origin})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "file",
        "http://localhost:1@evil.example",
    ],
)
def test_foreign_origin_is_refused(origin: str) -> None:
    """No other web page can read, or cause, anything; nor can a sandboxed frame, whose origin is `null`."""
    for method in ("get", "post", "delete", "options"):
        answer = getattr(client(), method)("/x/1", headers={"Origin": origin})
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "CORS_ORIGINS" in answer.json["data"]["error"]


def test_listed_and_own_origin_may_call() -> None:
    """CORS_ORIGINS adds origins; a page that this server served itself is at home."""
    listed = client(cors_origins="https://chat.example")
    answer = listed.get("/x/1", headers={"Origin": "https://chat.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://chat.example"
    assert listed.get("/x/1", headers={"Origin": "https://chatXexample"}).status_code == 403
    assert client(cors_origins="*").get("/x/1", headers={"Origin": "https://any.example"}).status_code == 200
    own = client(allowed_hosts="chat.lan")
    assert own.get("/x/1", headers={"Host": "chat.lan:5000", "Origin": "http://chat.lan:5000"}).status_code == 200


def test_preflight_allows_sdk_headers() -> None:
    """What browser SDKs send passes the preflight."""
    wanted = "authorization, content-type, x-stainless-os, x-stainless-retry-count, last-event-id"
    answer = client().options(
        "/x/1",
        headers={
            "Origin": "http://localhost:3000",
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": wanted,
        },
    )
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert all(name in allowed for name in wanted.split(", "))
    assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]


# --- bodies


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_json_object_is_taken(kind: str) -> None:
    """A JSON object passes, with parameters of its type or without."""
    answer = client().post("/x/1", data='{"a": "\\ud83d\\ude00"}', content_type=kind)
    assert answer.json["json"] == {"a": "😀"}
    assert "你好" in answer.get_data(as_text=True)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_other_content_type_is_refused(kind: str) -> None:
    """A form of another site cannot pass for JSON."""
    answer = client().post("/x/1", data='{"a":1}', content_type=kind)
    assert answer.status_code == 415
    assert "application/json" in answer.json["data"]["error"]


@pytest.mark.parametrize(
    "text", ["{", "", "[1]", '"x"', "null", "1", "\xff", '{"a":"\\ud800"}', '{"a":NaN}', "[" * 5000], ids=repr
)
def test_malformed_json_is_refused(text: str) -> None:
    """What is not a JSON object is 400, however it is broken."""
    data = text.encode("latin-1")
    answer = client().post("/x/1", data=data, content_type="application/json")
    assert answer.status_code == (400 if data else 200)


def test_large_body_is_refused() -> None:
    """A body over the limit is 413."""
    answer = client(max_body_bytes=1000).post("/x/1", json={"a": "x" * 2000})
    assert answer.status_code == 413


# --- errors, ids and logs


def test_routing_errors_have_envelope() -> None:
    """What Flask itself refuses has the same envelope as everything else, and nothing is redirected."""
    for answer, status in ((client().get("/nothing"), 404), (client().put("/x/1"), 405)):
        assert answer.status_code == status
        assert answer.json["data"]["success"] is False
    assert "POST" in client().put("/x/1").headers["Allow"]
    assert client().get("/x/1/").status_code == 200
    assert client().get("/x/1", environ_overrides={"PATH_INFO": "//x/1"}).status_code == 200


def test_encoded_slash_is_bad_id() -> None:
    """An id that climbs out of its folder is a bad id, not an unknown path."""
    answer = client().get("/x/..%2f..%2fetc", environ_overrides={"RAW_URI": "/x/..%2f..%2fetc"})
    assert answer.status_code == 400


def test_own_errors_keep_status() -> None:
    """An error of ours keeps its status, and says when to try again."""
    assert client().get("/fail/full").status_code == 507
    answer = client().get("/fail/rate")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


def test_bug_shows_only_request_id(caplog: pytest.LogCaptureFixture) -> None:
    """A bug shows no path and no traceback, but the id under which the log has both."""
    answer = client().get("/fail/bug")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    request_id = answer.headers["X-Request-Id"]
    assert request_id in answer.json["data"]["error"]
    assert any(request_id in record.getMessage() and record.exc_info for record in caplog.records)


def test_request_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """Method, path, status, time and id are logged; the query, the body and the key are not."""
    caplog.set_level(logging.INFO)
    answer = client().post("/x/1%0aGET?token=tok", json={"a": "content"}, headers={"Authorization": "Bearer key"})
    answer.close()
    [line] = [record.getMessage() for record in caplog.records if record.name == "self_agent.http"]
    assert line.startswith("POST '/x/1\\nGET' 200 ")
    assert line.endswith(answer.headers["X-Request-Id"])
    assert not any(secret in caplog.text for secret in ("tok=", "content", "key"))
