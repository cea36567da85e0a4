"""Bare text, to the byte."""

from __future__ import annotations

import pytest

from core.errors import UpstreamError
from self_agent.encoders import text
from self_agent.events import Delta, Done, Event, Failed, Sources, Started
from self_agent.models import Message

TABLE: list[tuple[Event, list[bytes]]] = [
    (Started("t", "c", 5, 6), []),
    (Delta("你好\n"), ["你好\n".encode()]),
    (Delta(" "), [b" "]),
    (Delta("a", reasoning="hm"), [b"a"]),
    (Delta(reasoning="hm"), []),
    (Sources([{"url": "u"}]), []),
    (Done(Message("assistant", "a", id=6)), []),
    (Done(None), []),
]


@pytest.mark.parametrize(("event", "pieces"), TABLE, ids=lambda value: type(value).__name__)
def test_event_to_bare_text(event: Event, pieces: list[bytes]) -> None:
    """Only the reply's text is written, without any framing; an event that has none writes nothing."""
    assert list(text.chunks([[event]])) == pieces


def test_batch_is_one_write() -> None:
    """A batch is written at once; one without text, silence too, is not written at all."""
    batches: list[list[Event]] = [[Started("t", "c", 5, 6), Delta("a"), Delta("好")], [], [Delta("b")]]
    assert list(text.chunks(batches)) == ["a好".encode(), b"b"]


def test_failure_raised_after_text() -> None:
    """A failure raises, but not before the text that came with it is out."""
    pieces = text.chunks([[Delta("half"), Failed(UpstreamError("gone"))]])
    assert next(pieces) == b"half"
    with pytest.raises(UpstreamError, match="gone"):
        next(pieces)
