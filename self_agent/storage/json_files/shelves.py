"""`shelves.json`: the folders and tags of every user."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import orjson

from core import files
from self_agent.models import MAX_NUMBER, Folder, Shelf, Tag
from self_agent.storage.base import ShelfChange
from self_agent.storage.rows import kinds_of
from self_agent.storage.shelves import EMPTY

T = TypeVar("T", Folder, Tag)

FORMAT = 1
_KINDS = {kind: kinds_of(kind) for kind in (Folder, Tag)}


class Shelves:
    """All shelves; each change is one durable replacement of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._shelves: dict[str, Shelf] = {}

    def load(self, set_aside: Callable[[Path], None]) -> None:
        """Read the file; one that cannot be read is set aside, and what is in it is lost from sight."""
        if self._path.exists() and not self._path.is_file():
            set_aside(self._path)
        try:
            data = files.read_file(self._path)[0] if self._path.exists() else b"{}"
            shelves = orjson.loads(data).get("shelves", {})
            self._shelves = {user_id: _shelf(fields) for user_id, fields in shelves.items()}
        except (ValueError, TypeError, AttributeError, LookupError):
            set_aside(self._path)

    @property
    def last_number(self) -> int:
        """The highest number of a conversation that is on a shelf: no other may get it."""
        return max((number for shelf in self._shelves.values() for number in _numbers(shelf)), default=0)

    def get(self, user_id: str) -> Shelf:
        """Return a user's shelf."""
        return self._shelves.get(user_id, EMPTY)

    def change(self, user_id: str, change: ShelfChange) -> Shelf:
        """Put what `change` makes of a shelf in its place, and only then believe it."""
        with self._lock:
            before = self.get(user_id)
            after = change(before)
            if after != before:
                shelves = {**self._shelves, user_id: after}
                content = {"format": FORMAT, "shelves": shelves}
                options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
                files.replace_file(self._path, [orjson.dumps(content, option=options)])
                self._shelves = shelves
            return after


def _numbers(shelf: Shelf) -> list[int]:
    in_folders = [number for folder in shelf.folders for number in folder.conversations.values()]
    return in_folders + [tag.number for tag in shelf.tags]


def _shelf(fields: dict[str, Any]) -> Shelf:
    """Return a shelf as it was written. Raises TypeError and KeyError for anything else."""
    folders = tuple(row_of(Folder, row) for row in fields["folders"])
    shelf = Shelf(folders, tuple(row_of(Tag, row) for row in fields["tags"]))
    if not all(type(number) is int and 0 < number <= MAX_NUMBER for number in _numbers(shelf)):
        raise TypeError("not numbers of conversations")
    return shelf


def row_of(kind: type[T], fields: dict[str, Any]) -> T:
    row = kind(**fields)
    if not all(type(value) in _KINDS[kind][name] for name, value in vars(row).items()):
        raise TypeError(f"not a {kind.__name__}")
    return row
