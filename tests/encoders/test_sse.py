"""Typed server-sent events, to the byte."""

from __future__ import annotations

import pytest

from core.errors import UpstreamError
from self_agent.encoders import sse
from self_agent.events import Delta, Done, Event, Failed, Sources, Started
from self_agent.models import Message

TABLE: list[tuple[Event, str]] = [
    (Started("t", "c", 5, 6), '{"type":"start","message_id":6}'),
    (Delta("你好\n"), '{"type":"content","delta":"你好\\n","content":"你好\\n"}'),
    (Delta(reasoning="hm"), '{"type":"thinking","delta":"hm","content":"hm"}'),
    (Sources([{"url": "u"}]), '{"type":"sources","sources":[{"url":"u"}]}'),
    (Done(Message("assistant", "好", id=6)), '{"type":"done","message_id":6,"full_content":"好","reasoning":null}'),
    (
        Done(Message("assistant", "h", id=6, incomplete=True)),
        '{"type":"done","message_id":6,"full_content":"h","reasoning":null,"incomplete":true}',
    ),
    (Done(None), '{"type":"done","message_id":null,"full_content":"","reasoning":null,"incomplete":true}'),
    (Failed(UpstreamError("gone")), '{"type":"error","error":"gone"}'),
]


@pytest.mark.parametrize(("event", "data"), TABLE, ids=lambda value: type(value).__name__)
def test_typed_event_to_bytes(event: Event, data: str) -> None:
    """Every event is one piece that ends in an empty line."""
    assert sse.typed(event) == f"data: {data}\n\n".encode()


def test_framing_of_events() -> None:
    """A framing says what a client and a proxy must know, and every event has bytes."""
    assert sse.TYPED.headers["Content-Type"] == "text/event-stream"
    assert sse.TYPED.headers["X-Accel-Buffering"] == "no"
    assert sse.TYPED.ping == b": ping\n\n"
    assert not sse.TYPED.is_cut_off(Failed(UpstreamError("gone")))
