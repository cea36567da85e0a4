"""Where the lines of a document are and which are shown: needed of long documents, and of those with branches."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from core.files import read_at
from self_agent.models import first_of, summary_of
from self_agent.storage.branches import BEGINNING, alternatives, branch_to, end_of, without
from self_agent.storage.json_files.keys import Keys
from self_agent.storage.json_files.lines import SEPARATOR, Fields, load, parse_body

MAX_LINES = 2_000_000  # whose places are remembered over all documents, 16 bytes each
_ID = len(b'{"id":')
_NEAR = 1 << 16  # bytes that are read at once
_FEW = 16  # lines that are read to find out how a conversation begins; then four times as many, …

Read = Callable[[int, int], bytes]


class Outline:
    """The lines of one document: their places and ids, which follow not the one before them, which are deleted."""

    def __init__(self, data: bytes, chosen: int = 0) -> None:
        """`chosen` is the id of the message that ends the shown branch; 0: the last one does."""
        self.starts = array("Q")  # of the lines, then of the closing
        place = data.find(b"\n")
        while place >= 0:
            self.starts.append(place + 1)
            place = data.find(b"\n", place + 1)
        self.starts.pop()  # nothing starts after the last line break
        self.ids = array("Q", (int(data[start + _ID : data.index(b",", start)]) for start in self.starts[:-1]))
        self.chosen = chosen
        self.parents: dict[int, int] = {}  # see `storage.branches`
        for line, row in self._rows_with(data, b'"parent":'):
            self._add_parent(line, row.get("parent"))
        self.deleted = [line for line, row in self._rows_with(data, b'"is_deleted":') if row.get("is_deleted")]
        self._shown: list[range] | None = None
        self._counts: list[int] = []

    def _rows_with(self, data: bytes, mark: bytes) -> Iterator[tuple[int, Fields]]:
        """Yield the lines that have these bytes, parsed: they may be a part of something else."""
        place = data.find(mark, self.starts[0])
        while place >= 0:
            line = bisect_right(self.starts, place) - 1
            yield line, load(data[self.starts[line] : self.starts[line + 1]].rstrip(SEPARATOR))
            place = data.find(mark, self.starts[line + 1])

    def _add_parent(self, line: int, parent: object) -> None:
        """Note what a line follows; what is not before it, for somebody edited it by hand, counts for nothing."""
        if type(parent) is not int:
            return
        above = self.line_of(parent) if parent else BEGINNING
        if above is not None and above < line - 1:
            self.parents[line] = above

    # --- lines

    @property
    def total(self) -> int:
        """How many lines there are."""
        return len(self.ids)

    @property
    def end(self) -> int:
        """The line that ends the shown branch."""
        line = self.line_of(self.chosen) if self.chosen else None
        return self.total - 1 if line is None else line

    def line_of(self, message_id: int) -> int | None:
        """Return the line of a message, or None."""
        guess = bisect_left(self.ids, message_id)  # ids mostly rise
        if guess < self.total and self.ids[guess] == message_id:
            return guess
        try:
            return self.ids.index(message_id)
        except (ValueError, OverflowError):
            return None

    def is_deleted(self, line: int) -> bool:
        """Say whether the message on a line is deleted."""
        place = bisect_left(self.deleted, line)
        return place < len(self.deleted) and self.deleted[place] == line

    def parent_of(self, line: int) -> int:
        """Return the line that a line follows, or BEGINNING."""
        return self.parents.get(line, line - 1)

    def branch_to(self, line: int) -> list[range]:
        """Return the branch that ends in a line, without what is deleted."""
        return without(branch_to(self.parents, line), self.deleted)

    def end_of(self, line: int) -> int:
        """Return the newest line that a branch through `line` leads to."""
        return end_of(self.parents, self.total, line)

    def siblings(self) -> dict[int, list[int]]:
        """Return the ids of the messages that stand for one another, by the id of each."""
        groups = ([n for n in lines if not self.is_deleted(n)] for lines in alternatives(self.parents, self.total))
        named = [[self.ids[line] for line in lines] for lines in groups if len(lines) > 1]
        return {message_id: ids for ids in named for message_id in ids}

    # --- what is shown

    @property
    def shown(self) -> list[range]:
        """The lines that are shown."""
        if self._shown is None:
            self._shown = self.branch_to(self.end)
            self._counts = list(accumulate(map(len, self._shown)))
        return self._shown

    @property
    def count(self) -> int:
        """How many lines are shown."""
        return self._counts[-1] if self.shown else 0

    def slice(self, offset: int, stop: int) -> list[range]:
        """Return the `offset`-th to the `stop`-th of the lines that are shown."""
        runs = []
        place = bisect_right(self._counts, offset) if self.shown else 0
        before = self._counts[place - 1] if place else 0
        for run in self.shown[place:]:
            if before >= stop:
                break
            runs.append(run[max(0, offset - before) : stop - before])
            before += len(run)
        return runs

    # --- what stands there; `read(size, start)` returns bytes of the document

    def rows(self, read: Read, runs: Iterable[range]) -> list[Fields]:
        """Return the fields of the messages on some lines, which rise."""
        starts = self.starts
        spans = [(starts[run.start], starts[run.stop]) for run in runs]
        if not spans:
            return []
        first, last = spans[0][0], spans[-1][1]
        if last - first > _NEAR:
            bodies = (read(stop - start, start).rstrip(SEPARATOR) for start, stop in spans)
            return list(parse_body(SEPARATOR.join(bodies)))
        data = read(last - first, first)  # one call costs more than what lies between
        bodies = (data[start - first : stop - first] for start, stop in spans)
        rows: list[Fields] = load(b"[%b]" % b"".join(bodies).rstrip(SEPARATOR))
        return rows

    def names(self, read: Read) -> tuple[str, str]:
        """Return what the messages that are shown give to lists: `first` and `summary`."""
        first, start, size = "", 0, _FEW
        while not first and start < self.count:
            rows = self.rows(read, self.slice(start, start + size))
            first = next(filter(None, (first_of(row["role"], row["content"]) for row in rows)), "")
            start, size = start + size, size * 4
        last = self.rows(read, self.slice(max(0, self.count - 1), self.count))
        return first, summary_of(last[0]["content"]) if last else ""

    # --- growing

    def extend(self, start: int, lengths: Sequence[int], rows: Sequence[Fields]) -> None:
        """Add lines that were appended; `start` is where the first begins, `lengths` are without their separators."""
        before = self.total
        self.starts[-1] = start
        for length in lengths:
            self.starts.append(self.starts[-1] + length + len(SEPARATOR))
        self.starts[-1] -= len(SEPARATOR) - 1  # the closing follows a line break alone
        is_plain = not self.chosen
        for line, row in enumerate(rows, before):
            self.ids.append(row["id"])
            self._add_parent(line, row.get("parent"))
            if row.get("is_deleted"):
                self.deleted.append(line)
            is_plain = is_plain and line not in self.parents and not row.get("is_deleted")
        self.chosen = 0
        if not is_plain:
            self._shown = None
        elif self._shown is not None:
            run = range(before, self.total)
            if self._shown and self._shown[-1].stop == before:
                run = range(self._shown.pop().start, self.total)
                self._counts.pop()
            self._shown.append(run)
            self._counts.append((self._counts[-1] if self._counts else 0) + len(run))


class Outlines:
    """The outlines of the documents that were read in the middle lately; the caller holds the document's lock."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self._lock = threading.Lock()
        self._outlines: OrderedDict[int, Outline] = OrderedDict()  # by number, least recently used first
        self.lines = 0  # of all outlines
        self._max_lines = max_lines
        self.keys = Keys()  # of the same documents

    def get(self, number: int, fd: int, size: int, chosen: int = 0) -> Outline:
        """Return the outline of a document of `size` bytes."""
        with self._lock:
            outline = self._outlines.get(number)
            if outline is not None:
                self._outlines.move_to_end(number)
                return outline
        outline = Outline(read_at(fd, size, 0), chosen)
        with self._lock:
            self._outlines[number] = outline
            self.lines += outline.total + 1
            while self.lines > self._max_lines and len(self._outlines) > 1:
                self.lines -= self._outlines.popitem(last=False)[1].total + 1
        return outline

    def extend(self, number: int, start: int, lengths: Sequence[int], rows: Sequence[Fields]) -> None:
        """Add lines that were appended to a document; see `Outline.extend`."""
        with self._lock:
            if outline := self._outlines.get(number):
                outline.extend(start, lengths, rows)
                self.lines += len(rows)

    def drop(self, number: int) -> None:
        """Forget the outline of a document that was written anew, and its keys."""
        self.keys.drop(number)
        with self._lock:
            if outline := self._outlines.pop(number, None):
                self.lines -= outline.total + 1
