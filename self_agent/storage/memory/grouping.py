"""What groups conversations in the store in memory, projects, folders and tags, and the lock of it all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from itertools import count
from typing import Any, TypeVar, cast

from core import clock
from core.errors import NotFound, StorageError
from self_agent.models import Project, Shelf
from self_agent.storage.base import CLOSED, NO_PROJECT, ShelfChange, Store
from self_agent.storage.shelves import EMPTY, MarkIndex, Marks, of_those, with_kept

M = TypeVar("M", bound=Callable[..., Any])


def locked(method: M) -> M:
    """Run a method under the store's lock, unless the store is closed."""

    @wraps(method)
    def run(self: Grouping, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            if self._is_closed:
                raise StorageError(CLOSED)
            return method(self, *args, **kwargs)

    return cast("M", run)


class Grouping(Store):
    """The part of the contract that is about projects and shelves."""

    _records: dict[str, Any]
    _deleted: dict[int, Any]

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_closed = False
        self._projects: dict[int, Project] = {}
        self._project_ids = count(1)
        self._gone_projects: set[int] = set()
        self._shelves: dict[str, Shelf] = {}
        self._marks = MarkIndex()

    # --- projects

    @locked
    def create_project(self, user_id: str, name: str) -> Project:
        project = Project(next(self._project_ids), name, user_id, clock.now())
        self._projects[project.id] = project
        return project

    @locked
    def projects(self, user_id: str) -> list[Project]:
        return [project for project in self._projects.values() if project.user_id == user_id]

    @locked
    def project(self, project_id: int) -> Project | None:
        return self._projects.get(project_id)

    @locked
    def rename_project(self, project_id: int, name: str) -> Project:
        if project_id not in self._projects:
            raise NotFound(NO_PROJECT)
        self._projects[project_id] = replace(self._projects[project_id], name=name)
        return self._projects[project_id]

    @locked
    def delete_project(self, project_id: int) -> None:
        if self._projects.pop(project_id, None) is None:
            raise NotFound(NO_PROJECT)
        self._gone_projects.add(project_id)
        for record in self._records.values():
            if record.conversation.project_id == project_id:
                record.refresh(project_id=0)

    def _without_gone(self, changes: dict[str, Any]) -> dict[str, Any]:
        return changes | {"project_id": 0} if changes.get("project_id") in self._gone_projects else changes

    # --- shelves

    @locked
    def shelf(self, user_id: str) -> Shelf:
        numbers = {r.conversation.number for r in self._records.values() if r.conversation.user_id == user_id}
        return of_those(self._shelves.get(user_id, EMPTY), numbers.__contains__)

    @locked
    def marks(self, user_id: str) -> Mapping[int, Marks]:
        return self._marks.of(user_id, self._shelves.get(user_id, EMPTY))

    @locked
    def change_shelf(self, user_id: str, change: ShelfChange) -> Shelf:
        after = change(self.shelf(user_id))
        self._shelves[user_id] = with_kept(after, self._shelves.get(user_id, EMPTY), self._deleted.__contains__)
        return after
