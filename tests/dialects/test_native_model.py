"""The native dialect's choice of a model: what the frontend's selector shows, and what is chosen before it is asked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from core.config import Settings
from self_agent import close, create_app
from self_agent.providers.echo import Echo
from self_agent.providers.none import NoModel
from self_agent.providers.openai.provider import OpenAICompatible
from tests.conftest import MakeApp
from tests.dialects.ways import Client, all_ways
from tests.upstream import Answer, FakeUpstream

ROOT = "/api/v1/conversations"
MINTED = "3f0e8f0a-9f3b-4d53-8d5c-0a1b2c3d4e5f-1745971200000"


def shown(client: FlaskClient, cid: str) -> Any:
    """Return `config.model` of the detail."""
    return client.get(f"{ROOT}/{cid}?size=1").json["data"]["config"]["model"]


def choose(client: FlaskClient, model: str | None, cid: str = MINTED) -> Any:
    return client.post(f"{ROOT}/{cid}/set_config", json={"model": model}).json["data"]


def test_model_that_will_answer_is_shown(client: FlaskClient) -> None:
    """The conversation's own model, else the server's; of an unknown conversation too, in every answer."""
    assert shown(client, "unknown") == "echo"
    client.post(f"{ROOT}/c/messages", json={"content": "hi"})
    assert shown(client, "c") == "echo"
    assert client.patch(f"{ROOT}/c", json={"model": "m"}).json["data"]["config"] == {"model": "m"}
    assert shown(client, "c") == "m"
    assert client.patch(f"{ROOT}/c", json={"model": None}).json["data"]["config"] == {"model": "echo"}
    assert choose(client, "m", "c") == {"model": "m"}
    assert choose(client, None, "c") == {"model": "echo"}


def test_no_model_is_null(make_app: MakeApp) -> None:
    """While nothing can answer there is no name to show."""
    assert shown(make_app(provider=NoModel()).test_client(), "c") is None


def test_upstreams_first_model_is_shown(make_app: MakeApp) -> None:
    """Without OPENAI_MODEL the first of the upstream's list answers, and is shown; it is asked for once."""
    with FakeUpstream() as upstream:
        client = make_app(provider=OpenAICompatible(upstream.base_url)).test_client()
        names = client.get("/api/v1/models").json["data"]
        asked = len(upstream.requests)
        assert [shown(client, "c"), shown(client, "d")] == [names[0]] * 2
        assert len(upstream.requests) == asked
        fresh = make_app(provider=OpenAICompatible(upstream.base_url)).test_client()
        assert [shown(fresh, "c"), shown(fresh, "d")] == [names[0]] * 2
        assert len(upstream.requests) == asked + 1


@pytest.mark.parametrize("answer", [Answer(500, b"{}"), Answer(401, b"{}"), Answer(200, b'{"data": []}')], ids=str)
def test_upstream_without_list_costs_nothing(make_app: MakeApp, answer: Answer) -> None:
    """An upstream that lists no models is asked once in a while, not for each row of a sidebar."""
    with FakeUpstream() as upstream:
        upstream.models_answer = answer
        client = make_app(provider=OpenAICompatible(upstream.base_url, retries=0)).test_client()
        assert [shown(client, f"c{n}") for n in range(5)] == [None] * 5
        assert len(upstream.requests) == 1


def test_silent_upstream_holds_nothing_up(make_app: MakeApp) -> None:
    """The detail does not wait long for an upstream that accepts and says nothing; the name comes when it is known."""
    with FakeUpstream() as upstream:
        upstream.models_delay = 1.5
        client = make_app(provider=OpenAICompatible(upstream.base_url)).test_client()
        began = time.monotonic()
        assert shown(client, "c") is None
        assert time.monotonic() - began < 1.4
        deadline = time.monotonic() + 10
        while shown(client, "c") is None:
            assert time.monotonic() < deadline


# --- before the first message


def test_model_chosen_before_first_message(make_app: MakeApp) -> None:
    """It is remembered, no dialect lists a conversation, and the first message is answered by it."""
    client = Client(make_app())
    http = client.http
    assert choose(http, "m") == {"model": "m"}
    assert choose(http, "n") == {"model": "n"}
    assert shown(http, MINTED) == "n"
    for way in all_ways().values():
        assert way.listed is None or way.listed(client) == [], way.name
    assert http.get("/v1/chat/conversations/grouped").json == {"其它": []}
    assert http.get("/aichat/getsessionlist/local").json["data"]["pagination"]["total"] == 0
    assert http.get(ROOT).json["meta"]["total"] == 0
    http.post(f"{ROOT}/{MINTED}/messages", json={"content": "hi"})
    assert shown(http, MINTED) == "n"
    for way in all_ways().values():
        assert way.listed is None or way.listed(client) == [MINTED], way.name


def test_empty_conversations_made_on_purpose_are_listed(make_app: MakeApp) -> None:
    """What poe, alice and aichat create is there at once; the choice of a model there hides nothing."""
    client = Client(make_app())
    made = client.ask("POST", "/v1/chat/conversations", {})["conversation_id"]
    client.ask("POST", "/alice" + ROOT, {})
    client.ask("POST", "/api/chat/session", {})
    choose(client.http, "m", made)
    for way in all_ways().values():
        assert way.listed is None or len(way.listed(client)) == 3, way.name


def test_model_chosen_first_is_durable(tmp_path: Path) -> None:
    """It is there after a restart, still without a row; deleting it is allowed."""
    settings = Settings(data_dir=tmp_path / "data", log_dir=tmp_path / "logs")
    for step in range(3):
        app = create_app(settings, provider=Echo())
        client = app.test_client()
        if step == 0:
            choose(client, "m")
        assert shown(client, MINTED) == ("echo" if step == 2 else "m")
        assert client.get(ROOT).json["data"] == []
        if step == 1:
            assert client.delete(f"{ROOT}/{MINTED}").status_code == 200
        close(app)
