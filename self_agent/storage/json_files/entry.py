"""What is known of one conversation while its document lies on the disk; read from the document's header and lines."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core import files
from self_agent.models import SETTABLE, Conversation, Message, Metadata, first_of, summary_of
from self_agent.storage.json_files import lines
from self_agent.storage.json_files.lines import ON_DISK, TIMESTAMP_LENGTH, Fields, Irregular
from self_agent.storage.json_files.outline import Outline, Read
from self_agent.storage.json_files.salvage import is_heading, is_number
from self_agent.storage.matching import folded, is_match

DELETED = ("is_deleted", "deleted_at")  # what the header of a deleted document has besides
UNSEEN, WHOLE, TORN = "unseen", "whole", "torn"
# Where they are in `Entry.settable`.
TITLE, PROJECT, DRAFT, PINNED, ARCHIVED = (
    list(SETTABLE).index(name) for name in ("title", "project_id", "is_draft", "pinned", "archived")
)


@dataclass(slots=True, eq=False)
class Entry:
    """One conversation: what is shown of it, what is known of its file, and its lock.

    The fields that come first, up to `mtime_ns`, are the row of the snapshot, in this order.
    """

    id: str
    number: int
    user_id: str
    settable: tuple[Any, ...]  # see `shared`
    updated_at: str
    texts: str  # see `pack`
    total: int = 0  # lines of messages in the document
    hidden: int = 0  # of these, deleted ones and those of other branches than the one that is shown
    next_position: int = 1
    chosen: int = 0  # the message that ends the shown branch; 0: the last one does
    size: int = 0  # of the file when it was last read or written; another size or time: somebody edited it
    mtime_ns: int = 0
    lock: threading.Lock | None = None  # made when first needed: most conversations are never touched
    tail: str = UNSEEN  # what is known of the end of the file, see `documents._open_known`
    is_gone: bool = False  # removed from the catalog while somebody waited for the lock

    @property
    def count(self) -> int:
        """How many messages are shown."""
        return self.total - self.hidden

    @property
    def group(self) -> Group:
        """Among which others lists show it."""
        return (self.user_id, self.settable[ARCHIVED], self.settable[PINNED])

    @property
    def is_listed(self) -> bool:
        """Whether lists show it: a draft waits for its first message."""
        return self.total > 0 or not self.settable[DRAFT]

    @property
    def created_at(self) -> str:
        """When the conversation was created."""
        return self.texts[:TIMESTAMP_LENGTH]

    def conversation(self) -> Conversation:
        """Return what a use case may see."""
        created_at, first, summary = unpack(self.texts)
        known = (self.id, self.number, self.user_id, created_at, self.updated_at)
        values: tuple[Any, ...] = (*known, *self.settable, self.total - self.hidden, first, summary)
        return Conversation(*values)

    def with_set(self, changes: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return `settable` with some of its fields changed."""
        return shared(changes.get(name, value) for name, value in zip(SETTABLE, self.settable, strict=True))


Group = tuple[str, bool, bool]  # of a list: whose, archived, pinned
Wanted = Callable[[Entry], bool]


def wanted(project_id: int | None, matching: str) -> Wanted | None:
    """Return what says whether an entry is of a project, if that is named, and has these words; None: all are."""
    words = folded(matching)
    if project_id is None and not words:
        return None

    def is_wanted(entry: Entry) -> bool:
        if project_id is not None and entry.settable[PROJECT] != project_id:
            return False
        return not words or is_match(words, entry.settable[TITLE], _first(entry.texts))

    return is_wanted


def shared(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the values of `models.SETTABLE`, in this order, as the one tuple of all conversations that are like it."""
    same: tuple[Any, ...] = _same(tuple(_same(_frozen(value)) for value in values))
    return same


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return Metadata(value) if isinstance(value, dict) else value


@lru_cache(1024, typed=True)
def _same(value: Any) -> Any:
    return value


def pack(created_at: str, first: str, summary: str) -> str:
    """Keep three texts of an entry as one: two objects less each, an eighth of the whole catalog."""
    return f"{created_at}{chr(len(first))}{first}{summary}"


def unpack(texts: str) -> tuple[str, str, str]:
    """Return what `pack` was given."""
    middle = TIMESTAMP_LENGTH + 1 + ord(texts[TIMESTAMP_LENGTH])
    return texts[:TIMESTAMP_LENGTH], texts[TIMESTAMP_LENGTH + 1 : middle], texts[middle:]


def _first(texts: str) -> str:
    return texts[TIMESTAMP_LENGTH + 1 : TIMESTAMP_LENGTH + 1 + ord(texts[TIMESTAMP_LENGTH])]


def with_appended(texts: str, messages: Sequence[Message]) -> str:
    """Return the three texts of an entry as one after messages were appended that are shown."""
    summary = summary_of(messages[-1].content)
    if first_length := ord(texts[TIMESTAMP_LENGTH]):
        return texts[: TIMESTAMP_LENGTH + 1 + first_length] + summary
    first = next(filter(None, (first_of(m.role, m.content) for m in messages)), "")
    return pack(texts[:TIMESTAMP_LENGTH], first, summary)


# --- from and to documents


def read_entry(path: Path, conversation_id: str) -> Entry:
    """Return the entry of a document in the line form. Raises Irregular and FileNotFoundError."""
    return entry_of(*files.read_file(path), conversation_id)


def entry_of(data: bytes, status: os.stat_result, conversation_id: str) -> Entry:
    """Return the entry of a document in the line form. Raises Irregular."""
    header, end = lines.parse_header(data)
    if not is_heading(header, conversation_id):
        raise Irregular
    facts = lines.survey(data, header["number"], end)
    chosen = _chosen(header, data) if "chosen" in header else 0
    if chosen or facts.has_branches:
        outline = Outline(data, chosen)
        first, summary = outline.names(reader(data))
        facts = facts._replace(hidden=outline.total - outline.count, first=first, summary=summary)
    return Entry(
        conversation_id,
        header["number"],
        sys.intern(header["user_id"]),
        shared(header.get(ON_DISK[name], default) for name, default in SETTABLE.items()),
        max(header["updated_at"], facts.last_timestamp),
        pack(header["created_at"], facts.first, facts.summary),
        facts.total,
        facts.hidden,
        facts.next_position,
        chosen,
        status.st_size,
        status.st_mtime_ns,
    )


def choice(end: int, last: int) -> Fields:
    """Return what a header says where the branch that ends in one message is shown, as long as another is the last."""
    return {"chosen": {"end": end, "last": last}}


def _chosen(header: Fields, data: bytes) -> int:
    """Return the message that ends the shown branch, or 0: the last one does."""
    value = header["chosen"]
    if not (isinstance(value, dict) and is_number(value.get("end")) and is_number(value.get("last"))):
        return 0
    is_last = data.find(b'\n{"id":%d,' % value["last"]) == data.rfind(b'\n{"id":')
    is_there = lines.find_line(data, value["end"]) is not None
    return value["end"] if is_last and is_there and value["end"] != value["last"] else 0


def reader(data: bytes) -> Read:
    """Return what an outline reads a document with that is in memory."""
    return lambda size, start: data[start : start + size]


def with_header(data: bytes, changes: Mapping[str, Any]) -> list[bytes | memoryview]:
    """Return a document, in pieces, with some fields of its header set; it is a deleted one's only if they say so."""
    header, end = lines.parse_header(data)
    header = {name: value for name, value in header.items() if name not in DELETED}
    return [lines.header_line({**header, **changes}), memoryview(data)[end:]]
