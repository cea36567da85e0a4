"""WebSocket text frames, to the character."""

from __future__ import annotations

import pytest

from core.errors import UpstreamError
from self_agent.encoders import frames
from self_agent.events import Delta, Done, Event, Failed, Sources, Started
from self_agent.models import Message

TABLE: list[tuple[Event, str | None]] = [
    (Started("t", "c", 5, 6), '{"type":"stream_start","stream_id":"t"}'),
    (Delta("你好\n"), '{"type":"stream_chunk","stream_id":"t","content":"你好\\n"}'),
    (Delta("a", reasoning="hm"), '{"type":"stream_chunk","stream_id":"t","content":"a"}'),
    (Delta(reasoning="hm"), None),
    (Sources([{"url": "u"}]), None),
    (Done(Message("assistant", "好", id=6)), '{"type":"stream_end","stream_id":"t"}'),
    (Done(None), '{"type":"stream_end","stream_id":"t"}'),
    (Failed(UpstreamError("gone")), '{"type":"error","content":"gone"}'),
]


@pytest.mark.parametrize(("event", "frame"), TABLE, ids=lambda value: type(value).__name__)
def test_event_to_text_frame(event: Event, frame: str | None) -> None:
    """Every event that is shown is one JSON object."""
    assert frames.encode(event, "t") == frame


def test_frames_without_an_event() -> None:
    """The heartbeat and an error by itself."""
    assert frames.HEARTBEAT == '{"type":"heartbeat_ping"}'
    assert frames.error("说") == '{"type":"error","content":"说"}'


@pytest.mark.parametrize("frame", ["", "hi", "{", "[]", '"x"', "1", "null", '{"a":NaN}', "\ud800"])
def test_frame_must_be_object(frame: str) -> None:
    """What is no JSON object is a ValueError with a reason."""
    with pytest.raises(ValueError, match="the frame"):
        frames.decode(frame)
    assert frames.decode('{"type":"user","content":"你"}') == {"type": "user", "content": "你"}
