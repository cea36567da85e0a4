"""Values that differ from every default, made from the types, so that a field that is added is tested at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from typing import Any

from core import clock
from self_agent.models import SETTABLE, Conversation, Message, Metadata
from self_agent.storage.json_files.lines import dump
from self_agent.storage.rows import kinds_of, row_of

_SAMPLES: dict[type, list[Any]] = {
    str: ["some text", "another"],
    int: [7, 8],
    bool: [True, False],
    list: [[{"is_deleted": True, "你好": [1.5, None]}]],
    dict: [{"n": {"is_deleted": True}}],
    tuple: [("one", "two")],
    Metadata: [Metadata({"topic": "你好"})],
}


def samples(cls: type, **known: Any) -> dict[str, Any]:
    """Return a value for every field of a dataclass that is not its default; `known` are given instead."""
    kinds = kinds_of(cls)
    return {item.name: known.get(item.name) or _sample(kinds[item.name], item.default) for item in fields(cls)}


def _sample(kinds: set[type], default: Any) -> Any:
    values = itertools.chain.from_iterable(_SAMPLES[kind] for kind in _SAMPLES if kind in kinds)
    choices = [value for value in values if default is MISSING or value != default]
    assert choices, f"there is no sample of any of {kinds}"
    return choices[0]


def full_message(message_id: int, parent: int) -> Message:
    """Return a message that has a value in every field."""
    known = {"id": message_id, "role": "assistant", "timestamp": "2025-04-30T10:00:01.000000Z", "parent": parent}
    return Message(**samples(Message, **known))


def settable() -> dict[str, Any]:
    """Return a value for each field of a conversation that can be set."""
    chosen = samples(Conversation, project_id=5)
    return {name: chosen[name] for name in SETTABLE}


def said(text: str) -> Callable[[Message], Message]:
    """Return the change that an edit makes of a message."""
    return lambda message: replace(message, content=text, edited_at=clock.now())


def message_line(message: Message) -> bytes:
    """Return the line of a message in its document."""
    return dump(row_of(message, message.id, message.timestamp))
