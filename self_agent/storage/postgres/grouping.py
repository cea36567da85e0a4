"""Projects, folders and tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from core import clock
from core.errors import NotFound
from self_agent.models import MAX_NUMBER, Folder, Project, Shelf, Tag
from self_agent.storage.base import NO_PROJECT, ShelfChange
from self_agent.storage.postgres.opened import Opened
from self_agent.storage.postgres.rows import project_of, without_nul
from self_agent.storage.postgres.shape import Asked
from self_agent.storage.shelves import EMPTY, MarkIndex, Marks, of_those, with_kept

_PROJECT = "p.id, p.name, p.user_id, p.created_at"
MAX_SHELVES = 10_000  # users whose shelf is remembered


class Grouping(Opened):
    """The part of the contract that is about projects and shelves."""

    def __init__(self, url: str, *, keep_days: float | None = None) -> None:
        self._shelves: dict[str, tuple[int, Shelf]] = {}  # with the version that was read
        self._marks = MarkIndex()
        super().__init__(url, keep_days=keep_days)

    # --- projects

    def create_project(self, user_id: str, name: str) -> Project:
        sql = f"""WITH d AS (INSERT INTO projects VALUES (%(i)s, %(u)s))
            INSERT INTO project AS p VALUES (%(u)s, %(i)s, %(n)s, %(t)s) RETURNING {_PROJECT}"""
        values = {"i": self._number("project"), "u": user_id, "n": without_nul(name), "t": clock.now()}
        [row] = self._database.all(sql, values)
        return project_of(row)

    def projects(self, user_id: str) -> list[Project]:
        rows = self._database.all(f"SELECT {_PROJECT} FROM project p WHERE user_id = %s ORDER BY id", (user_id,))
        return [project_of(row) for row in rows]

    def project(self, project_id: int) -> Project | None:
        if not 0 < project_id <= MAX_NUMBER:
            return None
        sql = f"SELECT {_PROJECT} FROM projects d JOIN project p USING (user_id, id) WHERE d.id = %s"
        row = self._database.one(sql, (project_id,))
        return project_of(row) if row else None

    def rename_project(self, project_id: int, name: str) -> Project:
        sql = f"""UPDATE project p SET name = %s FROM projects d
            WHERE d.id = %s AND p.user_id = d.user_id AND p.id = d.id RETURNING {_PROJECT}"""
        known = 0 < project_id <= MAX_NUMBER
        row = self._database.one(sql, (without_nul(name), project_id)) if known else None
        if row is None:
            raise NotFound(NO_PROJECT)
        return project_of(row)

    def delete_project(self, project_id: int) -> None:
        if not 0 < project_id <= MAX_NUMBER:
            raise NotFound(NO_PROJECT)
        with self._database.transaction() as transaction:
            row = transaction.one("SELECT user_id FROM projects WHERE id = %s FOR UPDATE", (project_id,))
            key = (row[0], project_id) if row else ("", 0)
            if not transaction.all("DELETE FROM project WHERE user_id = %s AND id = %s RETURNING 1", key):
                raise NotFound(NO_PROJECT)
            transaction.all("UPDATE conversation SET project_id = 0 WHERE user_id = %s AND project_id = %s", key)

    # --- shelves

    def shelf(self, user_id: str) -> Shelf:
        return self._of_those(self._database, user_id, self._stored(self._database, user_id))

    def marks(self, user_id: str) -> Mapping[int, Marks]:
        return self._marks.of(user_id, self._stored(self._database, user_id))

    def change_shelf(self, user_id: str, change: ShelfChange) -> Shelf:
        with self._database.transaction() as transaction:
            transaction.all("INSERT INTO shelf (user_id) VALUES (%s) ON CONFLICT DO NOTHING", (user_id,))
            [version, body] = transaction.all(
                "SELECT version, body FROM shelf WHERE user_id = %s FOR UPDATE", (user_id,)
            )[0]
            before = _shelf_of(body)
            there, kept = _numbers_there(transaction, user_id, before)
            changed = with_kept(change(of_those(before, there.__contains__)), before, kept.__contains__)
            if changed != before or version == 0:
                sql = "UPDATE shelf SET version = version + 1, body = %s::json WHERE user_id = %s"
                transaction.all(sql, (orjson.dumps(changed).decode(), user_id))
            return self._of_those(transaction, user_id, changed)

    def _stored(self, asked: Asked, user_id: str) -> Shelf:
        """Return a shelf as it is stored, the same object until it changes."""
        known = self._shelves.get(user_id)
        sql = "SELECT version, CASE WHEN version <> %s THEN body END FROM shelf WHERE user_id = %s"
        row = asked.one(sql, (known[0] if known else -1, user_id))
        if row is None:
            return EMPTY
        if known is None or row[0] != known[0]:
            if len(self._shelves) >= MAX_SHELVES:
                self._shelves.clear()
                self._marks = MarkIndex()
            known = self._shelves[user_id] = (row[0], _shelf_of(row[1]))
        return known[1]

    def _of_those(self, asked: Asked, user_id: str, shelf: Shelf) -> Shelf:
        there, _ = _numbers_there(asked, user_id, shelf)
        return of_those(shelf, there.__contains__)


def _numbers_there(asked: Asked, user_id: str, shelf: Shelf) -> tuple[set[int], set[int]]:
    """Return which of the conversations on a shelf are there, and which can be restored."""
    numbers = {number for folder in shelf.folders for number in folder.conversations.values()}
    numbers |= {tag.number for tag in shelf.tags}
    if not numbers:
        return set(), set()
    sql = "SELECT number, deleted_at IS NULL FROM conversation WHERE user_id = %s AND number = ANY(%s::bigint[])"
    rows = asked.all(sql, (user_id, list(numbers)))
    return {n for n, is_there in rows if is_there}, {n for n, is_there in rows if not is_there}


def _shelf_of(body: Mapping[str, Iterable[Mapping[str, Any]]] | None) -> Shelf:
    if body is None:
        return EMPTY
    return Shelf(tuple(Folder(**row) for row in body["folders"]), tuple(Tag(**row) for row in body["tags"]))
