"""Sends and replies of the native dialect, whole or as events."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, WithJsonSchema

from core.errors import InvalidRequest, NotFound
from core.web import Json, json_response
from self_agent.dialects.base import Keyed, conversations, event_stream, finished, user
from self_agent.dialects.native.answers import NO_MORE, CutOff, Data, Events, Resumed, Sent, Stopped
from self_agent.dialects.native.conversations import ROOT, blueprint
from self_agent.dialects.native.rendering import MessageId, heading, id_in_path, shown
from self_agent.document import Asks
from self_agent.encoders import sse
from self_agent.events import LAST
from self_agent.models import MAX_ID
from self_agent.openapi import Body, Headers, Query, spec
from self_agent.turns.turn import Turn

REGENERATE = ROOT + "/<conversation_id>/messages/<message_id>/regenerate"
RECENT = 20  # messages in the answer to a send
EVENT_ID = "[0-9]{1,16}"
EventId = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{EVENT_ID}$", "example": "0"})]


class SendBody(Body):
    """A user's message; `parent` is the message that it follows if not the last one, 0 for none."""

    content: str
    model: str | None = None
    parent: int | None = Field(None, ge=0, le=MAX_ID, examples=[0])


class RegenerateBody(Body):
    """Which model is to answer, if not the conversation's."""

    model: str | None = None


class JoinQuery(Query):
    """Behind which event, and of which reply."""

    after: int | None = Field(None, ge=0, le=LAST, description="The id of the last event that is known; 0: none.")
    message_id: int | None = Field(None, ge=1, le=LAST, description="The reply that is meant; 409 if it is not that.")


class JoinHeaders(Headers):
    """What a browser's EventSource says when it connects again."""

    last_event_id: EventId | None = Field(None, alias="Last-Event-ID", description="As `after`, before which it goes.")


@blueprint.post(ROOT + "/<conversation_id>/messages")
@spec.validate(tags=["self_agent"])
def send(conversation_id: str, json: SendBody, headers: Keyed) -> Asks[Json[Data[Sent | CutOff]]]:
    """Send a message and wait for the reply."""
    return _answered(_sent(conversation_id, json, headers))


@blueprint.post(ROOT + "/<conversation_id>/messages/stream")
@spec.validate(tags=["self_agent"])
def send_stream(conversation_id: str, json: SendBody, headers: Keyed) -> Events:
    """Send a message and follow the reply as server-sent events."""
    return event_stream(_sent(conversation_id, json, headers), sse.numbered())


@blueprint.post(REGENERATE)
@spec.validate(tags=["self_agent"])
def regenerate(
    conversation_id: str, message_id: MessageId, json: RegenerateBody, headers: Keyed
) -> Asks[Json[Data[Sent | CutOff]]]:
    """Answer a question again, and wait for the reply; the one there is stays as another branch."""
    return _answered(_regenerated(conversation_id, message_id, json, headers))


@blueprint.post(REGENERATE + "/stream")
@spec.validate(tags=["self_agent"])
def regenerate_stream(conversation_id: str, message_id: MessageId, json: RegenerateBody, headers: Keyed) -> Events:
    """Answer a question again, and follow the reply as server-sent events."""
    return event_stream(_regenerated(conversation_id, message_id, json, headers), sse.numbered())


@blueprint.get(ROOT + "/<conversation_id>/stream")
@spec.validate(tags=["self_agent"])
def join(conversation_id: str, query: JoinQuery, headers: JoinHeaders) -> Resumed:
    """Follow the reply that is being generated now, from its first event on or behind a known one.

    With `after`, or `Last-Event-ID`, a reply that has ended comes from the store, as long as it is the last message.
    """
    after = query.after if headers.last_event_id is None else _number(headers.last_event_id)
    if after is None and conversations.running(user(), conversation_id) is None:
        raise NotFound("no reply is being generated in this conversation now; after=0 gives the last one")
    turn = conversations.follow(user(), conversation_id, after or 0, query.message_id)
    return event_stream(turn, sse.numbered(after or 0)) if turn else NO_MORE


def _number(last_event_id: str) -> int:
    if not re.fullmatch(EVENT_ID, last_event_id):
        raise InvalidRequest("Last-Event-ID: must be the id of an event of this stream, which is a number")
    return int(last_event_id)


@blueprint.post(ROOT + "/<conversation_id>/stop")
@spec.validate(tags=["self_agent"])
def stop(conversation_id: str) -> Json[Data[Stopped]]:
    """Stop the reply that is being generated; what there is of it is kept."""
    return json_response({"data": {"success": True, "stopped": conversations.stop(user(), conversation_id)}})


def _sent(conversation_id: str, json: SendBody, headers: Keyed) -> Turn:
    return conversations.send(
        user(), conversation_id, json.content, model=json.model, parent=json.parent, new={}, key=headers.stored
    )


def _regenerated(conversation_id: str, message_id: str, json: RegenerateBody, headers: Keyed) -> Turn:
    return conversations.regenerate(
        user(), conversation_id, id_in_path(message_id), model=json.model, key=headers.stored
    )


def _answered(turn: Turn) -> Json[Data[Sent | CutOff]]:
    reply = finished(turn)
    conversation, messages = conversations.recent(user(), turn.conversation_id, RECENT)
    data: Sent = {
        "reply": reply.content if reply else "",
        "messages": [shown(message) for message in messages],
        **heading(conversation, messages[-1] if messages else None),
        "model": reply.model if reply else None,
    }
    if reply is None or reply.incomplete:
        cut_off: CutOff = {**data, "incomplete": True}
        return json_response({"data": cut_off})
    return json_response({"data": data})
