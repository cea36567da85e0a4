"""A chat as this server writes it down: all that is stored, branches too, without the numbers that only a store has.

    {"format":"self_agent","version":1,"conversation_id":…,"title":…,…,"shown":3,"messages":[
    {"id":1,"parent":0,"role":"user","content":…,"timestamp":…}, …]}

An export is a list of these, a chat a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from self_agent.models import ROLES, SETTABLE, Conversation, Message, Metadata
from self_agent.storage.json_files.folder import valid_id
from self_agent.storage.rows import is_sound, kinds_of, row_of
from self_agent.transfer.chats import (
    Chat,
    Group,
    NotAChat,
    counted,
    moment,
    names_of,
    storable,
    title_of,
    words,
)  # fmt: skip

SOURCE = "self_agent"
VERSION = 1

_OF_STORE = frozenset({"project_id", "is_draft"})  # numbers and states that mean nothing elsewhere
_PORTABLE = [name for name in SETTABLE if name not in _OF_STORE]
_KINDS = kinds_of(Conversation)
_PLAIN = ("id", "parent", "role", "content", "timestamp")
_MORE = [item.name for item in fields(Message) if item.name not in (*_PLAIN, "is_deleted", "key")]


# --- out


def record(
    conversation: Conversation,
    messages: Sequence[Message],
    shown: int,
    *,
    project: str | None = None,
    folders: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a conversation as an object; `messages` are all there are, each with its parent, `shown` the last shown.

    Messages are named by their places, from 1.
    """
    places = {message.id: place for place, message in enumerate(messages, 1)}
    return {
        "format": SOURCE,
        "version": VERSION,
        "conversation_id": conversation.id,
        **{name: getattr(conversation, name) for name in _PORTABLE},
        "created_at": conversation.created_at,
        "updated_at": conversation.updated_at,
        "project": project,
        "folders": list(folders),
        "tags": list(tags),
        "shown": places.get(shown, 0),
        "messages": [_row(message, places) for message in messages],
    }


def _row(message: Message, places: Mapping[int, int]) -> dict[str, Any]:
    place = places[message.id]
    row = row_of(message, place, message.timestamp)
    row.pop("parent", None)
    row.pop("key", None)  # of a send that cannot be repeated elsewhere
    return {"id": row.pop("id"), "parent": places.get(message.parent or 0, 0), **row}


# --- in


def is_one(document: dict[str, Any]) -> bool:
    """Say whether a document has the shape of this format."""
    return document.get("format") == SOURCE and isinstance(document.get("messages"), list)


def parse(document: dict[str, Any]) -> Chat:
    """Read a chat. Raises NotAChat for one that no version of this server has written."""
    version = document.get("version")
    if type(version) is not int or not 0 < version <= VERSION:
        raise NotAChat(f"it is of version {str(version)[:20]}; this server reads up to {VERSION}: update it")
    notes: list[str] = []
    key = words(document.get("conversation_id"))
    messages, shown = _messages(document["messages"], document.get("shown"), notes)
    return Chat(
        source=SOURCE,
        key=key,
        wanted_id=valid_id(key),
        messages=messages,
        shown=shown,
        created_at=moment(document.get("created_at")),
        updated_at=moment(document.get("updated_at")),
        fields={**_settable(document), "title": title_of(document.get("title"), notes)},
        project=title_of(document.get("project"), notes),
        groups=tuple(map(Group, names_of(document.get("folders")))),
        tags=names_of(document.get("tags")),
        notes=tuple(notes),
    )


def _settable(document: dict[str, Any]) -> dict[str, Any]:
    found = {name: _of_kind(name, document[name]) for name in _PORTABLE if name in document}
    found = {name: value for name, value in found.items() if type(value) in _KINDS[name]}
    return {name: words(value) if isinstance(value, str) else value for name, value in found.items()}


def _of_kind(name: str, value: Any) -> Any:
    """Return a value as its field has it, where JSON knows no such kind."""
    if isinstance(value, dict) and Metadata in _KINDS[name]:
        return Metadata({words(key): words(word) for key, word in value.items() if isinstance(word, str)})
    return value


def _messages(rows: list[Any], shown: Any, notes: list[str]) -> tuple[list[Message], int]:
    messages: list[Message] = []
    places: dict[Any, int] = {}
    time = ""
    missing = 0
    for place, row in enumerate(rows, 1):
        role = row.get("role") if isinstance(row, dict) else None
        if role not in ROLES or not isinstance(row.get("content"), str):
            raise NotAChat(f"message {place} is not a role ({', '.join(sorted(ROLES))}) with a text")
        name, parent = row.get("id", place), row.get("parent", place - 1)
        if not isinstance(name, (int, str)) or name in places:
            raise NotAChat(f"message {place} has an id that is none, or that another message has")
        if not isinstance(parent, (int, str)) or (parent not in places and parent != 0):
            missing += 1
            parent = 0
        time = moment(row.get("timestamp")) or time
        places[name] = place
        more = {field: _value(row[field]) for field in _MORE if field in row and is_sound(field, row[field])}
        found = Message(role, words(row["content"]), id=place, timestamp=time, **more)
        messages.append(replace(found, parent=places.get(parent, 0), edited_at=moment(found.edited_at) or None))
    notes += counted(missing, "messages whose parent is missing begin anew")
    is_known = isinstance(shown, (int, str)) and shown in places
    return messages, places[shown] if is_known else len(messages)


def _value(value: Any) -> Any:
    return words(value) if isinstance(value, str) else storable(value)
