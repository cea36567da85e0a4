"""The store on PostgreSQL: messages, branches and turns, on top of conversations, projects and shelves."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

from core import clock
from core.errors import Conflict, NotFound, NotYours, StoreUnavailable
from self_agent import keys
from self_agent.models import Conversation, Message, id_at, number_of, position_of
from self_agent.storage.base import NO_CONVERSATION, NO_MESSAGE, Begun, Change, Sent
from self_agent.storage.branches import alternatives, end_of
from self_agent.storage.postgres import reading, writing
from self_agent.storage.postgres.conversations import Conversations
from self_agent.storage.postgres.database import Database, Transaction
from self_agent.storage.postgres.rows import MESSAGE, body_of_fields, fields_of, key_of, messages_of
from self_agent.storage.postgres.shape import lines_in, shape_of
from self_agent.storage.postgres.writing import LIVE, Known, line_of, locked, owner_of
from self_agent.storage.rows import check_settable, edited, from_rows, hidden, row_of, with_message

_BUSY = "Others create and delete this conversation now; try again."
_ONE = f"SELECT {MESSAGE} FROM message WHERE user_id = %s AND number = %s AND position = %s"
_RESERVE = f"""UPDATE conversation SET next_position = next_position + 1
    WHERE {LIVE} RETURNING next_position - 1"""
_CHECKPOINT = f"""INSERT INTO checkpoint SELECT user_id, number, %(p)s, %(at)s, %(reply)s::json, %(piece)s
    FROM conversation WHERE {LIVE} RETURNING 1"""


class PostgresStore(Conversations):
    """Keeps everything in the tables of one database; each method is one transaction."""

    def __init__(self, url: str, *, keep_days: float | None = None) -> None:
        self._given: dict[str, tuple[int, int]] = {}  # of replies that are written: the id, and characters so far
        super().__init__(url, keep_days=keep_days)

    # --- messages

    def reserve(self, conversation_id: str) -> int:
        def take(user_id: str, number: int) -> int | None:
            row = self._database.one(_RESERVE, {"u": user_id, "n": number})
            return id_at(number, row[0]) if row else None

        return self._on(conversation_id, take)

    def append(self, conversation_id: str, *messages: Message) -> list[Message]:
        def add(user_id: str, number: int) -> list[Message] | None:
            if not messages:
                return [] if self._get(user_id, number) else None
            if messages[0].parent is None:
                return writing.append(self._database, user_id, number, messages)
            return _append_behind(self._database, user_id, number, messages)

        return self._on(conversation_id, add)

    def messages(self, conversation_id: str, *, offset: int = 0, limit: int | None = None) -> list[Message]:
        return self._on(conversation_id, lambda u, n: reading.page(self._database, u, n, offset, limit))

    def latest(self, conversation_id: str, limit: int, until: int | None = None) -> list[Message]:
        if until is None:
            return self._on(conversation_id, lambda u, n: reading.latest(self._database, u, n, limit))
        return self._on(conversation_id, lambda u, n: reading.until(self._database, u, n, limit, until))

    def everything(self, conversation_id: str) -> list[Message]:
        return self._on(conversation_id, lambda u, n: reading.everything(self._database, u, n))

    def message(self, message_id: int) -> Message:
        number = number_of(message_id)
        if user_id := owner_of(self._database, number):
            sql = f"""SELECT {MESSAGE} FROM message WHERE user_id = %(u)s AND number = %(n)s AND position = %(p)s
                AND NOT hidden AND EXISTS (SELECT 1 FROM conversation WHERE {LIVE})"""
            rows = self._database.all(sql, {"u": user_id, "n": number, "p": position_of(message_id)})
            if rows:
                return messages_of(number, rows)[0]
        raise NotFound(NO_MESSAGE)

    def edit(self, message_id: int, change: Change) -> Message:
        for message in self._change(number_of(message_id), [message_id], change):
            return message
        raise NotFound(NO_MESSAGE)

    def hide(self, message_ids: list[int]) -> int:
        by_number: dict[int, list[int]] = {}
        for each in dict.fromkeys(message_ids):
            by_number.setdefault(number_of(each), []).append(each)
        return sum(len(self._change(number, ids, hidden)) for number, ids in by_number.items())

    def _change(self, number: int, message_ids: list[int], change: Change) -> list[Message]:
        """Change those messages of one conversation that are not hidden; return them as they are then."""
        user_id = owner_of(self._database, number)
        if user_id is None:
            return []
        with self._database.transaction() as transaction:
            known = locked(transaction, user_id, number)
            if known is None:
                return []
            sql = f"""SELECT {MESSAGE} FROM message
                WHERE user_id = %s AND number = %s AND position = ANY(%s::int[]) AND NOT hidden"""
            rows = transaction.all(sql, (user_id, number, [position_of(each) for each in message_ids]))
            changed = [_changed(transaction, known, fields_of(number, row), change) for row in rows]
            if changed:
                shape = shape_of(transaction, user_id, number, known.total, known.chosen)
                writing.write_heading(transaction, known, shape, known.chosen)
            return changed

    # --- branches

    def choose(self, conversation_id: str, message_id: int) -> Conversation:
        def show(user_id: str, number: int) -> Conversation | None:
            with self._database.transaction() as transaction:
                known = locked(transaction, user_id, number)
                if known is None:
                    return None
                line = line_of(transaction, user_id, number, message_id)
                shape = known.shape(transaction)
                end = end_of(shape.parents, shape.total, line)
                if end != shape.end:
                    writing.show(transaction, known, shape, end)
            return self._get(user_id, number)

        return self._on(conversation_id, show)

    def siblings(self, conversation_id: str) -> dict[int, list[int]]:
        def find(user_id: str, number: int) -> dict[int, list[int]] | None:
            known = reading.known(self._database, user_id, number)
            if known is None or known.count == known.total:
                return None if known is None else {}
            shape = known.shape(self._database)
            groups = alternatives(shape.parents, shape.total)
            ids = reading.ids_of(self._database, user_id, number, lines_in(groups))  # type: ignore[arg-type]
            named = [[ids[line] for line in lines if line in ids] for lines in groups]
            return {message_id: group for group in named if len(group) > 1 for message_id in group}

        return self._on(conversation_id, find)

    # --- turns

    def begin(self, user_id: str, conversation_id: str, *said: Message, new: Mapping[str, Any] | None = None) -> Begun:
        check_settable(new or {})

        def begin(owner: str, number: int) -> Begun | None:
            if owner != user_id:
                if self._get(owner, number) is None:
                    return None
                raise NotYours(NO_CONVERSATION)
            begun = _begin(self._database, owner, number, said)
            if begun is None:
                return None
            conversation, stored, position = begun
            if stored is not None:
                return Begun(conversation, stored, stored.id + 1)
            sent = self._sent_at(owner, number, position, said[-1].key or "")
            return Begun(conversation, sent.question, sent.question.id + 1, True, sent.reply)

        for _ in range(3):
            try:
                return self._on(conversation_id, begin)
            except NotYours:
                raise
            except NotFound:
                if new is None:
                    raise
            with suppress(Conflict):  # somebody else was faster
                return self._begin_new(user_id, conversation_id, said, new)
        raise StoreUnavailable(_BUSY, retry_after=1)

    def _begin_new(
        self, user_id: str, conversation_id: str, said: tuple[Message, ...], new: Mapping[str, Any]
    ) -> Begun:
        """Create a conversation with its first question. Raises Conflict."""
        number, times = self._number("conversation"), (clock.now(), None)
        try:
            with self._database.transaction() as transaction:
                self._create(transaction, conversation_id, user_id, number, times, new)
                if said[0].parent:  # nothing is there that it could follow
                    raise NotFound(NO_MESSAGE)
                begun = writing.begin(transaction, user_id, number, said)
        except Conflict:
            self._give_back("conversation", number)
            raise
        assert begun is not None
        assert begun[1] is not None
        return Begun(begun[0], begun[1], begun[1].id + 1)

    def finish(self, conversation_id: str, reply: Message | None) -> Message | None:
        if reply is None:
            self.discard_checkpoint(conversation_id)
            return None
        [stored] = self.append(conversation_id, reply)  # its checkpoint goes in the same step
        self._given.pop(conversation_id, None)
        return stored

    def sent(self, conversation_id: str, key: str) -> Sent | None:
        def find(user_id: str, number: int) -> list[Sent] | None:
            position = writing.position_with(self._database, user_id, number, key)
            if position is None:
                return [] if reading.known(self._database, user_id, number) else None
            return [self._sent_at(user_id, number, position, key)]

        with suppress(NotFound):
            for sent in self._on(conversation_id, find):
                return sent
        return None

    def _sent_at(self, user_id: str, number: int, position: int, key: str) -> Sent:
        """Return the message at a position, and its reply. Raises KeyReused when it was sent with another body."""
        sql = f"""SELECT {MESSAGE} FROM message WHERE user_id = %s AND number = %s AND position = ANY(%s)
            ORDER BY position"""
        question, *others = messages_of(number, self._database.all(sql, (user_id, number, [position, position + 1])))
        keys.is_same(question.key or "", key)
        return Sent(question, next((m for m in others if m.role == "assistant"), None))

    def checkpoint(self, conversation_id: str, reply: Message, text: str) -> None:
        known, at = self._given.get(conversation_id, (0, 0))
        at = at if known == reply.id else 0
        self._given[conversation_id] = (reply.id, at + len(text))  # also what is lost counts: a hole must be seen
        first = None
        if at == 0:
            row = row_of(reply, 0, "")
            first = orjson.dumps({name: value for name, value in row.items() if name not in ("id", "content")}).decode()

        def write(user_id: str, number: int) -> bool | None:
            if not text:
                return self._get(user_id, number) is not None or None
            values = {"u": user_id, "n": number, "p": position_of(reply.id), "at": at}
            return bool(self._database.all(_CHECKPOINT, values | {"reply": first, "piece": text.encode()})) or None

        self._on(conversation_id, write)

    def discard_checkpoint(self, conversation_id: str) -> None:
        self._given.pop(conversation_id, None)
        if key := self._key(conversation_id):
            self._database.all("DELETE FROM checkpoint WHERE user_id = %s AND number = %s", key)


def _append_behind(
    database: Database, user_id: str, number: int, messages: tuple[Message, ...]
) -> list[Message] | None:
    """Append messages behind a parent: show the branch that ends in it, then append at the end of that."""
    with database.transaction() as transaction:
        known = locked(transaction, user_id, number)
        if known is None:
            return None
        writing.show_parent(transaction, known, messages[0].parent or 0)
        return writing.append(transaction, user_id, number, messages)


def _begin(
    database: Database, user_id: str, number: int, said: tuple[Message, ...]
) -> tuple[Conversation, Message | None, int] | None:
    """Do as `writing.begin` does, behind the first one's parent if it has one."""
    parent, key = said[0].parent, said[-1].key
    if parent is None:
        return writing.begin(database, user_id, number, said)
    with database.transaction() as transaction:
        known = locked(transaction, user_id, number)
        if known is None:
            return None
        if not key or writing.position_with(transaction, user_id, number, key) is None:
            writing.show_parent(transaction, known, parent)
        return writing.begin(transaction, user_id, number, said)


def _changed(transaction: Transaction, known: Known, fields: dict[str, Any], change: Change) -> Message:
    """Put what `change` makes of a message in its place; fields that only a later version knows are kept."""
    [before] = from_rows([dict(fields)])
    after = edited(before, change)
    sql = """UPDATE message SET body = %s::json, hidden = %s, key = %s
        WHERE user_id = %s AND number = %s AND position = %s"""
    body = body_of_fields(with_message(fields, after))
    values = (body, after.is_deleted, key_of(after), known.user_id, known.number, position_of(after.id))
    transaction.all(sql, values)
    return after
