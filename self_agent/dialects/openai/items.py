"""What a client says in items becomes messages; what cannot be kept is refused by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from self_agent.dialects.openai.errors import Refused, Unknown, missing
from self_agent.encoders.openai_objects import CALL, MESSAGE, REASONING, RESULT, Item, items_of
from self_agent.models import Message

MAX_ITEMS = 20  # that a conversation takes at once
MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512  # of metadata; what OpenAI's API allows
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_ID = re.compile(r"([a-z]+)_(\d{1,16})(?:_(\d{1,6}))?")

Find = Callable[[str, str], Message]  # the message that an item is of, by the item's id; the name of the parameter


def messages_of(items: list[Any], param: str, find: Find) -> list[Message]:
    """Return what items say, a message each. Raises Refused; `param` is the name of their list."""
    return [_message(item, f"{param}[{place}]", find) for place, item in enumerate(items)]


def _message(item: Any, param: str, find: Find) -> Message:
    if not isinstance(item, dict):
        raise Refused(f"Invalid type for '{param}': expected an object.", param, "invalid_type")
    kind = item.get("type") or ("message" if "role" in item else None)
    if not isinstance(kind, str):
        raise missing(f"{param}.type")
    if kind not in _KINDS:
        raise Refused(f"Items of type '{kind}' are not supported by this server.", param, "unsupported_value")
    return _KINDS[kind](item, param, find)


def _said(item: Item, param: str, find: Find) -> Message:
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        words = f"Invalid value for '{param}.role': use one of {', '.join(ROLES)}."
        raise Refused(words, f"{param}.role")
    text = text_of(item.get("content"), f"{param}.content")
    return Message(ROLES[role], text, extra={"role": role} if role == "developer" else None)


def _called(item: Item, param: str, find: Find) -> Message:
    call = {name: _text(item, name, param) for name in ("call_id", "name", "arguments")}
    return Message("assistant", "", extra={"calls": [call]})


def _resulted(item: Item, param: str, find: Find) -> Message:
    output = text_of(item.get("output"), f"{param}.output")
    return Message("user", output, extra={"call_id": _text(item, "call_id", param)})


def _thought(item: Item, param: str, find: Find) -> Message:
    texts = [text_of(item.get(name) or [], f"{param}.{name}") for name in ("content", "summary")]
    return Message("assistant", "", reasoning=next(filter(None, texts), None))


def _referred(item: Item, param: str, find: Find) -> Message:
    name = _text(item, "id", param)
    message = find(name, f"{param}.id")
    found = next((each for each in items_of(message) if each["id"] == name), None)
    if found is None:
        raise unknown_item(name, f"{param}.id")
    return _message(found, param, find)


_KINDS: Mapping[str, Callable[[Item, str, Find], Message]] = {
    "message": _said,
    "function_call": _called,
    "function_call_output": _resulted,
    "reasoning": _thought,
    "item_reference": _referred,
}


def text_of(content: Any, param: str) -> str:
    """Return the text of an item's content, a text or a list of parts. Raises Refused for what is no text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise missing(param) if content is None else Refused(f"Invalid type for '{param}'.", param, "invalid_type")
    return "\n".join(_part(part, f"{param}[{place}]") for place, part in enumerate(content))


def _part(part: Any, param: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("refusal" if kind == "refusal" else "text") if isinstance(part, dict) else None
    if kind != "refusal" and kind not in TEXTS:
        words = f"Content of type {kind!r} is not supported by this server: only text is."
        raise Refused(words, param, "unsupported_value")
    if not isinstance(text, str):
        raise missing(f"{param}.text")
    return text


def _text(item: Item, name: str, param: str) -> str:
    value = item.get(name)
    if value is None:
        raise missing(f"{param}.{name}")
    if not isinstance(value, str):
        raise Refused(f"Invalid type for '{param}.{name}': expected a string.", f"{param}.{name}", "invalid_type")
    return value


# --- ids


def message_id_of(item_id: str) -> int | None:
    """Return the message that an item would be of, or None: no item has such an id."""
    found = _ID.fullmatch(item_id)
    return int(found[2]) if found and found[1] in (MESSAGE, REASONING, CALL, RESULT) else None


def unknown_item(item_id: str, param: str | None = None) -> Unknown:
    """Return the refusal of an item that is not there."""
    return Unknown(f"Item with id '{item_id}' not found.", param)


def item_in(message: Message, item_id: str) -> Item:
    """Return the item of a message that has this id. Raises Unknown."""
    for item in items_of(message):
        if item["id"] == item_id:
            return item
    raise unknown_item(item_id)


def checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return metadata that may be kept. Raises Refused."""
    metadata = dict(metadata or {})
    if len(metadata) > MAX_PAIRS:
        raise Refused(
            f"Invalid 'metadata': it has at most {MAX_PAIRS} pairs.", "metadata", "object_above_max_properties"
        )
    for key, value in metadata.items():
        if len(key) > MAX_KEY or len(value) > MAX_VALUE:
            words = f"Invalid 'metadata': a key has at most {MAX_KEY} characters and a value {MAX_VALUE}."
            raise Refused(words, "metadata", "string_above_max_length")
    return metadata
