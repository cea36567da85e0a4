"""The store of JSON files: what the contract promises, in terms of its documents, catalog, projects, shelves, …"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from core import clock
from core.errors import Conflict, NotFound, NotYours
from self_agent.models import Conversation, Message, Page, id_at, number_of
from self_agent.storage.base import NO_CONVERSATION, NO_MESSAGE, Begun, Change, Sent
from self_agent.storage.json_files import reading, repeats, rewriting
from self_agent.storage.json_files.entry import Entry, choice, wanted, with_header
from self_agent.storage.json_files.lines import ON_DISK, header_of
from self_agent.storage.json_files.opened import Opened
from self_agent.storage.rows import check_settable, hidden, is_as_expected, place_of

T = TypeVar("T")

log = logging.getLogger(__name__)

SNAPSHOT_SECONDS = 300.0  # between snapshots of a catalog that changes: what a crash makes the next start re-read


class JsonFileStore(Opened):
    """Keeps each conversation in one JSON document that is appended to in place."""

    # --- conversations

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
        fields |= {"created_at": created_at, "updated_at": updated_at}
        return self._create(conversation_id, user_id, *messages, shown=shown, **fields)[0].conversation()

    def _create(
        self,
        conversation_id: str,
        user_id: str,
        *messages: Message,
        shown: int | None = None,
        created_at: str | None = None,
        updated_at: str | None = None,
        **fields: Any,
    ) -> tuple[Entry, list[Message]]:
        """Create a conversation that begins with these messages, all of it in one replacement."""
        check_settable(fields)
        with self._opened(self._catalog).creating(conversation_id) as number:
            now = created_at or clock.now()
            clock.not_before(updated_at or now)
            header = header_of(conversation_id, number, user_id, fields, now, updated_at or now)
            if shown is not None:
                header |= choice(id_at(number, place_of(shown, messages) + 1), id_at(number, len(messages)))
            entry, stored = self._documents.create(header, messages)
            self._catalog.add(entry)
            self._leave_gone_project(entry)
            return entry, stored

    def get(self, conversation_id: str) -> Conversation | None:
        entry = self._opened(self._catalog).get(conversation_id)
        return entry.conversation() if entry else None

    def by_number(self, number: int) -> Conversation | None:
        entry = self._opened(self._catalog).by_number(number)
        return entry.conversation() if entry else None

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
        return self._opened(self._catalog).page(user_id, archived, wanted(project_id, matching), offset, limit)

    def update(
        self, conversation_id: str, *, expect: Mapping[str, Any] | None = None, moves: bool = True, **changes: Any
    ) -> Conversation:
        check_settable(changes)
        now = clock.now()
        header = {ON_DISK[name]: value for name, value in changes.items()}

        def rewrite(entry: Entry, fd: int) -> Conversation:
            if not is_as_expected(entry.conversation(), expect):
                return entry.conversation()
            later = max(now, entry.updated_at) if moves else entry.updated_at
            pieces = with_header(reading.whole(entry, fd), header | {"updated_at": later})
            self._documents.rewrite(entry, pieces, changes, updated_at=later)
            self._leave_gone_project(entry)
            return entry.conversation()

        return self._documents.use(self._entry(conversation_id), rewrite)

    def delete(self, conversation_id: str, *, keep: bool = False) -> int:
        entry = self._entry(conversation_id)
        self._deleted.remove(entry, keep=keep)
        self._checkpoints.discard(conversation_id)
        return entry.count

    def restore(self, user_id: str, conversation_id: str, *, since: str = "") -> Conversation:
        entry = self._opened(self._deleted).restore(user_id, conversation_id, since)
        self._leave_gone_project(entry)
        return entry.conversation()

    # --- messages

    def reserve(self, conversation_id: str) -> int:
        entry = self._entry(conversation_id)
        return id_at(entry.number, self._catalog.take_positions(entry, 1))

    def append(self, conversation_id: str, *messages: Message) -> list[Message]:
        return self._documents.append(self._entry(conversation_id), messages)

    def messages(self, conversation_id: str, *, offset: int = 0, limit: int | None = None) -> list[Message]:
        entry = self._entry(conversation_id)
        return self._documents.use(entry, reading.page, self._documents.outlines, offset, limit)

    def latest(self, conversation_id: str, limit: int, until: int | None = None) -> list[Message]:
        entry = self._entry(conversation_id)
        return self._documents.use(entry, reading.latest, self._documents.outlines, limit, until)

    def everything(self, conversation_id: str) -> list[Message]:
        return self._documents.use(self._entry(conversation_id), reading.everything, self._documents.outlines)

    def message(self, message_id: int) -> Message:
        entry = self._opened(self._catalog).by_number(number_of(message_id))
        if entry is None:
            raise NotFound(NO_MESSAGE)
        found = self._documents.use(entry, reading.find, self._documents.outlines, message_id)
        if found is None or found.is_deleted:
            raise NotFound(NO_MESSAGE)
        return found

    def edit(self, message_id: int, change: Change) -> Message:
        if entry := self._opened(self._catalog).by_number(number_of(message_id)):
            for message in self._change(entry, [message_id], change):
                return message
        raise NotFound(NO_MESSAGE)

    def hide(self, message_ids: list[int]) -> int:
        count, by_number = 0, dict[int, list[int]]()
        for each in dict.fromkeys(message_ids):
            by_number.setdefault(number_of(each), []).append(each)
        for number, ids in by_number.items():
            if entry := self._opened(self._catalog).by_number(number):
                with suppress(NotFound):  # it went meanwhile
                    count += len(self._change(entry, ids, hidden))
        return count

    def _change(self, entry: Entry, ids: list[int], change: Change) -> list[Message]:
        def rewrite(entry: Entry, fd: int) -> list[Message]:
            messages, after = rewriting.changed(entry, reading.whole(entry, fd), ids, change)
            if after:
                self._documents.rewrite(entry, after.pieces, {}, **after.changes)
            return messages

        return self._documents.use(entry, rewrite)

    # --- branches

    def choose(self, conversation_id: str, message_id: int) -> Conversation:
        def rewrite(entry: Entry, fd: int) -> Conversation:
            outline = reading.outline_of(entry, fd, self._documents.outlines)
            if after := rewriting.chosen(entry, reading.whole(entry, fd), outline, message_id):
                self._documents.rewrite(entry, after.pieces, {}, **after.changes)
            return entry.conversation()

        return self._documents.use(self._entry(conversation_id), rewrite)

    def siblings(self, conversation_id: str) -> dict[int, list[int]]:
        entry = self._entry(conversation_id)
        if not entry.hidden:
            return {}
        return self._documents.use(entry, reading.siblings, self._documents.outlines)

    # --- turns

    def begin(self, user_id: str, conversation_id: str, *said: Message, new: Mapping[str, Any] | None = None) -> Begun:
        entry = self._opened(self._catalog).get(conversation_id)
        if entry is None and new is not None:
            with suppress(Conflict):  # somebody else was faster
                return _begun(*self._create(conversation_id, user_id, *said, **new))
        entry = entry or self._entry(conversation_id)
        if entry.user_id != user_id:
            raise NotYours(NO_CONVERSATION)
        key = said[-1].key
        repeat = repeats.Repeat(self._documents.outlines, key) if key else None
        stored = self._documents.append(entry, said, spare=1, unless=repeat)
        return repeats.begun(entry, repeat.sent) if repeat and repeat.sent else _begun(entry, stored)

    def sent(self, conversation_id: str, key: str) -> Sent | None:
        entry = self._opened(self._catalog).get(conversation_id)
        return self._documents.use(entry, repeats.sent, self._documents.outlines, key) if entry else None

    def checkpoint(self, conversation_id: str, reply: Message, text: str) -> None:
        with self._documents.held(self._entry(conversation_id)):
            self._checkpoints.add(conversation_id, reply, text)

    def discard_checkpoint(self, conversation_id: str) -> None:
        self._opened(self._checkpoints).discard(conversation_id)


def _begun(entry: Entry, stored: list[Message]) -> Begun:
    return Begun(entry.conversation(), stored[-1], stored[-1].id + 1)
