"""`store.json`: the projects, and the numbers that must never be given again although nothing holds them any more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson

from core import clock, files
from core.errors import NotFound, StorageError
from self_agent.models import MAX_NUMBER, Project
from self_agent.storage.base import NO_PROJECT
from self_agent.storage.json_files.catalog import AHEAD
from self_agent.storage.json_files.lines import dump

log = logging.getLogger(__name__)

FORMAT = 1


class Projects:
    """What belongs to the store as a whole; each change is one durable replacement of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._projects: dict[int, Project] = {}
        self._last_project = 0
        self.last_number = 0

    def load(self, set_aside: Callable[[Path], None]) -> None:
        """Read the file; one that cannot be read is set aside, and its projects are lost from sight."""
        try:
            data = files.read_file(self._path)[0] if self._path.exists() else b"{}"
            content = orjson.loads(data)
            projects = [project_of(fields) for fields in content.get("projects", [])]
            last_project = max([0, int(content.get("last_project", 0)), *(project.id for project in projects)])
            last_number = int(content.get("last_number", 0))
            if max(last_number, last_project) > MAX_NUMBER:
                raise ValueError("more conversations or projects than there can be")
        except (ValueError, TypeError, AttributeError):
            set_aside(self._path)
            return
        self._projects = {project.id: project for project in projects}
        self._last_project = last_project
        if last_number <= MAX_NUMBER - AHEAD:  # else an older version counted a number that was made by hand
            self.last_number = last_number

    def keep_number(self, number: int, last_number: int) -> None:
        """Remember, before the conversation with this number goes, that it was given: up to `last_number` all were."""
        with self._lock:
            if self.last_number < min(number, last_number):
                self._write(self._projects, self._last_project, last_number)

    def raise_project(self, project_id: int) -> None:
        """Never give this project id again: a document names it, though there is no such project.

        One far above those that were given was made by hand, and will not be reached.
        """
        if self._last_project < project_id <= self._last_project + AHEAD:
            self._last_project = project_id

    # --- projects

    def create(self, user_id: str, name: str) -> Project:
        """Create a project with the next free id."""
        with self._lock:
            if self._last_project >= MAX_NUMBER:
                raise StorageError("The store has no numbers left for new projects.")
            project = Project(self._last_project + 1, name, user_id, clock.now())
            self._write({**self._projects, project.id: project}, project.id)
            return project

    def of_user(self, user_id: str) -> list[Project]:
        """Return a user's projects, oldest first."""
        with self._lock:
            return [project for project in self._projects.values() if project.user_id == user_id]

    def get(self, project_id: int) -> Project | None:
        """Return a project, or None."""
        return self._projects.get(project_id)

    def is_gone(self, project_id: int) -> bool:
        """Say whether there was such a project, and is none any more."""
        return 0 < project_id <= self._last_project and project_id not in self._projects

    def rename(self, project_id: int, name: str) -> Project:
        """Rename a project. Raises NotFound."""
        with self._lock:
            project = replace(self._known(project_id), name=name)
            self._write({**self._projects, project_id: project}, self._last_project)
            return project

    def delete(self, project_id: int) -> None:
        """Delete a project. Raises NotFound."""
        with self._lock:
            self._known(project_id)
            rest = {key: project for key, project in self._projects.items() if key != project_id}
            self._write(rest, self._last_project)

    def _known(self, project_id: int) -> Project:
        project = self._projects.get(project_id)
        if project is None:
            raise NotFound(NO_PROJECT)
        return project

    def _write(self, projects: dict[int, Project], last_project: int, last_number: int = 0) -> None:
        """Write the file, and only then believe it."""
        last_number = max(last_number, self.last_number)
        content: dict[str, Any] = {
            "format": FORMAT,
            "last_number": last_number,
            "last_project": last_project,
            "projects": [asdict(project) for project in projects.values()],
        }
        data = orjson.dumps(orjson.loads(dump(content)), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        files.replace_file(self._path, [data])
        self._projects, self._last_project, self.last_number = projects, last_project, last_number


def project_of(fields: dict[str, Any]) -> Project:
    """Return a project as it was written. Raises TypeError for anything else."""
    project = Project(**fields)
    if [type(value) for value in asdict(project).values()] != [int, str, str, str] or not 0 < project.id <= MAX_NUMBER:
        raise TypeError("not a project")
    return project
