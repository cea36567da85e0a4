"""A turn of which nothing is stored begins as any other does, and no message has its ids."""

from __future__ import annotations

from dataclasses import replace

from core import clock
from self_agent.models import Conversation
from self_agent.storage.base import Begun
from self_agent.turns.turn import Turn


def begun(turn: Turn) -> Begun:
    """Return what `Store.begin` would."""
    now = clock.now()
    conversation = Conversation(turn.conversation_id, 0, turn.user_id, now, now)
    return Begun(conversation, replace(turn.question, id=1, timestamp=now), 2)
