"""What happens to a user's chats as server-sent events: each has an id, from which a client goes on."""

from __future__ import annotations

from typing import Any

from self_agent.encoders.base import Framing
from self_agent.encoders.sse import PING, frame
from self_agent.events import Change

RETRY = b"retry: 2000\n\n"  # milliseconds after which a client that was cut off comes back


def encode(change: Change) -> bytes:
    """Return the bytes of a change, whose id a client sends back as `Last-Event-ID`."""
    fields: dict[str, Any] = {"type": change.kind}
    if change.conversation_id:
        fields |= {"conversation_id": change.conversation_id, "number": change.number}
    return b"id: " + change.id.encode() + b"\n" + frame(fields)


CHANGES = Framing("text/event-stream", encode, PING)
