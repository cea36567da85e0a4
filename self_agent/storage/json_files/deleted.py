"""`deleted/`: documents that were deleted and can be restored, until they are swept away.

Whichever call a crash comes between, a start finds a conversation in one place: a deleted document whose number a
conversation has is what was left of a deletion or a restoration that did not get to its end, and goes.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

from core import clock, files
from core.errors import Conflict, NotFound, StorageBusy, StorageError, StorageFull
from self_agent.storage.base import NOT_DELETED, TAKEN
from self_agent.storage.json_files.documents import Documents
from self_agent.storage.json_files.entry import DELETED, Entry, entry_of, with_header
from self_agent.storage.json_files.folder import GONE, SUFFIX, deleted_number, file_stem, id_of_stem
from self_agent.storage.json_files.foreign import Source, check_unchanged, state_of
from self_agent.storage.json_files.lines import Fields, Irregular, parse_header
from self_agent.storage.json_files.reading import whole

log = logging.getLogger(__name__)


class Deleted:
    """The documents of conversations that were deleted softly."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._catalog = documents.catalog
        self._folder = documents.folder
        self._lock = threading.Lock()  # of whoever restores or sweeps
        self._stems: dict[int, str] = {}  # the names of documents' files by their numbers, without these
        self.is_kept = self._stems.__contains__  # whether the conversation with a number can be restored

    def load(self) -> None:
        """Learn what there is, and finish what a crash cut off."""
        for path in self._files():
            stem, number = path.stem.rpartition("~")[0], deleted_number(path.stem)
            there = self._catalog.by_number(number)
            if there is None or there.id != id_of_stem(stem):
                self._stems[number] = stem
                continue
            with suppress(StorageError):  # then at the next start
                files.remove_file(path)

    def _files(self) -> Iterator[Path]:
        with files.storage_errors(), suppress(FileNotFoundError), os.scandir(self._folder.deleted) as items:
            for item in items:
                if item.name.endswith(SUFFIX) and deleted_number(item.name[: -len(SUFFIX)]):
                    yield Path(item.path)

    # --- deleting

    def remove(self, entry: Entry, *, keep: bool) -> None:
        """Remove a document; with `keep`, leave it among the deleted ones, which it says in its header."""
        path, target = self._folder.document(entry.id), self._folder.deleted_document(entry.id, entry.number)
        with self._documents.held(entry):
            try:
                if keep:
                    marks = dict(zip(DELETED, (True, clock.now()), strict=True))
                    pieces = with_header(self._documents.on(entry, whole), marks)
                    files.make_folder(target.parent)  # not before: the data folder may be gone as a whole
                    files.replace_file(target, pieces)
                else:
                    files.forget_file(target)  # of a deletion that failed
                with suppress(StorageFull) if keep else nullcontext():  # the name of the kept one has it
                    self._documents.projects.keep_number(entry.number, self._catalog.last_number)
                files.remove_file(path)
            except StorageFull:
                self._remove_without_room(entry.number, path, target if keep else target.with_suffix(GONE))
            if keep:
                self._stems[entry.number] = file_stem(entry.id)
            self._documents.forget(entry)

    def _remove_without_room(self, number: int, path: Path, target: Path) -> None:
        """Move a document to the deleted ones, where its name remembers the number: that takes no room."""
        files.move_file(path, target)
        if target.suffix == GONE:
            with suppress(StorageError):  # else the next start does the rest
                files.start_file(target, b"")
                self._documents.projects.keep_number(number, self._catalog.last_number)
                files.forget_file(target)

    # --- restoring

    def restore(self, user_id: str, conversation_id: str, since: str) -> Entry:
        """Put back the newest document with this id that is the user's and was deleted at `since` or later.

        Raises NotFound, Conflict when the id is taken, StorageBusy while an editor writes the file.
        """
        stem = file_stem(conversation_id)
        with self._lock:
            for number in sorted((n for n, name in list(self._stems.items()) if name == stem), reverse=True):
                path = self._folder.deleted_document(conversation_id, number)
                with suppress(FileNotFoundError, Irregular):  # somebody took it away, or it is no document any more
                    source, header = self._read(path)
                    deleted_at = clock.normalize_or(header.get("deleted_at"), _time_of(source[1]))
                    if header.get("user_id") == user_id and deleted_at >= since:
                        with self._catalog.holding(conversation_id):
                            return self._put_back(path, source, conversation_id, number)
        raise NotFound(NOT_DELETED)

    def _read(self, path: Path) -> tuple[Source, Fields]:
        source = files.read_file(path)
        try:
            return source, parse_header(source[0])[0]
        except Irregular:
            return source, self._documents.foreign.salvaged(path, source).header

    def _put_back(self, path: Path, source: Source, conversation_id: str, number: int) -> Entry:
        target = self._folder.document(conversation_id)
        if self._catalog.by_number(number):
            raise Conflict(TAKEN)
        if target.exists():
            raise StorageError("A file of this name was put into the data folder: restart the server to read it.")
        try:
            entry = self._written(path, source, conversation_id, number)
        except StorageBusy:
            raise
        except StorageError:
            with suppress(StorageError):
                files.forget_file(target)  # the name may be there already, only not durably
            raise
        with suppress(StorageError):  # else the next start does it
            files.remove_file(path)
        self._stems.pop(number, None)
        self._catalog.add(entry)
        return entry

    def _written(self, path: Path, source: Source, conversation_id: str, number: int) -> Entry:
        """Write the document of a deleted one in its place, and return its entry; on a full disk move it there."""
        state = state_of(source[1])
        try:
            entry = entry_of(*source, conversation_id)
            if entry.number != number:
                raise Irregular
        except Irregular:  # edited by hand
            found = self._documents.foreign.salvaged(path, source)
            return self._documents.foreign.adopt(path, state, found, conversation_id, number, None)
        target = self._folder.document(conversation_id)
        try:
            status = files.replace_file(target, with_header(source[0], {}), lambda: check_unchanged(path, state))
            entry.size, entry.mtime_ns = state_of(status)
        except StorageFull:
            check_unchanged(path, state)
            files.move_file(path, target)
        return entry

    # --- sweeping

    def sweep(self, before: str) -> int:
        """Remove for good what was deleted before a time; return how much that was."""
        with self._lock:
            old = [path for path in self._files() if _time_of(path.stat()) < before]
            if not old:
                return 0
            top = max(deleted_number(path.stem) for path in old)
            has_room = True
            try:
                self._documents.projects.keep_number(top, self._catalog.last_number)
            except StorageFull:
                has_room = False
            for path in old:
                number = deleted_number(path.stem)
                self._stems.pop(number, None)
                if has_room:
                    files.forget_file(path)  # one that comes back after a power cut is swept again
                else:
                    self._remove_without_room(number, path, path.with_suffix(GONE))
        log.info("swept away %d conversations that were deleted before %s", len(old), before)
        return len(old)


def _time_of(status: os.stat_result) -> str:
    """Return when a document was deleted: written, or moved, to where it lies. No file need be read for that."""
    return clock.from_microseconds(max(status.st_mtime_ns, status.st_ctime_ns) // 1000)
