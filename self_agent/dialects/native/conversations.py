"""Conversations of the native dialect: lists, detail, what can be set, the models."""

from __future__ import annotations

from typing import Literal

from flask import Blueprint
from pydantic import Field

from core.errors import InvalidRequest, NotFound
from core.web import Json, json_response
from self_agent.dialects.base import conversations, user
from self_agent.dialects.native.answers import (
    AllDeleted,
    Changed,
    Config,
    Data,
    Deleted,
    Detail,
    FullDetail,
    FullHeading,
    Headings,
    Ids,
    Meta,
)
from self_agent.dialects.native.rendering import full, full_heading, full_headings, heading, shown
from self_agent.document import Asks
from self_agent.models import MAX_ID, MAX_TITLE, check_id
from self_agent.openapi import MAX_PAGE, Body, Paging, Query, spec

ROOT = "/api/v1/conversations"
MODELS = "/api/v1/models"

blueprint = Blueprint("self_agent", __name__)  # of the whole dialect


class ListQuery(Paging):
    """A page of a list: which conversations, and what of them."""

    view: Literal["ids", "headings"] = "ids"
    q: str = Field("", max_length=MAX_TITLE)
    archived: bool = False


class DeleteQuery(Query):
    """That all are meant."""

    all: str = Field("", examples=["true"])


class DetailQuery(Query):
    """A page of a conversation's messages; in the `full` view the last ones, or the last before one."""

    page: int = Field(1, ge=1, le=MAX_PAGE)
    size: int = Field(100, ge=1, le=500)
    view: Literal["document", "full"] = "document"
    before: int | None = Field(None, ge=1, le=MAX_ID)


class ChangeBody(Body):
    """What can be set; a field that is missing stays as it is, null or empty resets it."""

    name: str | None = Field(None, examples=["A walk"])
    system_prompt: str | None = None
    model: str | None = None
    pinned: bool | None = False
    archived: bool | None = False


class ConfigBody(Body):
    """The model that answers in this conversation."""

    model: str | None = Field(None, examples=[None])


# --- the document


@blueprint.get(ROOT + "/")
@spec.validate(tags=["self_agent"])
def list_ids(query: ListQuery) -> Json[Ids | Headings]:
    """List the ids of the conversations, or all that a list shows of them: pinned ones first, then newest first."""
    page = conversations.page(user(), query.page, query.size, archived=query.archived, matching=query.q)
    meta: Meta = {"page": query.page, "size": query.size, "total": page.total}
    if query.view == "headings":
        return json_response({"data": full_headings(page.items), "meta": meta})
    return json_response({"data": [conversation.id for conversation in page.items], "meta": meta})


@blueprint.get(ROOT + "/<conversation_id>")
@spec.validate(tags=["self_agent"])
def detail(conversation_id: str, query: DetailQuery) -> Json[Data[Detail | FullDetail]]:
    """Return a conversation and a page of its messages; an unknown one is empty."""
    try:
        if query.view == "full" or query.before is not None:
            return json_response({"data": _full(conversation_id, query)})
        conversation, messages = conversations.read(user(), conversation_id, query.page, query.size)
    except NotFound:
        return json_response({"data": _unknown(conversation_id, query)})
    latest = messages[-1] if messages and query.page * query.size >= conversation.count else None
    return json_response(
        {
            "data": {
                **heading(conversation, latest),
                "messages": [shown(message) for message in messages],
                "meta": {"page": query.page, "size": query.size, "total": conversation.count},
                "config": {"model": conversations.model_of(conversation)},
            }
        }
    )


@blueprint.delete(ROOT + "/<conversation_id>")
@spec.validate(tags=["self_agent"])
def delete(conversation_id: str) -> Json[Data[Deleted]]:
    """Delete a conversation and its messages."""
    conversations.delete(user(), conversation_id)
    return json_response({"data": {"success": True}})


@blueprint.delete(ROOT + "/")
@spec.validate(tags=["self_agent"])
def delete_all(query: DeleteQuery) -> Json[Data[AllDeleted]]:
    """Delete all conversations, archived ones too; each can be restored."""
    if query.all != "true":
        raise InvalidRequest("no conversation is named: to delete all of them, say all=true")
    return json_response({"data": {"success": True, "deleted": conversations.delete_all(user())}})


@blueprint.post(ROOT + "/<conversation_id>/restore")
@spec.validate(tags=["self_agent"])
def restore(conversation_id: str) -> Json[Data[FullHeading]]:
    """Bring back a conversation that was deleted, as it was; 409 when another has its id by now."""
    return json_response({"data": full_heading(conversations.restore(user(), conversation_id))})


@blueprint.patch(ROOT + "/<conversation_id>")
@spec.validate(tags=["self_agent"])
def change(conversation_id: str, json: ChangeBody) -> Json[Data[Changed]]:
    """Set the name, the instructions or the model of a conversation, pin or archive it."""
    changes = {("title" if name == "name" else name): getattr(json, name) or None for name in json.model_fields_set}
    changes |= {name: bool(changes[name]) for name in ("pinned", "archived") if name in changes}
    conversation = conversations.update(user(), conversation_id, changes)
    return json_response(
        {
            "data": {
                **full_heading(conversation),
                **heading(conversation),
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


def _full(conversation_id: str, query: DetailQuery) -> FullDetail:
    found = conversations.page_before(user(), conversation_id, query.size, query.before)
    conversation, messages, siblings = found
    return {
        **full_heading(conversation),
        "system_prompt": conversation.system_prompt,
        "messages": [full(message, siblings) for message in messages],
        "meta": {
            "size": query.size,
            "total": conversation.count,
            "has_more": bool(messages and messages[0].parent),
        },
        "config": {"model": conversations.model_of(conversation)},
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
