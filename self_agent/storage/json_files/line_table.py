"""Where each line of a long document starts, remembered for a bounded number of lines over all documents."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict

from core.files import read_at
from self_agent.storage.json_files.lines import SEPARATOR

MAX_LINES = 4_000_000  # over all documents, 8 bytes each
_BLOCK = 1 << 20


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
        self._keep(number, table)
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

    def _keep(self, number: int, table: array[int]) -> None:
        with self._lock:
            self._tables[number] = table
            self.lines += len(table)
            while self.lines > self._max_lines and len(self._tables) > 1:
                self.lines -= len(self._tables.popitem(last=False)[1])


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
