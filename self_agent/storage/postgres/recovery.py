"""What a server that was stopped or killed left in the database: replies that were being written, and times."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from itertools import groupby

from core import clock
from core.errors import AppError, StorageError
from self_agent.models import CUT_OFF, Message, id_at
from self_agent.storage.postgres.database import Connection, Database, Row
from self_agent.storage.rows import from_rows

log = logging.getLogger(__name__)


def set_clock(connection: Connection) -> None:
    """Let `core.clock` return no time that is not after what is stored, and is believed."""
    sql = "SELECT max(updated_at) FROM conversation WHERE updated_at <= %s"
    row = connection.execute(sql, [clock.horizon()]).fetchone()
    if row and row[0]:
        clock.not_before(row[0])


def recover(database: Database, append: Callable[..., list[Message]]) -> None:
    """Store what checkpoints hold of replies that are not stored, as incomplete; no checkpoint is left."""
    sql = """SELECT k.user_id, k.number, k.position, k.at, k.reply, k.piece, c.id FROM checkpoint k
        LEFT JOIN conversation c ON c.user_id = k.user_id AND c.number = k.number AND c.deleted_at IS NULL
          AND NOT EXISTS (SELECT 1 FROM message m
            WHERE m.user_id = k.user_id AND m.number = k.number AND m.position = k.position)
        ORDER BY k.user_id, k.number, k.position, k.at"""
    for (user_id, number, position), group in groupby(database.all(sql), key=lambda row: row[:3]):
        rows = list(group)
        reply, conversation_id = rows[0][4], rows[0][6]
        text = text_of(rows)
        if conversation_id is not None and text:
            try:
                row = {**reply, "id": id_at(number, position), "content": text, "incomplete": True, "error": CUT_OFF}
                append(conversation_id, *from_rows([row]))
            except StorageError:
                raise
            except (AppError, ValueError):
                log.exception("a reply that was cut off is dropped")
        sql = "DELETE FROM checkpoint WHERE user_id = %s AND number = %s AND position = %s"
        database.all(sql, (user_id, number, position))


def text_of(rows: Iterable[Row]) -> str:
    """Return the text of the pieces of a reply, in their order, up to the first that is missing."""
    text = ""
    for row in rows:
        if row[3] != len(text):
            break
        text += bytes(row[5]).decode()
    return text
