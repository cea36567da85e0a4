"""Reading everything in a data folder, and saying what is wrong with it; nothing is changed.

A server may be using the folder: a file that changes while it is read is looked at again, and so is one that was found
wrong, for it may have been in the middle of a write.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from core import files
from core.errors import StorageError
from self_agent.storage.json_files import snapshot
from self_agent.storage.json_files.checkpoints import read_checkpoint
from self_agent.storage.json_files.entry import entry_of
from self_agent.storage.json_files.folder import SUFFIX, Folder, deleted_number, id_of_stem
from self_agent.storage.json_files.foreign import STILL_SECONDS
from self_agent.storage.json_files.lines import CLOSING, Fields, Irregular, parse_body, parse_header
from self_agent.storage.json_files.projects import Projects
from self_agent.storage.json_files.salvage import salvage
from self_agent.storage.json_files.shelves import Shelves

AGAIN = (0.0, 0.05, 0.3, STILL_SECONDS)  # seconds before a file is looked at (again) that is wrong

_CHANGES, _WHILE = 100, 0.01  # how often, and after how many seconds, one is read again that changed under the reader

Read = Callable[[Path, bytes, os.stat_result], "str | None"]


class Wrong(NamedTuple):
    """A file, and what is wrong with it."""

    path: Path
    reason: str


def verify(path: Path, step: Callable[[], object] = lambda: None) -> Iterator[Wrong]:
    """Yield what is wrong in a data folder; `step` is called after each file."""
    folder = Folder(path)
    if not folder.conversations.is_dir():
        yield Wrong(path, "it is no data folder: it has no conversations/")
        return
    numbers: dict[int, str] = {}
    for place, read in _all(folder, numbers):
        if reason := _checked(place, read):
            yield Wrong(place, reason)
        step()


def count(path: Path) -> int:
    """Return how many files `verify` is going to look at, about."""
    return sum(1 for _ in _all(Folder(path), {}))


def _all(folder: Folder, numbers: dict[int, str]) -> Iterator[tuple[Path, Read]]:
    """Yield each file with what reads it."""

    def document(path: Path, data: bytes, status: os.stat_result) -> str | None:
        return _document(path, data, status, numbers)

    for path in _entries(folder.conversations, SUFFIX):
        yield path, document
    for path in _entries(folder.deleted, SUFFIX):
        yield path, _deleted
    for path in _entries(folder.checkpoints, ".jsonl"):
        yield path, _checkpoint
    for path, read in ((folder.projects, _projects), (folder.shelves, _shelves), (folder.catalog, _snapshot)):
        if os.path.lexists(path):
            yield path, read


def _entries(folder: Path, suffix: str) -> Iterator[Path]:
    try:
        yield from (folder / name for name in sorted(os.listdir(folder)) if name.endswith(suffix))
    except FileNotFoundError:
        return


def _checked(path: Path, read: Read) -> str | None:
    """Return what is wrong with a file, if it stays so."""
    reason = None
    for pause in AGAIN:
        time.sleep(pause)
        for _ in range(_CHANGES):
            before = _state(path)
            reason = _reason(path, read)
            if reason is None or _state(path) == before:
                break
            time.sleep(_WHILE)  # it was written to while it was read, which says nothing about it
        if reason is None or _is_at_rest(path):
            return reason
    return reason


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _is_at_rest(path: Path) -> bool:
    """Say whether nobody can be in the middle of writing a file."""
    try:
        return time.time() - path.lstat().st_mtime > AGAIN[-1] + STILL_SECONDS
    except OSError:
        return False


def _reason(path: Path, read: Read) -> str | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "it is no file"
        return read(path, *files.read_file(path))
    except FileNotFoundError:
        return "it is a link to nowhere" if path.is_symlink() else None  # it has just been deleted
    except StorageError as error:
        return error.message
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


# --- what each kind of file must be


def _document(path: Path, data: bytes, status: os.stat_result, numbers: dict[int, str]) -> str | None:
    stem = path.name.removesuffix(SUFFIX)
    conversation_id = id_of_stem(stem)
    if conversation_id is None:
        return "its name spells no id"
    try:
        entry = entry_of(data, status, conversation_id)
    except Irregular:
        return _irregular(data)
    if numbers.setdefault(entry.number, stem) != stem:
        return f"it has the number {entry.number} of {numbers[entry.number]}{SUFFIX}"
    if b'"parent":' in data:
        for row in misplaced(parse_body(data[data.index(b"\n") + 1 : -len(CLOSING)])):
            return f"message {row['id']} follows {row['parent']}, which is not before it"
    return None


def misplaced(rows: Iterable[Fields]) -> list[Fields]:
    """Return the messages that follow one that is not before them; they count as following the one before."""
    seen: set[int] = set()
    wrong = []
    for row in rows:
        if row.get("parent") and row["parent"] not in seen:
            wrong.append(row)
        seen.add(row["id"])
    return wrong


def _irregular(data: bytes) -> str:
    try:
        found = salvage(data)
    except Irregular:
        return "its header cannot be read"
    readable = f"{len(found.messages)} messages can be read"
    if found.lost:
        return f"parts of it cannot be read; {readable}"
    return f"it is not in the line form; {readable}" if found.is_whole else f"its end is torn; {readable}"


def _deleted(path: Path, data: bytes, status: os.stat_result) -> str | None:
    stem = path.name.removesuffix(SUFFIX)
    number, conversation_id = deleted_number(stem), id_of_stem(stem.rpartition("~")[0])
    if not number or conversation_id is None:
        return "its name spells no id and number"
    try:
        header, _ = parse_header(data)
        entry = entry_of(data, status, conversation_id)
    except Irregular:
        return _irregular(data)
    if entry.number != number:
        return f"it has the number {entry.number}, its name says {number}"
    return None if header.get("is_deleted") is True else "its header does not say that it is deleted"


def _checkpoint(path: Path, data: bytes, status: os.stat_result) -> str | None:
    """A torn end is none of its faults: it is not synced, and what stands before is good."""
    return None if b"\n" not in data or read_checkpoint(data) else "its first line cannot be read"


def _projects(path: Path, data: bytes, status: os.stat_result) -> str | None:
    wrong: list[Path] = []
    Projects(path).load(wrong.append)
    return "projects in it cannot be read" if wrong else None


def _shelves(path: Path, data: bytes, status: os.stat_result) -> str | None:
    wrong: list[Path] = []
    Shelves(path).load(wrong.append)
    return "folders or tags in it cannot be read" if wrong else None


def _snapshot(path: Path, data: bytes, status: os.stat_result) -> str | None:
    return snapshot.fault(path)
