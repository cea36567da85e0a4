"""Functions that a model calls, and what it is told about how to answer."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import UpstreamError
from self_agent.events import CallDelta, Delta, Info
from tests.providers.conftest import Connect
from tests.upstream import Answer, FakeUpstream, Reply

ASKED = [{"role": "user", "content": "hi"}]


def chunk(*calls: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"tool_calls": list(calls)}}]}


def test_calls_come_in_pieces(upstream: FakeUpstream, connect: Connect) -> None:
    """As they are streamed: the first piece names the function, the others are its arguments."""
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    second = {"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    upstream.enqueue(Reply(["Hm", chunk(first), chunk({"index": 0, "function": {"arguments": "{}"}}), chunk(second)]))
    found = list(connect(model="m").stream(ASKED))
    assert [each for each in found if not isinstance(each, Info)] == [
        Delta("Hm"),
        CallDelta(0, "", "c1", "f"),
        CallDelta(0, "{}"),
        CallDelta(1, "{}", "c2", "g"),
    ]


def test_calls_of_a_whole_answer(upstream: FakeUpstream, connect: Connect) -> None:
    """An upstream that does not stream has them without an index."""
    calls = [{"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "ab"]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    upstream.enqueue(Answer(200, {"choices": [{"message": message, "finish_reason": "tool_calls"}]}))
    found = list(connect(model="m").stream(ASKED))
    assert found[:2] == [CallDelta(0, "{}", "a", "a"), CallDelta(1, "{}", "b", "b")]
    assert isinstance(found[-1], Info)
    assert found[-1].finish_reason == "tool_calls"


WRONG = [1, {"index": "x"}, {"function": 1}, {"function": {"arguments": [1]}}]


@pytest.mark.parametrize("call", WRONG, ids=str)
def test_wrong_calls_are_upstream_errors(upstream: FakeUpstream, connect: Connect, call: Any) -> None:
    """A call of another shape is nonsense, not a crash."""
    upstream.enqueue(Reply([chunk(call)]))
    with pytest.raises(UpstreamError, match="no chat completion"):
        list(connect(model="m").stream(ASKED))


def test_options_are_passed_on(upstream: FakeUpstream, connect: Connect) -> None:
    """They stand beside the messages, and replace neither these nor the model."""
    options = {"temperature": 0.5, "max_tokens": 9, "model": "x", "messages": [], "stream": False}
    list(connect(model="m").stream(ASKED, options=options))
    body = upstream.asked[0].body
    assert {name: body[name] for name in ("temperature", "max_tokens", "model", "messages", "stream")} == {
        "temperature": 0.5,
        "max_tokens": 9,
        "model": "m",
        "messages": ASKED,
        "stream": True,
    }
