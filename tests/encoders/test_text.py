"""Bare text, to the byte."""

from __future__ import annotations

import pytest

from core.errors import UpstreamError
from self_agent.encoders.text import TEXT
from self_agent.events import Delta, Done, Event, Failed, Sources, Started
from self_agent.models import Message

TABLE: list[tuple[Event, bytes]] = [
    (Started("t", "c", 5, 6), b""),
    (Delta("你好\n"), "你好\n".encode()),
    (Delta(" "), b" "),
    (Delta("a", reasoning="hm"), b"a"),
    (Delta(reasoning="hm"), b""),
    (Sources([{"url": "u"}]), b""),
    (Done(Message("assistant", "a", id=6)), b""),
    (Done(None), b""),
    (Failed(UpstreamError("gone")), b""),
]


@pytest.mark.parametrize(("event", "data"), TABLE, ids=lambda value: type(value).__name__)
def test_event_to_bare_text(event: Event, data: bytes) -> None:
    """Only the reply's text is written, without any framing; an event that has none writes nothing."""
    assert TEXT.encode(event) == data


def test_failure_breaks_the_answer() -> None:
    """There are no words for a failure, and no place for a ping."""
    assert TEXT.is_cut_off(Failed(UpstreamError("gone")))
    assert not TEXT.is_cut_off(Done(None))
    assert TEXT.ping == b""
