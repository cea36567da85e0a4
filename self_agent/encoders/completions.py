"""OpenAI's chat completions of replies that are kept: whole, or in chunks that end in `[DONE]`.

`chatcmpl-8` is message 8. Source of the shapes: openai-python, `types/chat`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from self_agent.encoders import openai_objects as objects
from self_agent.encoders.base import Framing
from self_agent.encoders.openai_objects import seconds_of
from self_agent.encoders.openai_sse import END
from self_agent.encoders.sse import PING, frame
from self_agent.events import CallDelta, Delta, Done, Event, Failed, Sources, Started
from self_agent.models import Message, calls_of

PREFIX = "chatcmpl-"

Shell = Callable[[], Mapping[str, Any]]  # `created` and `model`, known when the reply begins


def completion_of(shell: Mapping[str, Any], reply: Message) -> dict[str, Any]:
    """Return the completion that a stored reply is; `shell` has what was known from its beginning."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.content, "refusal": None}
    if calls := [call_of(call) for call in calls_of(reply)]:
        message = {**message, "content": reply.content or None, "tool_calls": calls}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if annotations := objects.text_part(reply.content, reply.sources)["annotations"]:
        message["annotations"] = [_annotation(each) for each in annotations]
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(reply), "logprobs": None}
    return {
        "created": int(seconds_of(reply.timestamp)),
        **shell,
        "id": f"{PREFIX}{reply.id}",
        "object": "chat.completion",
        "model": reply.model or shell.get("model") or "unknown",
        "choices": [choice],
        "usage": _usage(reply.usage),
    }


def framing(shell: Shell, *, with_usage: bool) -> Framing:
    """Return a framing for one client of one reply; with `with_usage` its last chunk says what it took."""
    head: dict[str, Any] = {}

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        return frame({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]})

    def encode(event: Event) -> bytes:
        if isinstance(event, Delta):
            more = {"reasoning_content": event.reasoning} if event.reasoning else {}
            return chunk({**more, "content": event.text} if event.text else more)
        if isinstance(event, CallDelta):
            return chunk({"tool_calls": [_call_piece(event)]})
        if isinstance(event, Started):
            fields = {"id": f"{PREFIX}{event.message_id}", "object": "chat.completion.chunk"}
            head.update(**{"model": "unknown", **shell()}, **fields)
            return chunk({"role": "assistant", "content": ""})
        if isinstance(event, Sources):
            return b""
        if isinstance(event, Failed):
            error = {"message": event.error.message, "type": "server_error", "param": None, "code": None}
            return frame({"error": error})
        assert isinstance(event, Done)
        usage = event.message.usage if event.message else None
        last = frame({**head, "choices": [], "usage": _usage(usage)}) if with_usage else b""
        return chunk({}, _finish_reason(event.message) if event.message else "stop") + last + END

    return Framing("text/event-stream", encode, PING)


def _finish_reason(reply: Message) -> str:
    if calls_of(reply):
        return "tool_calls"
    return str((reply.extra or {}).get("finish_reason") or "stop")


def call_of(call: Mapping[str, str]) -> dict[str, Any]:
    """Return a call as chat completions have it."""
    function = {"name": call["name"], "arguments": call["arguments"]}
    return {"id": call["call_id"], "type": "function", "function": function}


def _call_piece(piece: CallDelta) -> dict[str, Any]:
    function = {"arguments": piece.arguments, **({"name": piece.name} if piece.name else {})}
    first = {"id": piece.call_id, "type": "function"} if piece.call_id else {}
    return {"index": piece.index, **first, "function": function}


def _annotation(found: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in found.items() if name != "type"}
    return {"type": "url_citation", "url_citation": fields}


def _usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    found = objects.usage_of(usage)
    if not found:
        return None
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "total_tokens": "total_tokens"}
    return {name: found[own] for name, own in names.items()}
