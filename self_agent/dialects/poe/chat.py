"""Conversations as the document has them: the server keeps the history, a client sends only what is new."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal

from flask import Blueprint
from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from core import clock
from core.errors import NotFound
from core.web import Json, json_response
from self_agent.dialects.base import Keyed, callers_key, conversations, event_stream, finished, user
from self_agent.encoders import openai_sse
from self_agent.models import Conversation
from self_agent.openapi import Body, Query, spec
from self_agent.streams import Stream

ROOT = "/v1/chat"
CONVERSATIONS = ROOT + "/conversations"
STOP = ROOT + "/stop-stream"
MESSAGES = ROOT + "/messages"
ACTIVE, ARCHIVED = 0, 1  # what `status` says
OTHER = "其它"  # where the document puts conversations of no project

blueprint = Blueprint("chat", __name__)

Time = Annotated[str, Field(examples=["2025-04-30T10:00:00"])]
Events = Annotated[Stream, openai_sse.BARE]


class ConversationBody(Body):
    """What can be set; a field that is missing stays as it is, null or empty resets it."""

    system_prompt: str | None = None
    project_id: int | None = Field(0, ge=0)
    title: str | None = Field(None, alias="name", examples=["A walk"])
    model: str | None = None
    status: int | None = Field(ACTIVE, ge=ACTIVE, le=ARCHIVED)


class SendBody(Body):
    """A message; only a user's is answered."""

    role: Literal["user", "system", "assistant"] = "user"
    content: str
    model: str | None = None
    stream: bool = False


class ListQuery(Query):
    """Which conversations; project 0 is those of no project, status 1 those that are archived."""

    project_id: int | None = Field(None, ge=0)
    status: int = Field(ACTIVE, ge=ACTIVE, le=ARCHIVED)


class StopBody(Body):
    """What to stop: the `session_id` of a stream, or the id of a conversation."""

    session_id: str = Field(examples=["demo"])


class DeleteMessagesBody(Body):
    """Which messages."""

    message_ids: list[int]


class Created(TypedDict):
    """The id of a conversation."""

    conversation_id: str


class Reply(TypedDict):
    """A reply; to a message of another role than `user` it is empty, and `message_id` is that message's."""

    conversation_id: str
    reply: str
    message_id: NotRequired[int]
    user_message_id: NotRequired[int]
    assistant_message_id: NotRequired[int | None]
    model: NotRequired[str | None]


class Said(TypedDict):
    """A message of the history."""

    role: str
    content: str


class History(TypedDict):
    """The whole history of a conversation."""

    conversation_id: str
    messages: list[Said]


class Fields(TypedDict):
    """What every list says of a conversation."""

    name: str
    system_prompt: str | None
    model: str | None
    created_at: Time
    updated_at: Time
    project_id: int
    project_name: str
    status: int


class Row(Fields):
    """A conversation."""

    id: str


class GroupedRow(Fields):
    """A conversation below its project's name."""

    conversation_id: str


class Done(TypedDict):
    """What has been done, in words and numbers."""

    message: str
    stopped: NotRequired[bool]
    deleted: NotRequired[int]


# --- the document


@blueprint.post(CONVERSATIONS)
@spec.validate(tags=["poe"])
def create(json: ConversationBody) -> Json[Created]:
    """Create a conversation."""
    return json_response({"conversation_id": conversations.create(user(), **_fields(json)).id})


@blueprint.post(CONVERSATIONS + "/<conversation_id>/messages")
@spec.validate(tags=["poe"])
def send(conversation_id: str, json: SendBody, headers: Keyed) -> Json[Reply] | Events:
    """Add a message; a user's is answered, whole or as server-sent events."""
    if json.role != "user":
        return _add(conversation_id, json, headers)
    turn = conversations.send(
        user(), conversation_id, json.content, model=json.model, api_key=callers_key(), key=headers.stored
    )
    if json.stream:
        return event_stream(turn, openai_sse.BARE)
    reply = finished(turn)
    return json_response(
        {
            "conversation_id": conversation_id,
            "reply": reply.content if reply else "",
            "user_message_id": turn.question.id,
            "assistant_message_id": reply.id if reply else None,
            "model": reply.model if reply else None,
        }
    )


@blueprint.get(CONVERSATIONS + "/<conversation_id>/messages")
@spec.validate(tags=["poe"])
def history(conversation_id: str) -> Json[History]:
    """Return the whole history, which begins with the system prompt if there is one."""
    conversation, found = conversations.read(user(), conversation_id)
    messages: list[Said] = [{"role": message.role, "content": message.content} for message in found]
    if conversation.system_prompt:
        messages.insert(0, {"role": "system", "content": conversation.system_prompt})
    return json_response({"conversation_id": conversation.id, "messages": messages})


