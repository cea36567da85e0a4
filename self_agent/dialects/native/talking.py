"""Sends and replies of the native dialect, whole or as events."""

from __future__ import annotations

from pydantic import Field

from core.errors import NotFound
from core.web import Json, json_response
from self_agent.dialects.base import conversations, event_stream, finished, user
from self_agent.dialects.native.answers import CutOff, Data, Events, Sent, Stopped
from self_agent.dialects.native.conversations import ROOT, blueprint
from self_agent.dialects.native.rendering import MessageId, heading, id_in_path, shown
from self_agent.document import Asks
from self_agent.encoders import sse
from self_agent.models import MAX_ID
from self_agent.openapi import Body, spec
from self_agent.turns.turn import Turn

REGENERATE = ROOT + "/<conversation_id>/messages/<message_id>/regenerate"
RECENT = 20  # messages in the answer to a send


class SendBody(Body):
    """A user's message; `parent` is the message that it follows if not the last one, 0 for none."""

    content: str
    model: str | None = None
    parent: int | None = Field(None, ge=0, le=MAX_ID, examples=[0])


class RegenerateBody(Body):
    """Which model is to answer, if not the conversation's."""

    model: str | None = None


@blueprint.post(ROOT + "/<conversation_id>/messages")
@spec.validate(tags=["self_agent"])
def send(conversation_id: str, json: SendBody) -> Asks[Json[Data[Sent | CutOff]]]:
    """Send a message and wait for the reply."""
    return _answered(_sent(conversation_id, json))


@blueprint.post(ROOT + "/<conversation_id>/messages/stream")
@spec.validate(tags=["self_agent"])
def send_stream(conversation_id: str, json: SendBody) -> Events:
    """Send a message and follow the reply as server-sent events."""
    return event_stream(_sent(conversation_id, json), sse.TYPED)


@blueprint.post(REGENERATE)
@spec.validate(tags=["self_agent"])
def regenerate(conversation_id: str, message_id: MessageId, json: RegenerateBody) -> Asks[Json[Data[Sent | CutOff]]]:
    """Answer a question again, and wait for the reply; the one there is stays as another branch."""
    return _answered(_regenerated(conversation_id, message_id, json))


@blueprint.post(REGENERATE + "/stream")
@spec.validate(tags=["self_agent"])
def regenerate_stream(conversation_id: str, message_id: MessageId, json: RegenerateBody) -> Events:
    """Answer a question again, and follow the reply as server-sent events."""
    return event_stream(_regenerated(conversation_id, message_id, json), sse.TYPED)


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


def _sent(conversation_id: str, json: SendBody) -> Turn:
    return conversations.send(user(), conversation_id, json.content, model=json.model, parent=json.parent, new={})


def _regenerated(conversation_id: str, message_id: str, json: RegenerateBody) -> Turn:
    return conversations.regenerate(user(), conversation_id, id_in_path(message_id), model=json.model)


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
