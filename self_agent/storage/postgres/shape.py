"""Which messages of a conversation follow not the one before them, which are hidden, and so which are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from self_agent.models import first_of, summary_of
from self_agent.storage.branches import BEGINNING, branch_to, without
from self_agent.storage.matching import folded
from self_agent.storage.postgres.database import Params, Row
from self_agent.storage.postgres.rows import without_nul

_FEW = 16  # messages that are read to find out how a conversation begins; then four times as many, …


class Asked(Protocol):
    """Where statements are run: the database, or a transaction."""

    def all(self, sql: str, params: Params = None) -> list[Row]:
        """Return the rows of a statement."""

    def one(self, sql: str, params: Params = None) -> Row | None:
        """Return the first row of a statement, or None."""


@dataclass
class Shape:
    """The messages of one conversation as lines, see `storage.branches`: a message's line is its `seq`."""

    total: int
    parents: Mapping[int, int]
    hidden: list[int]
    end: int  # of the shown branch

    def branch_to(self, line: int) -> list[range]:
        """Return the branch that ends in a line, without what is hidden."""
        return without(branch_to(self.parents, line), self.hidden)

    @property
    def shown(self) -> list[range]:
        """The lines that are shown."""
        return self.branch_to(self.end)


def shape_of(asked: Asked, user_id: str, number: int, total: int, chosen: int | None) -> Shape:
    """Return the shape of a conversation that has `total` messages and shows the branch to `chosen`."""
    sql = """SELECT m.seq, m.parent, p.seq, m.hidden FROM message m LEFT JOIN message p
        ON p.user_id = m.user_id AND p.number = m.number AND p.position = m.parent
        WHERE m.user_id = %s AND m.number = %s AND (m.hidden OR m.parent IS NOT NULL) ORDER BY m.seq"""
    parents, hidden = {}, []
    for seq, parent, parent_seq, is_hidden in asked.all(sql, (user_id, number)):
        if parent is not None:
            parents[seq] = parent_seq if parent else BEGINNING
        if is_hidden:
            hidden.append(seq)
    end = total - 1
    if chosen is not None:
        end = _seq_of(asked, user_id, number, chosen) if chosen else BEGINNING
    return Shape(total, parents, hidden, end)


def _seq_of(asked: Asked, user_id: str, number: int, position: int) -> int:
    sql = "SELECT seq FROM message WHERE user_id = %s AND number = %s AND position = %s"
    [seq] = asked.one(sql, (user_id, number, position)) or [BEGINNING]
    return int(seq)


def lines_in(runs: Iterable[range]) -> list[int]:
    """Return the lines of some runs."""
    return list(chain.from_iterable(runs))


def part(runs: Sequence[range], offset: int, limit: int | None) -> list[int]:
    """Return the `offset`-th line and the `limit` - 1 behind it, of some runs; a negative offset is from the end."""
    length = sum(map(len, runs))
    start = max(0, length + offset) if offset < 0 else offset
    stop = length if limit is None else min(length, start + limit)
    lines: list[int] = []
    before = 0
    for run in runs:
        if before >= stop:
            break
        lines += run[max(0, start - before) : stop - before]
        before += len(run)
    return lines


def heading(asked: Asked, user_id: str, number: int, shape: Shape) -> dict[str, Any]:
    """Return the columns that say what a conversation shows of its messages."""
    shown = shape.shown
    count = sum(map(len, shown))
    first, start, size = "", 0, _FEW
    while not first and start < count:
        bodies = _bodies(asked, user_id, number, part(shown, start, size))
        first = next(filter(None, (first_of(body["role"], body["content"]) for body in bodies)), "")
        start, size = start + size, size * 4
    last = _bodies(asked, user_id, number, part(shown, count - 1, 1)) if count else []
    return {"count": count, **texts(first, summary_of(last[0]["content"]) if last else "")}


def texts(first: str, summary: str) -> dict[str, str]:
    """Return the columns of what lists carry of messages."""
    words = without_nul(folded(first))
    return {"first": without_nul(first), "first_words": words, "summary": without_nul(summary)}


def _bodies(asked: Asked, user_id: str, number: int, lines: list[int]) -> list[dict[str, Any]]:
    sql = "SELECT body FROM message WHERE user_id = %s AND number = %s AND seq = ANY(%s) ORDER BY seq"
    return [body for (body,) in asked.all(sql, (user_id, number, lines))]
