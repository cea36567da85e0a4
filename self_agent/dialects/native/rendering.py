"""How the native dialect shows conversations and messages."""

from __future__ import annotations

from core import clock
from self_agent.dialects.base import conversations, user
from self_agent.dialects.native.answers import Heading, Shown
from self_agent.models import Conversation, Message


def heading(conversation: Conversation, latest: Message | None = None) -> Heading:
    """Show a conversation; `latest` is its latest message where that has been read already."""
    return {
        "conversation_id": conversation.id,
        "name": conversation.name,
        "summary": latest.content if latest else conversations.summary(user(), conversation.id),
        "created_at": clock.to_seconds(conversation.created_at),
        "updated_at": clock.to_seconds(conversation.updated_at),
    }


def shown(message: Message) -> Shown:
    shown: Shown = {
        "role": message.role,
        "content": message.content,
        "timestamp": clock.to_seconds(message.timestamp),
    }
    if message.sources:
        shown["sources"] = message.sources
    if message.incomplete:
        shown["incomplete"] = True
    return shown
