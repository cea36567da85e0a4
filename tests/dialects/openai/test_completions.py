"""OpenAI's own paths: bytes in, the same bytes out."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from self_agent.providers.none import NoModel
from tests.conftest import MakeApp
from tests.dialects.openai.conftest import BEARER, COMPLETIONS, CONVERSATIONS, KEY
from tests.upstream import HANG, Answer, FakeUpstream, Reply

ASKED = b'{"messages":  [{"role":"user","content":"\\u4f60"}], "model":"x", "tools": [{"type": "x"}], "seed": 1.0}'
JSON = {"Content-Type": "application/json"}


def test_completion_passes_byte_for_byte(proxy: FlaskClient, upstream: FakeUpstream) -> None:
    """Request and answer pass untouched, tools and all, with the caller's key; nothing is stored."""
    body = b'{ "id": "x",  "choices": [{"message": {"tool_calls": [ ]}}] }'
    upstream.enqueue(Answer(200, body))
    answer = proxy.post(COMPLETIONS, data=ASKED, headers={**JSON, **BEARER})
    assert (answer.status_code, answer.headers["Content-Type"], answer.data) == (200, "application/json", body)
    assert (upstream.asked[0].raw, upstream.asked[0].headers["authorization"]) == (ASKED, f"Bearer {KEY}")
    assert proxy.get(CONVERSATIONS).json["data"] == []


def test_completion_streams_byte_for_byte(proxy: FlaskClient, upstream: FakeUpstream) -> None:
    """A stream passes untouched too, its odd frames and its own [DONE]."""
    upstream.enqueue(Reply([b'data: {"odd":  1}\n\n', b": comment\n\n"], usage=None, finish_reason=None))
    asked = ASKED.replace(b"{", b'{"stream": true, ', 1)
    answer = proxy.post(COMPLETIONS, data=asked, headers=JSON)
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.data == b'data: {"odd":  1}\n\n: comment\n\ndata: [DONE]\n\n'
    assert upstream.asked[0].raw == asked


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_completion_error_passes_through(proxy: FlaskClient, upstream: FakeUpstream, status: int) -> None:
    """The upstream's own refusal comes back as it is."""
    upstream.enqueue(Answer(status, b'{"error":  {"message": "no"}}', {"Retry-After": "7"}))
    answer = proxy.post(COMPLETIONS, data=ASKED, headers=JSON)
    assert (answer.status_code, answer.data) == (status, b'{"error":  {"message": "no"}}')
    assert answer.headers["Retry-After"] == "7"


def test_completion_ends_with_client(proxy: FlaskClient, upstream: FakeUpstream) -> None:
    """A client that leaves ends the upstream's work."""
    upstream.enqueue(Reply(["a", HANG]))
    answer = proxy.post(COMPLETIONS, data=ASKED.replace(b"{", b'{"stream": true, ', 1), headers=JSON, buffered=False)
    assert next(iter(answer.response))
    answer.close()
    assert upstream.disconnected.wait(5)


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": "hi"}, {"messages": None}], ids=str)
def test_completion_needs_messages(proxy: FlaskClient, upstream: FakeUpstream, body: Any) -> None:
    """What is no list of messages never reaches the upstream."""
    answer = proxy.post(COMPLETIONS, json=body)
    assert (answer.status_code, list(answer.json)) == (400, ["error"])
    error = answer.json["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "messages")
    assert upstream.requests == []


def test_errors_below_any_prefix(make_openai: MakeApp) -> None:
    """Whatever is wrong there, and below any prefix, an OpenAI client finds the reason."""
    client = make_openai(provider=NoModel(), dialects="openai=/x").test_client()
    asked = client.post(f"/x{COMPLETIONS}", data=ASKED, headers=JSON)
    assert (asked.status_code, asked.json["error"]["type"]) == (503, "server_error")
    for answer in (asked, client.get(f"/x{COMPLETIONS}/no"), client.post(f"/x{COMPLETIONS}", data="x")):
        assert answer.json["error"].keys() == {"message", "type", "param", "code"}
    wrong = client.delete("/x/v1/models")
    assert (wrong.status_code, wrong.json["error"]["message"]) == (405, "Not allowed to DELETE on /x/v1/models")


@pytest.mark.parametrize("prefix", ["", "/poe"])
def test_poe_brings_it(make_openai: MakeApp, prefix: str) -> None:
    """Who asks for poe alone has models and completions beside it, each with its own envelope."""
    client = make_openai(dialects=f"poe={prefix}").test_client()
    assert client.get(f"{prefix}/v1/models").json["data"][0]["id"] == "echo"
    asked = client.post(f"{prefix}{COMPLETIONS}", json={"messages": [{"role": "user", "content": "hi"}]})
    assert asked.json["choices"][0]["message"]["content"] == "echo: hi"
    assert list(client.get(f"{prefix}/v1/chat/conversations/unknown").json) == ["detail"]
    assert list(client.get(f"{prefix}/v1/projects/x").json) == ["detail"]
    assert list(client.get(f"{prefix}/v1/chat/nothing").json) == ["error"]


def test_models_as_openai_lists_them(proxy: FlaskClient, upstream: FakeUpstream) -> None:
    """The models are those that the caller's key may ask for."""
    upstream.models = ["a", "b"]
    answer = proxy.get("/v1/models", headers=BEARER).json
    assert answer["object"] == "list"
    assert answer["data"][1] == {"id": "b", "object": "model", "created": 0, "owned_by": "self_agent"}
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_model_by_its_name(proxy: FlaskClient, upstream: FakeUpstream) -> None:
    """A model is retrieved by its id, with slashes too; an unknown one is OpenAI's error."""
    upstream.models = ["a", "meta/llama/3"]
    for name in upstream.models:
        assert proxy.get(f"/v1/models/{name}").json["id"] == name
    answer = proxy.get("/v1/models/gpt-9")
    assert answer.status_code == 404
    assert answer.json["error"]["code"] == "model_not_found"
    assert answer.json["error"]["param"] == "model"


@pytest.mark.parametrize("path", ["/v1", "/v1/files/x", "/v1/responsesx", "/v1/chat/nothing", "/v1/models/a/b"])
def test_unknown_paths_have_openais_error(proxy: FlaskClient, path: str) -> None:
    """Whatever else an SDK asks for below /v1 is answered as OpenAI answers what it does not know."""
    answer = proxy.get(path)
    assert answer.status_code == 404
    assert answer.json["error"].keys() == {"message", "type", "param", "code"}
