"""Conversations and their items, as OpenAI's API has them."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from self_agent import parts_of
from self_agent.models import Message
from tests.dialects.openai.conftest import CONVERSATIONS, RESPONSES
from tests.dialects.ways import Client, Talk, Way


def made(client: Client) -> str:
    return str(client.ask("POST", RESPONSES, {"input": "first"})["conversation"]["id"])


def read(client: Client, cid: str) -> Talk:
    items = client.ask("GET", f"{CONVERSATIONS}/{cid}/items?order=asc&limit=100")["data"]
    return [(item["role"], item["content"][0]["text"]) for item in items]


WAY = Way(
    "openai",
    create=made,
    listed=lambda c: [row["id"] for row in c.ask("GET", CONVERSATIONS)["data"]],
    read=read,
    send=lambda c, cid, text: c.ask("POST", RESPONSES, {"conversation": cid, "input": text}),
    delete=lambda c, cid: c.ask("DELETE", f"{CONVERSATIONS}/{cid}"),
    envelope=frozenset({"error"}),
    empty=frozenset({"/v1/models/<path:model>"}),
    fields={
        "background": False,
        "conversation": "known",
        "include": [],
        "input": "hello",
        "instructions": "s",
        "items": [{"role": "user", "content": "x"}],
        "keep": None,
        "max_output_tokens": 16,
        "max_tool_calls": 1,
        "metadata": {"topic": "x"},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": "x",
        "prompt_cache_retention": "24h",
        "reasoning": {"effort": "low"},
        "safety_identifier": "x",
        "service_tier": "auto",
        "store": False,
        "stream_options": {},
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "auto",
        "user": "x",
    },
)


def begin(client: FlaskClient, *texts: str, **fields: Any) -> str:
    items = [{"role": "user", "content": text} for text in texts]
    answer = client.post(CONVERSATIONS, json={"items": items, **fields})
    assert answer.status_code == 200, answer.text
    return str(answer.json["id"])


def texts(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["content"][0]["text"] for item in answer.json["data"]]


def test_conversation_from_first_to_last(client: FlaskClient) -> None:
    """It is created with metadata, found, changed, deleted, and then unknown."""
    cid = begin(client, metadata={"topic": "demo"})
    assert cid.startswith("conv_")
    found = client.get(f"{CONVERSATIONS}/{cid}").json
    assert (found["object"], found["metadata"]) == ("conversation", {"topic": "demo"})
    assert client.post(f"{CONVERSATIONS}/{cid}", json={"metadata": {"a": "b"}}).json["metadata"] == {"a": "b"}
    assert client.get(f"{CONVERSATIONS}/{cid}").json["metadata"] == {"a": "b"}
    assert client.delete(f"{CONVERSATIONS}/{cid}").json == {
        "id": cid,
        "object": "conversation.deleted",
        "deleted": True,
    }
    gone = client.get(f"{CONVERSATIONS}/{cid}")
    assert (gone.status_code, gone.json["error"]["message"]) == (404, f"Conversation with id '{cid}' not found.")


def test_all_conversations_are_listed(client: FlaskClient) -> None:
    """Last changed first, or last; a page at a time."""
    ids = [begin(client, f"{number}") for number in range(5)]
    first = client.get(f"{CONVERSATIONS}?limit=2").json
    assert [row["id"] for row in first["data"]] == ids[:2:-1]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[4], ids[3], True)
    rest = client.get(f"{CONVERSATIONS}?limit=3&after={first['last_id']}").json
    assert ([row["id"] for row in rest["data"]], rest["has_more"]) == (ids[2::-1], False)
    assert [row["id"] for row in client.get(f"{CONVERSATIONS}?order=asc").json["data"]] == ids
    assert client.get(f"{CONVERSATIONS}?after=conv_unknown").status_code == 404


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_items_are_paged(client: FlaskClient, order: str) -> None:
    """Each item comes once, in order, whatever the size of the page."""
    words = [str(number) for number in range(9)]
    cid = begin(client, *words)
    expected = words if order == "asc" else words[::-1]
    for limit in (1, 2, 4, 9, 100):
        found: list[str] = []
        page: Any = {"has_more": True, "last_id": ""}
        while page["has_more"]:
            after = f"&after={page['last_id']}" if found else ""
            answer = client.get(f"{CONVERSATIONS}/{cid}/items?order={order}&limit={limit}{after}")
            page, found = answer.json, found + texts(answer)
        assert found == expected


def test_items_of_every_kind(client: FlaskClient) -> None:
    """Texts of all roles, calls of functions and their results are kept, and read as they were said."""
    items = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be nice"}]},
        {"type": "message", "role": "user", "content": "Weather?"},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": ""},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Rain", "annotations": []}]},
    ]
    cid = begin(client)
    added = client.post(f"{CONVERSATIONS}/{cid}/items", json={"items": items})
    assert added.status_code == 200, added.text
    found = client.get(f"{CONVERSATIONS}/{cid}/items?order=asc").json["data"]
    assert found == added.json["data"]
    assert [item["type"] for item in found] == [str(item.get("type", "message")) for item in items]
    assert [item["id"].partition("_")[0] for item in found] == ["msg", "msg", "fc", "fco", "rs", "msg"]
    assert (found[0]["role"], found[2]["name"], found[3]["output"]) == ("developer", "weather", "")
    for item in found:
        assert client.get(f"{CONVERSATIONS}/{cid}/items/{item['id']}").json == item


def test_items_of_one_reply(client: FlaskClient) -> None:
    """A reply is several items, of which each can be deleted without the others."""
    cid = begin(client, "hi")
    calls = [{"call_id": str(number), "name": "f", "arguments": "{}"} for number in range(2)]
    reply = Message("assistant", "text", reasoning="hm", extra={"calls": calls})
    parts_of(client.application).store.append(cid, reply)
    items = client.get(f"{CONVERSATIONS}/{cid}/items?limit=4").json["data"]
    assert [item["type"] for item in items] == ["function_call", "function_call", "message", "reasoning"]
    for place, item in enumerate(items[1:], 1):
        behind = client.get(f"{CONVERSATIONS}/{cid}/items?limit=1&after={items[place - 1]['id']}").json["data"]
        assert behind == [item]
    for item in items[1:]:
        assert client.delete(f"{CONVERSATIONS}/{cid}/items/{item['id']}").json["object"] == "conversation"
    left = client.get(f"{CONVERSATIONS}/{cid}/items").json["data"]
    assert [item["type"] for item in left] == ["function_call", "message"]
    assert left[0]["call_id"] == items[0]["call_id"]
    assert client.delete(f"{CONVERSATIONS}/{cid}/items/{left[0]['id']}").status_code == 200
    assert texts(client.get(f"{CONVERSATIONS}/{cid}/items")) == ["hi"]


def test_item_of_another_conversation(client: FlaskClient) -> None:
    """An item is found in its own conversation alone."""
    one, other = begin(client, "one"), begin(client, "other")
    [item] = client.get(f"{CONVERSATIONS}/{one}/items").json["data"]
    for method in ("get", "delete"):
        answer = getattr(client, method)(f"{CONVERSATIONS}/{other}/items/{item['id']}")
        assert (answer.status_code, answer.json["error"]["param"]) == (404, None)
    assert client.get(f"{CONVERSATIONS}/{other}/items?after={item['id']}").status_code == 404
    assert texts(client.get(f"{CONVERSATIONS}/{one}/items")) == ["one"]


IMAGE = {"type": "input_image", "image_url": "data:,"}


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([1], "items[0]"),
        ([{}], "items[0].type"),
        ([{"type": 1}], "items[0].type"),
        ([{"role": "user"}], "items[0].content"),
        ([{"role": "user", "content": 1}], "items[0].content"),
        ([{"role": "robot", "content": "x"}], "items[0].role"),
        ([{"role": "user", "content": [IMAGE]}], "items[0].content[0]"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "items[0].content[0].text"),
        ([{"role": "user", "content": "x"}, {"type": "computer_call"}], "items[1]"),
        ([{"type": "function_call", "call_id": "x", "name": 1}], "items[0].name"),
        ([{"type": "function_call_output", "output": "x"}], "items[0].call_id"),
        ([{"type": "item_reference", "id": "msg_7"}], "items[0].id"),
        ([{"role": "user", "content": "x"}] * 21, "items"),
        ([], "items"),
    ],
    ids=str,
)
def test_wrong_items_are_named(client: FlaskClient, items: Any, param: str) -> None:
    """What cannot be kept is refused by its place, and nothing of the rest is kept."""
    cid = begin(client)
    answer = client.post(f"{CONVERSATIONS}/{cid}/items", json={"items": items})
    assert answer.status_code in (400, 404)
    assert answer.json["error"]["param"] == param
    assert client.get(f"{CONVERSATIONS}/{cid}/items").json["data"] == []


@pytest.mark.parametrize(
    "metadata",
    [{str(n): "x" for n in range(17)}, {"k" * 65: "x"}, {"k": "x" * 513}, {"k": 1}, ["x"], "x"],
    ids=lambda metadata: str(metadata)[:20],
)
def test_wrong_metadata_is_named(client: FlaskClient, metadata: Any) -> None:
    """Metadata is a few short texts by their names."""
    answer = client.post(CONVERSATIONS, json={"metadata": metadata})
    assert answer.status_code == 400
    assert answer.json["error"]["param"].startswith("metadata")
    assert client.get(CONVERSATIONS).json["data"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "order=up", "include=x", "include[]=message.output_text.logprobs"]
)
def test_wrong_paging_is_named(client: FlaskClient, query: str) -> None:
    """What a list cannot do is a 400 with the parameter."""
    answer = client.get(f"{CONVERSATIONS}/{begin(client)}/items?{query}")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, query.partition("=")[0].removesuffix("[]"))
