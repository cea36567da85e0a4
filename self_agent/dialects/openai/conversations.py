"""Conversations and their items: whatever dialect a conversation was begun in, it is one here."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Annotated, Any

from flask import Blueprint
from pydantic import Field
from typing_extensions import TypedDict

from core.errors import NotFound
from core.web import Json, json_response
from self_agent.dialects.base import conversations, user
from self_agent.dialects.openai.errors import Refused, Unknown, missing
from self_agent.dialects.openai.items import (
    MAX_ITEMS,
    checked_metadata,
    item_in,
    message_id_of,
    messages_of,
    unknown_item,
)
from self_agent.dialects.openai.listing import Cursor, Listing, check_include, page_of
from self_agent.encoders.openai_objects import CALL, MESSAGE, REASONING, items_of, seconds_of
from self_agent.models import Conversation, Message, Metadata, calls_of, number_of
from self_agent.openapi import Body, spec

ROOT = "/v1/conversations"
PREFIX = "conv_"  # begins the id of a conversation that is begun here
ITEMS = ROOT + "/<conversation_id>/items"

blueprint = Blueprint("conversations", __name__)

ItemId = Annotated[str, Field(examples=["msg_1048577"])]


class CreateBody(Body):
    """What a conversation begins with."""

    metadata: dict[str, str] | None = Field(None, examples=[{"topic": "demo"}])
    items: list[Any] | None = Field(None, examples=[[{"role": "user", "content": "Hello"}]])


class UpdateBody(Body):
    """What is to be kept with a conversation, in the place of what was."""

    metadata: dict[str, str] | None = Field(examples=[{"topic": "demo"}])


class ItemsBody(Body):
    """What is added to a conversation."""

    items: list[Any] = Field(examples=[[{"role": "user", "content": "Hello"}]])


class ConversationObject(TypedDict):
    """A conversation."""

    id: str
    object: str
    created_at: int
    metadata: dict[str, str]


class Deleted(TypedDict):
    """That a conversation is gone."""

    id: str
    object: str
    deleted: bool


# --- conversations


@blueprint.post(ROOT)
@spec.validate(tags=["openai"])
def create(json: CreateBody) -> Json[ConversationObject]:
    """Create a conversation."""
    messages = _new_messages(json.items or [])
    metadata = Metadata(checked_metadata(json.metadata))
    made = conversations.create(user(), PREFIX + uuid.uuid4().hex, messages=messages, metadata=metadata or None)
    return json_response(_object(made))


@blueprint.get(ROOT)
@spec.validate(tags=["openai"])
def list_conversations(query: Cursor) -> Json[Listing]:
    """List the conversations, last changed first unless `order` is `asc`; OpenAI's own API has no such list."""
    found = conversations.all(user())
    if query.order == "asc":
        found.reverse()
    if query.after:
        places = [place for place, conversation in enumerate(found) if conversation.id == query.after]
        if not places:
            raise _unknown(query.after)
        found = found[places[0] + 1 :]
    return json_response(page_of(map(_row, found[: query.limit + 1]), query))


@blueprint.get(ROOT + "/<conversation_id>")
@spec.validate(tags=["openai"])
def retrieve(conversation_id: str) -> Json[ConversationObject]:
    """Return a conversation."""
    return json_response(_object(found_as(conversation_id)))


@blueprint.post(ROOT + "/<conversation_id>")
@spec.validate(tags=["openai"])
def update(conversation_id: str, json: UpdateBody) -> Json[ConversationObject]:
    """Set the metadata of a conversation."""
    metadata = Metadata(checked_metadata(json.metadata))
    found_as(conversation_id)
    return json_response(_object(conversations.update(user(), conversation_id, {"metadata": metadata or None})))


