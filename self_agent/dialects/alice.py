"""The dialect of Alice: `alice.md`, where a conversation is known by its number."""

from __future__ import annotations

from json import dumps
from typing import Any

from flask import Blueprint

from core import clock
from core.errors import AppError, NotFound
from core.web import ViewResult, json_response
from self_agent.dialects.base import Dialect, conversations, event_stream, user
from self_agent.encoders import sse
from self_agent.models import Conversation, Message, check_id
from self_agent.openapi import Body, spec
from self_agent.streams import Stream

ROOT = "/api/v1/conversations"
UNTITLED = "新对话"

blueprint = Blueprint("alice", __name__)


class CreateBody(Body):
    """A new conversation; the documented request has no body."""

    title: str | None = None


class SendBody(Body):
    """A user's message."""

    content: str


@blueprint.get(ROOT + "/")
@spec.validate(tags=["alice"])
def list_all() -> ViewResult:
    """List the user's conversations, newest update first."""
    return json_response([_row(conversation, _title(conversation)) for conversation in conversations.all(user())])


@blueprint.post(ROOT + "/")
@spec.validate(tags=["alice"])
def create(json: CreateBody) -> ViewResult:
    """Create a conversation."""
    conversation = conversations.create(user(), title=(json.title or "").strip() or None)
    return json_response(_row(conversation, conversation.title))


@blueprint.get(ROOT + "/<conversation_id>")
@spec.validate(tags=["alice"])
def detail(conversation_id: str) -> ViewResult:
    """Return a conversation and all its messages, oldest first."""
    conversation, messages = conversations.read(user(), _find(conversation_id).id)
    heading = _heading(conversation, _title(conversation))
    return json_response({**heading, "messages": [_message(message) for message in messages]})


@blueprint.delete(ROOT + "/<conversation_id>")
@spec.validate(tags=["alice"])
def delete(conversation_id: str) -> ViewResult:
    """Delete a conversation and its messages."""
    conversation = _find(conversation_id)
    conversations.delete(user(), conversation.id)
    return json_response({"message": "对话已删除", "id": conversation.number})


@blueprint.post(ROOT + "/<conversation_id>/messages/stream")
@spec.validate(tags=["alice"])
def send_stream(conversation_id: str, json: SendBody) -> Stream:
    """Send a message and follow the reply as server-sent events."""
    turn = conversations.send(user(), _find(conversation_id).id, json.content)
    return event_stream(turn, sse.TYPED)


def _find(number: str) -> Conversation:
    """Return the conversation with this number. Raises NotFound in the document's words.

    An id that another dialect could use but that is no number is one that no conversation has here: 404.
    """
    try:
        if not check_id(number).isdecimal():
            raise NotFound("not a number")
        return conversations.find_number(user(), int(number))
    except NotFound:
        raise NotFound(f"对话 #{number} 不存在") from None


# --- rendering


def _title(conversation: Conversation) -> str:
    return conversation.name or UNTITLED


def _heading(conversation: Conversation, title: str | None) -> dict[str, Any]:
    return {
        "id": conversation.number,
        "title": title,
        "created_at": clock.to_seconds(conversation.created_at, zone=""),
        "updated_at": clock.to_seconds(conversation.updated_at, zone=""),
    }


def _row(conversation: Conversation, title: str | None) -> dict[str, Any]:
    return {**_heading(conversation, title), "message_count": conversation.count}


def _message(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "role": message.role,
        "content": message.content,
        "sources": dumps(message.sources, ensure_ascii=False) if message.sources else None,
        "created_at": clock.to_seconds(message.timestamp, zone=""),
    }


def _error_body(error: AppError) -> tuple[Any, int]:
    return {"detail": error.message}, error.status


DIALECT = Dialect("alice", (ROOT,), blueprint, _error_body, prefix="/alice")
