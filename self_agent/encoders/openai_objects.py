"""OpenAI's objects of what is stored: the items that a message is, and the response that a reply is; all pure.

Ids are made of the message's id: `msg_8` is the text of message 8, `rs_8` its reasoning, `fc_8` its first call of a
function, `fc_8_1` its second, and `resp_8` all of it. Source of the shapes: openai-python, `types/responses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from self_agent.models import Message, calls_of, result_of

Item = dict[str, Any]

MESSAGE, REASONING, CALL, RESULT, RESPONSE = "msg", "rs", "fc", "fco", "resp"
LENGTH = {"length": "max_output_tokens", "content_filter": "content_filter"}  # by what chat completions call it
# What a response says of itself where nobody asked for anything else.
DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}


def name_of(kind: str, message_id: int | str, place: int = 0) -> str:
    """Return the id of an object."""
    return f"{kind}_{message_id}_{place}" if place else f"{kind}_{message_id}"


def text_part(text: str, sources: list[Any] | None = None) -> dict[str, Any]:
    """Return the part of a reply that is its text, with what it draws on that has an address."""
    cited = [each for each in sources or () if isinstance(each, dict) and isinstance(each.get("url"), str)]
    annotations = [
        {
            "type": "url_citation",
            "url": each["url"],
            "title": str(each.get("title") or each["url"]),
            "start_index": 0,
            "end_index": len(text),
        }
        for each in cited
    ]
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def message_item(name: str, role: str, status: str, *parts: dict[str, Any]) -> Item:
    """Return an item that is text."""
    return {"id": name, "type": "message", "role": role, "status": status, "content": list(parts)}


def reasoning_item(name: str, status: str, *texts: str) -> Item:
    """Return an item that is the model's thinking."""
    content = [{"type": "reasoning_text", "text": text} for text in texts]
    return {"id": name, "type": "reasoning", "summary": [], "content": content, "status": status}


def call_item(name: str, call: Mapping[str, str], status: str) -> Item:
    """Return an item that is a function to be called."""
    fields = {"call_id": call["call_id"], "name": call["name"], "arguments": call["arguments"]}
    return {"id": name, "type": "function_call", **fields, "status": status}


def items_of(message: Message, name: int | str = "") -> list[Item]:
    """Return the items that a message is, in order; `name` stands in their ids in place of its own."""
    name = name or message.id
    status = "incomplete" if message.incomplete else "completed"
    if (call_id := result_of(message)) is not None:
        fields = {"call_id": call_id, "output": message.content, "status": status}
        return [{"id": name_of(RESULT, name), "type": "function_call_output", **fields}]
    if message.role != "assistant":
        role = "developer" if (message.extra or {}).get("role") == "developer" else message.role
        part = {"type": "input_text", "text": message.content}
        return [message_item(name_of(MESSAGE, name), role, status, part)]
    items: list[Item] = []
    calls = calls_of(message)
    if message.reasoning:
        items.append(reasoning_item(name_of(REASONING, name), status, message.reasoning))
    if message.content or not (calls or message.reasoning):
        part = text_part(message.content, message.sources)
        items.append(message_item(name_of(MESSAGE, name), "assistant", status, part))
    items += [call_item(name_of(CALL, name, place), call, status) for place, call in enumerate(calls)]
    return items


def seconds_of(timestamp: str) -> float:
    """Return a time of `core.clock` in seconds since 1970."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


# --- responses


def status_of(reply: Message) -> tuple[str, str | None]:
    """Return the status of the response that a stored reply is, and why it is incomplete, if it is."""
    why = LENGTH.get((reply.extra or {}).get("finish_reason", ""))
    if reply.incomplete:
        return ("failed", None) if reply.error else ("cancelled", None)
    return ("incomplete", why) if why else ("completed", None)


def response(
    shell: Mapping[str, Any],
    name: int | str,
    status: str,
    output: list[Item],
    *,
    model: str | None = None,
    usage: Mapping[str, Any] | None = None,
    error: str | None = None,
    why: str | None = None,
    completed_at: float | None = None,
) -> dict[str, Any]:
    """Return a response; `shell` has what is known from its beginning."""
    is_failed = status == "failed"
    return {
        **DEFAULTS,
        **shell,
        "id": name_of(RESPONSE, name),
        "object": "response",
        "status": status,
        "model": model or shell.get("model") or "unknown",
        "output": output,
        "usage": usage_of(usage),
        "error": {"code": "server_error", "message": error or "The model failed."} if is_failed else None,
        "incomplete_details": {"reason": why} if status == "incomplete" else None,
        "completed_at": completed_at if status == "completed" else None,
    }


def response_of(shell: Mapping[str, Any], reply: Message, name: int | str = "") -> dict[str, Any]:
    """Return the response that a stored reply is."""
    status, why = status_of(reply)
    return response(
        shell,
        name or reply.id,
        status,
        items_of(reply, name),
        model=reply.model,
        usage=reply.usage,
        error=reply.error,
        why=why,
        completed_at=seconds_of(reply.timestamp),
    )


def usage_of(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return an upstream's usage as a response has it; None where it says none."""
    if not usage:
        return None

    def count(name: str, inner: str = "") -> int:
        found: Any = usage.get(name)
        found = found.get(inner) if inner and isinstance(found, dict) else found
        return found if type(found) is int else 0

    asked, said = count("prompt_tokens"), count("completion_tokens")
    cached = count("prompt_tokens_details", "cached_tokens")
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": count("completion_tokens_details", "reasoning_tokens")},
        "total_tokens": count("total_tokens") or asked + said,
    }
