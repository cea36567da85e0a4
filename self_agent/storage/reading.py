"""No more of a document is read than was asked for: its tail, a page of its middle, one line."""

from __future__ import annotations

from core.files import read_at
from self_agent.models import MAX_POSITION, Message
from self_agent.storage.catalog import Entry
from self_agent.storage.document import CLOSING, SEPARATOR, find_line, load, visible
from self_agent.storage.filling import from_fields
from self_agent.storage.line_table import LineTables

_SMALL = 1 << 16  # bytes; a file up to this size is read as a whole, which costs less than being clever
_FIRST_BLOCK = 1 << 14  # bytes of the tail read first; then four times as many, …
_NEAR = 32  # lines around the expected one in which a message is looked for: replies overtake one another


def latest(entry: Entry, fd: int, limit: int) -> list[Message]:
    """Return the last `limit` messages that are not hidden."""
    if limit <= 0 or entry.count == 0:
        return []
    end = entry.size - len(CLOSING)
    length = _FIRST_BLOCK
    while True:
        start = max(0, end - length)
        block = read_at(fd, end - start, start)
        lines = block.rsplit(b"\n", limit + entry.hidden)  # the first is the rest, or where there is none, the header
        if start == 0 or len(lines) > limit + entry.hidden:
            return visible(block[len(lines[0]) + 1 :])[-limit:]
        length *= 4


def page(entry: Entry, fd: int, tables: LineTables, offset: int, limit: int | None) -> list[Message]:
    """Return messages that are not hidden, from the `offset`-th on."""
    stop = entry.count if limit is None else min(entry.count, offset + limit)
    if offset >= stop:
        return []
    if entry.hidden or entry.size <= _SMALL or stop - offset == entry.total:
        data = whole(entry, fd)
        return visible(data[data.index(b"\n") + 1 : -len(CLOSING)], offset, stop)
    table = tables.get(entry.number, fd, entry.size)
    return visible(read_at(fd, table[stop] - table[offset], table[offset]).rstrip(SEPARATOR))


def find(entry: Entry, fd: int, tables: LineTables, message_id: int) -> Message | None:
    """Return a message, hidden or not, or None."""
    data = b""
    if entry.size > _SMALL:  # a line is mostly where its position says
        table = tables.get(entry.number, fd, entry.size)
        middle = min(message_id & MAX_POSITION, entry.total)
        start = table[max(0, middle - _NEAR)] - 1
        data = read_at(fd, table[min(entry.total, middle + _NEAR)] - start, start)
    line = find_line(data, message_id)
    if line is None:
        data = whole(entry, fd)
        line = find_line(data, message_id)
    return from_fields(load(data[line[0] : line[1]])) if line else None


def whole(entry: Entry, fd: int) -> bytes:
    """Return a document as bytes."""
    return read_at(fd, entry.size, 0)
