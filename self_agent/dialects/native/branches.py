"""Branches in the native dialect: which one is shown, and a new conversation made of one."""

from __future__ import annotations

from pydantic import Field

from core.web import Json, json_response
from self_agent.dialects.base import conversations, user
from self_agent.dialects.native.answers import Data, FullHeading
from self_agent.dialects.native.conversations import ROOT, blueprint
from self_agent.dialects.native.rendering import full_heading
from self_agent.models import MAX_ID
from self_agent.openapi import Body, spec


class ChooseBody(Body):
    """A message of the branch that is to be shown."""

    message_id: int = Field(ge=1, le=MAX_ID, examples=[1048578])


class ForkBody(Body):
    """The last message of the new conversation, and its id, if it is not to have one of its own."""

    message_id: int = Field(ge=1, le=MAX_ID, examples=[1048578])
    conversation_id: str | None = Field(None, examples=[None])


@blueprint.post(ROOT + "/<conversation_id>/choose")
@spec.validate(tags=["self_agent"])
def choose(conversation_id: str, json: ChooseBody) -> Json[Data[FullHeading]]:
    """Show the branch through a message, to its newest end."""
    return json_response({"data": full_heading(conversations.choose(user(), conversation_id, json.message_id))})


@blueprint.post(ROOT + "/<conversation_id>/fork")
@spec.validate(tags=["self_agent"])
def fork(conversation_id: str, json: ForkBody) -> Json[Data[FullHeading]]:
    """Make a new conversation of a message and all that come before it on its branch."""
    made = conversations.fork(user(), conversation_id, json.message_id, json.conversation_id)
    return json_response({"data": full_heading(made)})
