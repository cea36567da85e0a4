"""The HTTP routes of `aichat.md`: the two sets of paths, `/api/chat` and `/aichat`, over one set of functions.

A `user_id` in a path or body is no identity. Who asks is the token's user, or the one local user while auth
is off: then any `user_id` is taken and shown again in the answer. With auth on it must be the token's own.
"""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any

from flask import Blueprint, request
from pydantic import AliasChoices, Field, StringConstraints

from core.errors import InvalidRequest, NotFound, NotYours
from core.web import Json, json_response
from self_agent.dialects.aichat import functions
from self_agent.dialects.aichat.answers import (
    Messages,
    Pagination,
    Sessions,
    SessionsShown,
    SessionWithMessages,
    Success,
    T,
)
from self_agent.dialects.aichat.functions import DEFAULT_TITLE, MESSAGES, SESSIONS, ChatMessage, ChatSession
from self_agent.dialects.base import Keyed, conversations, user
from self_agent.document import Asks
from self_agent.models import LOCAL_USER
from self_agent.openapi import MAX_PAGE, Body, Query, spec

MAX_SIZE = 100
SIZE_NAMES = AliasChoices("page_size", "pageSize")  # the document uses both
SESSION = "/api/chat/sessions/<session_id>"
MESSAGE = "/api/chat/messages/<message_id>"

blueprint = Blueprint("http", __name__)

Number = Annotated[str, Field(pattern="^[0-9]+$", examples=["1048577"])]  # the first message of the first session
User = Annotated[str, Field(examples=["local"])]  # with auth on the token's own
Filled = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class SessionsQuery(Query):
    """A page of the sessions."""

    page: int = Field(1, ge=1, le=MAX_PAGE)
    page_size: int = Field(SESSIONS, ge=1, le=MAX_SIZE, validation_alias=SIZE_NAMES)


class MessagesQuery(Query):
    """A page of a session's messages."""

    page: int = Field(1, ge=1, le=MAX_PAGE)
    page_size: int = Field(MESSAGES, ge=1, le=MAX_SIZE, validation_alias=SIZE_NAMES)


class SessionsBody(Body):
    """A page of the sessions, asked for in a body."""

    user_id: str | None = None
    page: int = Field(1, ge=1, le=MAX_PAGE)
    page_size: int = Field(SESSIONS, ge=1, le=MAX_SIZE, validation_alias=SIZE_NAMES)


class CreateBody(Body):
    """A new session."""

    user_id: str | None = None
    title: str | None = None


class TitleBody(Body):
    """What a session is to be called."""

    new_title: Filled = Field(examples=["A walk"])


class MessageBody(Body):
    """A message for a session; one of role `user` is answered."""

    session_id: str = Field(examples=["demo"])
    content: str
    role: str = "user"


class ContentBody(Body):
    """What a message is to say."""

    new_content: str


@blueprint.before_request
def check_owner() -> None:
    """Refuse a path that names nothing, or what is another user's: the functions do not know who asks."""
    if request.method == "OPTIONS":  # a preflight has no user
        return
    named: dict[str, Any] = request.view_args or {}
    if "session_id" in named:
        conversations.find(user(), named["session_id"])
    if "message_id" in named and conversations.owner_of_message(_number(named["message_id"])) != user():
        raise NotFound("this message does not exist")


# --- sessions


@blueprint.post("/aichat/createsession", endpoint="createsession")
@blueprint.post("/api/chat/session")
@spec.validate(tags=["aichat"])
def create_session(json: CreateBody) -> Json[Success[ChatSession]]:
    """Create a session."""
    shown_user = _shown_user(json.user_id)
    title = (json.title or "").strip() or DEFAULT_TITLE
    session = functions.create_session(conversations, str(uuid.uuid4()), user(), title)
    return _success({**session, "user_id": shown_user})


@blueprint.post("/api/chat/sessions")
@spec.validate(tags=["aichat"])
def list_sessions(json: SessionsBody) -> Json[Success[list[ChatSession]]]:
    """List a page of the sessions, newest update first."""
    return _success(_sessions(_shown_user(json.user_id), json.page, json.page_size))


@blueprint.get("/aichat/getsessionlist/<user_id>")
@spec.validate(tags=["aichat"])
def session_list(user_id: User, query: SessionsQuery) -> Json[Success[Sessions]]:
    """List a page of the sessions, and say how many there are."""
    sessions = _sessions(_shown_user(user_id), query.page, query.page_size)
    return _success({"list": sessions, "pagination": _pagination(query)})


@blueprint.get("/aichat/getsessionlistshow/<user_id>")
@spec.validate(tags=["aichat"])
def session_list_show(user_id: User, query: SessionsQuery) -> Json[Success[SessionsShown]]:
    """List a page of the sessions; the newest of all carries its latest messages."""
    sessions = _sessions(_shown_user(user_id), query.page, query.page_size)
    shown: list[SessionWithMessages] = []
    for session in sessions:
        newest = query.page == 1 and not shown
        latest = functions.latest_messages(conversations, session["session_id"]) if newest else []
        shown.append({**session, "messages": latest})
    return _success({"list": shown, "pagination": _pagination(query)})