@blueprint.get(CONVERSATIONS + "/grouped")
@spec.validate(tags=["poe"])
def grouped() -> Json[dict[str, list[GroupedRow]]]:
    """List all conversations by the name of their project.

    A project without conversations has an empty list, so that a sidebar can show it; projects of the same name
    share one.
    """
    names = _project_names()
    groups: dict[str, list[GroupedRow]] = {name: [] for name in (*names.values(), OTHER)}
    for conversation in conversations.all(user()):
        row = _row(conversation, names)
        groups[row["project_name"]].append({"conversation_id": conversation.id, **row})
    return json_response(groups)


@blueprint.put(CONVERSATIONS + "/<conversation_id>")
@spec.validate(tags=["poe"])
def change(conversation_id: str, json: ConversationBody) -> Json[Done]:
    """Set the project, name, instructions, model or status of a conversation."""
    conversations.update(user(), conversation_id, _fields(json))
    return json_response({"message": "Conversation updated"})


@blueprint.delete(CONVERSATIONS + "/<conversation_id>")
@spec.validate(tags=["poe"])
def delete(conversation_id: str) -> Json[Done]:
    """Delete a conversation and its messages."""
    conversations.delete(user(), conversation_id)
    return json_response({"message": "Conversation deleted"})


# --- beyond the document


@blueprint.get(CONVERSATIONS)
@spec.validate(tags=["poe"])
def list_conversations(query: ListQuery) -> Json[list[Row]]:
    """List the conversations, of one project if it is named, pinned ones first, then newest first."""
    names = _project_names()
    found = conversations.all(user(), query.project_id, archived=query.status == ARCHIVED)
    return json_response([{"id": conversation.id, **_row(conversation, names)} for conversation in found])


@blueprint.get(CONVERSATIONS + "/<conversation_id>")
@spec.validate(tags=["poe"])
def read(conversation_id: str) -> Json[Row]:
    """Return a conversation without its messages."""
    conversation = conversations.find(user(), conversation_id)
    return json_response({"id": conversation.id, **_row(conversation, _project_names())})


@blueprint.post(STOP)
@spec.validate(tags=["poe"])
def stop_stream(json: StopBody) -> Json[Done]:
    """Stop a reply, keeping what there is of it; one that has ended is not an error."""
    stopped = False
    with contextlib.suppress(NotFound):  # an ended turn is forgotten, so it cannot be told from an unknown one
        stopped = conversations.stop_turn(user(), json.session_id) or conversations.stop(user(), json.session_id)
    return json_response({"message": "Stream stopped" if stopped else "No stream to stop", "stopped": stopped})


@blueprint.post(MESSAGES + "/delete")
@spec.validate(tags=["poe"])
def delete_messages(json: DeleteMessagesBody) -> Json[Done]:
    """Delete messages, of whichever conversations; ids of none count for nothing."""
    deleted = conversations.delete_messages(user(), json.message_ids)
    return json_response({"message": "Messages deleted", "deleted": deleted})


# --- parsing and rendering


def _add(conversation_id: str, json: SendBody, headers: Keyed) -> Json[Reply]:
    """Store a message that nobody answers: `reply` is "", and even with `stream` there is nothing to stream."""
    message = conversations.add(user(), conversation_id, json.role, json.content, key=headers.stored)
    return json_response({"conversation_id": conversation_id, "reply": "", "message_id": message.id})


def _fields(json: ConversationBody) -> dict[str, Any]:
    fields = {name: value or None for name, value in json.model_dump(exclude_unset=True).items()}
    if "project_id" in fields:
        fields["project_id"] = fields["project_id"] or 0
    if "status" in fields:
        fields["archived"] = fields.pop("status") == ARCHIVED
    return fields


def _project_names() -> dict[int, str]:
    return {project.id: project.name for project in conversations.projects(user())}


def _row(conversation: Conversation, project_names: dict[int, str]) -> Fields:
    return {
        "name": conversation.name,
        "system_prompt": conversation.system_prompt,
        "model": conversation.model,
        "created_at": clock.to_seconds(conversation.created_at, ""),
        "updated_at": clock.to_seconds(conversation.updated_at, ""),
        "project_id": conversation.project_id,
        "project_name": project_names.get(conversation.project_id, OTHER),
        "status": ARCHIVED if conversation.archived else ACTIVE,
    }
