"""Events of a response: OpenAI's names and order, numbered so that any of them can be continued from the store."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from core.errors import UpstreamError
from self_agent.encoders import responses
from self_agent.events import CallDelta, Delta, Done, Event, Failed, Sources, Started
from self_agent.models import Message

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
STARTED = Started("turn", "demo", 7, 8)
CALLS = [{"call_id": "a", "name": "f", "arguments": "{}"}, {"call_id": "b", "name": "g", "arguments": '{"x":1}'}]
REPLY = Message(
    "assistant",
    "Hello 你好",
    id=8,
    timestamp="2025-04-30T10:00:01.000000Z",
    reasoning="hm hm",
    model="m",
    sources=[{"type": "url", "url": "http://x.example", "title": "X"}],
    usage={"prompt_tokens": 1, "completion_tokens": 2},
    extra={"calls": CALLS},
)
LIVE: list[Event] = [
    STARTED,
    Delta("", "hm"),
    Delta("", " hm"),
    Delta("Hel"),
    Delta("lo 你好"),
    Sources(REPLY.sources or []),
    CallDelta(0, "", "a", "f"),
    CallDelta(0, "{}"),
    CallDelta(1, '{"x"', "b", "g"),
    CallDelta(1, ":1}"),
    Done(REPLY),
]


def run(events: list[Event], after: int = -1) -> list[Any]:
    framing = responses.framing(lambda: {"created_at": 1.0, "conversation": {"id": "demo"}}, after=after)
    data = b"".join(map(framing.encode, events))
    found = []
    for block in data.split(b"\n\n")[:-1]:
        name, _, line = block.partition(b"\n")
        found.append(orjson.loads(line.removeprefix(b"data: ")))
        assert name.decode() == f"event: {found[-1]['type']}"
        EVENT.validate_python(found[-1])
    return found


def deltas(events: list[Any]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for event in events:
        if "delta" in event:
            texts[event["output_index"]] = texts.get(event["output_index"], "") + event["delta"]
    return texts


def test_events_in_openais_order() -> None:
    """Each item is added, filled and done before the next; the last event has all of them."""
    events = run(LIVE)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    numbers = [event["sequence_number"] for event in events]
    assert numbers[:4] == [0, 1, 2, 3]
    assert numbers == sorted(set(numbers))
    assert deltas(events) == {0: "hm hm", 1: "Hello 你好", 2: "{}", 3: '{"x":1}'}
    whole = events[-1]["response"]
    assert (whole["id"], whole["status"], whole["usage"]["total_tokens"]) == ("resp_8", "completed", 3)
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == whole["output"]
    assert [item["id"] for item in done] == ["rs_8", "msg_8", "fc_8", "fc_8_1"]


def test_stored_events_continue_live_ones() -> None:
    """Behind any event that was live, those made of the stored reply are the rest: nothing doubled, nothing missing."""
    live = run(LIVE)
    for place, event in enumerate(live):
        rest = run(responses.events_of(REPLY, STARTED), event["sequence_number"])
        assert deltas(live[: place + 1] + rest) == deltas(live)
        others = [e for e in rest if "delta" not in e]
        assert others == [e for e in live[place + 1 :] if "delta" not in e]
    assert run(LIVE, 10**6) == []


def test_live_events_can_be_cut_anywhere() -> None:
    """A piece that a client has the beginning of comes without that."""
    assert deltas(run(LIVE, 13))[1] == "Hello 你好"
    assert deltas(run(LIVE, 14))[1] == "ello 你好"
    assert deltas(run(LIVE, 19))[1] == "你好"


def test_encoding_begins_anew() -> None:
    """Who has to send it all again encodes it again, and the last event may be encoded twice."""
    framing = responses.framing(lambda: {"created_at": 1.0})
    once = b"".join(map(framing.encode, LIVE))
    assert framing.encode(LIVE[-1]) == framing.encode(LIVE[-1])
    assert b"".join(map(framing.encode, LIVE)) == once


@pytest.mark.parametrize(
    ("last", "kind", "status"),
    [
        (Failed(UpstreamError("gone")), "response.failed", "failed"),
        (Done(None), "response.incomplete", "cancelled"),
        (
            Done(Message("assistant", "Hel", 8, "2025-04-30T10:00:01Z", incomplete=True)),
            "response.incomplete",
            "cancelled",
        ),
        (
            Done(Message("assistant", "Hel", 8, "2025-04-30T10:00:01Z", extra={"finish_reason": "length"})),
            "response.incomplete",
            "incomplete",
        ),
    ],
    ids=["failed", "stopped at once", "stopped", "too long"],
)
def test_other_ends(last: Event, kind: str, status: str) -> None:
    """What did not end well says so, behind the end of its items."""
    events = run([STARTED, Delta("Hel"), last])
    assert (events[-1]["type"], events[-1]["response"]["status"]) == (kind, status)
    assert (events[-1]["response"]["error"] is None) == (status != "failed")
    assert events[-2]["type"] == "response.output_item.done"
    assert (events[-1]["response"]["incomplete_details"] is None) == (status != "incomplete")