@blueprint.get(SESSION)
@spec.validate(tags=["aichat"])
def session(session_id: str) -> Json[Success[ChatSession]]:
    """Return a session."""
    return _success(_known(functions.get_session(conversations, session_id)))


@blueprint.get("/aichat/sessions/<session_id>")
@spec.validate(tags=["aichat"])
def session_with_messages(session_id: str) -> Json[Success[SessionWithMessages]]:
    """Return a session with its latest messages, oldest first."""
    found = _known(functions.get_session(conversations, session_id))
    return _success({**found, "messages": functions.latest_messages(conversations, session_id)})


@blueprint.patch("/aichat/sessions/<session_id>", endpoint="update_session")
@blueprint.patch(SESSION)
@spec.validate(tags=["aichat"])
def update_title(session_id: str, json: TitleBody) -> Json[Success[str]]:
    """Set the title of a session."""
    return _done(functions.update_session_title(conversations, session_id, json.new_title), "标题更新成功")


@blueprint.delete("/aichat/deletesession/<session_id>", endpoint="deletesession")
@blueprint.delete(SESSION)
@spec.validate(tags=["aichat"])
def delete_session(session_id: str) -> Json[Success[str]]:
    """Delete a session; it stays in the store, but is not shown again."""
    return _done(functions.soft_delete_session(conversations, session_id), "会话删除成功")


# --- messages


@blueprint.post("/api/chat/message")
@spec.validate(tags=["aichat"])
def create_message(json: MessageBody, headers: Keyed) -> Asks[Json[Success[ChatMessage]]]:
    """Store a message; the reply to a user's comes over the WebSocket and is in the history."""
    conversations.find(user(), json.session_id)
    return _success(functions.create_message(conversations, json.session_id, json.content, json.role, headers.stored))


@blueprint.get(SESSION + "/messages/<message_id>")
@spec.validate(tags=["aichat"])
def message(session_id: str, message_id: Number) -> Json[Success[ChatMessage]]:
    """Return a message of a session."""
    found = _known(functions.get_message(conversations, _number(message_id)))
    if found["session_id"] != session_id:
        raise NotFound("this message is of another session")
    return _success(found)


@blueprint.get(SESSION + "/messages")
@spec.validate(tags=["aichat"])
def messages(session_id: str, query: MessagesQuery) -> Json[Success[Messages]]:
    """Return a page of a session's messages, oldest first, and say how many there are."""
    total = _known(functions.get_session(conversations, session_id))["message_count"]
    items = functions.list_messages(conversations, session_id, query.page, query.page_size)
    return _success({"items": items, "total": total, "page": query.page, "page_size": query.page_size})


@blueprint.get("/aichat/sessions/<session_id>/messages")
@spec.validate(tags=["aichat"])
def message_list(session_id: str, query: MessagesQuery) -> Json[Success[list[ChatMessage]]]:
    """Return a page of a session's messages, oldest first."""
    return _success(functions.list_messages(conversations, session_id, query.page, query.page_size))


@blueprint.patch(MESSAGE)
@spec.validate(tags=["aichat"])
def update_content(message_id: Number, json: ContentBody) -> Json[Success[str]]:
    """Replace the content of a user's message."""
    return _done(functions.update_message_content(conversations, _number(message_id), json.new_content), "消息编辑成功")


@blueprint.delete(MESSAGE)
@spec.validate(tags=["aichat"])
def delete_message(message_id: Number) -> Json[Success[str]]:
    """Delete a message; it stays in the store, but is not shown again."""
    return _done(functions.soft_delete_message(conversations, _number(message_id)), "消息删除成功")


# --- parsing and rendering


def _success(data: T) -> Json[Success[T]]:
    return json_response({"code": 200, "message": "success", "data": data})


def _done(done: bool, sentence: str) -> Json[Success[str]]:
    if not done:
        raise NotFound("it has been deleted meanwhile")
    return _success(sentence)


def _known(found: T | None) -> T:
    if found is None:
        raise NotFound("it has been deleted meanwhile")
    return found


def _number(message_id: str) -> int:
    if not re.fullmatch(r"[0-9]+", message_id):
        raise InvalidRequest("message_id must be an integer")
    if len(message_id) > 16:  # the largest id is 2**53 - 1
        raise NotFound("this message does not exist")
    return int(message_id)


def _shown_user(named: str | None) -> str:
    if user() != LOCAL_USER and named not in (None, "", user()):
        raise NotYours("this user does not exist")
    return named or user()


def _sessions(shown_user: str, page: int, size: int) -> list[ChatSession]:
    return [
        {**session, "user_id": shown_user} for session in functions.list_sessions(conversations, user(), page, size)
    ]


def _pagination(query: SessionsQuery) -> Pagination:
    total = conversations.page(user(), 1, 1).total
    pages = -(-total // query.page_size)
    return {"total": total, "pageSize": query.page_size, "pageNum": query.page, "totalPages": pages}
