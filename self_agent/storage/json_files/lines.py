"""One document as bytes: a header line, one message a line, a closing; nothing here touches a file.

    {"conversation_id":…,…,"messages": [
    {"id":…,"role":…,"content":…,"timestamp":…},
    {"id":…,"role":…,"content":…,"timestamp":…}
    ]}

JSON escapes line breaks inside strings, so a line break in the bytes always ends a line of the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from self_agent.models import SETTABLE, Message, first_of, number_of, position_of, summary_of
from self_agent.storage.rows import from_rows, is_sound

OPENING = b',"messages": ['
CLOSING = b"\n]}\n"
SEPARATOR = b",\n"

Fields = dict[str, Any]

_REQUIRED = 4  # fields that every message has
_PIECE = 1 << 20  # bytes parsed at once: a long conversation never stands in memory as objects as a whole
TIMESTAMP_LENGTH = len("2025-04-30T10:00:01.000000Z")
_DEEPEST = 100  # levels of lists and objects that are written; orjson itself gives up at 254
_FEW = 8  # messages that are looked for one by one; more are found in one pass over the document
_LINE = re.compile(rb'\n(\{"id":(\d+),)')


ON_DISK = {name: "name" if name == "title" else name for name in SETTABLE}  # in the header


class Irregular(ValueError):
    """Raised when bytes are not a document in the line form: torn, edited by hand, or older."""


class Facts(NamedTuple):
    """What the catalog keeps of a document's messages."""

    total: int = 0  # with the hidden ones
    hidden: int = 0
    next_position: int = 1
    first: str = ""
    summary: str = ""
    last_timestamp: str = ""
    has_branches: bool = False  # then `hidden`, `first` and `summary` are those of all branches together


# --- writing


def header_of(
    conversation_id: str, number: int, user_id: str, settable: Mapping[str, Any], created_at: str, updated_at: str
) -> Fields:
    """Return a header; what is not in `settable` has its default."""
    return {
        "conversation_id": conversation_id,
        "number": number,
        "user_id": user_id,
        **{ON_DISK[name]: settable.get(name, default) for name, default in SETTABLE.items()},
        "created_at": created_at,
        "updated_at": updated_at,
    }


def header_line(header: Mapping[str, Any]) -> bytes:
    """Return the first line, without its line break."""
    return dump(dict(header))[:-1] + OPENING


def ending(lines: Iterable[bytes], *, first: bool) -> bytes:
    """Return what takes the place of the closing when `lines` are appended (`first`: to none)."""
    return (b"\n" if first else SEPARATOR) + SEPARATOR.join(lines) + CLOSING


def dump(value: Any) -> bytes:
    """Return JSON; what JSON cannot hold is replaced, for a reply must not be lost to one odd character."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_representable(value))


def _representable(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        return None
    if isinstance(value, dict):
        return {_representable(str(key)): _representable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_representable(item, depth + 1) for item in value]
    if isinstance(value, str):  # joins halves of surrogate pairs, which some models send one by one
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return float(value) if abs(value) < 1 << 1023 else None
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


# --- reading


def parse_header(data: bytes) -> tuple[Fields, int]:
    """Return the header and where its line ends. Raises Irregular."""
    end = data.find(b"\n")
    if end < 0 or not data.endswith(OPENING, 0, end):
        raise Irregular
    header = load(data[: end - len(OPENING)] + b"}")
    if not isinstance(header, dict):
        raise Irregular
    return header, end


def parse_body(body: bytes) -> Iterator[Fields]:
    """Yield the fields of the messages of whole lines, without the closing. Raises Irregular."""
    start = 0
    while start < len(body):
        end = body.find(SEPARATOR, start + _PIECE)
        end = len(body) if end < 0 else end
        yield from load(b"[%b]" % body[start:end])
        start = end + len(SEPARATOR)


def load(data: bytes) -> Any:
    """Parse JSON. Raises Irregular."""
    try:
        return orjson.loads(data)
    except ValueError as error:
        raise Irregular from error


def visible(body: bytes, start: int = 0, stop: int | None = None) -> list[Message]:
    """Return the messages of some lines without the hidden ones, from the `start`-th of these on."""
    shown = [fields for fields in parse_body(body) if not fields.get("is_deleted")]
    return from_rows(shown[start:stop])


def survey(data: bytes, number: int, header_end: int) -> Facts:
    """Check that a document is as this store writes it and learn what the catalog needs. Raises Irregular."""
    if not data.endswith(CLOSING):
        raise Irregular
    body = data[header_end + 1 : -len(CLOSING)]
    ids: set[int] = set()
    total = hidden = top = 0
    has_branches = False
    first = summary = last = role = ""
    for row in parse_body(body):
        if not is_regular(row, number):
            raise Irregular
        total += 1
        ids.add(row["id"])
        if row["id"] > top:
            top, role = row["id"], row["role"]
        if row["timestamp"] > last:
            last = row["timestamp"]
        if len(row) > _REQUIRED:
            has_branches = has_branches or "parent" in row
            if row.get("is_deleted"):
                hidden += 1
                continue
        summary = row["content"]
        first = first or first_of(row["role"], row["content"])
    starts = body.count(b'\n{"id":') + body.startswith(b'{"id":')
    if not starts == len(ids) == total == body.count(b"\n") + bool(body):
        raise Irregular
    reserved = role == "user"  # its reply's id may have been announced before a crash cut the reply off
    return Facts(total, hidden, position_of(top) + 1 + reserved, first, summary_of(summary), last, has_branches)


def is_regular(fields: Any, number: int) -> bool:
    """Say whether a message is as this store writes it."""
    try:
        return (
            type(fields["id"]) is int
            and number_of(fields["id"]) == number
            and type(fields["role"]) is str
            and type(fields["content"]) is str
            and type(fields["timestamp"]) is str
            and len(fields["timestamp"]) == TIMESTAMP_LENGTH
            and fields["timestamp"][-1] == "Z"
            and (len(fields) == _REQUIRED or all(is_sound(*field) for field in fields.items()))
        )
    except (KeyError, TypeError):
        return False


# --- changing single lines of a document without parsing the others


def find_line(data: bytes, message_id: int) -> tuple[int, int] | None:
    """Return where the line of a message starts and ends, without its comma, or None."""
    start = data.find(b'\n{"id":%d,' % message_id) + 1
    return _line_at(data, start) if start else None


def _line_at(data: bytes, start: int) -> tuple[int, int]:
    end = data.index(b"\n", start)
    return start, end - data.startswith(b",", end - 1)


def find_lines(data: bytes, message_ids: list[int]) -> list[tuple[int, int]]:
    """Return where the lines of messages start and end; those that are not there are left out."""
    if len(message_ids) <= _FEW:
        return [span for message_id in message_ids if (span := find_line(data, message_id))]
    wanted = frozenset(message_ids)
    return [_line_at(data, m.start(1)) for m in _LINE.finditer(data) if int(m[2]) in wanted]


def with_lines(data: bytes, lines: Mapping[tuple[int, int], bytes]) -> bytes:
    """Return a document in which the bytes of some lines are others."""
    view = memoryview(data)
    pieces: list[bytes | memoryview] = []
    done = 0
    for (start, end), line in sorted(lines.items()):
        pieces += [view[done:start], line]
        done = end
    return b"".join([*pieces, view[done:]])
