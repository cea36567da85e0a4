"""A message as a row of plain values: what its dataclass says is all that a store needs to know of its fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from operator import attrgetter
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from core import clock
from core.errors import NotFound, StorageError
from self_agent.models import MAX_NUMBER, MAX_POSITION, SETTABLE, Conversation, Message, id_at, number_of
from self_agent.storage.base import FULL, NO_PROJECT, Change

REQUIRED = ("id", "role", "content", "timestamp")  # what every row has, in this order


def kinds_of(cls: type) -> dict[str, set[type]]:
    """Return the types that a value of each field of a dataclass may have."""
    return {name: _kinds(hint) for name, hint in get_type_hints(cls).items()}


def _kinds(hint: Any) -> set[type]:
    is_union = get_origin(hint) in (Union, UnionType)
    return {get_origin(kind) or kind for kind in (get_args(hint) if is_union else (hint,))}


def check_settable(changes: Mapping[str, Any]) -> None:
    """Raise TypeError, for it is a bug, when one of these fields of a conversation cannot be set.

    Raises NotFound for a project's id that no project can have: no file could hold it.
    """
    if unknown := changes.keys() - SETTABLE.keys():
        raise TypeError(f"what cannot be set on a conversation: {', '.join(sorted(unknown))}")
    if not 0 <= changes.get("project_id", 0) <= MAX_NUMBER:
        raise NotFound(NO_PROJECT)


_KINDS = kinds_of(Message)
_OPTIONAL = tuple(name for name in _KINDS if name not in REQUIRED)
_FACTORIES = {item.name: item.default_factory for item in fields(Message) if item.default_factory is not MISSING}
_optional_of = attrgetter(*_OPTIONAL)
_DEFAULTS = _optional_of(Message("", ""))


def is_as_expected(conversation: Conversation, expect: Mapping[str, Any] | None) -> bool:
    """Say whether a conversation has these values in these of its fields."""
    return not expect or all(getattr(conversation, name) == value for name, value in expect.items())


def row_of(message: Message, message_id: int, timestamp: str) -> dict[str, Any]:
    """Return what is stored of a message under this id; what it does not have is left out."""
    row = {"id": message_id, "role": message.role, "content": message.content, "timestamp": timestamp}
    values = _optional_of(message)
    if values != _DEFAULTS:  # most messages have none of these
        row.update(
            (name, value) for name, value, default in zip(_OPTIONAL, values, _DEFAULTS, strict=True) if value != default
        )
    return row


def is_sound(name: str, value: Any) -> bool:
    """Say whether a message may have this value in a field: what is none of ours may be anything."""
    kinds = _KINDS.get(name)
    return kinds is None or type(value) in kinds


def from_rows(rows: Iterable[dict[str, Any]]) -> list[Message]:
    """Return `Message(**row)` of each row, in an eighth of the time; what a row lacks has its default.

    The `__init__` of a frozen dataclass sets each field through `object.__setattr__`: 1.6 µs a message more, for a
    page of 20 messages 8 % of the whole request.
    """
    if _FACTORIES:
        rows = ({**{name: make() for name, make in _FACTORIES.items()}, **row} for row in rows)
    new, messages = object.__new__, []
    for row in rows:
        message = new(Message)
        message.__dict__.update(row)  # a default that is missing here is an attribute of the class
        messages.append(message)
    return messages


def edited(message: Message, change: Change) -> Message:
    """Return what `change` makes of a message. Raises ValueError, for it is a bug, where it made another of it."""
    after = change(message)
    if (after.id, after.role, after.timestamp) != (message.id, message.role, message.timestamp):
        raise ValueError("an edit keeps the id, the role and the timestamp of its message")
    return after


def hidden(message: Message) -> Message:
    """Return a message as deleted."""
    return replace(message, is_deleted=True)


def with_message(row: dict[str, Any], message: Message) -> dict[str, Any]:
    """Return the row of a message that has changed; fields that only a later version knows are kept."""
    unknown = {name: value for name, value in row.items() if name not in _KINDS}
    return row_of(message, message.id, message.timestamp) | unknown


def fill(messages: Iterable[Message], number: int, position: int) -> list[dict[str, Any]]:
    """Return the rows of messages as stored; those without a reserved id take positions from `position` on."""
    rows = []
    for message in messages:
        message_id, timestamp = message.id, message.timestamp
        if not message_id:
            message_id = id_at(number, position)
            position += 1
        if timestamp:
            clock.not_before(timestamp)  # lists are sorted by it: later updates must be newer
        else:
            timestamp = clock.now()
        rows.append(row_of(message, message_id, timestamp))
    return rows


def numbered(messages: Sequence[Message], number: int) -> list[Message]:
    """Return the messages of a new conversation with ids of their own; their `parent`s name those that they had.

    Raises StorageError when there are too many, ValueError, for it is a bug, for a parent that is not before its child.
    """
    next_after(1, len(messages))
    known, last, result = {0: 0}, 0, []
    for position, message in enumerate(messages, 1):
        if message.parent is not None and message.parent not in known:
            raise ValueError("the parent of a message must come before it")
        parent = None if message.parent is None else known[message.parent]
        made = id_at(number, position)
        result.append(replace(message, id=made, parent=None if parent == last else parent))
        known[message.id or made] = last = made
    return result


def place_of(name: int, messages: Sequence[Message]) -> int:
    """Return where a message is that is named so. Raises ValueError, for it is a bug, when there is none."""
    return [message.id for message in messages].index(name)


def next_after(position: int, count: int) -> int:
    """Return the next free position when `count` were taken. Raises StorageError when there are not so many."""
    if position + count - 1 > MAX_POSITION:
        raise StorageError(FULL)
    return position + count


def positions_wanted(messages: Iterable[Message], number: int, next_position: int) -> int:
    """Return how many messages have no id yet. Raises ValueError, for it is a bug, for one not from `reserve`."""
    wanted = 0
    for message in messages:
        if not message.id:
            wanted += 1
        elif number_of(message.id) != number or message.id >= id_at(number, next_position):
            raise ValueError("the id of a message that is appended must come from reserve()")
    return wanted
