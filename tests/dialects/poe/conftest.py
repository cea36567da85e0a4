"""An app that speaks poe, alone or in front of a fake upstream, and the few calls every test makes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from self_agent.providers.openai.provider import OpenAICompatible
from tests.conftest import MakeApp
from tests.upstream import FakeUpstream

ROOT = "/v1/chat/conversations"
COMPLETIONS = "/v1/chat/completions"
SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
KEY = "poe-sk-secret-4711"
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def make_poe(make_app: MakeApp) -> MakeApp:
    """Build apps as `make_app` does, that speak poe."""
    return lambda **options: make_app(**{"dialects": "poe", **options})


@pytest.fixture
def client(make_poe: MakeApp) -> FlaskClient:
    """A client of an app whose model echoes."""
    return make_poe().test_client()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def proxy(make_poe: MakeApp, upstream: FakeUpstream) -> FlaskClient:
    """A client of an app in front of a real upstream, for which it has a key of its own."""
    return make_poe(provider=provider_of(upstream)).test_client()


def provider_of(upstream: FakeUpstream) -> OpenAICompatible:
    return OpenAICompatible(upstream.base_url, api_key="sk-server", model="m", retries=0)


def begin(client: FlaskClient, **fields: Any) -> str:
    answer = client.post(ROOT, json=fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json["conversation_id"])


def say(client: FlaskClient, cid: str, content: str, **more: Any) -> Any:
    headers = more.pop("headers", None)
    return client.post(f"{ROOT}/{cid}/messages", json={"role": "user", "content": content, **more}, headers=headers)


def history(client: FlaskClient, cid: str) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in client.get(f"{ROOT}/{cid}/messages").json["messages"]]


def project(client: FlaskClient, name: str) -> int:
    return int(client.post("/v1/projects", json={"name": name}).json["id"])


def frames(answer: Any) -> list[Any]:
    datas = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]
