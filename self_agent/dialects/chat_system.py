"""The dialect of the chat system, `chat_system.md`: a reply streams as bare text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Generic, TypeVar

from flask import Blueprint
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from core import clock
from core.errors import AppError, NotFound, NotYours
from core.web import Json, json_response
from self_agent.conversations import EmptyContent
from self_agent.dialects.base import Dialect, Keyed, conversations, event_stream, user
from self_agent.encoders.text import TEXT
from self_agent.models import Conversation, Message
from self_agent.openapi import Body, spec
from self_agent.streams import Stream

ROOT = "/chat/sessions"
ROLES = {"user": "human"}  # every other role has the same name here

blueprint = Blueprint("chat_system", __name__)

T = TypeVar("T")
Time = Annotated[str, Field(examples=["2025-04-30T10:00:00Z"])]
Text = Annotated[Stream, TEXT]


class ChatBody(Body):
    """A user's message."""

    model_config = ConfigDict(json_schema_extra={"required": ["message"]})

    message: str = Field("", examples=["Hello"])  # a missing message is answered as an empty one


class Success(TypedDict, Generic[T]):
    """The envelope of what went well."""

    code: int
    message: str
    data: T


class Heading(TypedDict):
    """What every answer says of a session."""

    session_id: str
    title: str
    created_at: Time


class Row(Heading):
    """A session in the list."""

    updated_at: Time
    message_count: int
    last_message: str | None


class Shown(TypedDict):
    """A message; its role is `human`, `assistant` or `system`."""

    role: str
    content: str
    time: Time


class History(Heading):
    """A session with all its messages."""

    messages: list[Shown]
    total_messages: int


class Deleted(TypedDict):
    """What has been deleted."""

    success: bool
    deleted_session_id: str
    deleted_messages_count: int


@blueprint.get(ROOT + "/")
@spec.validate(tags=["chat_system"])
def list_sessions() -> Json[Success[list[Row]]]:
    """List the user's sessions, newest update first."""
    return _success("查询成功", [_row(conversation) for conversation in conversations.all(user())])


@blueprint.get(ROOT + "/<session_id>/messages")
@spec.validate(tags=["chat_system"])
def history(session_id: str) -> Json[Success[History]]:
    """Return all messages of a session, oldest first."""
    with _in_the_documents_words("无权限访问该会话"):
        conversation, messages = conversations.read(user(), session_id)
    shown = [_message(message) for message in messages]
    return _success("查询成功", {**_heading(conversation), "messages": shown, "total_messages": len(shown)})


@blueprint.delete(ROOT + "/<session_id>")
@spec.validate(tags=["chat_system"])
def delete(session_id: str) -> Json[Success[Deleted]]:
    """Delete a session and its messages for good."""
    with _in_the_documents_words("无权限删除该会话"):
        count = conversations.delete(user(), session_id, keep=False)
    return _success("删除成功", {"success": True, "deleted_session_id": session_id, "deleted_messages_count": count})


@blueprint.post(ROOT + "/<session_id>/chat")
@spec.validate(tags=["chat_system"])
def chat(session_id: str, json: ChatBody, headers: Keyed) -> Text:
    """Send a message, to a new session if there is none, and stream the reply as bare text."""
    title = f"会话 {time.strftime('%Y-%m-%d %H:%M:%S')}"
    with _in_the_documents_words("无权限访问该会话"):
        turn = conversations.send(user(), session_id, json.message, new={"title": title}, key=headers.stored)
    return event_stream(turn, TEXT)


# --- rendering


def _success(message: str, data: T) -> Json[Success[T]]:
    return json_response({"code": 200, "message": message, "data": data})


def _heading(conversation: Conversation) -> Heading:
    return {
        "session_id": conversation.id,
        "title": conversation.name,
        "created_at": clock.to_seconds(conversation.created_at),
    }


def _row(conversation: Conversation) -> Row:
    """Show a session in the list; of its last message the beginning, as the store's index has it.

    The whole of it would be a file to read for every row.
    """
    return {
        **_heading(conversation),
        "updated_at": clock.to_seconds(conversation.updated_at),
        "message_count": conversation.count,
        "last_message": conversation.summary or None,
    }


def _message(message: Message) -> Shown:
    return {
        "role": ROLES.get(message.role, message.role),
        "content": message.content,
        "time": clock.to_seconds(message.timestamp),
    }


@contextmanager
def _in_the_documents_words(not_yours: str) -> Iterator[None]:
    try:
        yield
    except NotYours:
        raise NotYours(not_yours) from None
    except NotFound:
        raise NotFound("会话不存在") from None
    except EmptyContent:
        raise EmptyContent("消息内容不能为空") from None


def _error_body(error: AppError) -> tuple[Any, int]:
    status = 403 if isinstance(error, NotYours) else error.status
    return {"code": status, "message": error.message, "data": None}, status


DIALECT = Dialect("chat_system", (ROOT,), blueprint, _error_body)
