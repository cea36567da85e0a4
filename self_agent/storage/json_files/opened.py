"""The parts of the store of JSON files from opening to closing, and what is not in a document: projects and shelves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from core import clock
from core.errors import AppError, NotFound, StorageError
from self_agent.models import Project, Shelf
from self_agent.storage.base import CLOSED, NO_CONVERSATION, ShelfChange, Store
from self_agent.storage.json_files import opening, snapshot
from self_agent.storage.json_files.catalog import Catalog
from self_agent.storage.json_files.checkpoints import Checkpoints
from self_agent.storage.json_files.deleted import Deleted
from self_agent.storage.json_files.documents import Documents
from self_agent.storage.json_files.entry import PROJECT, Entry
from self_agent.storage.json_files.folder import Folder
from self_agent.storage.json_files.projects import Projects
from self_agent.storage.json_files.shelves import Shelves
from self_agent.storage.shelves import MarkIndex, Marks, of_those, with_kept

T = TypeVar("T")

log = logging.getLogger(__name__)

SWEEP_SECONDS = 86_400.0  # between two looks for what was deleted too long ago
SNAPSHOT_SECONDS = 300.0  # between snapshots of a catalog that changes: what a crash makes the next start re-read


class Opened(Store):
    """A data folder that this process owns.

    Opening takes the lock and returns; the documents are read by a thread, and other methods wait for it.
    Raises StartupError when the folder cannot be written or another process owns it.
    """

    def __init__(self, folder: Path, *, lock_timeout: float = 5.0, keep_days: float | None = None) -> None:
        """`keep_days`: how long what is deleted can be restored; None is for ever."""
        self._folder = Folder(folder)
        self._folder.own(lock_timeout)
        self._catalog = Catalog()
        self._projects = Projects(self._folder.projects)
        self._shelves = Shelves(self._folder.shelves)
        self._documents = Documents(self._folder, self._catalog, self._projects)
        self._deleted = Deleted(self._documents)
        self._checkpoints = Checkpoints(self._folder)
        self._marks = MarkIndex()
        self._keep_days = keep_days
        self._loaded = threading.Event()
        self._closing = threading.Event()
        self._close_lock = threading.Lock()
        self._is_usable = False  # opened, and not closed
        self._refusal: str | None = None  # why no method works: closed, or opening failed
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        """Open the folder; then now and then save a snapshot, and once a day sweep away what was deleted long ago."""
        try:
            self._shelves.load(self._documents.foreign.quarantine)
            self._catalog.raise_numbers(self._shelves.last_number)
            opening.open_folder(self._documents, self._checkpoints)
            self._deleted.load()
            self._is_usable = True
        except Exception as error:
            log.exception("the data folder cannot be opened")
            reason = error.message if isinstance(error, AppError) else "see the log"
            self._refusal = f"The data folder could not be opened: {reason}"
        finally:
            self._loaded.set()
        self._sweep()
        while not self._closing.wait(SNAPSHOT_SECONDS):
            self._save_snapshot()
            if time.monotonic() - self._swept > SWEEP_SECONDS:
                self._sweep()

    def _sweep(self) -> None:
        self._swept = time.monotonic()
        if self._keep_days is None or not self._is_usable:
            return
        try:
            self.sweep(clock.days_ago(self._keep_days))
        except StorageError as error:
            log.warning("what was deleted long ago is still there: %s", error.message)

    def sweep(self, before: str) -> int:
        return self._opened(self._deleted).sweep(before)

    def _save_snapshot(self) -> None:
        if not self._catalog.is_dirty:
            return
        try:
            snapshot.save(self._folder.catalog, self._catalog)
        except StorageError as error:
            log.warning("the snapshot of the catalog was not saved: %s", error.message)

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

    def marks(self, user_id: str) -> Mapping[int, Marks]:
        return self._marks.of(user_id, self._opened(self._shelves).get(user_id))

    def change_shelf(self, user_id: str, change: ShelfChange) -> Shelf:
        def on_all(shelf: Shelf) -> Shelf:
            return with_kept(change(self._of_those(user_id, shelf)), shelf, self._deleted.is_kept)

        return self._of_those(user_id, self._opened(self._shelves).change(user_id, on_all))

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
