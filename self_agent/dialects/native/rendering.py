"""How the native dialect shows conversations and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core import clock
from self_agent.dialects.base import conversations, shelves, user
from self_agent.dialects.native.answers import FullHeading, Heading, Named, Shown
from self_agent.models import Conversation, Message
from self_agent.shelves import NO_MARKS, Marks


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
    marks, answering = shelves.marks(user()), conversations.answering(found)
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
