"""Which dialects are served where, and what belongs to none."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from core.errors import StartupError
from tests.conftest import MakeApp


@pytest.mark.parametrize("setting", [" ", "klingon", "self_agent=x", "self_agent=/", "self_agent,self_agent"])
def test_wrong_setting_refuses_start(make_app: MakeApp, setting: str) -> None:
    """A DIALECTS that makes no sense stops the start with a reason."""
    with pytest.raises(StartupError, match="DIALECTS"):
        make_app(dialects=setting)


def test_prefix_moves_a_dialect(make_app: MakeApp) -> None:
    """A dialect with a prefix is below it, with its errors, and nowhere else."""
    client = make_app(dialects="self_agent=/native").test_client()
    assert client.get("/native/api/v1/conversations").status_code == 200
    assert client.get("/api/v1/conversations").status_code == 404
    assert client.get("/native/api/v1/conversations/a/b/c").json["data"]["success"] is False


def test_health_says_what_is_ready(client: FlaskClient) -> None:
    """/healthz answers 200 and says whether store and model are ready."""
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json["status"] == "ok"
    assert answer.json["store"] == {"ready": True}
    assert answer.json["model"]["state"] == "ready"


def test_openapi_lists_the_routes(client: FlaskClient) -> None:
    """The OpenAPI document has every route that is served, made from the models that validate."""
    document = client.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    send = document["paths"]["/api/v1/conversations/{conversation_id}/messages"]["post"]
    name = send["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
    assert document["components"]["schemas"][name]["required"] == ["content"]


def test_docs_need_no_network(client: FlaskClient) -> None:
    """The page that shows it carries all it needs."""
    page = client.get("/docs").text
    assert "/openapi.json" in page
    assert not [tag for tag in page.split("<") if tag.startswith(("script src", 'link rel="stylesheet"'))]


def test_one_dialect_below_another(make_app: MakeApp) -> None:
    """A root may stand below another's: a path, and its errors, are those of the nearest."""
    client = make_app(dialects="openai,poe").test_client()
    assert list(client.get("/v1/chat/conversations/unknown").json) == ["detail"]
    assert list(client.get("/v1/conversations/unknown").json) == ["error"]
    assert list(client.get("/v1/chat/nothing").json) == ["error"]
    with pytest.raises(StartupError, match=r"self_agent and alice both claim /api/v1/conversations"):
        make_app(dialects="self_agent,alice")
