"""The dialect of the native frontend, `self_agent.md`: ids are the client's own, replies come whole or as events."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from pydantic import Field

from core import clock, errors
from core.errors import AppError, NotFound
from core.web import Json, json_response
from self_agent.dialects import native_shelves
from self_agent.dialects.base import Dialect, conversations, event_stream, finished, user
from self_agent.dialects.native_answers import (
    Changed,
    Config,
    CutOff,
    Data,
    Deleted,
    Detail,
    Events,
    Heading,
    Ids,
    Meta,
    Sent,
    Shown,
    Stopped,
)
from self_agent.document import Asks
from self_agent.encoders import sse
from self_agent.models import Conversation, Message, check_id
from self_agent.openapi import MAX_PAGE, Body, Paging, Query, spec

ROOT = "/api/v1/conversations"
MODELS = "/api/v1/models"
RECENT = 20  # messages in the answer to a send

blueprint = Blueprint("self_agent", __name__)
blueprint.register_blueprint(native_shelves.blueprint)


class DetailQuery(Query):
    """A page of a conversation's messages."""

    page: int = Field(1, ge=1, le=MAX_PAGE)
    size: int = Field(100, ge=1, le=500)


class SendBody(Body):
    """A user's message."""

    content: str
    model: str | None = None


class ChangeBody(Body):
    """What can be set; a field that is missing stays as it is, null or empty resets it."""

    name: str | None = Field(None, examples=["A walk"])
    system_prompt: str | None = None
    model: str | None = None


class ConfigBody(Body):
    """The model that answers in this conversation."""

    model: str | None = Field(None, examples=[None])


# --- the document


@blueprint.get(ROOT + "/")
@spec.validate(tags=["self_agent"])
def list_ids(query: Paging) -> Json[Ids]:
    """List the ids of the conversations, newest first."""
    page = conversations.page(user(), query.page, query.size)
    meta: Meta = {"page": query.page, "size": query.size, "total": page.total}
    return json_response({"data": [conversation.id for conversation in page.items], "meta": meta})


@blueprint.get(ROOT + "/<conversation_id>")
@spec.validate(tags=["self_agent"])
def detail(conversation_id: str, query: DetailQuery) -> Json[Data[Detail]]:
    """Return a conversation and a page of its messages; an unknown one is empty."""
    try:
        conversation, messages = conversations.read(user(), conversation_id, query.page, query.size)
    except NotFound:
        return json_response({"data": _unknown(conversation_id, query)})
    latest = messages[-1] if messages and query.page * query.size >= conversation.count else None
    return json_response(
        {
            "data": {
                **_heading(conversation, latest),
                "messages": [_message(message) for message in messages],
                "meta": {"page": query.page, "size": query.size, "total": conversation.count},
                "config": {"model": conversations.model_of(conversation)},
            }
        }
    )


@blueprint.post(ROOT + "/<conversation_id>/messages")
@spec.validate(tags=["self_agent"])
def send(conversation_id: str, json: SendBody) -> Asks[Json[Data[Sent | CutOff]]]:
    """Send a message and wait for the reply."""
    reply = finished(conversations.send(user(), conversation_id, json.content, model=json.model, new={}))
    conversation, messages = conversations.recent(user(), conversation_id, RECENT)
    data: Sent = {
        "reply": reply.content if reply else "",
        "messages": [_message(message) for message in messages],
        **_heading(conversation, messages[-1] if messages else None),
        "model": reply.model if reply else None,
    }
    if reply is None or reply.incomplete:
        cut_off: CutOff = {**data, "incomplete": True}
        return json_response({"data": cut_off})
    return json_response({"data": data})


@blueprint.delete(ROOT + "/<conversation_id>")
@spec.validate(tags=["self_agent"])
def delete(conversation_id: str) -> Json[Data[Deleted]]:
    """Delete a conversation and its messages."""
    conversations.delete(user(), conversation_id)
    return json_response({"data": {"success": True}})


# --- beyond the document


@blueprint.post(ROOT + "/<conversation_id>/messages/stream")
@spec.validate(tags=["self_agent"])
def send_stream(conversation_id: str, json: SendBody) -> Events:
    """Send a message and follow the reply as server-sent events."""
    turn = conversations.send(user(), conversation_id, json.content, model=json.model, new={})
    return event_stream(turn, sse.TYPED)


@blueprint.get(ROOT + "/<conversation_id>/stream")
@spec.validate(tags=["self_agent"])
def join(conversation_id: str) -> Events:
    """Follow the reply that is being generated now, from its first event on."""
    turn = conversations.running(user(), conversation_id)
    if turn is None:
        raise NotFound("no reply is being generated in this conversation now")
    return event_stream(turn, sse.TYPED)


@blueprint.post(ROOT + "/<conversation_id>/stop")
@spec.validate(tags=["self_agent"])
def stop(conversation_id: str) -> Json[Data[Stopped]]:
    """Stop the reply that is being generated; what there is of it is kept."""
    return json_response({"data": {"success": True, "stopped": conversations.stop(user(), conversation_id)}})


@blueprint.patch(ROOT + "/<conversation_id>")
@spec.validate(tags=["self_agent"])
def change(conversation_id: str, json: ChangeBody) -> Json[Data[Changed]]:
    """Set the name, the instructions or the model of a conversation."""
    changes = {("title" if name == "name" else name): getattr(json, name) or None for name in json.model_fields_set}
    conversation = conversations.update(user(), conversation_id, changes)
    return json_response(
        {
            "data": {
                **_heading(conversation),
                "system_prompt": conversation.system_prompt,
                "config": {"model": conversations.model_of(conversation)},
            }
        }
    )


@blueprint.post(ROOT + "/<conversation_id>/set_config")
@spec.validate(tags=["self_agent"])
def set_config(conversation_id: str, json: ConfigBody) -> Json[Data[Config]]:
    """Choose the model of a conversation, before its first message too: then no list shows it yet."""
    changes = {"model": json.model or None} if "model" in json.model_fields_set else {}
    conversation = conversations.update(user(), conversation_id, changes, create=True)
    return json_response({"data": {"model": conversations.model_of(conversation)}})


@blueprint.get(MODELS)
@spec.validate(tags=["self_agent"])
def models() -> Asks[Json[Data[list[str]]]]:
    """List the names of the models that can be asked for."""
    return json_response({"data": conversations.models()})


# --- rendering


def _heading(conversation: Conversation, latest: Message | None = None) -> Heading:
    """Show a conversation; `latest` is its latest message where that has been read already."""
    return {
        "conversation_id": conversation.id,
        "name": conversation.name,
        "summary": latest.content if latest else conversations.summary(user(), conversation.id),
        "created_at": clock.to_seconds(conversation.created_at),
        "updated_at": clock.to_seconds(conversation.updated_at),
    }


def _unknown(conversation_id: str, query: DetailQuery) -> Detail:
    return {
        "conversation_id": check_id(conversation_id),
        "name": "",
        "summary": "",
        "created_at": None,
        "updated_at": None,
        "messages": [],
        "meta": {"page": query.page, "size": query.size, "total": 0},
        "config": {"model": conversations.model_of()},
    }


def _message(message: Message) -> Shown:
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


def _error_body(error: AppError) -> tuple[Any, int]:
    return errors.body(error), error.status


DIALECT = Dialect("self_agent", (ROOT, MODELS, native_shelves.FOLDERS, native_shelves.TAGS), blueprint, _error_body)
