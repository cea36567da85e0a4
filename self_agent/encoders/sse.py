"""Server-sent events: each event becomes one piece of bytes that ends in an empty line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from self_agent.encoders.base import Framing
from self_agent.events import CallDelta, Delta, Done, Event, Failed, Sources, Started, reached

PING = b": ping\n\n"  # a comment: readers ignore it, and writing it shows whether the client is still there


def frame(data: Any) -> bytes:
    """Return one event that carries `data` as JSON."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def typed(event: Event) -> bytes:
    """Encode for clients that switch on `type`; `content` carries the new piece under both names in use."""
    if isinstance(event, Delta):
        if not event.text:
            return frame({"type": "thinking", "delta": event.reasoning, "content": event.reasoning})
        return frame({"type": "content", "delta": event.text, "content": event.text})
    if isinstance(event, Started):
        return frame({"type": "start", "message_id": event.message_id})
    if isinstance(event, Sources):
        return frame({"type": "sources", "sources": event.sources})
    if isinstance(event, Done):
        return frame(_done(event))
    if isinstance(event, CallDelta):
        return b""
    assert isinstance(event, Failed)
    return frame({"type": "error", "error": event.error.message})


def _done(event: Done) -> dict[str, Any]:
    message = event.message
    if message is None:
        return {"type": "done", "message_id": None, "full_content": "", "reasoning": None, "incomplete": True}
    done = {"type": "done", "message_id": message.id, "full_content": message.content, "reasoning": message.reasoning}
    return {**done, "incomplete": True} if message.incomplete else done


def numbered(after: int = 0) -> Framing:
    """Return the framing of one stream, for it counts: its events have ids, and a client has those up to `after`.

    A piece of which the client has the beginning is cut.
    """
    number = 0

    def piece(kind: str, text: str) -> bytes:
        nonlocal number
        number += len(text)
        text = text[-(number - after) :] if number > after else ""
        return _with_id(number, {"type": kind, "delta": text, "content": text}) if text else b""

    def encode(event: Event) -> bytes:
        nonlocal number
        if isinstance(event, Delta):
            return piece("thinking", event.reasoning) + piece("content", event.text)
        if isinstance(event, (Sources, CallDelta)):
            return typed(event)
        if isinstance(event, Started):
            number = reached(number, event)
            ids = {"message_id": event.message_id, "user_message_id": event.user_message_id}
            return _with_id(number, {"type": "start", **ids}) if number > after else b""
        last = reached(number, event)
        return b"id: %d\n" % last + typed(event) if last > after else b""

    return framing(encode)


def _with_id(number: int, data: Any) -> bytes:
    return b"id: %d\n" % number + frame(data)


def framing(encode: Callable[[Event], bytes]) -> Framing:
    """Return server-sent events that `encode` makes."""
    return Framing("text/event-stream", encode, PING)


TYPED = framing(typed)
