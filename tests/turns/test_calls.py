"""Turns whose reply is a function to be called, and turns of which nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from core.errors import NotFound, UpstreamError
from self_agent.events import CallDelta, Chunk, Delta, Info
from self_agent.models import Message
from self_agent.storage.memory import MemoryStore
from self_agent.turns.calls import calls_in
from self_agent.turns.runner import Turns
from self_agent.turns.turn import Turn

CALL = [CallDelta(0, "", "c1", "weather"), CallDelta(0, '{"place":'), CallDelta(0, '"x"}')]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def turns(store: MemoryStore) -> Iterator[Turns]:
    turns = Turns(store, checkpoint_seconds=0.01)
    yield turns
    turns.close()


def run(turns: Turns, chunks: list[Chunk], **options: Any) -> Turn:
    question = Message("user", "hi")
    return turns.submit("ada", "demo", question, lambda *_: iter(chunks), new={}, attend=True, **options)


def test_calls_are_kept(store: MemoryStore, turns: Turns) -> None:
    """A reply without a word that wants a function called is one; it is kept with its call."""
    reply = run(turns, [*CALL, Info("m", None, "tool_calls")]).wait().message
    assert reply is not None
    calls = [{"call_id": "c1", "name": "weather", "arguments": '{"place":"x"}'}]
    assert (reply.content, reply.extra) == ("", {"calls": calls})
    assert store.messages("demo")[1] == reply


def test_pieces_of_several_calls() -> None:
    """Calls are told apart by their index, and each has an id."""
    pieces = [CallDelta(1, "{", "b", "g"), CallDelta(0, "1", "", "f"), CallDelta(1, "}"), CallDelta(0, "2")]
    assert calls_in(pieces) == [
        {"call_id": "b", "name": "g", "arguments": "{}"},
        {"call_id": "call_1", "name": "f", "arguments": "12"},
    ]


REASONS = [("length", True), ("content_filter", True), ("stop", False), (None, False)]


@pytest.mark.parametrize(("reason", "kept"), REASONS)
def test_why_a_reply_was_cut_short(turns: Turns, reason: str | None, kept: bool) -> None:
    """A reply that the model did not end by itself says why."""
    reply = run(turns, [Delta("half"), Info("m", None, reason)]).wait().message
    assert reply is not None
    assert reply.extra == ({"finish_reason": reason} if kept else None)
    assert not reply.incomplete


def test_nothing_is_kept(store: MemoryStore, turns: Turns) -> None:
    """Such a turn ends with its reply as any other does, and the store has never heard of it."""
    turn = run(turns, [Delta("a"), Delta("b"), Info("m")], keep=False)
    reply = turn.wait().message
    assert reply is not None
    assert (reply.content, reply.model, turn.question.content) == ("ab", "m", "hi")
    assert reply.timestamp > turn.question.timestamp > ""
    assert store.get("demo") is None
    failed = run(turns, [Delta("half")], keep=False)
    failed.wait()
    with pytest.raises(UpstreamError):
        run(turns, [], keep=False).wait()
    with pytest.raises(NotFound):
        store.latest("demo", 1)


def test_said_together_is_stored_together(store: MemoryStore, turns: Turns) -> None:
    """What comes before a question is stored with it."""
    before = (Message("system", "Be kind."), Message("user", "one"))
    run(turns, [Delta("ok")], before=before).wait()
    assert [message.content for message in store.messages("demo")] == ["Be kind.", "one", "hi", "ok"]
