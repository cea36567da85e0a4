"""WebSocket text frames: each event that a chat page shows becomes one JSON object with a `type`.

A reply is `stream_start stream_chunk* (stream_end | error)`; what ends in `error` is not the whole reply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from self_agent.encoders.base import Framing
from self_agent.events import Delta, Done, Event, Failed, Started


def _frame(kind: str, **fields: str) -> str:
    return orjson.dumps({"type": kind, **fields}).decode()


HEARTBEAT = _frame("heartbeat_ping")


def error(content: str) -> str:
    """Return the frame that says what went wrong."""
    return _frame("error", content=content)


def encode(event: Event, stream_id: str) -> str | None:
    """Return the frame of an event of the reply `stream_id`; reasoning and sources have none."""
    if isinstance(event, Delta):
        return _frame("stream_chunk", stream_id=stream_id, content=event.text) if event.text else None
    if isinstance(event, Started):
        return _frame("stream_start", stream_id=stream_id)
    if isinstance(event, Done):
        return _frame("stream_end", stream_id=stream_id)
    return error(event.error.message) if isinstance(event, Failed) else None


def decode(frame: str | bytes) -> dict[str, Any]:
    """Return the object in a client's frame. Raises ValueError, which says what is wrong with it."""
    try:
        fields = orjson.loads(frame)
    except orjson.JSONDecodeError as failure:
        raise ValueError(f"the frame is not valid JSON: {failure}") from None
    if not isinstance(fields, dict):
        raise ValueError("the frame must be a JSON object")
    return fields


def framing(stream_id: str, pack: Callable[[str], bytes]) -> Framing:
    """Return the framing of the reply `stream_id`; `pack` makes the bytes of a frame."""

    def encode_packed(event: Event) -> bytes:
        text = encode(event, stream_id)
        return pack(text) if text else b""

    return Framing("", encode_packed)
