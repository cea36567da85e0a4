"""Conversations: made, listed, changed, deleted and brought back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core import clock
from core.errors import Conflict, NotFound
from self_agent.models import MAX_NUMBER, SETTABLE, Conversation, Message, Page
from self_agent.storage.base import NOT_DELETED, TAKEN
from self_agent.storage.matching import folded
from self_agent.storage.postgres.database import Transaction
from self_agent.storage.postgres.grouping import Grouping
from self_agent.storage.postgres.rows import COLUMNS, conversation_of, settable_columns, without_nul
from self_agent.storage.postgres.writing import LIVE, insert, owner_of, set_columns
from self_agent.storage.rows import check_settable, is_as_expected, numbered, place_of

_ROWS = 50_000  # messages that are removed in one statement
_ORDER = "pinned DESC, updated_at DESC, number DESC"


class Conversations(Grouping):
    """The part of the contract that is about conversations."""

    def create(
        self,
        conversation_id: str,
        user_id: str,
        *,
        messages: Sequence[Message] = (),
        shown: int | None = None,
        created_at: str | None = None,
        updated_at: str | None = None,
        **fields: Any,
    ) -> Conversation:
        check_settable(fields)
        number = self._number("conversation")
        place = None if shown is None else place_of(shown, messages)
        rows = numbered(messages, number)
        times = (created_at or clock.now(), updated_at)
        try:
            with self._database.transaction() as transaction:
                made = self._create(transaction, conversation_id, user_id, number, times, fields)
                if rows:
                    made = _with_messages(transaction, made, rows, place)
        except Conflict:
            self._give_back("conversation", number)
            raise
        clock.not_before(made.updated_at)
        return made

    def _create(
        self,
        transaction: Transaction,
        conversation_id: str,
        user_id: str,
        number: int,
        times: tuple[str, str | None],
        fields: Mapping[str, Any],
    ) -> Conversation:
        """Create a conversation without messages. Raises Conflict."""
        columns = settable_columns(_without_gone(transaction, fields))
        sql = "INSERT INTO directory VALUES (%s, %s, %s) ON CONFLICT DO NOTHING RETURNING 1"
        if not transaction.all(sql, (conversation_id, user_id, number)):
            raise Conflict(TAKEN)
        created_at, updated_at = times
        columns |= {"id": conversation_id, "user_id": user_id, "number": number, "created_at": created_at}
        columns["updated_at"] = updated_at or created_at
        names, values = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
        sql = f"""WITH d AS (INSERT INTO numbers VALUES (%(number)s, %(user_id)s))
            INSERT INTO conversation ({names}) VALUES ({values}) RETURNING {COLUMNS}"""
        return conversation_of(transaction.all(sql, columns)[0])

    def get(self, conversation_id: str) -> Conversation | None:
        try:
            return self._on(conversation_id, self._get)
        except NotFound:
            return None

    def _get(self, user_id: str, number: int) -> Conversation | None:
        row = self._database.one(f"SELECT {COLUMNS} FROM conversation WHERE {LIVE}", {"u": user_id, "n": number})
        return conversation_of(row) if row else None

    def by_number(self, number: int) -> Conversation | None:
        owner = owner_of(self._database, number)
        return None if owner is None else self._get(owner, number)

    def conversations(
        self,
        user_id: str,
        *,
        project_id: int | None = None,
        archived: bool | None = False,
        matching: str = "",
        offset: int = 0,
        limit: int | None = None,
    ) -> Page[Conversation]:
        if project_id is not None and not 0 <= project_id <= MAX_NUMBER:
            return Page([], 0)
        words = without_nul(folded(matching))
        where, total = "user_id = %(u)s AND listed", "sum(listed + archived)"
        if archived is not None:
            where, total = where + " AND archived = %(a)s", "sum(CASE WHEN %(a)s THEN archived ELSE listed END)"
        total = f"(SELECT coalesce({total}, 0)::bigint FROM account WHERE user_id = %(u)s)"
        if project_id is not None or words:
            if project_id is not None:
                where += " AND project_id = %(p)s"
            if words:
                where += " AND (strpos(title_words, %(w)s) > 0 OR strpos(first_words, %(w)s) > 0)"
            total = f"(SELECT count(*) FROM conversation WHERE {where})"
        sql = f"""SELECT total, c.* FROM {total} AS t (total) LEFT JOIN LATERAL (SELECT {COLUMNS} FROM conversation
            WHERE {where} ORDER BY {_ORDER} OFFSET %(o)s LIMIT %(l)s) AS c ON true ORDER BY {_ORDER}"""
        values = {"u": user_id, "a": archived, "p": project_id, "w": words, "o": offset, "l": limit}
        rows = self._database.all(sql, values)
        return Page([conversation_of(row[1:]) for row in rows if row[1] is not None], rows[0][0])

    def update(
        self, conversation_id: str, *, expect: Mapping[str, Any] | None = None, moves: bool = True, **changes: Any
    ) -> Conversation:
        check_settable(changes)

        def change(user_id: str, number: int) -> Conversation | None:
            with self._database.transaction() as transaction:
                fields = _without_gone(transaction, changes)
                sql = f"SELECT {COLUMNS} FROM conversation WHERE {LIVE} FOR UPDATE"
                row = transaction.one(sql, {"u": user_id, "n": number})
                before = conversation_of(row) if row else None
                if before is None or not is_as_expected(before, expect):
                    return before
                columns = settable_columns(fields, before)
                columns["updated_at"] = max(clock.now(), before.updated_at) if moves else before.updated_at
                set_columns(transaction, user_id, number, columns)
                row = transaction.one(f"SELECT {COLUMNS} FROM conversation WHERE {LIVE}", {"u": user_id, "n": number})
                return conversation_of(row) if row else None

        return self._on(conversation_id, change)

    def delete(self, conversation_id: str, *, keep: bool = False) -> int:
        def remove(user_id: str, number: int) -> int | None:
            values = {"u": user_id, "n": number, "t": clock.now(), "i": conversation_id}
            with self._database.transaction() as transaction:
                sql = f"UPDATE conversation SET deleted_at = %(t)s WHERE {LIVE} RETURNING count"
                row = transaction.one(sql, values)
                if row is None:
                    return None
                transaction.all("DELETE FROM directory WHERE id = %(i)s AND number = %(n)s", values)
                transaction.all("DELETE FROM checkpoint WHERE user_id = %(u)s AND number = %(n)s", values)
                if not keep:
                    _purge(transaction, user_id, number)
                return int(row[0])

        count = self._on(conversation_id, remove)
        self._keys.pop(conversation_id, None)
        return count

    def restore(self, user_id: str, conversation_id: str, *, since: str = "") -> Conversation:
        values = {"u": user_id, "i": conversation_id, "s": since or "-infinity"}
        with self._database.transaction() as transaction:
            row = transaction.one(
                """SELECT number, project_id FROM conversation WHERE user_id = %(u)s AND id = %(i)s
                AND deleted_at IS NOT NULL AND deleted_at >= %(s)s ORDER BY number DESC LIMIT 1""",
                values,
            )
            if row is None:
                raise NotFound(NOT_DELETED)
            fields = _without_gone(transaction, {"project_id": row[1]})
            sql = "INSERT INTO directory VALUES (%(i)s, %(u)s, %(n)s) ON CONFLICT DO NOTHING RETURNING 1"
            if not transaction.all(sql, values | {"n": row[0]}):
                raise Conflict(TAKEN)
            back = transaction.one(
                f"""UPDATE conversation SET deleted_at = NULL, project_id = %(p)s
                WHERE user_id = %(u)s AND number = %(n)s AND deleted_at IS NOT NULL RETURNING {COLUMNS}""",
                values | {"n": row[0], "p": fields["project_id"]},
            )
            if back is None:  # swept away meanwhile
                raise NotFound(NOT_DELETED)
            return conversation_of(back)

    def sweep(self, before: str) -> int:
        count = 0
        while True:
            with self._database.transaction() as transaction:
                row = transaction.one(
                    """SELECT user_id, number FROM conversation WHERE deleted_at < %s
                    ORDER BY deleted_at LIMIT 1 FOR UPDATE SKIP LOCKED""",
                    (before,),
                )
                if row is None:
                    return count
                _purge(transaction, *row)
            count += 1


def _with_messages(
    transaction: Transaction, made: Conversation, rows: Sequence[Message], place: int | None
) -> Conversation:
    columns = insert(transaction, made.user_id, rows, place)
    latest = columns.pop("latest")
    columns |= {"next_position": len(rows) + 1, "updated_at": max(made.updated_at, latest)}
    set_columns(transaction, made.user_id, made.number, columns)
    sql = f"SELECT {COLUMNS} FROM conversation WHERE {LIVE}"
    return conversation_of(transaction.all(sql, {"u": made.user_id, "n": made.number})[0])


def _without_gone(transaction: Transaction, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with no project instead of one that is gone; nobody deletes it before the transaction's end."""
    project_id = fields.get("project_id")
    if not project_id:
        return dict(fields)
    row = transaction.one("SELECT user_id FROM projects WHERE id = %s FOR SHARE", (project_id,))
    sql = "SELECT 1 FROM project WHERE user_id = %s AND id = %s"
    is_gone = row is not None and transaction.one(sql, (row[0], project_id)) is None
    return {**fields, "project_id": SETTABLE["project_id"]} if is_gone else dict(fields)


def _purge(transaction: Transaction, user_id: str, number: int) -> None:
    """Remove every row of a conversation, no statement more than some; what other servers know of it finds nothing."""
    sql = "SELECT total FROM conversation WHERE user_id = %s AND number = %s"
    [(total,)] = transaction.all(sql, (user_id, number))
    for start in range(0, total, _ROWS):
        sql = "DELETE FROM message WHERE user_id = %s AND number = %s AND seq >= %s AND seq < %s"
        transaction.all(sql, (user_id, number, start, start + _ROWS))
    transaction.all("DELETE FROM conversation WHERE user_id = %s AND number = %s", (user_id, number))
    transaction.all("DELETE FROM numbers WHERE number = %s", (number,))
