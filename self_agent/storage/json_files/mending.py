"""What can still be read of `store.json` and `shelves.json` when they cannot be read as a whole."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TypeVar

import orjson

from self_agent.models import MAX_NUMBER, Folder, Project, Tag
from self_agent.storage.json_files import projects, shelves
from self_agent.storage.json_files.lines import dump

T = TypeVar("T", Folder, Tag)

_LAST = re.compile(r'"(last_number|last_project)":\s*(\d{1,10})\b')
_USER = re.compile(r'"((?:[^"\\]|\\.)*)":\s*\{\s*"(?:folders|tags)":')


def mended_projects(data: bytes) -> bytes:
    """Return a `store.json` with the projects that can be read."""
    text = data.decode("utf-8", "replace")
    found: dict[int, Project] = {}
    last = {"last_number": 0, "last_project": 0}
    for name, number in _LAST.findall(text):
        last[name] = max(last[name], min(int(number), MAX_NUMBER))
    for _, row in _objects(text):
        for each in _list(row.get("projects")) if "projects" in row else [row]:
            try:
                project = projects.project_of(each)
            except (TypeError, ValueError):
                continue
            found.setdefault(project.id, project)
    last["last_project"] = max([last["last_project"], *found])
    return _pretty({"format": projects.FORMAT, **last, "projects": [asdict(each) for each in found.values()]})


def mended_shelves(data: bytes) -> bytes:
    """Return a `shelves.json` with the folders and tags that can be read, each its user's."""
    text = data.decode("utf-8", "replace")
    users = [(match.start(), json.loads(f'"{match[1]}"', strict=False)) for match in _USER.finditer(text)]
    starts = [start for start, _ in users]
    found: dict[str, dict[str, dict[str, Any]]] = {}

    def take(user_id: str, row: Any) -> None:
        made = _row(Folder, row) or _row(Tag, row)
        if made is not None:
            shelf = found.setdefault(user_id, {"folders": {}, "tags": {}})
            shelf["folders" if isinstance(made, Folder) else "tags"].setdefault(made.id, asdict(made))

    for start, row in _objects(text):
        whole = row.get("shelves")
        place = bisect_right(starts, start) - 1
        named = whole.items() if isinstance(whole, dict) else [(users[place][1], row)] if place >= 0 else []
        for user_id, shelf in named:
            if not isinstance(shelf, dict):
                continue
            parts = [*_list(shelf.get("folders")), *_list(shelf.get("tags"))]
            for each in parts or [shelf]:
                take(user_id, each)
    kept = {user: {name: list(rows.values()) for name, rows in shelf.items()} for user, shelf in found.items()}
    return _pretty({"format": shelves.FORMAT, "shelves": kept})


def _objects(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the outermost objects that are whole, and where each begins."""
    decoder = json.JSONDecoder(strict=False)
    place = text.find("{")
    while place >= 0:
        try:
            found, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            yield place, found
        place = text.find("{", end)


def _row(kind: type[T], row: Any) -> T | None:
    try:
        made = shelves.row_of(kind, row)
    except (TypeError, ValueError):
        return None
    numbers = made.conversations.values() if isinstance(made, Folder) else [made.number]
    return made if all(type(number) is int and 0 < number <= MAX_NUMBER for number in numbers) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _pretty(value: Any) -> bytes:
    return orjson.dumps(orjson.loads(dump(value)), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
