"""An app that speaks OpenAI's dialect, alone or in front of a fake upstream, and the SDK in front of a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from flask.testing import FlaskClient

from self_agent.providers.openai.provider import OpenAICompatible
from tests.conftest import MakeApp
from tests.serving import Server
from tests.upstream import FakeUpstream

COMPLETIONS = "/v1/chat/completions"
CONVERSATIONS = "/v1/conversations"
RESPONSES = "/v1/responses"
KEY = "poe-sk-secret-4711"
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def make_openai(make_app: MakeApp) -> MakeApp:
    """Build apps as `make_app` does, that speak OpenAI's dialect."""
    return lambda **options: make_app(**{"dialects": "openai", **options})


@pytest.fixture
def client(make_openai: MakeApp) -> FlaskClient:
    """A client of an app whose model echoes."""
    return make_openai().test_client()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def proxy(make_openai: MakeApp, upstream: FakeUpstream) -> FlaskClient:
    """A client of an app in front of a real upstream, for which it has a key of its own."""
    provider = OpenAICompatible(upstream.base_url, api_key="sk-server", model="m", retries=0)
    return make_openai(provider=provider).test_client()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server, whose model echoes."""
    with Server(tmp_path_factory.mktemp("openai")) as running:
        yield running


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    """The SDK that people have."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def sdk_in_front(tmp_path: Path, upstream: FakeUpstream) -> Iterator[openai.OpenAI]:
    """The SDK, of a server in front of a model that does what the test says."""
    settings = {"provider": "openai", "openai_base_url": upstream.base_url, "openai_model": "m", "openai_api_key": "k"}
    with (
        Server(tmp_path, **settings) as running,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client
