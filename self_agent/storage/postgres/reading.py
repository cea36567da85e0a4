"""No more rows are read than were asked for: where nothing is hidden and there is one branch, a range of an index."""

from __future__ import annotations

from collections.abc import Sequence

from self_agent.models import Message, id_at
from self_agent.storage.branches import BEGINNING
from self_agent.storage.postgres.database import Row
from self_agent.storage.postgres.rows import MESSAGE, fields_of, messages_of
from self_agent.storage.postgres.shape import Asked, Shape, part
from self_agent.storage.postgres.writing import LIVE, Known, line_of
from self_agent.storage.rows import from_rows

_MOST = 1 << 30  # more than a conversation has messages


def _plain(start: str, stop: str) -> str:
    return f"""SELECT c.total, c.count, c.chosen, m.* FROM conversation c LEFT JOIN LATERAL (
        SELECT {MESSAGE}, seq FROM message WHERE user_id = %(u)s AND number = %(n)s
          AND c.total = c.count AND seq >= {start} AND seq < {stop} ORDER BY seq) AS m ON true
        WHERE c.user_id = %(u)s AND c.number = %(n)s AND c.deleted_at IS NULL ORDER BY m.seq"""


_PAGE = _plain("%(start)s::int", "%(stop)s::int")
_TAIL = _plain("c.total - %(start)s::int", "c.total")


def known(asked: Asked, user_id: str, number: int) -> Known | None:
    """Return what a conversation's row says of its messages, or None when it is not there."""
    sql = f"SELECT total, count, chosen FROM conversation WHERE {LIVE}"
    row = asked.one(sql, {"u": user_id, "n": number})
    return Known(user_id, number, *row) if row else None


def page(asked: Asked, user_id: str, number: int, offset: int, limit: int | None) -> list[Message] | None:
    """Return messages that are shown, from the `offset`-th on; None: there is no conversation."""
    start = min(offset, _MOST)
    stop = _MOST if limit is None else min(start + limit, _MOST)
    rows = asked.all(_PAGE, {"u": user_id, "n": number, "start": start, "stop": stop})
    return _shown(asked, user_id, number, rows, start, None if limit is None else limit)


def latest(asked: Asked, user_id: str, number: int, limit: int) -> list[Message] | None:
    """Return the last messages that are shown; None: there is no conversation."""
    limit = max(0, min(limit, _MOST))
    rows = asked.all(_TAIL, {"u": user_id, "n": number, "start": limit})
    return _shown(asked, user_id, number, rows, -limit, limit)


def _shown(
    asked: Asked, user_id: str, number: int, rows: Sequence[Row], offset: int, limit: int | None
) -> list[Message] | None:
    if not rows:
        return None
    state = Known(user_id, number, *rows[0][:3])
    if state.total == state.count:
        return messages_of(number, (row[3:8] for row in rows if row[3] is not None))
    if limit == 0:
        return []
    return _on(asked, user_id, number, part(state.shape(asked).shown, offset, limit))


def until(asked: Asked, user_id: str, number: int, limit: int, message_id: int) -> list[Message] | None:
    """Return the last messages of the branch that ends in a message. Raises NotFound without it."""
    state = known(asked, user_id, number)
    if state is None:
        return None
    line = line_of(asked, user_id, number, message_id)
    if limit <= 0:
        return []
    return _on(asked, user_id, number, part(state.shape(asked).branch_to(line), -limit, limit))


def everything(asked: Asked, user_id: str, number: int) -> list[Message] | None:
    """Return the messages of all branches that are not hidden, each with its parent, the end of the shown one last."""
    state = known(asked, user_id, number)
    if state is None:
        return None
    shape = state.shape(asked)
    sql = f"SELECT {MESSAGE} FROM message WHERE user_id = %s AND number = %s AND seq < %s ORDER BY seq"
    rows = [fields_of(number, row) for row in asked.all(sql, (user_id, number, shape.total))]
    order = list(range(len(rows)))
    if order:
        order.append(order.pop(shape.end))
    kept = (line for line in order if not rows[line].get("is_deleted"))
    return from_rows({**rows[line], "parent": _parent(rows, shape, line)} for line in kept)


def _parent(rows: Sequence[dict[str, int]], shape: Shape, line: int) -> int:
    while True:
        line = shape.parents.get(line, line - 1)
        if line == BEGINNING:
            return 0
        if not rows[line].get("is_deleted"):
            return rows[line]["id"]


def ids_of(asked: Asked, user_id: str, number: int, lines: Sequence[int]) -> dict[int, int]:
    """Return the ids of those messages on some lines that are not hidden."""
    sql = "SELECT seq, position FROM message WHERE user_id = %s AND number = %s AND seq = ANY(%s::int[]) AND NOT hidden"
    rows = asked.all(sql, (user_id, number, list(lines)))
    return {seq: id_at(number, position) for seq, position in rows}


def _on(asked: Asked, user_id: str, number: int, lines: Sequence[int]) -> list[Message]:
    sql = f"""SELECT {MESSAGE} FROM message
        WHERE user_id = %s AND number = %s AND seq = ANY(%s::int[]) AND NOT hidden ORDER BY seq"""
    return messages_of(number, asked.all(sql, (user_id, number, list(lines))) if lines else [])
