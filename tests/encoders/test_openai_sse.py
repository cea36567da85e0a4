"""Server-sent events that end in `[DONE]`, to the byte."""

from __future__ import annotations

import pytest

from core.errors import UpstreamError
from self_agent.encoders import openai_sse
from self_agent.events import Delta, Done, Event, Failed, Sources, Started
from self_agent.models import Message

ENDED = 'data: {"content":"","finish_reason":"stop"}\n\ndata: [DONE]\n\n'
TABLE: list[tuple[Event, str]] = [
    (
        Started("t", "c", 5, 6),
        'data: {"conversation_id":"c","session_id":"t","user_message_id":5,"assistant_message_id":6}\n\n',
    ),
    (Delta("你好\n"), 'data: {"content":"你好\\n"}\n\n'),
    (Delta(reasoning="hm"), 'data: {"content":"","reasoning":"hm"}\n\n'),
    (Sources([{"url": "u"}]), 'data: {"content":"","sources":[{"url":"u"}]}\n\n'),
    (Done(Message("assistant", "好", id=6)), ENDED),
    (Done(Message("assistant", "h", id=6, incomplete=True)), ENDED),
    (Done(None), ENDED),
    (Failed(UpstreamError("gone")), 'data: {"error":"gone"}\n\n'),
]


@pytest.mark.parametrize(("event", "data"), TABLE, ids=lambda value: type(value).__name__)
def test_bare_event_to_bytes(event: Event, data: str) -> None:
    """Every frame of a reply has `content`; only what ended well ends in [DONE]."""
    assert openai_sse.bare(event) == data.encode()
