"""What lists need of every conversation, in memory and sorted; derived from the documents, never the truth itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from heapq import merge
from itertools import islice, takewhile
from operator import attrgetter
from typing import Any

from core.errors import Conflict, StorageError
from self_agent.models import MAX_NUMBER, Conversation, Page
from self_agent.storage.base import TAKEN
from self_agent.storage.json_files.entry import PROJECT, Entry, Group, Wanted
from self_agent.storage.rows import next_after

AHEAD = 1 << 20  # a number so far above those that were given was made by hand, and does not count towards them
BATCH = 1000  # entries handled per hold of the lock when all are walked, so that no request waits long
_updated_at = attrgetter("updated_at")


class Catalog:
    """All entries: by id, by number, and each group of a list in the order of their last update.

    Its lock is only ever held for work in memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._released = threading.Condition(self._lock)
        self._by_id: dict[str, Entry] = {}
        self.get = self._by_id.get  # the entry of an id, or None
        self._by_number: dict[int, Entry] = {}
        self.by_number = self._by_number.get  # the entry of a number, or None
        self._order: dict[Group, dict[int, Entry]] = {}  # the listed ones by number: oldest update first
        self._being_created: set[str] = set()
        self.last_number = 0  # the highest that was ever given: not the highest there is, see AHEAD
        self.is_dirty = False  # changed since the last snapshot

    # --- looking up

    def page(
        self, user_id: str, archived: bool | None, is_wanted: Wanted | None, offset: int, limit: int | None
    ) -> Page[Conversation]:
        """Return a user's conversations, pinned ones first, then newest update first; with `is_wanted` all are seen."""
        stop = None if limit is None else offset + limit
        with self._lock:
            found = self._newest_first(user_id, archived)
            if is_wanted is None:
                total = sum(len(self._order.get(group, ())) for group in _groups(user_id, archived, (True, False)))
                return Page([entry.conversation() for entry in islice(found, offset, stop)], total)
            everything = list(found)
        chosen = [entry for entry in everything if is_wanted(entry)]
        return Page([entry.conversation() for entry in chosen[offset:stop]], len(chosen))

    def _newest_first(self, user_id: str, archived: bool | None) -> Iterator[Entry]:
        for pinned in (True, False):
            orders = [self._order.get(group, {}) for group in _groups(user_id, archived, (pinned,))]
            newest = [reversed(order.values()) for order in orders if order]
            yield from newest[0] if len(newest) == 1 else merge(*newest, key=_updated_at, reverse=True)

    def batches(self) -> Iterator[list[Entry]]:
        """Yield all entries, a list at a time, each with the lock held."""
        with self._lock:
            everything = list(self._by_id.values())
        for start in range(0, len(everything), BATCH):
            with self._lock:
                yield [entry for entry in everything[start : start + BATCH] if not entry.is_gone]

    def lock_of(self, entry: Entry) -> threading.Lock:
        """Return the lock that whoever touches the conversation's file must hold."""
        lock = entry.lock
        if lock is None:
            with self._lock:
                lock = entry.lock = entry.lock or threading.Lock()
        return lock

    def wait_for_holders(self) -> None:
        """Return when everybody who holds a conversation's lock now has let go of it."""
        for entries in list(self.batches()):
            for lock in [entry.lock for entry in entries if entry.lock]:
                with lock:
                    pass

    # --- changing

    def load(self, entries: dict[int, Entry], given: Iterable[int] = ()) -> None:
        """Take what was found at the start, by number and in any order; others were `given` too."""
        with self._lock:
            for number in sorted({*entries, *given}):
                self._count(number)
            self._by_number = entries  # not a copy: of 100,000 it would take 5 MiB
            self.by_number = entries.get
            for entry in sorted(entries.values(), key=lambda entry: entry.updated_at):
                self._insert(entry)

    def raise_numbers(self, number: int) -> None:
        """Never give this number or one below it."""
        with self._lock:
            self.last_number = max(self.last_number, number)

    @contextmanager
    def creating(self, conversation_id: str) -> Iterator[int]:
        """Hold an id as `holding` does for a new conversation, and yield its number."""
        with self.holding(conversation_id):
            yield self.take_number()

    @contextmanager
    def holding(self, conversation_id: str) -> Iterator[None]:
        """Hold an id while the file of its conversation is being made.

        Raises Conflict if there is one with this id: one that is just being made is waited for, so that whoever
        gets the Conflict finds it.
        """
        with self._lock:
            while conversation_id in self._being_created:
                self._released.wait()
            if conversation_id in self._by_id:
                raise Conflict(TAKEN)
            self._being_created.add(conversation_id)
        try:
            yield
        finally:
            with self._lock:
                self._being_created.discard(conversation_id)
                self._released.notify_all()

    def take_number(self) -> int:
        """Return a number that no other conversation had or will get."""
        with self._lock:
            return self._next_number()

    def add(self, entry: Entry) -> None:
        """Add a new conversation."""
        with self._lock:
            self._count(entry.number)
            self._insert(entry)
            self._put_in_order(entry)

    def update(self, entry: Entry, settable: Mapping[str, Any], **changes: Any) -> None:
        """Set fields of an entry, so that nobody sees only some of them, and keep the lists sorted."""
        with self._lock:
            group = entry.group
            entry.settable = entry.with_set(settable)
            for name, value in changes.items():
                setattr(entry, name, value)
            self.is_dirty = True
            if entry.group != group:
                self._order[group].pop(entry.number, None)
            if "updated_at" in changes and not entry.is_gone:
                self._put_in_order(entry)

    def appended(
        self, entry: Entry, count: int, hidden: int, status: os.stat_result, updated_at: str, texts: str
    ) -> None:
        """Do as `update` does, only faster, after `count` messages were appended; `hidden` are those of all.

        The last one ends the shown branch now.
        """
        with self._lock:
            entry.total += count
            entry.hidden = hidden
            entry.chosen = 0
            entry.size = status.st_size
            entry.mtime_ns = status.st_mtime_ns
            entry.updated_at = updated_at
            entry.texts = texts
            self.is_dirty = True
            if next(reversed(self._order[entry.group].values()), None) is not entry:  # a later time leaves it there
                self._put_in_order(entry)

    def take_positions(self, entry: Entry, count: int) -> int:
        """Take `count` positions for messages that nobody else will get; return the first."""
        with self._lock:
            position, entry.next_position = entry.next_position, next_after(entry.next_position, count)
            return position

    def leave_project(self, project_id: int) -> None:
        """Put the conversations of a project that is gone into none."""
        with self._lock:
            for entry in self._by_id.values():
                if entry.settable[PROJECT] == project_id:
                    entry.settable = entry.with_set({"project_id": 0})
            self.is_dirty = True

    def remove(self, entry: Entry) -> None:
        """Forget a conversation; who waits for its lock will find it gone."""
        with self._lock:
            entry.is_gone = True
            self.is_dirty = True
            del self._by_id[entry.id], self._by_number[entry.number]
            self._order[entry.group].pop(entry.number, None)

    def _next_number(self) -> int:
        number = self.last_number + 1
        while number in self._by_number:
            number += 1
        if number > MAX_NUMBER:
            raise StorageError("The store has no numbers left for new conversations.")
        self.last_number = number
        return number

    def _count(self, number: int) -> None:
        if self.last_number < number <= self.last_number + AHEAD:
            self.last_number = number

    def _insert(self, entry: Entry) -> None:
        self._by_id[entry.id] = self._by_number[entry.number] = entry
        order = self._order.setdefault(entry.group, {})
        if entry.is_listed:
            order[entry.number] = entry
        self.is_dirty = True

    def _put_in_order(self, entry: Entry) -> None:
        """Move an entry to its place, near the end: only writers that overtook each other put newer ones there."""
        order = self._order.setdefault(entry.group, {})
        order.pop(entry.number, None)  # a plain dict keeps the order of insertion in half the memory of an OrderedDict
        if not entry.is_listed:
            return
        newer = list(takewhile(lambda other: other.updated_at > entry.updated_at, reversed(order.values())))
        for moved in (entry, *reversed(newer)):
            order.pop(moved.number, None)
            order[moved.number] = moved


def _groups(user_id: str, archived: bool | None, pinned: tuple[bool, ...]) -> list[Group]:
    either = (False, True) if archived is None else (archived,)
    return [(user_id, is_archived, is_pinned) for is_archived in either for is_pinned in pinned]
