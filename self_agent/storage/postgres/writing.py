"""What writes to one conversation, on a connection that was taken: rows appended, a branch shown, messages changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core import clock
from core.errors import NotFound
from self_agent import keys
from self_agent.models import (
    MAX_NUMBER,
    Conversation,
    Message,
    first_of,
    id_at,
    number_of,
    position_of,
    summary_of,
)
from self_agent.storage.base import NO_MESSAGE
from self_agent.storage.branches import BEGINNING
from self_agent.storage.postgres.database import Transaction
from self_agent.storage.postgres.rows import COLUMN_NAMES, body_of, conversation_of, key_of
from self_agent.storage.postgres.shape import Asked, Shape, heading, shape_of, texts
from self_agent.storage.rows import from_rows, next_after, row_of

LIVE = "user_id = %(u)s AND number = %(n)s AND deleted_at IS NULL"
_CONVERSATION = ", ".join(f"(c).{name}" for name in COLUMN_NAMES)
_PARAMETERS = """%(u)s, %(n)s, %(positions)s::int[], %(times)s::timestamptz[], %(hiddens)s::boolean[], %(keys)s::text[],
    %(bodies)s::text[], %(stamp)s, %(spare)s, %(first)s, %(first_words)s, %(summary)s, %(k)s, %(oldest)s"""
_APPEND = f"SELECT p, t, up FROM append_1({_PARAMETERS})"
_BEGIN = f"SELECT p, t, up, is_repeat, {_CONVERSATION} FROM append_1({_PARAMETERS})"
_ROWS = 10_000  # messages that are inserted in one statement


@dataclass(frozen=True)
class Known:
    """What a conversation's row says of its messages, while nobody else can write it."""

    user_id: str
    number: int
    total: int
    count: int
    chosen: int | None

    def shape(self, asked: Asked) -> Shape:
        """Return the conversation's shape."""
        if self.count == self.total:
            return Shape(self.total, {}, [], self.total - 1)
        return shape_of(asked, self.user_id, self.number, self.total, self.chosen)


def locked(transaction: Transaction, user_id: str, number: int) -> Known | None:
    """Keep all others from writing a conversation; None when it is not there."""
    sql = f"SELECT total, count, chosen FROM conversation WHERE {LIVE} FOR UPDATE"
    row = transaction.one(sql, {"u": user_id, "n": number})
    return Known(user_id, number, *row) if row else None


def owner_of(asked: Asked, number: int) -> str | None:
    """Return whose conversation has a number, or None."""
    if not 0 < number <= MAX_NUMBER:
        return None
    row = asked.one("SELECT user_id FROM numbers WHERE number = %s", (number,))
    return row[0] if row else None


# --- appending


def append(asked: Asked, user_id: str, number: int, messages: Sequence[Message]) -> list[Message] | None:
    """Append messages behind the end of the shown branch, and return them as stored; None: nobody is there."""
    rows = asked.all(_APPEND, _appended(user_id, number, messages))
    return _as_stored(number, messages, rows) if rows else None


def begin(
    asked: Asked, user_id: str, number: int, said: Sequence[Message]
) -> tuple[Conversation, Message | None, int] | None:
    """Append messages, the last of which is a question, and keep the position behind it free; None: nobody is there.

    Returns the conversation, the question as stored, or None where one with its key was stored, and its position.
    """
    values = _appended(user_id, number, said) | {"spare": 1}
    if key := said[-1].key:
        values |= {"k": key_of(said[-1]), "oldest": keys.oldest()}
    rows = asked.all(_BEGIN, values)
    if not rows:
        return None
    position, is_repeat = rows[-1][0], key is not None and rows[-1][3]
    stored = None if is_repeat else _as_stored(number, said, rows)[-1]
    return conversation_of(rows[-1][4:]), stored, position


def _appended(user_id: str, number: int, messages: Sequence[Message]) -> dict[str, Any]:
    next_after(1, len(messages))
    if any(message.id and number_of(message.id) != number for message in messages):
        raise ValueError("the id of a message that is appended must come from reserve()")
    shown = [message for message in messages if not message.is_deleted]
    first = next(filter(None, (first_of(m.role, m.content) for m in shown)), "")
    columns = texts(first, summary_of(shown[-1].content) if shown else "")
    if not shown:
        columns["summary"] = None  # type: ignore[assignment]
    return {
        "u": user_id,
        "n": number,
        "positions": [position_of(message.id) for message in messages],
        "times": [message.timestamp or None for message in messages],
        "hiddens": [message.is_deleted for message in messages],
        "keys": [key_of(message) for message in messages],
        "bodies": [body_of(message) for message in messages],
        "stamp": clock.now(),
        "spare": 0,
        "k": None,
        "oldest": None,
        **columns,
    }


def _as_stored(number: int, messages: Sequence[Message], rows: Sequence[tuple[Any, ...]]) -> list[Message]:
    stored = []
    for message, (position, timestamp, parent, *_) in zip(messages, rows, strict=True):
        row = row_of(message, id_at(number, position), timestamp)
        row.pop("parent", None)
        if parent is not None:
            row["parent"] = parent and id_at(number, parent)
        stored.append(row)
    clock.not_before(stored[-1]["timestamp"])
    return from_rows(stored)


