"""Ways in which a file goes bad: a disk's, a crash's, an editor's and a person's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Damage = Callable[[bytes], bytes]  # of a document

PIECES = [
    b"\n", b",\n", b"\n]}\n", b"{", b"}", b"[", b"]", b'"', b",", b"\0" * 512, b"\xff", b"\xef\xbb\xbf", b"\r\n",
    b"null", b"[" * 2000, b'{"a":' * 2000, b"<<<<<<< HEAD\n", b'{"id":1}\n', b"9" * 5000, b"1e999", b"NaN",
    b'"\\ud800"',
    b'\n{"id":1048577,"role":"user","content":"again","timestamp":"2025-04-30T10:00:01.000000Z"},\n',
]  # fmt: skip
HEADER_FIELDS = [
    "conversation_id", "number", "user_id", "name", "system_prompt", "model", "project_id", "created_at", "updated_at",
    "is_deleted", "config", "later",
]  # fmt: skip
MESSAGE_FIELDS = [
    "id", "role", "content", "timestamp", "model", "incomplete", "error", "reasoning", "sources", "usage", "edited_at",
    "is_deleted", "later",
]  # fmt: skip
TIMES = [
    "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z", "0025-04-30T10:00:01Z", "9999-12-31T23:59:59-10:00",
    "0001-01-01T00:00:00+10:00", "2025-13-45T99:99:99.000000Z", "x" * 26 + "Z", "x" * 27, "2025-04-30",
]  # fmt: skip
DEEP: Any = json.loads("[" * 400 + "]" * 400)

ODD = [None, True, 5, -1, 2**64, 10**400, 1.5, float("nan"), "", "\ud800", [], {}, [[]], DEEP, [*"x" * 26, "Z"], *TIMES]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.sampled_from([0, -1, 1, 7, 1 << 20, (1 << 20) - 1, (2 << 20) - 1, 1 << 33, (1 << 53) - 1, 2**64, 10**400])
    | st.sampled_from(TIMES)
    | st.text(st.characters(), max_size=8)
    | st.just([*"x" * 26, "Z"])
    | st.just(DEEP),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
PLACES = st.floats(0, 1, exclude_max=True)  # in a file, whatever its length


def _flip(place: float, bit: int) -> Damage:
    def flip(data: bytes) -> bytes:
        at = int(place * len(data))
        return data[:at] + bytes(byte ^ 1 << bit for byte in data[at : at + 1]) + data[at + 1 :]

    return flip


def _splice(place: float, length: int, piece: bytes) -> Damage:
    def splice(data: bytes) -> bytes:
        at = int(place * len(data))
        return data[:at] + piece + data[at + length :]

    return splice


def _cut(place: float) -> Damage:
    return lambda data: data[: int(place * len(data))]


def _repeat(start: float, end: float, to: float) -> Damage:
    def repeat(data: bytes) -> bytes:
        block = data[int(start * len(data)) : int(end * len(data))]
        at = int(to * len(data))
        return data[:at] + block + data[at:]

    return repeat


def _swap_lines(one: float, other: float) -> Damage:
    def swap(data: bytes) -> bytes:
        lines = data.split(b"\n")
        i, j = int(one * len(lines)), int(other * len(lines))
        lines[i], lines[j] = lines[j], lines[i]
        return b"\n".join(lines)

    return swap


def _join_lines(place: float) -> Damage:
    def join(data: bytes) -> bytes:
        lines = data.split(b"\n")
        at = int(place * len(lines))
        return b"\n".join([*lines[:at], b"".join(lines[at : at + 2]), *lines[at + 2 :]])

    return join


def set_field(place: float, field: str, value: Any) -> Damage:
    """Set a field of the object in some line, leaving the line form intact."""

    def change(data: bytes) -> bytes:
        lines = data.split(b"\n")
        at = int(place * len(lines))
        head, opening, _ = lines[at].partition(b',"messages": [')
        text = head + b"}" if opening else lines[at].removesuffix(b",")
        try:
            fields = {**json.loads(text), field: value}
            changed = json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode()
        except (ValueError, TypeError, RecursionError):
            return data
        lines[at] = changed[:-1] + opening if opening else changed + lines[at][len(text) :]
        return b"\n".join(lines)

    return change


def damages() -> st.SearchStrategy[list[Damage]]:
    """Return one to three things that happened to a document."""
    fields = st.sampled_from(HEADER_FIELDS + MESSAGE_FIELDS)
    pieces = st.sampled_from(PIECES) | st.binary(max_size=8)
    one = (
        st.builds(_flip, PLACES, st.integers(0, 7))
        | st.builds(_splice, PLACES, st.integers(0, 200), pieces)
        | st.builds(_splice, PLACES, st.just(0), pieces)
        | st.builds(_cut, PLACES)
        | st.builds(_repeat, PLACES, PLACES, PLACES)
        | st.builds(_swap_lines, PLACES, PLACES)
        | st.builds(_join_lines, PLACES)
        | st.builds(set_field, st.just(0.0) | PLACES, fields, VALUES)
        | st.builds(set_field, st.just(0.0), st.sampled_from(HEADER_FIELDS), VALUES)
    )
    return st.lists(one, min_size=1, max_size=3)
