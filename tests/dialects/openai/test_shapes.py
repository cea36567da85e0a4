"""Every answer and event is what the SDK's own models say, with nothing missing, wrong or unknown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionDeleted
from openai.types.conversations import Conversation, ConversationDeletedResource, ConversationItem, ConversationItemList
from openai.types.responses import Response, ResponseItemList, ResponseStreamEvent
from pydantic import ValidationError

from core.errors import UpstreamError
from self_agent.events import CallDelta, Delta, Info, Sources
from tests.conftest import MakeApp
from tests.dialects.openai.conftest import COMPLETIONS, CONVERSATIONS, RESPONSES
from tests.dialects.openai.shapes import check

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False, "description": "d"}
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
SCRIPTS: dict[str, list[Any]] = {
    "text": [Delta("He"), Delta("llo"), Info("m", USAGE, "stop")],
    "all": [
        Delta("", "hm"),
        Delta("He"),
        Delta("llo"),
        Sources([{"type": "url", "url": "http://x.example"}, {"type": "id", "id": "7"}]),
        CallDelta(0, "{", "c0", "f"),
        CallDelta(0, "}"),
        CallDelta(1, "{}", "", "g"),
        Info("m", {"total_tokens": 3}, "tool_calls"),
    ],
    "calls": [CallDelta(0, "{}", "c0", "f"), Info("m", None, "tool_calls")],
    "short": [Delta("He"), Info("m", None, "length")],
    "failed": [Delta("He"), UpstreamError("gone")],
    "silent": [Delta("", "hm"), UpstreamError("gone")],
}


def frames(answer: Any) -> list[Any]:
    datas = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(data) for data in datas if data != "[DONE]"]


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("store", [True, False])
def test_responses_and_events(make_openai: MakeApp, name: str, store: bool) -> None:
    """Whatever the model says, whole, as events, read again, as items."""
    client = make_openai(script=SCRIPTS[name]).test_client()
    asked = {
        "input": [{"role": "developer", "content": "d"}, {"role": "user", "content": "hi"}],
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {}, "strict": True}, "verbosity": "low"},
        "reasoning": {"effort": "high", "summary": "auto"},
        "metadata": {"a": "b"},
        "store": store,
    }
    made = client.post(RESPONSES, json=asked).json
    check(Response, made)
    events = frames(client.post(RESPONSES, json={**asked, "stream": True}))
    for event in events:
        check(ResponseStreamEvent, event)
    last = events[-1]["response"]
    if store:
        check(Response, client.get(f"{RESPONSES}/{last['id']}").json)
        for event in frames(client.get(f"{RESPONSES}/{last['id']}?stream=true")):
            check(ResponseStreamEvent, event)
        check(ResponseItemList, client.get(f"{RESPONSES}/{last['id']}/input_items").json)
        items = client.get(f"{CONVERSATIONS}/{last['conversation']['id']}/items").json
        check(ConversationItemList, items)


def test_conversations_and_items(client: FlaskClient) -> None:
    """Created, changed, listed, deleted, with items of every kind."""
    items = [
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
    ]
    made = check(Conversation, client.post(CONVERSATIONS, json={"items": items, "metadata": {"a": "b"}}).json)
    check(Conversation, client.post(f"{CONVERSATIONS}/{made.id}", json={"metadata": None}).json)
    for row in client.get(CONVERSATIONS).json["data"]:
        check(Conversation, row)
    check(ConversationItemList, client.post(f"{CONVERSATIONS}/{made.id}/items", json={"items": items}).json)
    found = check(ConversationItemList, client.get(f"{CONVERSATIONS}/{made.id}/items").json)
    for item in found.data:
        check(ConversationItem, client.get(f"{CONVERSATIONS}/{made.id}/items/{item.id}").json)
    check(Conversation, client.delete(f"{CONVERSATIONS}/{made.id}/items/{found.last_id}").json)
    empty = client.post(CONVERSATIONS).json["id"]
    check(ConversationItemList, client.get(f"{CONVERSATIONS}/{empty}/items").json)
    check(ConversationDeletedResource, client.delete(f"{CONVERSATIONS}/{made.id}").json)


@pytest.mark.parametrize("name", ["text", "all", "calls", "short"])
def test_stored_completions_and_chunks(make_openai: MakeApp, name: str) -> None:
    """Whole, in chunks, and read again."""
    client = make_openai(script=SCRIPTS[name]).test_client()
    asked = {"messages": [{"role": "user", "content": "hi"}], "store": True, "metadata": {"a": "b"}}
    made = check(ChatCompletion, client.post(COMPLETIONS, json=asked).json)
    for chunk in frames(client.post(COMPLETIONS, json={**asked, "stream": True})):
        check(ChatCompletionChunk, chunk)
    check(ChatCompletion, client.get(f"{COMPLETIONS}/{made.id}").json)
    for row in client.get(COMPLETIONS).json["data"]:
        check(ChatCompletion, row)
    check(ChatCompletion, client.post(f"{COMPLETIONS}/{made.id}", json={"metadata": {}}).json)
    check(ChatCompletionDeleted, client.delete(f"{COMPLETIONS}/{made.id}").json)


def test_models(client: FlaskClient) -> None:
    """A model is one."""
    check(Model, client.get("/v1/models/echo").json)
    assert [check(Model, row).id for row in client.get("/v1/models").json["data"]] == ["echo"]


def test_wrong_shapes_are_seen() -> None:
    """The check finds what is missing, of another type, or unknown."""
    good = {"id": "c", "object": "conversation", "created_at": 1, "metadata": {}}
    check(Conversation, good)
    for wrong in ({**good, "created_at": "1"}, {k: v for k, v in good.items() if k != "object"}):
        with pytest.raises(ValidationError):
            check(Conversation, wrong)
    with pytest.raises(AssertionError, match="colour"):
        check(Conversation, {**good, "colour": "red"})
