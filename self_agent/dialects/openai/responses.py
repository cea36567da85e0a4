"""Responses: what is said is answered, and each answer can be named, joined, continued and deleted."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from flask import Blueprint
from pydantic import Field
from typing_extensions import TypedDict

from core.errors import AppError, ClientGone, NotFound
from core.web import Json, json_response
from self_agent.conversations import Answered
from self_agent.dialects.base import Keyed, callers_key, conversations, event_stream, finished, user
from self_agent.dialects.openai import asking
from self_agent.dialects.openai.asking import ResponseBody
from self_agent.dialects.openai.conversations import PREFIX, behind, found_as, found_message
from self_agent.dialects.openai.errors import Refused, Unknown, unsupported
from self_agent.dialects.openai.items import messages_of
from self_agent.dialects.openai.listing import Cursor, Listing, check_include, page_of
from self_agent.document import Asks
from self_agent.encoders import openai_objects as objects
from self_agent.encoders import responses as encoder
from self_agent.encoders.openai_objects import Item, items_of, seconds_of
from self_agent.events import Done as DoneEvent
from self_agent.events import Event, Failed, Started
from self_agent.models import Conversation, Message
from self_agent.openapi import Query, spec
from self_agent.streams import Stream
from self_agent.turns.turn import Turn

ROOT = "/v1/responses"

blueprint = Blueprint("responses", __name__)

ResponseId = Annotated[str, Field(examples=["resp_1048578"])]
Events = Annotated[Stream, encoder.framing(lambda: {"created_at": 0.0})]
INNER = ("said", "alone", "is_cancelled")  # of what is kept of a request: nobody is shown it
_ID = re.compile(r"resp_(\d{1,16})")
_UNKEPT = "that is not stored"


class RetrieveQuery(Query):
    """Whole, or as events from one of them on."""

    stream: bool = False
    starting_after: int | None = Field(None, ge=-1, le=1 << 53)
    include_obfuscation: bool = False


class Deleted(TypedDict):
    """That a response is gone."""

    id: str
    object: str
    deleted: bool


@blueprint.post(ROOT)
@spec.validate(tags=["openai"])
def create(json: ResponseBody, headers: Keyed) -> Asks[Json[dict[str, Any]]] | Events:
    """Answer; whole, as events, or in the background."""
    asking.check(json)
    conversation, after = _place(json)
    options = asking.options(json)
    said = _said(json)
    keep = json.keep is not False
    kept = asking.kept(json)
    asked = {**kept, "said": len(said)}
    if json.conversation is None and json.previous_response_id is None:
        asked["alone"] = True  # its conversation is of nothing else
    said[-1] = replace(said[-1], extra={**(said[-1].extra or {}), "asked": asked}, key=headers.stored if keep else None)
    is_new = conversation is None and keep
    place = conversation.id if conversation else None
    if is_new:
        place = conversations.place_of(user(), PREFIX, said[-1].key)
    turn = conversations.respond(
        user(),
        said,
        conversation_id=place,
        after=after,
        new={} if is_new else None,
        keep=keep,
        instructions=json.instructions,
        options=options,
        model=json.model,
        api_key=callers_key(),
        attend=not json.background,
    )
    name = "" if keep else uuid.uuid4().hex
    model = json.model or conversations.model_of(conversation)

    def shell() -> dict[str, Any]:
        return _shell(kept, place if keep else None, turn.question.timestamp, model)

    if json.stream:
        return event_stream(turn, encoder.framing(shell, name=name))
    if json.background and not turn.is_over:
        turn.wait_stored()
        return json_response(objects.response(shell(), turn.reply.id, "in_progress", []))
    return json_response(_whole(turn, shell, name))


@blueprint.get(ROOT + "/<response_id>")
@spec.validate(tags=["openai"])
def retrieve(response_id: ResponseId, query: RetrieveQuery) -> Json[dict[str, Any]] | Events:
    """Return a response, or its events behind one of them: of a running one as they come."""
    check_include()
    if query.include_obfuscation:
        raise unsupported("include_obfuscation")
    found = _answered(response_id)
    if not query.stream:
        return json_response(_current(found, response_id))
    after = encoder.BEFORE_ALL if query.starting_after is None else query.starting_after
    framing = encoder.framing(partial(_shell_of, found), after=after)
    if found.turn is not None:
        _check_after(after, found.turn.since(0))
        return event_stream(found.turn, framing)
    reply_id = _number(response_id)
    asked = found.asked[-1].id if found.asked else 0
    started = Started("", found.conversation.id, asked, reply_id)
    events: list[Event] = [started, Failed(AppError("The model failed."))]
    if found.reply is not None:
        events = encoder.events_of(found.reply, started)
    _check_after(after, events)
    data = b"".join(map(framing.encode, events))
    return iter([data]), 200, framing.headers


@blueprint.post(ROOT + "/<response_id>/cancel")
@spec.validate(tags=["openai"])
def cancel(response_id: ResponseId) -> Json[dict[str, Any]]:
    """Stop a response, keeping what there is of it; one that was cancelled before is not an error."""
    found = _answered(response_id)
    if found.turn is not None:
        conversations.stop_turn(user(), found.turn.id)
        found = _answered(response_id)
        if found.reply is None:  # nothing else will say why
            conversations.change_message(user(), found.asked[-1].id, _cancelled)
            found = _answered(response_id)
    current = _current(found, response_id)
    if current["status"] in ("completed", "incomplete"):
        raise Refused(f"Cannot cancel a response that is {current['status']}.", "response_id", "invalid_request")
    return json_response(current)


@blueprint.delete(ROOT + "/<response_id>")
@spec.validate(tags=["openai"])
def delete(response_id: ResponseId) -> Json[Deleted]:
    """Delete a response and what it answers."""
    found = _answered(response_id)
    if found.turn is not None:
        conversations.stop_turn(user(), found.turn.id)
    conversations.delete_messages(user(), [*(message.id for message in found.asked), _number(response_id)])
    if _asked(found).get("alone") and not conversations.find(user(), found.conversation.id).count:
        conversations.delete(user(), found.conversation.id)
    return json_response({"id": response_id, "object": "response", "deleted": True})


@blueprint.get(ROOT + "/<response_id>/input_items")
@spec.validate(tags=["openai"])
def input_items(response_id: ResponseId, query: Cursor) -> Json[Listing]:
    """List what a response answers, newest first unless `order` is `asc`."""
    check_include()
    items = [item for message in _answered(response_id).asked for item in items_of(message)]
    if query.order == "desc":
        items.reverse()
    return json_response(page_of(behind(items, query.after), query))


# --- what is asked


def _place(json: ResponseBody) -> tuple[Conversation | None, int | None]:
    """Return the conversation to go on in, and the message to go on from, where any is named."""
    if json.conversation is not None:
        name = json.conversation if isinstance(json.conversation, str) else json.conversation["id"]
        return found_as(name, "conversation"), None
    if json.previous_response_id is None:
        return None, None
    try:
        found = _answered(json.previous_response_id)
    except Unknown:
        words = f"Previous response with id '{json.previous_response_id}' not found."
        raise Refused(words, "previous_response_id", "previous_response_not_found") from None
    is_there = found.reply is not None or found.turn is not None
    return found.conversation, _number(json.previous_response_id) if is_there else found.asked[-1].id


def _said(json: ResponseBody) -> list[Message]:
    if isinstance(json.input, list):
        return messages_of(json.input, "input", found_message)
    return [Message("user", json.input or "")]


def _check_after(after: int, events: Sequence[Event]) -> None:
    """Raise Refused where there are no events up to `after`; of a reply that was cut off a client may have had more."""
    last = events[-1] if events else None
    is_cut = isinstance(last, DoneEvent) and last.message is not None and last.message.error
    if after != encoder.BEFORE_ALL and not is_cut and after > (number := encoder.last_number(events)):
        raise Refused(f"The last event has the sequence number {number}.", "starting_after")


def _cancelled(question: Message) -> Message:
    extra = question.extra or {}
    return replace(question, extra={**extra, "asked": {**extra.get("asked", {}), "is_cancelled": True}})


# --- what is answered


def _number(response_id: str) -> int:
    found = _ID.fullmatch(response_id)
    if not found:
        raise Unknown(f"Response with id '{response_id}' not found.")
    return int(found[1])


def _answered(response_id: str) -> Answered:
    number = _number(response_id)
    try:
        return conversations.answered(user(), number)
    except NotFound:
        raise Unknown(f"Response with id '{response_id}' not found.") from None


def _asked(found: Answered) -> Mapping[str, Any]:
    asked = (found.asked[-1].extra or {}).get("asked") if found.asked else None
    return asked if isinstance(asked, dict) else {}


def _shell(asked: Mapping[str, Any], conversation_id: str | None, created_at: str, model: str | None) -> dict[str, Any]:
    said = {name: value for name, value in asked.items() if name not in INNER}
    place = {"id": conversation_id} if conversation_id else None
    return {**said, "created_at": seconds_of(created_at), "model": model, "conversation": place}


def _shell_of(found: Answered) -> dict[str, Any]:
    begun = found.asked[-1].timestamp if found.asked else found.conversation.created_at
    model = conversations.model_of(found.conversation)
    return _shell(_asked(found), found.conversation.id, begun, model)


def _current(found: Answered, response_id: str) -> dict[str, Any]:
    """Return a response as it is now."""
    shell = _shell_of(found)
    if found.reply is not None:
        return objects.response_of(shell, found.reply)
    if found.turn is None:
        status = "cancelled" if _asked(found).get("is_cancelled") else "failed"
        return objects.response(shell, _number(response_id), status, [])
    return objects.response(shell, found.turn.reply.id, "in_progress", _so_far(found.turn))


def _so_far(turn: Turn, name: str = "") -> list[Item]:
    """Return what there is of a reply."""
    (text, reasoning), calls = turn.text(), turn.calls()
    if not (text or reasoning or calls):
        return []
    extra = {"calls": calls} if calls else None
    reply = replace(turn.reply, content=text, reasoning=reasoning or None, incomplete=True, extra=extra)
    return items_of(reply, name)


def _whole(turn: Turn, shell: Callable[[], dict[str, Any]], name: str) -> dict[str, Any]:
    """Wait for a reply. Raises the AppError of one that failed before the model took the question."""
    try:
        reply = finished(turn)
    except ClientGone:
        raise
    except AppError as error:
        if not isinstance(turn.since(0)[0], Started):
            raise
        return objects.response(shell(), name or turn.reply.id, "failed", _so_far(turn, name), error=error.message)
    if reply is None:
        return objects.response(shell(), name or turn.reply.id, "cancelled", [])
    return objects.response_of(shell(), reply, name)
