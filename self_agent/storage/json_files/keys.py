"""Which questions were sent with a key lately: read from the ends of documents, where the last 24 hours are."""

from __future__ import annotations

import threading
from collections import OrderedDict

from core.files import read_at
from self_agent import keys
from self_agent.storage.json_files.lines import CLOSING, Fields, load

MAX_KEYS = 200_000  # remembered over all documents, about 150 bytes each
_FIRST_BLOCK = 1 << 16  # bytes of the end of a document read first; then four times as many, …
_SPARE = 10_000  # keys that may be added to a document's before the old ones among them are left out
_MARK = b'"key":"'  # nowhere else unless in an object of the upstream's: in a text its quotes are escaped


class _Known:
    """The ids of a document's questions by the names of their keys, as far as it has been read."""

    def __init__(self, ids: dict[str, int], end: int) -> None:
        self.ids = ids
        self.end = end  # where the closing was
        self.most = 2 * len(ids) + _SPARE


class Keys:
    """The keys of the documents to which something was sent with a key lately; the caller holds the document's lock."""

    def __init__(self, most: int = MAX_KEYS) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[int, _Known] = OrderedDict()  # by number, least recently used first
        self._most = most
        self.count = 0  # of all documents

    def find(self, number: int, size: int, fd: int, key: str) -> int | None:
        """Return the id of the last message with this key in the last 24 hours, maybe of an older one, or None.

        `size` is in bytes. Only what was appended to the document since the last call is read.
        """
        end = size - len(CLOSING)
        with self._lock:
            known = self._known.pop(number, None)
            self.count -= len(known.ids) if known else 0
        if known is None or len(known.ids) > known.most:
            known = _Known(_of_the_last_day(fd, end), end)
        elif known.end < end:
            known.ids.update(_in_lines(read_at(fd, end - known.end, known.end)))
            known.end = end
        with self._lock:
            self._known[number] = known
            self.count += len(known.ids)
            while self.count > self._most and len(self._known) > 1:
                self.count -= len(self._known.popitem(last=False)[1].ids)
        return known.ids.get(keys.name_of(key))

    def drop(self, number: int) -> None:
        """Forget the keys of a document that was written anew."""
        with self._lock:
            known = self._known.pop(number, None)
            self.count -= len(known.ids) if known else 0


def _of_the_last_day(fd: int, end: int) -> dict[str, int]:
    """Read a document backwards, up to `end`, until a block begins with an older message."""
    found: dict[str, int] = {}
    length, oldest = _FIRST_BLOCK, keys.oldest()
    while end > 0:
        start = max(0, end - length)
        block = read_at(fd, end - start, start)
        first = block.find(b"\n") + 1  # what is before is the header, or a line that begins further in front
        if first:
            found = _in_lines(block[first - 1 :], oldest) | found
            if _row(block, first)["timestamp"] < oldest:
                break
            end = start + first - 1
        if start == 0:
            break
        length *= 4
    return found


def _in_lines(data: bytes, oldest: str = "") -> dict[str, int]:
    """Return the ids of the messages with a key, not older than that, in lines that each follow a line break."""
    found: dict[str, int] = {}
    place = data.find(_MARK)
    while place >= 0:
        start = data.rfind(b"\n", 0, place) + 1
        row = _row(data, start)
        if isinstance(row.get("key"), str) and row["timestamp"] >= oldest:
            found[keys.name_of(row["key"])] = row["id"]
        place = data.find(_MARK, _end(data, start))
    return found


def _row(data: bytes, start: int) -> Fields:
    row: Fields = load(data[start : _end(data, start)].rstrip(b","))
    return row


def _end(data: bytes, start: int) -> int:
    end = data.find(b"\n", start)
    return len(data) if end < 0 else end