@blueprint.delete(ROOT + "/<conversation_id>")
@spec.validate(tags=["openai"])
def delete(conversation_id: str) -> Json[Deleted]:
    """Delete a conversation with all its items."""
    found_as(conversation_id)
    conversations.delete(user(), conversation_id)
    return json_response({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


# --- items


@blueprint.post(ITEMS)
@spec.validate(tags=["openai"])
def create_items(conversation_id: str, json: ItemsBody) -> Json[Listing]:
    """Add items to a conversation; none of them is answered."""
    check_include()
    if not json.items:
        raise missing("items")
    found_as(conversation_id)
    added = conversations.add_all(user(), conversation_id, _new_messages(json.items))
    items = [item for message in added for item in items_of(message)]
    return json_response(page_of(items, Cursor(limit=100)))


@blueprint.get(ITEMS)
@spec.validate(tags=["openai"])
def list_items(conversation_id: str, query: Cursor) -> Json[Listing]:
    """List the items of a conversation, newest first unless `order` is `asc`."""
    check_include()
    found_as(conversation_id)
    after = message_id_of(query.after) if query.after else None
    if query.after and after is None:
        raise unknown_item(query.after, "after")
    try:
        messages = conversations.page_after(
            user(), conversation_id, after, query.limit + 2, newest_first=query.order == "desc"
        )
    except NotFound:
        raise unknown_item(query.after or "", "after") from None
    items = [item for message in messages for item in items_of(message)[:: -1 if query.order == "desc" else 1]]
    return json_response(page_of(behind(items, query.after), query))


@blueprint.get(ITEMS + "/<item_id>")
@spec.validate(tags=["openai"])
def retrieve_item(conversation_id: str, item_id: ItemId) -> Json[dict[str, Any]]:
    """Return an item of a conversation."""
    check_include()
    return json_response(item_in(_message(conversation_id, item_id), item_id))


@blueprint.delete(ITEMS + "/<item_id>")
@spec.validate(tags=["openai"])
def delete_item(conversation_id: str, item_id: ItemId) -> Json[ConversationObject]:
    """Delete an item; what else its message is of stays."""
    message = _message(conversation_id, item_id)
    item_in(message, item_id)
    conversations.change_message(user(), message.id, lambda found: _without(found, item_id))
    return json_response(_object(found_as(conversation_id)))


# --- finding and rendering


def found_as(conversation_id: str, param: str | None = None) -> Conversation:
    """Return a conversation. Raises Unknown; `param` is what named it."""
    try:
        return conversations.find(user(), conversation_id)
    except NotFound:
        raise _unknown(conversation_id, param) from None


def behind(items: list[dict[str, Any]], after: str | None) -> list[dict[str, Any]]:
    """Return the items behind one of them. Raises Unknown when it is not there."""
    if not after:
        return items
    places = [place for place, item in enumerate(items) if item["id"] == after]
    if not places:
        raise unknown_item(after, "after")
    return items[places[0] + 1 :]


def found_message(item_id: str, param: str | None = None) -> Message:
    """Return the message that an item is of. Raises Unknown."""
    message_id = message_id_of(item_id)
    if message_id is not None:
        try:
            return conversations.message(user(), message_id)[1]
        except NotFound:
            pass
    raise unknown_item(item_id, param)


def _message(conversation_id: str, item_id: str) -> Message:
    conversation = found_as(conversation_id)
    message = found_message(item_id)
    if number_of(message.id) != conversation.number:
        raise unknown_item(item_id)
    return message


def _new_messages(items: list[Any]) -> list[Message]:
    if len(items) > MAX_ITEMS:
        raise Refused(f"Invalid 'items': there are at most {MAX_ITEMS} at once.", "items", "array_above_max_length")
    return messages_of(items, "items", found_message)


def _without(message: Message, item_id: str) -> Message | None:
    """Return a message without one of its items, None where that is all of it."""
    if len(items_of(message)) < 2:
        return None
    kind = item_id.partition("_")[0]
    if kind == REASONING:
        return replace(message, reasoning=None)
    if kind == MESSAGE:
        return replace(message, content="", sources=None)
    assert kind == CALL
    names = [item["id"] for item in items_of(message) if item["type"] == "function_call"]
    calls = calls_of(message)
    del calls[names.index(item_id)]
    return replace(message, extra={**(message.extra or {}), "calls": calls})


def _unknown(conversation_id: str, param: str | None = None) -> Unknown:
    return Unknown(f"Conversation with id '{conversation_id}' not found.", param)


def _row(conversation: Conversation) -> dict[str, Any]:
    return dict(_object(conversation))


def _object(conversation: Conversation) -> ConversationObject:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": int(seconds_of(conversation.created_at)),
        "metadata": dict(conversation.metadata or {}),
    }
