"""What a message lacks when it is appended, its id and its time, is filled in the same way by every store."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from core import clock
from self_agent.models import Message, id_at, number_of

_OPTIONAL = {
    "model": str,
    "incomplete": bool,
    "error": str,
    "reasoning": str,
    "sources": list,
    "usage": dict,
    "edited_at": str,
    "is_deleted": bool,
}
_optional_of = attrgetter(*_OPTIONAL)
_NONE_SET = _optional_of(Message)  # the defaults: most messages have none of these


def fields_of(message: Message, key: int, timestamp: str) -> dict[str, Any]:
    """Return what is stored of a message under this id; what it does not have is left out."""
    fields = {"id": key, "role": message.role, "content": message.content, "timestamp": timestamp}
    values = _optional_of(message)
    if values != _NONE_SET:
        fields.update(
            (name, value)
            for name, value in zip(_OPTIONAL, values, strict=True)
            if value is not None and value is not False
        )
    return fields


def is_sound(name: str, value: Any) -> bool:
    """Say whether a message may have this value in a field: what is none of ours may be anything."""
    kind = _OPTIONAL.get(name)
    return kind is None or value is None or type(value) is kind


def from_fields(fields: dict[str, Any]) -> Message:
    """Return `Message(**fields)` in an eighth of the time; what is not among the fields has its default.

    The `__init__` of a frozen dataclass sets each of the 12 fields through `object.__setattr__`, and a page
    of messages would spend more time in it than in reading and parsing.
    """
    message = _new(Message)
    _set(message, "__dict__", fields)
    return message


def from_rows(rows: Iterable[dict[str, Any]]) -> list[Message]:
    """Return `from_fields` of each row, without a call for each."""
    messages = []
    for fields in rows:
        message = _new(Message)
        _set(message, "__dict__", fields)
        messages.append(message)
    return messages


_new, _set = object.__new__, object.__setattr__


def fill(messages: tuple[Message, ...], number: int, position: int) -> list[dict[str, Any]]:
    """Return the fields of messages as stored; those without a reserved id take positions from `position` on."""
    stored = []
    for message in messages:
        key, timestamp = message.id, message.timestamp
        if not key:
            key = id_at(number, position)
            position += 1
        if timestamp:
            clock.not_before(timestamp)  # lists are sorted by it: later updates must be newer
        else:
            timestamp = clock.now()
        stored.append(fields_of(message, key, timestamp))
    return stored


def positions_wanted(messages: tuple[Message, ...], number: int, next_position: int) -> int:
    """Return how many messages have no id yet. Raises ValueError, for it is a bug, for one not from `reserve`."""
    wanted = 0
    for message in messages:
        if not message.id:
            wanted += 1
        elif number_of(message.id) != number or message.id >= id_at(number, next_position):
            raise ValueError("the id of a message that is appended must come from reserve()")
    return wanted
