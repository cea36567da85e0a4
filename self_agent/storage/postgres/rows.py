"""Messages and conversations as rows of their tables, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from self_agent import keys
from self_agent.models import SETTABLE, Conversation, Message, Metadata, Project, id_at
from self_agent.storage.matching import folded
from self_agent.storage.postgres.database import Row
from self_agent.storage.rows import from_rows, row_of

# What can be set on a conversation and has a column, because statements look at it; all else stands in `fields`.
OWN_COLUMNS = ("project_id", "is_draft", "pinned", "archived")
_IN_FIELDS = tuple(name for name in SETTABLE if name not in OWN_COLUMNS)
_KNOWN = ("id", "number", "user_id", "created_at", "updated_at", "count", "first", "summary")
COLUMN_NAMES = (*_KNOWN, *OWN_COLUMNS, "fields")
_PLAIN = COLUMN_NAMES[:-1]
COLUMNS = ", ".join(COLUMN_NAMES)
MESSAGE = "position, created_at, parent, hidden, body"  # columns of a message, as `messages_of` takes them

_NOT_IN_BODY = ("id", "timestamp", "parent", "is_deleted")


def without_nul(text: str) -> str:
    """Return a text that a column can hold; bodies and `fields` are JSON, and hold any."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


# --- conversations


def conversation_of(row: Row) -> Conversation:
    """Return a conversation of its COLUMNS."""
    fields = row[-1]
    made = object.__new__(Conversation)  # as in `storage.rows.from_rows`: half of a list's time would be `__init__`
    made.__dict__.update(zip(_PLAIN, row, strict=False))
    if fields:
        made.__dict__.update(
            (name, _frozen(value)) for name, value in fields.items() if name in SETTABLE
        )  # a default that is missing here is an attribute of the class
    return made


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return Metadata(value) if isinstance(value, dict) else value


def settable_columns(fields: Mapping[str, Any], before: Conversation | None = None) -> dict[str, Any]:
    """Return the columns that some settable fields are kept in; `before` is what the others were."""
    columns = {name: fields[name] for name in OWN_COLUMNS if name in fields}
    if any(name in fields for name in _IN_FIELDS):
        values = {name: fields.get(name, getattr(before, name, SETTABLE[name])) for name in _IN_FIELDS}
        kept = {name: value for name, value in values.items() if value != SETTABLE[name]}
        columns["fields"] = orjson.dumps(kept).decode()
        columns["title_words"] = without_nul(folded(values["title"] or ""))
    return columns


def project_of(row: Row) -> Project:
    """Return a project of its id, name, user and time."""
    return Project(*row)


# --- messages


def body_of(message: Message) -> str:
    """Return what of a message has no column."""
    return body_of_fields(row_of(message, 0, ""))


def body_of_fields(fields: Mapping[str, Any]) -> str:
    """Return what of a message's fields has no column."""
    return orjson.dumps({name: value for name, value in fields.items() if name not in _NOT_IN_BODY}).decode()


def key_of(message: Message) -> str | None:
    """Return under which name a message is found by its key."""
    return without_nul(keys.name_of(message.key)) if message.key else None


def messages_of(number: int, rows: Iterable[Row]) -> list[Message]:
    """Return the messages of their columns, see MESSAGE."""
    return from_rows(fields_of(number, row) for row in rows)


def fields_of(number: int, row: Row) -> dict[str, Any]:
    """Return the fields of a message, those too that only a later version knows."""
    position, created_at, parent, hidden, body = row
    body["id"] = id_at(number, position)
    body["timestamp"] = created_at
    if parent is not None:
        body["parent"] = parent and id_at(number, parent)
    if hidden:
        body["is_deleted"] = True
    fields: dict[str, Any] = body
    return fields
