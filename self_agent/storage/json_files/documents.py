"""All documents on the disk: each is touched only under its conversation's lock, once it is known to be what we know.

The file is opened by its path each time: an editor may have put another in its place.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from core import files
from core.errors import NotFound, StorageError, StorageFull
from self_agent.models import SETTABLE, Message
from self_agent.storage.base import CLOSED, NO_CONVERSATION
from self_agent.storage.json_files import lines, reading
from self_agent.storage.json_files.catalog import Catalog
from self_agent.storage.json_files.entry import TORN, UNSEEN, WHOLE, Entry, entry_of, pack, with_appended
from self_agent.storage.json_files.folder import Folder
from self_agent.storage.json_files.foreign import Foreign, Source, State, busy, check_unchanged, state_of
from self_agent.storage.json_files.lines import CLOSING, SEPARATOR, Fields, Irregular
from self_agent.storage.json_files.outline import Outlines
from self_agent.storage.json_files.projects import Projects
from self_agent.storage.json_files.rewriting import placed
from self_agent.storage.rows import fill, from_rows, numbered, positions_wanted

log = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 3  # at reading a document that another program keeps changing
_TAKEN_OVER = (
    "updated_at",
    "texts",
    "total",
    "hidden",
    "chosen",
    "size",
    "mtime_ns",
)  # of a file edited while the server runs


class Documents:
    """The files of all conversations."""

    def __init__(self, folder: Folder, catalog: Catalog, projects: Projects) -> None:
        self.folder, self.catalog, self.projects = folder, catalog, projects
        self._name_of = lru_cache(4096)(folder.document_name)
        self.outlines = Outlines()
        self.foreign = Foreign(folder)
        self._torn: dict[int, State] = {}  # by number: the file as an append left it that could not be undone
        self.is_closed = False

    # --- opening

    @contextmanager
    def held(self, entry: Entry) -> Iterator[None]:
        """Hold a conversation's lock. Raises NotFound when it was removed while we waited."""
        with self.catalog.lock_of(entry):
            self._check(entry)
            yield

    def use(self, entry: Entry, work: Callable[..., T], *args: Any) -> T:
        """Return `work(entry, fd, …)`, called with the conversation's lock held and its file, as we know it, open.

        Raises NotFound when the conversation was removed meanwhile.
        """
        with entry.lock or self.catalog.lock_of(entry):
            return self.on(entry, work, *args)

    def on(self, entry: Entry, work: Callable[..., T], *args: Any) -> T:
        """Do as `use` does with the lock held already."""
        fd = self._open_known(entry, files.READ)
        known = self._torn.get(entry.number) if entry.tail is TORN else (entry.size, entry.mtime_ns)
        try:
            result = work(entry, fd, *args)
        except ValueError:
            if state_of(os.fstat(fd)) == known:
                raise
            raise busy() from None
        else:
            if state_of(os.fstat(fd)) != known:  # an editor emptied it while we read
                raise busy()
            return result
        finally:
            os.close(fd)

    def _check(self, entry: Entry) -> None:
        """Look again after waiting for the lock."""
        if self.is_closed:
            raise StorageError(CLOSED)
        if entry.is_gone:
            raise NotFound(NO_CONVERSATION)

    def _open_known(self, entry: Entry, flags: int) -> int:
        for _ in range(_ATTEMPTS):
            if self.is_closed or entry.is_gone:
                self._check(entry)
            if entry.tail is TORN:
                try:
                    self._undo_append(entry)
                except StorageError:
                    if flags == files.READ and (fd := self._open_torn(entry)) is not None:
                        return fd
                    raise
            fd = self._open(entry, flags)
            try:
                status = os.fstat(fd)
                if status.st_size == entry.size and status.st_mtime_ns == entry.mtime_ns:
                    if entry.tail is WHOLE:
                        return fd
                    # A power cut may leave what an append wrote without its size and time.
                    if files.read_at(fd, len(CLOSING), entry.size - len(CLOSING)) == CLOSING:
                        entry.tail = WHOLE
                        return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            self._read_again(entry)
        raise busy()

    def _open(self, entry: Entry, flags: int) -> int:
        try:
            return files.open_file(self._name_of(entry.id), flags)
        except FileNotFoundError:
            if not self.folder.conversations.is_dir():
                raise StorageError("The data folder is gone: put it back or restart the server.") from None
            self.foreign.check_still(self.folder.document(entry.id), None)  # an editor may be about to put it back
            log.warning("the file of conversation %d is gone", entry.number)
            self.forget(entry)
            raise NotFound(NO_CONVERSATION) from None

    def _open_torn(self, entry: Entry) -> int | None:
        """Open for reading what a failed append left unchanged: on a full disk nobody can make that durable."""
        fd = self._open(entry, files.READ)
        is_as_left = state_of(os.fstat(fd)) == self._torn.get(entry.number)
        if is_as_left and files.read_at(fd, len(CLOSING) + 1, entry.size - len(CLOSING)) == CLOSING:
            return fd
        os.close(fd)
        return None

    def _undo_append(self, entry: Entry) -> None:
        fd = self._open(entry, files.CHANGE)
        try:
            if state_of(os.fstat(fd)) == self._torn.get(entry.number):  # else somebody has written to it since
                try:
                    files.cut_tail(fd, entry.size - len(CLOSING), CLOSING)
                finally:
                    self._torn[entry.number] = state_of(os.fstat(fd))
        finally:
            os.close(fd)
        self._torn.pop(entry.number, None)
        entry.tail = UNSEEN

    def _read_again(self, entry: Entry) -> None:
        """Take over what somebody else made of a file; set it aside if it is no document any more.

        Raises StorageBusy while they may still be writing it.
        """
        self.outlines.drop(entry.number)
        path = self.folder.document(entry.id)
        files.sync_folder(path.parent)  # it may be a replacement of ours whose sync failed
        try:
            found = self._reread(path, entry, files.read_file(path))
        except FileNotFoundError:
            return  # the next attempt at opening says so
        except Irregular:
            self.forget(entry)
            self.foreign.quarantine(path)
            raise NotFound(NO_CONVERSATION) from None
        self.foreign.settled(path)
        changes = {name: getattr(found, name) for name in _TAKEN_OVER}
        changes["next_position"] = max(found.next_position, entry.next_position)
        settable = dict(zip(SETTABLE, found.settable, strict=True))
        del settable["project_id"]  # counts from the next start on
        self.catalog.update(entry, settable, **changes)

    def _reread(self, path: Path, entry: Entry, source: Source) -> Entry:
        with suppress(Irregular):
            found = entry_of(*source, entry.id)
            if found.number == entry.number:
                return found
        state = state_of(source[1])
        is_ours = entry.tail is UNSEEN and state == (entry.size, entry.mtime_ns)  # see `_open_known`
        salvaged = self.foreign.salvaged(path, source, is_at_rest=is_ours)
        known = entry.total if is_ours else None
        return self.foreign.adopt(path, state, salvaged, entry.id, entry.number, known)

    def forget(self, entry: Entry) -> None:
        """Take a conversation out of the catalog for good; its number is remembered."""
        with suppress(StorageFull):  # then the next snapshot remembers it, or the next deletion
            self.projects.keep_number(entry.number, self.catalog.last_number)
        self.catalog.remove(entry)
        self.outlines.drop(entry.number)

    # --- whole files

    def create(self, header: Fields, messages: tuple[Message, ...]) -> tuple[Entry, list[Message]]:
        """Write the file of a new conversation, and return its entry and its messages as they are stored."""
        rows = fill(numbered(messages, header["number"]), header["number"], 1)
        path = self.folder.document(header["conversation_id"])
        if path.exists():
            raise StorageError("A file of this name was put into the data folder: restart the server to read it.")
        data = lines.header_line(header) + (lines.ending(map(lines.dump, rows), first=True) if rows else CLOSING)
        try:
            status = files.replace_file(path, [data])
            return entry_of(data, status, header["conversation_id"]), from_rows(rows)
        except (StorageError, Irregular):
            files.forget_file(path)  # the name may be there already, only not durably
            raise

    def rewrite(
        self, entry: Entry, pieces: Iterable[bytes | memoryview], settable: Mapping[str, Any], **changes: Any
    ) -> None:
        """Replace a document, and update the entry with what is different."""
        self.outlines.drop(entry.number)
        path, known = self.folder.document(entry.id), (entry.size, entry.mtime_ns)
        status = files.replace_file(path, pieces, lambda: check_unchanged(path, known))
        self.catalog.update(entry, settable, size=status.st_size, mtime_ns=status.st_mtime_ns, **changes)

    # --- messages

    def append(
        self, entry: Entry, messages: tuple[Message, ...], *, spare: int = 0, unless: Callable[..., bool] | None = None
    ) -> list[Message]:
        """Append messages durably and return them as stored; `spare` positions stay free. `unless` is asked first."""
        # Each turn waits for this twice, and what runs next to a sync runs out of cold caches: hence few layers.
        with entry.lock or self.catalog.lock_of(entry):
            fd = self._open_known(entry, files.CHANGE)
            try:
                if not messages or (unless and unless(entry, fd)):
                    return []
                is_plain = not entry.chosen and all(message.parent is None for message in messages)
                if not is_plain:
                    messages = placed(reading.outline_of(entry, fd, self.outlines), messages)
                new = positions_wanted(messages, entry.number, entry.next_position) + spare
                position = self.catalog.take_positions(entry, new) if new else 0
                rows = fill(messages, entry.number, position)
                ends = list(map(lines.dump, rows))
                updated_at, hidden = entry.updated_at, entry.hidden
                for row in rows:
                    if row["timestamp"] > updated_at:
                        updated_at = row["timestamp"]
                    if "is_deleted" in row:
                        hidden += 1
                shown = messages if hidden == entry.hidden else [m for m in messages if not m.is_deleted]
                texts = with_appended(entry.texts, shown) if shown else entry.texts
                stored = from_rows(rows)
                end = entry.size - len(CLOSING)
                data = lines.ending(ends, first=not entry.total)
                entry.tail = TORN  # until we know better
                try:
                    status = files.overwrite_tail(fd, end, data, CLOSING)
                except StorageError:
                    self._torn[entry.number] = state_of(os.fstat(fd))
                    raise
                if status.st_size != end + len(data) or not status.st_nlink:  # an editor came between
                    entry.tail = UNSEEN
                    raise busy()
                entry.tail = WHOLE
                if self.outlines.lines:
                    start = end + (len(SEPARATOR) if entry.total else 1)
                    self.outlines.extend(entry.number, start, [len(line) for line in ends], rows)
                if not is_plain:
                    outline = self.outlines.get(entry.number, fd, status.st_size)
                    hidden = outline.total - outline.count
                    texts = pack(entry.created_at, *outline.names(partial(files.read_at, fd)))
                self.catalog.appended(entry, len(rows), hidden, status, updated_at, texts)
                return stored
            finally:
                os.close(fd)
