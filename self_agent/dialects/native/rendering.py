"""How the native dialect shows conversations and messages."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from core import clock
from core.errors import NotFound
from self_agent.dialects.base import conversations, user
from self_agent.dialects.native.answers import Full, Heading, Shown
from self_agent.models import MAX_ID, Conversation, Message

MessageId = Annotated[str, Field(pattern="^[0-9]+$", examples=["1048577"])]  # in a path


def id_in_path(text: str) -> int:
    """Return the id of a message in a path. Raises NotFound for what is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_ID))):
        raise NotFound("this message does not exist")
    return int(text)


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


def full(message: Message, siblings: dict[int, list[int]]) -> Full:
    """Show all that is known of a message, whose `parent` has been looked up."""
    return {
        "id": message.id,
        "parent": message.parent or None,
        "siblings": siblings.get(message.id, [message.id]),
        "role": message.role,
        "content": message.content,
        "timestamp": clock.to_seconds(message.timestamp),
        "model": message.model,
        "usage": message.usage,
        "reasoning": message.reasoning,
        "sources": message.sources,
        "incomplete": message.incomplete,
        "error": message.error,
        "edited_at": clock.to_seconds(message.edited_at) if message.edited_at else None,
    }
