"""Whatever a file's layout, every message that can be read in it survives; nothing here touches a file.

For documents that are not in the line form of `lines`: torn in the middle of an append, edited by hand,
or written by an older version as one whole JSON object, indented or not.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, TypeGuard

from core import clock
from self_agent.models import LOCAL_USER, MAX_NUMBER, MAX_POSITION, SETTABLE, Conversation, Metadata, id_at, position_of
from self_agent.storage.json_files import lines
from self_agent.storage.json_files.lines import CLOSING, ON_DISK, SEPARATOR, TIMESTAMP_LENGTH, Fields, Irregular
from self_agent.storage.rows import is_sound, kinds_of

_KINDS = kinds_of(Conversation)
_NOT_KEPT = frozenset({"messages", "summary", "is_deleted", "deleted_at"})
_JUNK = b" \t\r\0,]}"  # what may stand behind a whole message on its line: a torn closing, zeros of a lost block


class Salvaged(NamedTuple):
    """What could be read of a file; `lost` says that something a person wrote could not.

    `is_whole`: it is a JSON document to its end, so nobody is in the middle of writing it.
    """

    header: Fields
    messages: list[Fields]
    lost: bool
    is_whole: bool


def salvage(data: bytes) -> Salvaged:
    """Read a document in any layout. Raises Irregular when not even its header can be read."""
    try:
        return _whole(_load_leniently(data))
    except (ValueError, RecursionError):
        return _by_lines(data)


def _load_leniently(data: bytes) -> Any:
    try:
        return lines.load(data)
    except Irregular:  # the standard library also takes a byte order mark, NaN and halves of surrogate pairs
        return json.loads(data.decode("utf-8-sig"))


def _whole(document: Any) -> Salvaged:
    messages = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(messages, list):
        raise Irregular
    good = [fields for fields in messages if _is_message(fields)]
    return Salvaged(document, good, lost=len(good) != len(messages) or _is_changed(document, good), is_whole=True)


def _is_changed(document: Fields, messages: list[Fields]) -> bool:
    """Say whether a value must go that somebody wrote; ids are given anew, and nobody misses theirs."""
    if any(not _may_be(name, document[key]) for name, key in ON_DISK.items() if document.get(key, "") != ""):
        return True
    times = [document.get("created_at"), document.get("updated_at"), *(fields.get("timestamp") for fields in messages)]
    if any(time is not None and not clock.normalize_or(time, "") for time in times):
        return True
    named = ((name, value) for fields in messages for name, value in fields.items() if name not in ("id", "timestamp"))
    return any(not is_sound(name, value) for name, value in named)


def _by_lines(data: bytes) -> Salvaged:
    header, end = lines.parse_header(data)
    messages: list[Fields] = []
    bad = lost = False
    for line in data[end + 1 :].split(b"\n"):
        if not line.strip(_JUNK):
            continue
        fields, rest = _start_of(line)
        if fields is None or rest.strip(_JUNK):
            bad = True
        if fields is not None:
            messages.append(fields)
            lost = lost or bad  # a torn append leaves nothing whole behind its tear
    # An editor writes the closing after its mistake; an append that was torn did not get there.
    return Salvaged(header, messages, lost or (bad and data.rstrip().endswith(CLOSING.strip())), is_whole=False)


def _start_of(line: bytes) -> tuple[Fields | None, bytes]:
    """Return the whole message that a line starts with, if any, and what follows it."""
    text = line.decode("utf-8", "replace")
    try:
        fields, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None, line
    return (fields, text[end:].encode()) if _is_message(fields) else (None, line)


def _is_message(fields: Any) -> bool:
    return isinstance(fields, dict) and isinstance(fields.get("role"), str) and isinstance(fields.get("content"), str)


def heading(found: Fields, conversation_id: str, number: int) -> Fields:
    """Return a header with every field there must be; unknown ones are kept."""
    config = found.get("config")
    found = {**found, "model": found.get("model") or (config.get("model") if isinstance(config, dict) else None)}
    values = {name: found.get(key, "") for name, key in ON_DISK.items()}
    settable = {name: value for name, value in values.items() if value != "" and _may_be(name, value)}
    created_at = clock.normalize_or(found.get("created_at"), clock.now())
    user_id = text_or_none(found.get("user_id")) or LOCAL_USER
    updated_at = clock.normalize_or(found.get("updated_at"), created_at)
    header = lines.header_of(conversation_id, number, user_id, settable, created_at, updated_at)
    return header | {key: value for key, value in found.items() if key not in header and key not in _NOT_KEPT}


def _may_be(name: str, value: Any) -> bool:
    """Say whether a settable field of a conversation can have this value in a header."""
    if isinstance(value, list):
        return tuple in _KINDS[name] and all(isinstance(item, str) for item in value)
    if isinstance(value, dict):
        return Metadata in _KINDS[name] and all(isinstance(item, str) for item in value.values())
    return type(value) in _KINDS[name] and (type(value) is not int or value == 0 or is_number(value))


def is_heading(header: Fields, conversation_id: str) -> bool:
    """Say whether a header is as this store writes it for this id."""
    return (
        header.get("conversation_id") == conversation_id
        and is_number(header.get("number"))
        and header["number"] <= MAX_NUMBER
        and text_or_none(header.get("user_id")) is not None
        and all(_may_be(name, header.get(ON_DISK[name], default)) for name, default in SETTABLE.items())
        and all(len(text_or_none(header.get(name)) or "") == TIMESTAMP_LENGTH for name in ("created_at", "updated_at"))
    )


def regular(found: Salvaged, conversation_id: str, number: int) -> list[bytes]:
    """Return the pieces of a document in the line form that holds what was found."""
    header = heading(found.header, conversation_id, number)
    ids = [id_at(number, position) for position in _positions(found.messages)]
    known = {0: 0}  # the id that a message had: what it is now
    for fields, made in zip(found.messages, ids, strict=True):
        if is_number(fields.get("id")):
            known.setdefault(fields["id"], made)
    if isinstance(choice := header.pop("chosen", None), dict):
        header["chosen"] = {name: known.get(value) for name, value in choice.items() if is_number(value)}
    pieces = [lines.header_line(header), b"\n"]
    time = header["created_at"]
    for fields, made in zip(found.messages, ids, strict=True):
        time = clock.normalize_or(fields.get("timestamp"), time)
        row = {**fields, "id": made, "timestamp": time}
        if (parent := row.pop("parent", None)) is not None and is_sound("parent", parent) and parent in known:
            row["parent"] = known[parent]
        pieces += [_line(row), SEPARATOR]
    pieces[-1] = CLOSING if found.messages else CLOSING[1:]
    return pieces if found.messages else [pieces[0], CLOSING]


def _line(fields: Fields) -> bytes:
    ordered = {key: fields.pop(key) for key in ("id", "role", "content", "timestamp")}
    return lines.dump({**ordered, **{name: value for name, value in fields.items() if is_sound(name, value)}})


def _positions(messages: list[Fields]) -> list[int]:
    """Keep the positions of messages that have one of their own, and give the others what follows the last."""
    kept: list[int] = []
    used: set[int] = set()
    for fields in messages:
        found = fields.get("id")
        position = position_of(found) if is_number(found) and found > MAX_POSITION else 0
        kept.append(0 if position in used else position)
        used.add(position)
    top = max(used, default=0)
    if top + kept.count(0) > MAX_POSITION:
        return list(range(1, len(kept) + 1))
    return [position or (top := top + 1) for position in kept]


def is_number(value: Any) -> TypeGuard[int]:
    """Say whether a value can be a number of a conversation, a project or a message."""
    return type(value) is int and 0 < value <= id_at(MAX_NUMBER, MAX_POSITION)


def text_or_none(value: Any) -> str | None:
    """Return a text that says something, or None."""
    return value if isinstance(value, str) and value else None
