"""What groups conversations in the store of JSON files: projects, folders and tags."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TypeVar

from self_agent.models import Project, Shelf
from self_agent.storage.base import ShelfChange, Store
from self_agent.storage.json_files.catalog import Catalog
from self_agent.storage.json_files.deleted import Deleted
from self_agent.storage.json_files.entry import PROJECT, Entry
from self_agent.storage.json_files.projects import Projects
from self_agent.storage.json_files.shelves import Shelves
from self_agent.storage.shelves import MarkIndex, Marks, of_those, with_kept

T = TypeVar("T")


class Grouping(Store):
    """The part of the contract that is about projects and shelves."""

    _catalog: Catalog
    _deleted: Deleted
    _projects: Projects
    _shelves: Shelves
    _marks: MarkIndex

    @abstractmethod
    def _opened(self, part: T) -> T:
        """Return a part of the store when it is open."""

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
