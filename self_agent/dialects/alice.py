"""The dialect of Alice, `alice.md`: a conversation is known by its number, and replies are typed server-sent events."""

from __future__ import annotations

from json import dumps
from typing import Annotated, Any

from flask import Blueprint
from pydantic import Field
from typing_extensions import TypedDict

from core import clock
from core.errors import AppError, NotFound
from core.web import Json, json_response
from self_agent.dialects.base import Dialect, Keyed, conversations, event_stream, user
from self_agent.encoders import sse
from self_agent.models import Conversation, Message, check_id
from self_agent.openapi import Body, spec
from self_agent.streams import Stream

ROOT = "/api/v1/conversations"
UNTITLED = "新对话"

blueprint = Blueprint("alice", __name__)

Number = Annotated[str, Field(pattern="^[0-9]+$", examples=["1"])]
Time = Annotated[str, Field(examples=["2025-04-30T10:00:00"])]
Events = Annotated[Stream, sse.TYPED]


class CreateBody(Body):
    """A new conversation; the documented request has no body."""

    title: str | None = None


class SendBody(Body):
    """A user's message."""

    content: str


class Heading(TypedDict):
    """What every answer says of a conversation."""

    id: int
    title: str | None
    created_at: Time
    updated_at: Time


class Row(Heading):
    """A conversation in the list."""

    message_count: int


class Shown(TypedDict):
    """A message; `sources` are JSON in a text."""

    id: int
    role: str
    content: str
    sources: str | None
    created_at: Time


class Detail(Heading):
    """A conversation with all its messages."""

    messages: list[Shown]


class Deleted(TypedDict):
    """What has been deleted."""

    message: str
    id: int


@blueprint.get(ROOT + "/")
@spec.validate(tags=["alice"])
def list_all() -> Json[list[Row]]:
    """List the user's conversations, newest update first."""
    return json_response([_row(conversation, _title(conversation)) for conversation in conversations.all(user())])


@blueprint.post(ROOT + "/")
@spec.validate(tags=["alice"])
def create(json: CreateBody) -> Json[Row]:
    """Create a conversation."""
    conversation = conversations.create(user(), title=(json.title or "").strip() or None)
    return json_response(_row(conversation, conversation.title))


@blueprint.get(ROOT + "/<conversation_id>")
@spec.validate(tags=["alice"])
def detail(conversation_id: Number) -> Json[Detail]:
    """Return a conversation and all its messages, oldest first."""
    conversation, messages = conversations.read(user(), _find(conversation_id).id)
    heading = _heading(conversation, _title(conversation))
    return json_response({**heading, "messages": [_message(message) for message in messages]})


@blueprint.delete(ROOT + "/<conversation_id>")
@spec.validate(tags=["alice"])
def delete(conversation_id: Number) -> Json[Deleted]:
    """Delete a conversation and its messages."""
    conversation = _find(conversation_id)
    conversations.delete(user(), conversation.id)
    return json_response({"message": "对话已删除", "id": conversation.number})


@blueprint.post(ROOT + "/<conversation_id>/messages/stream")
@spec.validate(tags=["alice"])
def send_stream(conversation_id: Number, json: SendBody, headers: Keyed) -> Events:
    """Send a message and follow the reply as server-sent events."""
    turn = conversations.send(user(), _find(conversation_id).id, json.content, key=headers.stored)
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


def _heading(conversation: Conversation, title: str | None) -> Heading:
    return {
        "id": conversation.number,
        "title": title,
        "created_at": clock.to_seconds(conversation.created_at, zone=""),
        "updated_at": clock.to_seconds(conversation.updated_at, zone=""),
    }


def _row(conversation: Conversation, title: str | None) -> Row:
    return {**_heading(conversation, title), "message_count": conversation.count}


def _message(message: Message) -> Shown:
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