def insert(transaction: Transaction, user_id: str, messages: Sequence[Message], shown: int | None) -> dict[str, Any]:
    """Insert the messages that a new conversation begins with, see `rows.numbered`; return the columns that say so.

    `shown` is the place of the message that ends the shown branch; None: the last.
    """
    stamped = [message.timestamp or clock.now() for message in messages]
    for start in range(0, len(messages), _ROWS):
        some, times = messages[start : start + _ROWS], stamped[start : start + _ROWS]
        values = {
            "u": user_id,
            "n": number_of(messages[0].id),
            "ids": [position_of(message.id) for message in some],
            "seqs": list(range(start, start + len(some))),
            "times": times,
            "parents": [None if message.parent is None else position_of(message.parent) for message in some],
            "hiddens": [message.is_deleted for message in some],
            "keys": [key_of(message) for message in some],
            "bodies": [body_of(message) for message in some],
        }
        transaction.all(
            """INSERT INTO message (user_id, number, position, seq, created_at, parent, hidden, key, body)
            SELECT %(u)s, %(n)s, p, s, t, up, h, k, b::json FROM unnest(%(ids)s::int[], %(seqs)s::int[],
            %(times)s::timestamptz[], %(parents)s::int[], %(hiddens)s::boolean[], %(keys)s::text[], %(bodies)s::text[])
            AS x (p, s, t, up, h, k, b)""",
            values,
        )
    places = {position_of(message.id): place for place, message in enumerate(messages)}
    parents = {
        place: places[position_of(message.parent)] if message.parent else BEGINNING
        for place, message in enumerate(messages)
        if message.parent is not None
    }
    hidden = [place for place, message in enumerate(messages) if message.is_deleted]
    end = len(messages) - 1 if shown is None else shown
    shape = Shape(len(messages), parents, hidden, end)
    chosen = None if end == len(messages) - 1 else position_of(messages[end].id)
    first = heading(transaction, user_id, number_of(messages[0].id), shape)
    return {"total": len(messages), "chosen": chosen, "latest": max(stamped), **first}


# --- branches and changes


def show(transaction: Transaction, known: Known, shape: Shape, line: int) -> None:
    """Show the branch that ends in a line, BEGINNING: nothing."""
    shape.end = line
    chosen: int | None = 0
    if line == shape.total - 1:
        chosen = None
    elif line != BEGINNING:
        sql = "SELECT position FROM message WHERE user_id = %s AND number = %s AND seq = %s"
        [chosen] = transaction.all(sql, (known.user_id, known.number, line))[0]
    write_heading(transaction, known, shape, chosen)


def write_heading(transaction: Transaction, known: Known, shape: Shape, chosen: int | None) -> None:
    """Write down what a conversation shows."""
    values = heading(transaction, known.user_id, known.number, shape)
    set_columns(transaction, known.user_id, known.number, values | {"chosen": chosen})


def set_columns(asked: Asked, user_id: str, number: int, columns: Mapping[str, Any]) -> None:
    """Set columns of a conversation; their names are never a client's."""
    settings = ", ".join(f"{name} = %({name})s" for name in columns)
    asked.all(f"UPDATE conversation SET {settings} WHERE {LIVE}", {"u": user_id, "n": number, **columns})


def line_of(asked: Asked, user_id: str, number: int, message_id: int) -> int:
    """Return the line of a message that is not hidden. Raises NotFound."""
    if number_of(message_id) == number:
        sql = "SELECT seq FROM message WHERE user_id = %s AND number = %s AND position = %s AND NOT hidden"
        if row := asked.one(sql, (user_id, number, position_of(message_id))):
            return int(row[0])
    raise NotFound(NO_MESSAGE)


def show_parent(transaction: Transaction, known: Known, parent: int) -> None:
    """Show the branch that ends in a message, hidden or not, 0: none, so that what is appended follows it.

    Raises NotFound.
    """
    line = _parent_line(transaction, known, parent)
    if known.count < known.total or line != known.total - 1:
        shape = shape_of(transaction, known.user_id, known.number, known.total, known.chosen)
        if line != shape.end:
            show(transaction, known, shape, line)


def position_with(asked: Asked, user_id: str, number: int, key: str) -> int | None:
    """Return the position of the last message with a key of this name, if it is of the last 24 hours."""
    sql = """SELECT position, created_at FROM message WHERE user_id = %s AND number = %s AND key = %s
        ORDER BY seq DESC LIMIT 1"""
    row = asked.one(sql, (user_id, number, key_of(Message("", "", key=key))))
    return row[0] if row and row[1] >= keys.oldest() else None


def _parent_line(asked: Asked, known: Known, parent: int) -> int:
    """Return the line of a message that another is to follow, hidden or not; 0 is none. Raises NotFound."""
    if parent == 0:
        return BEGINNING
    if number_of(parent) == known.number:
        sql = "SELECT seq FROM message WHERE user_id = %s AND number = %s AND position = %s"
        if row := asked.one(sql, (known.user_id, known.number, position_of(parent))):
            return int(row[0])
    raise NotFound(NO_MESSAGE)
