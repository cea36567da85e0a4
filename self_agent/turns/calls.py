"""What a reply has beside its text: calls of functions, from pieces or as pieces again, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from self_agent.events import CallDelta, Info
from self_agent.models import Message

CUT_SHORT = ("length", "content_filter")  # why a model ends that has not said all


def calls_in(pieces: Iterable[CallDelta]) -> list[dict[str, str]]:
    """Put calls together from their pieces; one without an id gets one."""
    calls: dict[int, dict[str, str]] = {}
    for piece in pieces:
        call = calls.setdefault(piece.index, {"call_id": "", "name": "", "arguments": ""})
        call["call_id"] = call["call_id"] or piece.call_id
        call["name"] = call["name"] or piece.name
        call["arguments"] += piece.arguments
    return [{**call, "call_id": call["call_id"] or f"call_{place}"} for place, call in enumerate(calls.values())]


def pieces_of(calls: Sequence[dict[str, str]]) -> list[CallDelta]:
    """Return calls as the events that they would have been."""
    return [CallDelta(index, call["arguments"], call["call_id"], call["name"]) for index, call in enumerate(calls)]


def noted(reply: Message, info: Info) -> Message:
    """Return a reply with what the model says of it."""
    extra = {"finish_reason": info.finish_reason} if info.finish_reason in CUT_SHORT else reply.extra
    return replace(reply, model=info.model or reply.model, usage=info.usage or reply.usage, extra=extra)
