"""The whole contract in a few dicts: for tests, and for a server that is to forget everything at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from core import clock
from core.errors import Conflict, NotFound
from self_agent.models import (
    Conversation,
    Message,
    Page,
    id_at,
    number_of,
)
from self_agent.storage.base import CLOSED, NO_CONVERSATION, NO_MESSAGE, NOT_DELETED, TAKEN, Change, Sent, Store
from self_agent.storage.branches import BEGINNING, alternatives, end_of
from self_agent.storage.matching import folded, is_match
from self_agent.storage.memory.grouping import Grouping
from self_agent.storage.memory.grouping import locked as _locked
from self_agent.storage.memory.record import Record
from self_agent.storage.rows import (
    check_settable,
    edited,
    fill,
    from_rows,
    hidden,
    is_as_expected,
    numbered,
    place_of,
    positions_wanted,
)


class MemoryStore(Grouping):
    """Keeps everything in memory; durable means here: as long as the process."""

    persistent = False

    def __init__(self, *, keep_days: float | None = None) -> None:
        """`keep_days`: how long what is deleted can be restored; None is as long as the process."""
        super().__init__()
        self._records: dict[str, Record] = {}
        self._keep_days = keep_days
        self._deleted: dict[int, tuple[str, Record]] = {}  # when, and what; in the order of the deletions
        self._numbers = count(1)

    # --- conversations

    @_locked
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
        if conversation_id in self._records:
            raise Conflict(TAKEN)
        now = created_at or clock.now()
        fields = self._without_gone(fields)
        made = Conversation(conversation_id, next(self._numbers), user_id, now, updated_at or now, **fields)
        clock.not_before(made.updated_at)
        record = Record(made)
        record.add(from_rows(fill(numbered(messages, made.number), made.number, 1)))
        if shown is not None:
            record.end = place_of(shown, messages)
        self._records[conversation_id] = record
        return record.refresh(updated_at=max([made.updated_at, *(m.timestamp for m in record.messages)]))

    @_locked
    def get(self, conversation_id: str) -> Conversation | None:
        record = self._records.get(conversation_id)
        return record.conversation if record else None

    @_locked
    def by_number(self, number: int) -> Conversation | None:
        return next((r.conversation for r in self._records.values() if r.conversation.number == number), None)

    @_locked
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
        listed = [r for r in self._records.values() if r.messages or not r.conversation.is_draft]
        found = [r.conversation for r in listed if r.conversation.user_id == user_id]
        found = [c for c in found if project_id is None or c.project_id == project_id]
        found = [c for c in found if archived is None or c.archived == archived]
        if wanted := folded(matching):
            found = [c for c in found if is_match(wanted, c.title, c.first)]
        found.sort(key=lambda conversation: (conversation.pinned, conversation.updated_at), reverse=True)
        return Page(found[offset : None if limit is None else offset + limit], len(found))

    @_locked
    def update(
        self, conversation_id: str, *, expect: Mapping[str, Any] | None = None, moves: bool = True, **changes: Any
    ) -> Conversation:
        check_settable(changes)
        record, changes = self._record(conversation_id), self._without_gone(changes)
        if not is_as_expected(record.conversation, expect):
            return record.conversation
        before = record.conversation.updated_at
        return record.refresh(**changes, updated_at=max(clock.now(), before) if moves else before)

    @_locked
    def delete(self, conversation_id: str, *, keep: bool = False) -> int:
        record = self._record(conversation_id)
        del self._records[conversation_id]
        if keep:
            self._deleted[record.conversation.number] = (clock.now(), record)
        if self._keep_days is not None:  # nobody else would
            self.sweep(clock.days_ago(self._keep_days))
        return record.conversation.count

    @_locked
    def restore(self, user_id: str, conversation_id: str, *, since: str = "") -> Conversation:
        for number, (deleted_at, record) in reversed(self._deleted.items()):
            found = record.conversation
            if (found.id, found.user_id) == (conversation_id, user_id) and deleted_at >= since:
                if conversation_id in self._records:
                    raise Conflict(TAKEN)
                del self._deleted[number]
                self._records[conversation_id] = record
                return record.refresh(**self._without_gone({"project_id": found.project_id}))
        raise NotFound(NOT_DELETED)

    @_locked
    def sweep(self, before: str) -> int:
        gone = [number for number, (deleted_at, _) in self._deleted.items() if deleted_at < before]
        for number in gone:
            del self._deleted[number]
        return len(gone)

    # --- messages

    @_locked
    def reserve(self, conversation_id: str) -> int:
        record = self._record(conversation_id)
        return id_at(record.conversation.number, record.take_positions(1))

    @_locked
    def append(self, conversation_id: str, *messages: Message) -> list[Message]:
        record = self._record(conversation_id)
        number = record.conversation.number
        if messages and messages[0].parent and messages[0].parent not in record.lines:
            raise NotFound(NO_MESSAGE)
        position = record.take_positions(positions_wanted(messages, number, record.next_position))
        stored = from_rows(fill(messages, number, position))
        record.add(stored)
        record.refresh(updated_at=max([record.conversation.updated_at, *(m.timestamp for m in stored)]))
        return stored

    @_locked
    def messages(self, conversation_id: str, *, offset: int = 0, limit: int | None = None) -> list[Message]:
        return self._record(conversation_id).shown[offset : None if limit is None else offset + limit]

    @_locked
    def latest(self, conversation_id: str, limit: int, until: int | None = None) -> list[Message]:
        record = self._record(conversation_id)
        shown = record.shown if until is None else record.branch_to(record.line_of(until))
        return shown[max(0, len(shown) - limit) :]

    @_locked
    def everything(self, conversation_id: str) -> list[Message]:
        record = self._record(conversation_id)
        parents: dict[int, int] = {}  # without those that are deleted, by line
        for line in range(len(record.messages)):
            parent = record.parents.get(line, line - 1)
            is_kept = parent == BEGINNING or not record.messages[parent].is_deleted
            parents[line] = parent if is_kept else parents[parent]
        order = [line for line in range(len(record.messages)) if line != record.end]
        ids = {BEGINNING: 0, **{line: message_id for message_id, line in record.lines.items()}}
        found = (replace(record.messages[n], parent=ids[parents[n]]) for n in [*order, record.end] if n != BEGINNING)
        return [message for message in found if not message.is_deleted]

    # --- branches

    @_locked
    def choose(self, conversation_id: str, message_id: int) -> Conversation:
        record = self._record(conversation_id)
        record.end = end_of(record.parents, len(record.messages), record.line_of(message_id))
        return record.refresh()

    @_locked
    def siblings(self, conversation_id: str) -> dict[int, list[int]]:
        record = self._record(conversation_id)
        groups = (record.those(lines) for lines in alternatives(record.parents, len(record.messages)))
        named = [[message.id for message in group] for group in groups if len(group) > 1]
        return {message_id: ids for ids in named for message_id in ids}

    # --- one message

    @_locked
    def message(self, message_id: int) -> Message:
        record, place = self._find(message_id)
        return record.messages[place]

    @_locked
    def edit(self, message_id: int, change: Change) -> Message:
        record, place = self._find(message_id)
        after = record.messages[place] = edited(record.messages[place], change)
        record.refresh()
        return after

    @_locked
    def hide(self, message_ids: list[int]) -> int:
        found = 0
        for message_id in message_ids:
            try:
                self.edit(message_id, hidden)
            except NotFound:
                continue
            found += 1
        return found

    def _record(self, conversation_id: str) -> Record:
        if conversation_id not in self._records:
            raise NotFound(NO_CONVERSATION)
        return self._records[conversation_id]

    def _find(self, message_id: int) -> tuple[Record, int]:
        """Return where a message is that is shown."""
        if found := self.by_number(number_of(message_id)):
            record = self._records[found.id]
            return record, record.line_of(message_id)
        raise NotFound(NO_MESSAGE)

    # --- turns: nothing outlives this process, so there is no checkpoint to remember

    @_locked
    def sent(self, conversation_id: str, key: str) -> Sent | None:
        record = self._records.get(conversation_id)
        known = record.with_key(key) if record else None
        if record is None or known is None:
            return None
        line = record.lines.get(known.id + 1)
        reply = record.messages[line] if line is not None else None
        return Sent(known, reply if reply and reply.role == "assistant" else None)

    begin = _locked(Store.begin)
    finish = _locked(Store.finish)

    @_locked
    def checkpoint(self, conversation_id: str, reply: Message, text: str) -> None:
        self._record(conversation_id)

    @_locked
    def discard_checkpoint(self, conversation_id: str) -> None:
        pass

    # --- the store itself

    def failure(self) -> str | None:
        return CLOSED if self._is_closed else None

    def ready(self) -> bool:
        return True

    def close(self) -> None:
        self._is_closed = True
