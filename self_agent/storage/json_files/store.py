"""The store of JSON files: what the contract promises, in terms of its documents, catalog, projects, shelves, …"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from core import clock
from core.errors import AppError, Conflict, NotFound, NotYours, StorageError
from self_agent.models import Conversation, Message, Page, Project, Shelf, id_at, number_of
from self_agent.storage.base import CLOSED, NO_CONVERSATION, NO_MESSAGE, Begun, Change, ShelfChange, Store
from self_agent.storage.json_files import opening, reading, snapshot
from self_agent.storage.json_files.catalog import Catalog
from self_agent.storage.json_files.checkpoints import Checkpoints
from self_agent.storage.json_files.documents import Documents
from self_agent.storage.json_files.entry import PROJECT, Entry, with_header
from self_agent.storage.json_files.folder import Folder
from self_agent.storage.json_files.lines import ON_DISK, header_of
from self_agent.storage.json_files.projects import Projects
from self_agent.storage.json_files.shelves import Shelves
from self_agent.storage.rows import check_settable, hidden
from self_agent.storage.shelves import of_those

T = TypeVar("T")

log = logging.getLogger(__name__)

SNAPSHOT_SECONDS = 300.0  # between snapshots of a catalog that changes: what a crash makes the next start re-read


class JsonFileStore(Store):
    """Keeps each conversation in one JSON document that is appended to in place.

    Opening takes the lock and returns; the documents are read by a thread, and other methods wait for it.
    Raises StartupError when the folder cannot be written or another process owns it.
    """

    def __init__(self, folder: Path, *, lock_timeout: float = 5.0) -> None:
        self._folder = Folder(folder)
        self._folder.own(lock_timeout)
        self._catalog = Catalog()
        self._projects = Projects(self._folder.projects)
        self._shelves = Shelves(self._folder.shelves)
        self._documents = Documents(self._folder, self._catalog, self._projects)
        self._checkpoints = Checkpoints(self._folder)
        self._loaded = threading.Event()
        self._closing = threading.Event()
        self._close_lock = threading.Lock()
        self._is_usable = False  # opened, and not closed
        self._refusal: str | None = None  # why no method works: closed, or opening failed
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        """Open the folder, then save a snapshot now and then."""
        try:
            self._shelves.load(self._documents.foreign.quarantine)
            self._catalog.raise_numbers(self._shelves.last_number)
            opening.open_folder(self._documents, self._checkpoints)
            self._is_usable = True
        except Exception as error:
            log.exception("the data folder cannot be opened")
            reason = error.message if isinstance(error, AppError) else "see the log"
            self._refusal = f"The data folder could not be opened: {reason}"
        finally:
            self._loaded.set()
        while not self._closing.wait(SNAPSHOT_SECONDS):
            self._save_snapshot()

    def _save_snapshot(self) -> None:
        if not self._catalog.is_dirty:
            return
        try:
            snapshot.save(self._folder.catalog, self._catalog)
        except StorageError as error:
            log.warning("the snapshot of the catalog was not saved: %s", error.message)

    # --- conversations

    def create(
        self,
        conversation_id: str,
        user_id: str,
        *,
        created_at: str | None = None,
        updated_at: str | None = None,
        **fields: Any,
    ) -> Conversation:
        times = {"created_at": created_at, "updated_at": updated_at}
        return self._create(conversation_id, user_id, **times, **fields)[0].conversation()

    def _create(
        self,
        conversation_id: str,
        user_id: str,
        *messages: Message,
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
        self, user_id: str, *, project_id: int | None = None, offset: int = 0, limit: int | None = None
    ) -> Page[Conversation]:
        return self._opened(self._catalog).page(user_id, project_id, offset, limit)

    def update(self, conversation_id: str, **changes: Any) -> Conversation:
        check_settable(changes)
        now = clock.now()
        header = {ON_DISK[name]: value for name, value in changes.items()}

        def rewrite(entry: Entry, fd: int) -> Conversation:
            later = max(now, entry.updated_at)
            pieces = with_header(reading.whole(entry, fd), header | {"updated_at": later})
            self._documents.rewrite(entry, pieces, changes, updated_at=later)
            self._leave_gone_project(entry)
            return entry.conversation()

        return self._documents.use(self._entry(conversation_id), rewrite)

    def delete(self, conversation_id: str, *, keep: bool = False) -> int:
        entry = self._entry(conversation_id)
        self._documents.remove(entry, {"is_deleted": True, "deleted_at": clock.now()} if keep else None)
        self._checkpoints.discard(conversation_id)
        return entry.count

    # --- messages

    def reserve(self, conversation_id: str) -> int:
        entry = self._entry(conversation_id)
        return id_at(entry.number, self._catalog.take_positions(entry, 1))

    def append(self, conversation_id: str, *messages: Message) -> list[Message]:
        return self._documents.append(self._entry(conversation_id), messages)

    def messages(self, conversation_id: str, *, offset: int = 0, limit: int | None = None) -> list[Message]:
        entry = self._entry(conversation_id)
        return self._documents.use(entry, reading.page, self._documents.tables, offset, limit)

    def latest(self, conversation_id: str, limit: int) -> list[Message]:
        return self._documents.use(self._entry(conversation_id), reading.latest, limit)

    def message(self, message_id: int) -> Message:
        entry = self._opened(self._catalog).by_number(number_of(message_id))
        if entry is None:
            raise NotFound(NO_MESSAGE)
        found = self._documents.use(entry, reading.find, self._documents.tables, message_id)
        if found is None or found.is_deleted:
            raise NotFound(NO_MESSAGE)
        return found

    def edit(self, message_id: int, change: Change) -> Message:
        if entry := self._opened(self._catalog).by_number(number_of(message_id)):
            for message in self._documents.use(entry, self._documents.change_messages, [message_id], change):
                return message
        raise NotFound(NO_MESSAGE)

    def hide(self, message_ids: list[int]) -> int:
        count, by_number = 0, dict[int, list[int]]()
        for each in dict.fromkeys(message_ids):
            by_number.setdefault(number_of(each), []).append(each)
        for number, ids in by_number.items():
            if entry := self._opened(self._catalog).by_number(number):
                with suppress(NotFound):  # it went meanwhile
                    count += len(self._documents.use(entry, self._documents.change_messages, ids, hidden))
        return count

    # --- turns

    def begin(
        self,
        user_id: str,
        conversation_id: str,
        question: Message,
        *,
        new: Mapping[str, Any] | None = None,
        before: Sequence[Message] = (),
    ) -> Begun:
        entry = self._opened(self._catalog).get(conversation_id)
        if entry is None and new is not None:
            with suppress(Conflict):  # somebody else was faster
                return _begun(*self._create(conversation_id, user_id, *before, question, **new))
        entry = entry or self._entry(conversation_id)
        if entry.user_id != user_id:
            raise NotYours(NO_CONVERSATION)
        return _begun(entry, self._documents.append(entry, (*before, question), spare=1))

    def checkpoint(self, conversation_id: str, reply: Message, text: str) -> None:
        with self._documents.held(self._entry(conversation_id)):
            self._checkpoints.add(conversation_id, reply, text)

    def discard_checkpoint(self, conversation_id: str) -> None:
        self._opened(self._checkpoints).discard(conversation_id)

    # --- projects

    def create_project(self, user_id: str, name: str) -> Project:
        return self._opened(self._projects).create(user_id, name)

    def projects(self, user_id: str) -> list[Project]:
        return self._opened(self._projects).of_user(user_id)

    def project(self, project_id: int) -> Project | None:
        return self._opened(self._projects).get(project_id)

    def rename_project(self, project_id: int, name: str) -> Project:
        return self._opened(self._projects).rename(project_id, name)

    def delete_project(self, project_id: int) -> None:
        self._opened(self._projects).delete(project_id)
        self._catalog.leave_project(project_id)

    def _leave_gone_project(self, entry: Entry) -> None:
        """Undo a move into a project that was deleted meanwhile.

        A deletion takes the project away first and its conversations out of it then: one of us sees the other.
        """
        project_id = entry.settable[PROJECT]
        if self._projects.is_gone(project_id):
            self._catalog.leave_project(project_id)

    # --- shelves

    def shelf(self, user_id: str) -> Shelf:
        return self._of_those(user_id, self._opened(self._shelves).get(user_id))

    def change_shelf(self, user_id: str, change: ShelfChange) -> Shelf:
        return self._opened(self._shelves).change(user_id, lambda shelf: change(self._of_those(user_id, shelf)))

    def _of_those(self, user_id: str, shelf: Shelf) -> Shelf:
        def is_there(number: int) -> bool:
            entry = self._catalog.by_number(number)
            return entry is not None and entry.user_id == user_id

        return of_those(shelf, is_there)

    # --- the store itself

    def failure(self) -> str | None:
        return self._refusal

    def ready(self) -> bool:
        return self._loaded.is_set()

    def close(self) -> None:
        with self._close_lock:
            if self._closing.is_set():
                return
            self._loaded.wait()
            self._closing.set()
            self._thread.join()
            if self._refusal is None:
                self._refusal = CLOSED
                self._is_usable = False
                self._documents.is_closed = True  # for those that wait for a lock
                self._catalog.wait_for_holders()
                self._save_snapshot()
            self._folder.release()

    def _opened(self, part: T) -> T:
        """Return a part of the store when it is open. Raises StorageError when it is not, or not any more."""
        if not self._is_usable:
            self._loaded.wait()
            if self._refusal is not None:
                raise StorageError(self._refusal)
        return part

    def _entry(self, conversation_id: str) -> Entry:
        catalog = self._catalog if self._is_usable else self._opened(self._catalog)  # most calls come by here
        entry = catalog.get(conversation_id)
        if entry is None:
            raise NotFound(NO_CONVERSATION)
        return entry


def _begun(entry: Entry, stored: list[Message]) -> Begun:
    return Begun(entry.conversation(), stored[-1], stored[-1].id + 1)
