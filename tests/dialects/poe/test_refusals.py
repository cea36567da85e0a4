"""What goes wrong: each refusal has its status, its reason and the one envelope."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from core.errors import UpstreamError, UpstreamRateLimited
from self_agent.events import Delta
from self_agent.providers.echo import Echo
from self_agent.providers.none import NoModel
from tests.conftest import MakeApp
from tests.dialects.poe.conftest import ROOT, begin, frames, history, say


def test_failure_before_first_byte(make_poe: MakeApp) -> None:
    """A model that refuses the question is a status, streamed or not; the question stays."""
    client = make_poe(script=[UpstreamRateLimited("slow down", retry_after=3)]).test_client()
    cid = begin(client)
    for stream in (False, True):
        answer = say(client, cid, "hi", stream=stream)
        assert (answer.status_code, answer.json, answer.headers["Retry-After"]) == (429, {"detail": "slow down"}, "3")
    assert history(client, cid) == [("user", "hi")] * 2


def test_failure_during_a_reply(make_poe: MakeApp) -> None:
    """A model that breaks off is an error frame without [DONE], or a status; its pieces are kept."""
    client = make_poe(script=[Delta("half"), UpstreamError("cut off")]).test_client()
    cid = begin(client)
    assert frames(say(client, cid, "hi", stream=True))[1:] == [{"content": "half"}, {"error": "cut off"}]
    answer = say(client, cid, "hi")
    assert (answer.status_code, answer.json) == (502, {"detail": "cut off"})
    assert history(client, cid) == [("user", "hi"), ("assistant", "half")] * 2


def test_no_model_is_503(make_poe: MakeApp) -> None:
    """Without a model a send says what to set, and stores nothing."""
    client = make_poe(provider=NoModel()).test_client()
    cid = begin(client)
    answer = say(client, cid, "hi", stream=True)
    assert answer.status_code == 503
    assert "OPENAI_BASE_URL" in answer.json["detail"]
    assert history(client, cid) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": 1}, "content"),
        ({"content": ""}, "content"),
        ({"content": " \n\t"}, "content"),
        ({"content": " ", "role": "system"}, "content"),
        ({"content": "x", "role": "tool"}, "role"),
        ({"content": "x", "role": None}, "role"),
        ({"content": "x", "model": 3}, "model"),
        ({"content": "x", "stream": "yes"}, "stream"),
    ],
    ids=str,
)
def test_wrong_message_is_named(client: FlaskClient, body: Any, field: str) -> None:
    """A wrong field of a message is 400, named, and nothing is stored."""
    cid = begin(client)
    answer = client.post(f"{ROOT}/{cid}/messages", json=body)
    assert (answer.status_code, list(answer.json)) == (400, ["detail"])
    assert field in answer.json["detail"]
    assert history(client, cid) == []


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (ROOT, {"project_id": "2"}, "project_id"),
        (ROOT, {"project_id": -1}, "project_id"),
        (ROOT, {"project_id": True}, "project_id"),
        (ROOT, {"system_prompt": ["x"]}, "system_prompt"),
        (ROOT, {"name": 1}, "name"),
        ("/v1/projects", {}, "name"),
        ("/v1/projects", {"name": " "}, "name"),
        ("/v1/chat/stop-stream", {}, "session_id"),
        ("/v1/chat/messages/delete", {"message_ids": 1}, "message_ids"),
        ("/v1/chat/messages/delete", {"message_ids": ["1"]}, "message_ids"),
        ("/v1/chat/messages/delete", {"message_ids": [True]}, "message_ids"),
        ("/v1/chat/messages/delete", {"message_ids": [1.5]}, "message_ids"),
    ],
    ids=str,
)
def test_wrong_field_is_named(client: FlaskClient, path: str, body: Any, field: str) -> None:
    """Everywhere else too."""
    answer = client.post(path, json=body)
    assert (answer.status_code, list(answer.json)) == (400, ["detail"])
    assert field in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", f"{ROOT}/unknown", 404),
        ("get", f"{ROOT}/unknown/messages", 404),
        ("put", f"{ROOT}/unknown", 404),
        ("delete", f"{ROOT}/unknown", 404),
        ("get", "/v1/chat/conversations/a/b/c", 404),
        ("get", "/v1/projects/1/2", 404),
        ("get", "/v1/projects/-1", 404),
        ("get", f"{ROOT}?project_id=x", 400),
        ("get", f"{ROOT}/.hidden", 400),
        ("delete", f"{ROOT}/a%2Fb", 400),
        ("delete", ROOT, 405),
        ("get", "/v1/chat/stop-stream", 405),
    ],
)
def test_every_refusal_has_detail(client: FlaskClient, method: str, path: str, status: int) -> None:
    """Whatever is refused below the mounts has the one envelope."""
    answer = getattr(client, method)(path, json=None if method in ("get", "delete") else {})
    assert (answer.status_code, list(answer.json)) == (status, ["detail"])


def test_bad_body_has_detail(client: FlaskClient) -> None:
    """Malformed JSON and what is no object are 400, what is no JSON 415."""
    for data, kind, status in ((b"{", "application/json", 400), (b"[]", "application/json", 400), (b"a=1", "x/y", 415)):
        answer = client.post(ROOT, data=data, content_type=kind)
        assert (answer.status_code, list(answer.json)) == (status, ["detail"])


class Broken(Echo):
    """Has a bug."""

    def models(self, *, api_key: str | None = None) -> list[str]:
        raise RuntimeError("/secret/path")


def test_bug_shows_no_details(make_poe: MakeApp) -> None:
    """An unexpected failure is 500 with a request id, without its text."""
    answer = make_poe(provider=Broken()).test_client().get("/v1/models")
    assert answer.status_code == 500
    assert answer.headers["X-Request-Id"] in answer.json["error"]["message"]
    assert "secret" not in answer.text
