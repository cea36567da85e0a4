"""How the native dialect shows conversations and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from core import clock
from core.errors import NotFound
from self_agent.dialects.base import conversations, shelves, user
from self_agent.dialects.native.answers import Full, FullHeading, Heading, Named, Shown
from self_agent.models import MAX_ID, Conversation, Message
from self_agent.shelves import NO_MARKS, Marks

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


def full_headings(found: Sequence[Conversation]) -> list[FullHeading]:
    """Show all that lists show of conversations; what is asked for is asked for all of them at once."""
    marks, answering = shelves.marks(user()), conversations.answering()
    projects = conversations.project_names(user(), found)
    return [_full(each, marks.get(each.number, NO_MARKS), projects, each.id in answering) for each in found]


def full_heading(conversation: Conversation) -> FullHeading:
    """Show the same of one."""
    return full_headings([conversation])[0]


def _full(each: Conversation, marks: Marks, projects: Mapping[int, str], answering: bool) -> FullHeading:
    project: Named | None = None
    if each.project_id in projects:
        project = {"id": each.project_id, "name": projects[each.project_id]}
    return {
        "conversation_id": each.id,
        "name": each.name,
        "title": each.title,
        "first_line": each.first_line,
        "summary": each.summary,
        "created_at": clock.to_seconds(each.created_at),
        "updated_at": clock.to_seconds(each.updated_at),
        "count": each.count,
        "model": each.model,
        "project": project,
        "folders": list(marks.folders),
        "tags": [{"id": tag.id, "tag": tag.tag} for tag in marks.tags],
        "pinned": each.pinned,
        "archived": each.archived,
        "answering": answering,
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
