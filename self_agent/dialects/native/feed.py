"""The live list of the native dialect: what happens to the user's chats, through whichever dialect, as events."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint, request
from pydantic import Field

from self_agent.dialects.base import live_list
from self_agent.document import Sample
from self_agent.encoders.changes import CHANGES, encode
from self_agent.events import Change
from self_agent.openapi import Query, spec
from self_agent.streams import Stream

EVENTS = "/api/v1/events"

blueprint = Blueprint("feed", __name__)

_SHOWN = (Change("reset", id="0f3c5a7b9d1e2f40-0"), Change("created", "demo", 1, "0f3c5a7b9d1e2f40-1"))
Changes = Annotated[Stream, Sample(CHANGES.content_type, b"".join(map(encode, _SHOWN)).decode())]


class EventsQuery(Query):
    """The id of the last event that was seen; the header `Last-Event-ID` goes before it."""

    after: str = Field("", examples=["0f3c5a7b9d1e2f40-0"])


@blueprint.get(EVENTS)
@spec.validate(tags=["self_agent"])
def events(query: EventsQuery) -> Changes:
    """Follow what happens to one's chats; `reset` says: load the list, for what was before is not told."""
    return live_list(request.headers.get("Last-Event-ID") or query.after)
