"""Bare text: the reply and nothing else, so a failure has no words here."""

from __future__ import annotations

from self_agent.encoders.base import Framing
from self_agent.events import Delta, Event


def encode(event: Event) -> bytes:
    """Return the text of an event, if it has any."""
    return event.text.encode() if isinstance(event, Delta) else b""


TEXT = Framing("text/plain; charset=utf-8", encode)
