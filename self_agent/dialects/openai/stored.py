"""Chat completions that were asked for with `store: true`: each is a conversation of its own, kept and listed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

from flask import Blueprint, request
from pydantic import Field
from typing_extensions import TypedDict

from core.errors import NotFound
from core.web import Json, json_response
from self_agent.dialects.base import callers_key, conversations, event_stream, finished, user
from self_agent.dialects.openai.errors import Refused, Unknown, missing, unsupported
from self_agent.dialects.openai.items import ROLES, checked_metadata, text_of
from self_agent.dialects.openai.listing import Cursor, Listing, page_of
from self_agent.encoders import completions as encoder
from self_agent.encoders.completions import PREFIX
from self_agent.encoders.openai_objects import seconds_of
from self_agent.models import Conversation, Message, Metadata, calls_of, result_of
from self_agent.openapi import Body, spec
from self_agent.streams import Stream

ROOT = "/v1/chat/completions"
KEPT_IN = "chatcmpl_"  # begins the id of such a conversation
OWN = ("messages", "model", "stream", "stream_options", "store", "metadata", "n")
# What is passed on to the model; of anything else the answer could hold what is not kept.
OPTIONS = (
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "prediction",
    "user",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
)
_ID = re.compile(PREFIX + r"(\d{1,16})")
_BY_NAME = re.compile(r"metadata\[(.+)\]")

blueprint = Blueprint("stored", __name__)

CompletionId = Annotated[str, Field(examples=["chatcmpl-2097154"])]


class UpdateBody(Body):
    """What is to be kept with a completion."""

    metadata: dict[str, str] | None = Field(examples=[{"topic": "demo"}])


class ListQuery(Cursor):
    """Which completions; `metadata[name]=value` chooses too."""

    order: Literal["asc", "desc"] = "asc"
    model: str | None = None


class MessagesQuery(Cursor):
    """Which messages."""

    order: Literal["asc", "desc"] = "asc"


class Deleted(TypedDict):
    """That a completion is gone."""

    id: str
    object: str
    deleted: bool


class Stored(NamedTuple):
    """A completion that is kept: what was said, and the reply."""

    conversation: Conversation
    said: list[Message]
    reply: Message


def answer(fields: Mapping[str, Any], key: str | None) -> Json[dict[str, Any]] | Stream:
    """Answer a request for a completion that is to be kept."""
    for name, value in fields.items():
        if name not in (*OWN, *OPTIONS) and value:
            raise unsupported(name)
    if fields.get("n") not in (None, 1):
        raise unsupported("n")
    metadata = _metadata(fields.get("metadata"))
    said = [_message(message, f"messages[{place}]") for place, message in enumerate(fields["messages"])]
    options = {name: fields[name] for name in OPTIONS if fields.get(name) is not None}
    asked = {"said": len(said), "completion": True}
    said[-1] = replace(said[-1], extra={**(said[-1].extra or {}), "asked": asked}, key=key)
    model = fields.get("model") or None
    if model is not None and not isinstance(model, str):
        raise Refused("Invalid type for 'model': expected a string.", "model", "invalid_type")
    turn = conversations.respond(
        user(),
        said,
        conversation_id=conversations.place_of(user(), KEPT_IN, key),
        new={"metadata": Metadata(metadata) or None},
        instructions="",
        options=options,
        model=model,
        api_key=callers_key(),
    )

    def shell() -> dict[str, Any]:
        return {"created": int(seconds_of(turn.question.timestamp)), "model": model or conversations.model_of()}

    if fields.get("stream"):
        usage = fields.get("stream_options")
        with_usage = isinstance(usage, dict) and bool(usage.get("include_usage"))
        return event_stream(turn, encoder.framing(shell, with_usage=with_usage))
    reply = finished(turn) or replace(turn.reply, timestamp=turn.question.timestamp)
    return json_response(encoder.completion_of({**shell(), "metadata": metadata}, reply))


@blueprint.get(ROOT)
@spec.validate(tags=["openai"])
def list_completions(query: ListQuery) -> Json[Listing]:
    """List the completions that are kept, oldest first unless `order` is `desc`."""
    wanted = {found[1]: value for name, value in request.args.items() if (found := _BY_NAME.fullmatch(name))}
    rows = _all(wanted, query)
    if query.after:
        for row in rows:
            if row["id"] == query.after:
                break
        else:
            raise _unknown(query.after)
    data = [row for row, _ in zip(rows, range(query.limit + 1), strict=False)]
    return json_response(page_of(data, query))


@blueprint.get(ROOT + "/<completion_id>")
@spec.validate(tags=["openai"])
def retrieve(completion_id: CompletionId) -> Json[dict[str, Any]]:
    """Return a completion that is kept."""
    return json_response(_object(_stored(completion_id)))


@blueprint.post(ROOT + "/<completion_id>")
@spec.validate(tags=["openai"])
def update(completion_id: CompletionId, json: UpdateBody) -> Json[dict[str, Any]]:
    """Set the metadata of a completion that is kept."""
    found = _stored(completion_id)
    metadata = Metadata(checked_metadata(json.metadata)) or None
    conversation = conversations.update(user(), found.conversation.id, {"metadata": metadata})
    return json_response(_object(Stored(conversation, found.said, found.reply)))


@blueprint.delete(ROOT + "/<completion_id>")
@spec.validate(tags=["openai"])
def delete(completion_id: CompletionId) -> Json[Deleted]:
    """Delete a completion that is kept, and what it answered."""
    conversations.delete(user(), _stored(completion_id).conversation.id)
    return json_response({"id": completion_id, "object": "chat.completion.deleted", "deleted": True})


@blueprint.get(ROOT + "/<completion_id>/messages")
@spec.validate(tags=["openai"])
def messages(completion_id: CompletionId, query: MessagesQuery) -> Json[Listing]:
    """List the messages that a kept completion answered."""
    rows = [_row(message, completion_id, place) for place, message in enumerate(_stored(completion_id).said)]
    if query.order == "desc":
        rows.reverse()
    if query.after:
        places = [place for place, row in enumerate(rows) if row["id"] == query.after]
        if not places:
            raise Unknown(f"Message with id '{query.after}' not found.", "after")
        rows = rows[places[0] + 1 :]
    return json_response(page_of(rows, query))


# --- what is said


def _message(message: Any, param: str) -> Message:
    role = message.get("role") if isinstance(message, dict) else None
    if role == "tool":
        call_id = message.get("tool_call_id")
        if not isinstance(call_id, str):
            raise missing(f"{param}.tool_call_id")
        return Message("user", text_of(message.get("content"), f"{param}.content"), extra={"call_id": call_id})
    if not isinstance(role, str) or role not in ROLES:
        raise Refused(f"Invalid value for '{param}.role': use one of {', '.join((*ROLES, 'tool'))}.", f"{param}.role")
    calls = _calls(message.get("tool_calls"), f"{param}.tool_calls")
    text = text_of(message.get("content") or ("" if calls else None), f"{param}.content")
    extra: dict[str, Any] = {"role": role} if role == "developer" else {}
    if calls:
        extra["calls"] = calls
    return Message(ROLES[role], text, extra=extra or None)


def _calls(calls: Any, param: str) -> list[dict[str, str]]:
    try:
        found = [{"call_id": call["id"], **call["function"]} for call in calls or ()]
        names = ("call_id", "name", "arguments")
        kept = [{name: call[name] for name in names} for call in found]
        if all(isinstance(value, str) for call in kept for value in call.values()):
            return kept
    except (TypeError, LookupError):
        pass
    raise Refused(f"Invalid value for '{param}': only calls of functions are supported.", param)


def _metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata or {}, dict) or not all(isinstance(value, str) for value in (metadata or {}).values()):
        raise Refused("Invalid type for 'metadata': expected an object of strings.", "metadata", "invalid_type")
    return checked_metadata(metadata)


# --- what is kept


def _all(wanted: Mapping[str, str], query: ListQuery) -> Iterator[dict[str, Any]]:
    found = [each for each in conversations.all(user()) if each.id.startswith(KEPT_IN)]
    found.sort(key=lambda each: each.created_at, reverse=query.order == "desc")
    for conversation in found:
        kept = conversation.metadata or Metadata()
        if any(kept.get(name) != value for name, value in wanted.items()):
            continue
        _, messages = conversations.read(user(), conversation.id)
        places = [place for place, message in enumerate(messages) if _is_asked(message)]
        if not places or len(messages) < places[0] + 2:
            continue  # it failed
        row = _object(Stored(conversation, messages[: places[0] + 1], messages[places[0] + 1]))
        if query.model in (None, row["model"]):
            yield row


def _is_asked(message: Message) -> bool:
    asked = (message.extra or {}).get("asked")
    return isinstance(asked, dict) and bool(asked.get("completion"))


def _stored(completion_id: str) -> Stored:
    if number := _ID.fullmatch(completion_id):
        try:
            found = conversations.answered(user(), int(number[1]))
        except NotFound:
            raise _unknown(completion_id) from None
        if found.reply is not None and found.asked and _is_asked(found.asked[-1]):
            return Stored(found.conversation, found.asked, found.reply)
    raise _unknown(completion_id)


def _unknown(completion_id: str) -> Unknown:
    return Unknown(f"Chat completion with id '{completion_id}' not found.")


def _object(stored: Stored) -> dict[str, Any]:
    shell = {
        "created": int(seconds_of(stored.said[-1].timestamp)),
        "metadata": dict(stored.conversation.metadata or {}),
    }
    return encoder.completion_of(shell, stored.reply)


def _row(message: Message, completion_id: str, place: int) -> dict[str, Any]:
    role = "tool" if result_of(message) is not None else str((message.extra or {}).get("role") or message.role)
    row: dict[str, Any] = {"id": f"{completion_id}-{place}", "role": role, "content": message.content}
    if calls := calls_of(message):
        row["tool_calls"] = [encoder.call_of(call) for call in calls]
    if (call_id := result_of(message)) is not None:
        row["tool_call_id"] = call_id
    return {**row, "content_parts": None}
