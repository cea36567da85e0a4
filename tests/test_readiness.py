"""`/readyz`: what a balancer is told."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from core.errors import ModelUnavailable
from self_agent import parts_of
from self_agent.providers.echo import Echo
from self_agent.providers.none import NoModel
from self_agent.storage.memory import MemoryStore
from tests.conftest import MakeApp


class Loading(Echo):
    """A model that cannot answer yet."""

    asked = 0

    def status(self) -> dict[str, Any]:
        return {"name": "m", "state": "failed", "error": "broken"}

    def check(self) -> None:
        self.asked += 1
        raise ModelUnavailable("the model is being loaded; try again shortly")


class Opening(MemoryStore):
    """A store that has not opened yet."""

    def ready(self) -> bool:
        return False


class Failed(MemoryStore):
    """A store that never will."""

    def failure(self) -> str | None:
        return "the data folder is of a newer version"


def test_ready(client: FlaskClient) -> None:
    """A server that can serve says so, with or without a body."""
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"ready": True, "reasons": []})
    assert client.head("/readyz").status_code == 200
    assert client.post("/readyz", json={}).status_code == 405


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"provider": Loading()}, "being loaded"),
        ({"store": Opening()}, "still being opened"),
        ({"store": Failed()}, "newer version"),
    ],
)
def test_not_ready(make_app: MakeApp, parts: dict[str, Any], words: str) -> None:
    """What is missing is named, in the reasons and in the envelope; the server lives all the same."""
    client = make_app(**parts).test_client()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    [reason] = answer.json["reasons"]
    assert words in reason
    assert answer.json["ready"] is False
    assert answer.json["data"] == {"success": False, "error": reason}
    assert client.get("/healthz").status_code == 200


def test_all_reasons_are_named(make_app: MakeApp) -> None:
    """Who looks after it sees everything at once."""
    answer = make_app(store=Opening(), provider=Loading()).test_client().get("/readyz")
    assert len(answer.json["reasons"]) == 2


def test_no_model_on_purpose_is_ready(make_app: MakeApp) -> None:
    """PROVIDER=none keeps and shows conversations: that can be served."""
    assert make_app(provider=NoModel()).test_client().get("/readyz").status_code == 200


def test_draining_is_not_ready(make_app: MakeApp) -> None:
    """A server that is to stop says so, and still serves; a model that failed is not tried again now."""
    provider = Loading()
    app = make_app(provider=provider)
    parts_of(app).draining.set()
    client = app.test_client()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    [reason] = answer.json["reasons"]
    assert "stopping" in reason
    assert provider.asked == 0
    assert client.get("/api/v1/conversations/").status_code == 200


def test_asking_has_failed_model_tried_again(make_app: MakeApp) -> None:
    """Behind a balancer nobody else would: no question comes while this says no."""
    provider = Loading()
    make_app(provider=provider).test_client().get("/readyz")
    assert provider.asked == 1


def test_readiness_needs_no_token(make_app: MakeApp) -> None:
    """A balancer has none."""
    client = make_app(auth_enabled=True, jwt_secret="s" * 32).test_client()
    assert client.get("/readyz").status_code == 200


def test_readiness_is_described(client: FlaskClient) -> None:
    """/openapi.json has it, and its refusal; of /metrics that it needs a token where there are any."""
    paths = client.get("/openapi.json").json["paths"]
    assert {"200", "503"} <= set(paths["/readyz"]["get"]["responses"])
    assert "text/plain; version=0.0.4; charset=utf-8" in paths["/metrics"]["get"]["responses"]["200"]["content"]
