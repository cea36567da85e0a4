"""No more of a document is read than was asked for: its tail, a page of its middle, one line."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict

from core.files import read_at
from self_agent.models import Message, position_of
from self_agent.storage.json_files.entry import Entry
from self_agent.storage.json_files.lines import CLOSING, SEPARATOR, find_line, load, visible
from self_agent.storage.rows import from_rows

_SMALL = 1 << 16  # bytes; a file up to this size is read as a whole, which costs less than being clever
_FIRST_BLOCK = 1 << 14  # bytes of the tail read first; then four times as many, …
MAX_LINES = 4_000_000  # whose places are remembered over all documents, 8 bytes each
_BLOCK = 1 << 20
_NEAR = 32  # lines around the expected one in which a message is looked for: replies overtake one another


def latest(entry: Entry, fd: int, limit: int) -> list[Message]:
    """Return the last `limit` messages that are not hidden."""
    if limit <= 0 or entry.count == 0:
        return []
    lines = min(limit + entry.hidden, entry.total)
    end = entry.size - len(CLOSING)
    length = _FIRST_BLOCK
    while True:
        start = end - length if end > length else 0
        block = read_at(fd, end - start, start)
        place = len(block)
        for _ in range(lines):
            place = block.rfind(b"\n", 0, place)
            if place < 0:
                break
        if place >= 0 or start == 0:
            rows = load(b"[%b]" % block[(place if place >= 0 else block.find(b"\n")) + 1 :])
            if entry.hidden:
                rows = [fields for fields in rows if not fields.get("is_deleted")][-limit:]
            return from_rows(rows)
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
        middle = min(position_of(message_id), entry.total)
        start = table[max(0, middle - _NEAR)] - 1
        data = read_at(fd, table[min(entry.total, middle + _NEAR)] - start, start)
    line = find_line(data, message_id)
    if line is None:
        data = whole(entry, fd)
        line = find_line(data, message_id)
    return from_rows([load(data[line[0] : line[1]])])[0] if line else None


def whole(entry: Entry, fd: int) -> bytes:
    """Return a document as bytes."""
    return read_at(fd, entry.size, 0)


# --- where the lines of long documents start


class LineTables:
    """The tables of the documents that were read in the middle lately; the caller holds the document's lock."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self._lock = threading.Lock()
        self._tables: OrderedDict[int, array[int]] = OrderedDict()  # by number, least recently used first
        self.lines = 0  # of all tables
        self._max_lines = max_lines

    def get(self, number: int, fd: int, size: int) -> array[int]:
        """Return the offsets of the lines of a document of `size` bytes: messages, then the closing."""
        with self._lock:
            table = self._tables.get(number)
            if table is not None:
                self._tables.move_to_end(number)
                return table
        table = scan(fd, size)
        with self._lock:
            self._tables[number] = table
            self.lines += len(table)
            while self.lines > self._max_lines and len(self._tables) > 1:
                self.lines -= len(self._tables.popitem(last=False)[1])
        return table

    def extend(self, number: int, start: int, lengths: list[int]) -> None:
        """Add lines that were appended: `start` is where the first begins, `lengths` are without their separators."""
        with self._lock:
            table = self._tables.get(number)
            if table is None:
                return
            table[-1] = start
            for length in lengths:
                table.append(table[-1] + length + len(SEPARATOR))
            table[-1] -= len(SEPARATOR) - 1  # the closing follows a line break alone
            self.lines += len(lengths)

    def drop(self, number: int) -> None:
        """Forget the table of a document that was written anew."""
        with self._lock:
            self.lines -= len(self._tables.pop(number, ()))


def scan(fd: int, size: int) -> array[int]:
    """Return where the lines after the header start; the last of them is the closing."""
    starts = array("Q")
    for offset in range(0, size, _BLOCK):
        block = read_at(fd, min(_BLOCK, size - offset), offset)
        place = block.find(b"\n")
        while place >= 0:
            starts.append(offset + place + 1)
            place = block.find(b"\n", place + 1)
    if starts:
        starts.pop()  # nothing starts after the last line break
    return starts
