"""Sends and replies of the native dialect, whole or as events."""

from __future__ import annotations

from core.errors import NotFound
from core.web import Json, json_response
from self_agent.dialects.base import conversations, event_stream, finished, user
from self_agent.dialects.native.answers import CutOff, Data, Events, Sent, Stopped
from self_agent.dialects.native.conversations import ROOT, blueprint
from self_agent.dialects.native.rendering import heading, shown
from self_agent.document import Asks
from self_agent.encoders import sse
from self_agent.openapi import Body, spec

RECENT = 20  # messages in the answer to a send


class SendBody(Body):
    """A user's message."""

    content: str
    model: str | None = None


@blueprint.post(ROOT + "/<conversation_id>/messages")
@spec.validate(tags=["self_agent"])
def send(conversation_id: str, json: SendBody) -> Asks[Json[Data[Sent | CutOff]]]:
    """Send a message and wait for the reply."""
    reply = finished(conversations.send(user(), conversation_id, json.content, model=json.model, new={}))
    conversation, messages = conversations.recent(user(), conversation_id, RECENT)
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
