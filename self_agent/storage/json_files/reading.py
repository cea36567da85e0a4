"""No more of a document is read than was asked for: its tail, a page of its middle, one line."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from core.errors import NotFound
from core.files import read_at
from self_agent.models import Message
from self_agent.storage.base import NO_MESSAGE
from self_agent.storage.json_files.entry import Entry
from self_agent.storage.json_files.lines import CLOSING, Fields, find_line, load, visible
from self_agent.storage.json_files.outline import Outline, Outlines
from self_agent.storage.rows import from_rows

_SMALL = 1 << 16  # bytes; a file up to this size is read as a whole, which costs less than being clever
_FIRST_BLOCK = 1 << 14  # bytes of the tail read first; then four times as many, …


def outline_of(entry: Entry, fd: int, outlines: Outlines) -> Outline:
    """Return where the lines of a document are."""
    return outlines.get(entry.number, fd, entry.size, entry.chosen)


def latest(entry: Entry, fd: int, outlines: Outlines, limit: int, until: int | None = None) -> list[Message]:
    """Return the last `limit` messages of the branch that is shown, or of the one that ends in a message.

    Raises NotFound when there is no such message, or it is deleted.
    """
    if until is not None:
        outline = outline_of(entry, fd, outlines)
        return from_rows(_rows(fd, outline, _last(outline.branch_to(line_of(outline, until)), limit)))
    if limit <= 0 or entry.count == 0:
        return []
    if entry.hidden:
        outline = outline_of(entry, fd, outlines)
        return from_rows(_rows(fd, outline, outline.slice(max(0, outline.count - limit), outline.count)))
    lines = min(limit, entry.total)
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
            return from_rows(load(b"[%b]" % block[(place if place >= 0 else block.find(b"\n")) + 1 :]))
        length *= 4


def page(entry: Entry, fd: int, outlines: Outlines, offset: int, limit: int | None) -> list[Message]:
    """Return messages that are shown, from the `offset`-th on."""
    stop = entry.count if limit is None else min(entry.count, offset + limit)
    if offset >= stop:
        return []
    if not entry.hidden and (entry.size <= _SMALL or stop - offset == entry.total):
        data = whole(entry, fd)
        return visible(data[data.index(b"\n") + 1 : -len(CLOSING)], offset, stop)
    outline = outline_of(entry, fd, outlines)
    return from_rows(_rows(fd, outline, outline.slice(offset, stop)))


def find(entry: Entry, fd: int, outlines: Outlines, message_id: int) -> Message | None:
    """Return a message, deleted or not, or None."""
    if entry.size > _SMALL:
        outline = outline_of(entry, fd, outlines)
        line = outline.line_of(message_id)
        return from_rows(_rows(fd, outline, [range(line, line + 1)]))[0] if line is not None else None
    data = whole(entry, fd)
    span = find_line(data, message_id)
    return from_rows([load(data[span[0] : span[1]])])[0] if span else None


def everything(entry: Entry, fd: int, outlines: Outlines) -> list[Message]:
    """Return the messages of all branches that are not deleted, each with its parent, the end of the shown one last."""
    outline = outline_of(entry, fd, outlines)
    order = list(range(outline.total))
    if order:
        order.append(order.pop(outline.end))
    rows = _rows(fd, outline, [range(outline.total)])
    kept = (line for line in order if not outline.is_deleted(line))
    return from_rows({**rows[line], "parent": _parent_id(outline, line)} for line in kept)


def siblings(entry: Entry, fd: int, outlines: Outlines) -> dict[int, list[int]]:
    """Return the ids of the messages that stand for one another, by the id of each."""
    return outline_of(entry, fd, outlines).siblings()


def whole(entry: Entry, fd: int) -> bytes:
    """Return a document as bytes."""
    return read_at(fd, entry.size, 0)


def line_of(outline: Outline, message_id: int) -> int:
    """Return the line of a message that is not deleted. Raises NotFound."""
    line = outline.line_of(message_id)
    if line is None or outline.is_deleted(line):
        raise NotFound(NO_MESSAGE)
    return line


def _parent_id(outline: Outline, line: int) -> int:
    line = outline.parent_of(line)
    while line >= 0 and outline.is_deleted(line):
        line = outline.parent_of(line)
    return outline.ids[line] if line >= 0 else 0


def _last(runs: Sequence[range], limit: int) -> list[range]:
    """Return the last `limit` lines of some runs."""
    chosen: list[range] = []
    for run in reversed(runs):
        if limit <= 0:
            break
        chosen.append(run[-limit:])
        limit -= len(run)
    return chosen[::-1]


def _rows(fd: int, outline: Outline, runs: Sequence[range]) -> list[Fields]:
    return outline.rows(partial(read_at, fd), runs)
