"""`/metrics`: what is counted, who may read it, and that no client makes it grow."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from core.errors import NotFound, StorageError, UpstreamError
from self_agent import parts_of
from self_agent.events import Delta, Info
from self_agent.models import Message
from self_agent.storage.memory import MemoryStore
from tests.conftest import MakeApp

C = "/api/v1/conversations"
SECRET = "s" * 32


def samples(client: FlaskClient, **options: Any) -> dict[tuple[str, ...], float]:
    """Return the values by name and labels."""  # of what was read to its end: `buffered`
    answer = client.get("/metrics", **options)
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(answer.text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def send(client: FlaskClient, conversation_id: str = "c") -> Any:
    return client.post(f"{C}/{conversation_id}/messages", json={"content": "hi"})


# --- what is counted


def test_requests_are_counted_by_template(client: FlaskClient) -> None:
    """Any number of ids is one route."""
    for number in range(20):
        client.get(f"{C}/c{number}", buffered=True)
    found = samples(client)
    assert found["self_agent_requests_total", "GET", f"{C}/<conversation_id>", "200"] == 20
    assert found["self_agent_request_seconds_count", f"{C}/<conversation_id>"] == 20


def test_floods_grow_nothing(client: FlaskClient) -> None:
    """Unknown paths, methods and ids have one label, and it does not say theirs."""

    def flood(start: int) -> int:
        for number in range(start, start + 50):
            client.get(f"/nothing/{number}", buffered=True)
            client.open("/nothing", method=f"ODD{number}", buffered=True)
            client.open(f"{C}/c", method=f"ODD{number}", buffered=True)
            client.get(f"{C}/{'x' * 200}{number}", buffered=True)
            client.get("/healthz", headers={"Host": f"evil{number}.example"}, buffered=True)
            client.delete("/healthz", buffered=True)
        return len(samples(client))

    flood(0)
    before = flood(0)
    assert flood(1000) == before
    text = client.get("/metrics").text
    assert not any(word in text for word in ("nothing", "ODD", "xxx", "evil"))
    assert samples(client)["self_agent_requests_total", "GET", "(none)", "404"] == 150


def test_replies_are_counted_by_outcome(make_app: MakeApp) -> None:
    """One that ended, one that failed; the tokens that the model claims, where they can be some."""
    script = [Delta("hello"), Info("m", {"prompt_tokens": 5, "completion_tokens": 7})]
    client = make_app(script=script).test_client()
    assert send(client).status_code == 200
    script[1] = Info("m", {"prompt_tokens": -1, "completion_tokens": 10**12})
    assert send(client).status_code == 200
    found = samples(client)
    assert found["self_agent_reply_seconds_count", "complete"] == 2
    assert found["self_agent_first_token_seconds_count",] == 2
    assert found["self_agent_tokens_total", "prompt"] == 5
    assert found["self_agent_tokens_total", "completion"] == 7
    assert found["self_agent_turns", "running"] == found["self_agent_turns", "waiting"] == 0
    assert "self_agent_hub_connections" in {name for name, *_ in found}


def test_failure_and_stop_are_outcomes(make_app: MakeApp) -> None:
    """Why replies end is seen."""
    app = make_app(script=[UpstreamError("broken")])
    client = app.test_client()
    assert send(client).status_code == 502
    assert samples(client)["self_agent_reply_seconds_count", "failed"] == 1


def test_store_is_timed(client: FlaskClient) -> None:
    """What a send needs of the store."""
    send(client)
    client.get(f"{C}/c")
    found = samples(client)
    for operation in ("begin", "finish", "read"):
        assert found["self_agent_store_seconds_count", operation] >= 1, operation


def test_store_failures_are_counted(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that the disk refuses is seen; what is not there is no failure."""

    def refuse(*_: Any) -> None:
        raise StorageError("the disk refuses")

    monkeypatch.setattr(MemoryStore, "checkpoint", refuse)
    app = make_app()
    with pytest.raises(StorageError):
        parts_of(app).store.checkpoint("c", Message("assistant", ""), "text")
    with pytest.raises(NotFound):
        parts_of(app).store.append("nothing", Message("user", "hi"))
    found = samples(app.test_client())
    assert found["self_agent_store_seconds_count", "append"] == 1
    assert found["self_agent_store_failures_total", "checkpoint"] == 1
    assert [name for name in found if name[0] == "self_agent_store_failures_total"] == [
        ("self_agent_store_failures_total", "checkpoint")
    ]


# --- who may read it


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_computer_may(client: FlaskClient, address: str) -> None:
    """Any address of loopback."""
    assert client.get("/metrics", environ_overrides={"REMOTE_ADDR": address}).status_code == 200


@pytest.mark.parametrize(
    "address", ["192.168.1.9", "::ffff:192.168.1.9", "fe80::1%eth0", "", "unix:", "127.0.0.1, 8.8.8.8"]
)
def test_others_may_not(client: FlaskClient, address: str) -> None:
    """Nobody else, whatever they claim."""
    claims = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Real-IP": "127.0.0.1"}
    for headers in ({}, claims):
        answer = client.get("/metrics", headers=headers, environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == 403
        assert "AUTH_ENABLED" in answer.json["data"]["error"]
        assert "self_agent_" not in answer.text


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_proxy_on_this_computer_may_not(client: FlaskClient, name: str) -> None:
    """Who comes through a proxy is not on this computer, only the proxy is."""
    assert client.get("/metrics", headers={name: "127.0.0.1"}).status_code == 403


def test_token_lets_in_from_anywhere(make_app: MakeApp) -> None:
    """With auth on a token is what counts, and loopback is no token."""
    client = make_app(auth_enabled=True, jwt_secret=SECRET).test_client()
    assert client.get("/metrics").status_code == 401
    token = jwt.encode({"sub": "prometheus", "exp": time.time() + 60}, SECRET)
    environ = {"REMOTE_ADDR": "10.0.0.9"}
    assert samples(client, headers={"Authorization": f"Bearer {token}"}, environ_overrides=environ)
    operation = client.get("/openapi.json").json["paths"]["/metrics"]["get"]
    assert operation["security"] == [{"bearer": []}]


def test_other_methods(client: FlaskClient) -> None:
    """HEAD is GET without its body; nothing else is taken."""
    head = client.head("/metrics")
    assert (head.status_code, head.data) == (200, b"")
    assert client.post("/metrics", json={}).status_code == 405
    assert client.delete("/metrics").status_code == 405


def test_metrics_can_be_off(make_app: MakeApp) -> None:
    """Then nothing is there, and nothing is counted."""
    app = make_app(metrics=False)
    client = app.test_client()
    send(client)
    assert client.get("/metrics").status_code == 404
    assert "append" not in vars(parts_of(app).store)


def test_library_is_loaded_when_asked() -> None:
    """A start does not pay for a page that nobody may ever ask for."""
    code = "import sys, self_agent, self_agent.server; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
