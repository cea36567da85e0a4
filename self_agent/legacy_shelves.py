"""The older backend's `folders.json` and `tags.json`, leniently: nonsense is left out, nothing is doubled."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from core import clock
from core.errors import InvalidRequest
from self_agent.models import LOCAL_USER, Folder, Shelf, Tag, check_id
from self_agent.shelves import DEFAULT, DEFAULT_NAME, MAX_FOLDERS, MAX_LENGTH, MAX_TAGS, complete
from self_agent.storage import Store

Known = dict[str, int]  # the numbers of the conversations that are here, by their ids


def take_in_folders(store: Store, document: Any) -> int:
    """Add folders and what is in them; return how many are new or hold more than before."""
    return _take_in(store, document, "folders", _with_folder)


def take_in_tags(store: Store, document: Any) -> int:
    """Add tags; return how many are new."""
    return _take_in(store, document, "tags", _with_tag)


def _take_in(store: Store, document: Any, kind: str, add: Callable[[Shelf, dict[str, Any], Known], Shelf]) -> int:
    rows = list(_rows(document, kind))
    known = {found.id: found.number for found in store.conversations(LOCAL_USER, archived=None).items}
    taken = 0

    def change(shelf: Shelf) -> Shelf:
        nonlocal taken
        shelf = complete(shelf, clock.now())
        for row in rows:
            after = add(shelf, row, known)
            taken += after != shelf
            shelf = after
        return shelf

    store.change_shelf(LOCAL_USER, change)
    return taken


def _rows(document: Any, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list, of a list under `kind`, or of a dict by id."""
    if isinstance(document, dict) and isinstance(document.get(kind), (list, dict)):
        document = document[kind]
    if isinstance(document, dict):
        document = [{"id": key, **row} for key, row in document.items() if isinstance(row, dict)]
    if isinstance(document, list):
        yield from (row for row in document if isinstance(row, dict))


def _with_folder(shelf: Shelf, row: dict[str, Any], known: Known) -> Shelf:
    key, name = _id(row.get("folder_id") or row.get("id")), _text(row.get("name"))
    if key == DEFAULT or row.get("is_default") is True or name == DEFAULT_NAME:
        key, name = DEFAULT, DEFAULT_NAME
    if name is None:
        return shelf
    listed = row.get("conversation_ids")
    named = [each for each in (listed if isinstance(listed, list) else []) if isinstance(each, str)]
    members = {each: known[each] for each in named if each in known}
    same = [folder for folder in shelf.folders if folder.id == key] or [f for f in shelf.folders if f.name == name]
    if same:
        before = same[0]
        after = replace(before, conversations={**before.conversations, **members})
        return replace(shelf, folders=tuple(after if folder is before else folder for folder in shelf.folders))
    if len(shelf.folders) >= MAX_FOLDERS:
        return shelf
    return replace(shelf, folders=(*shelf.folders, Folder(key, name, members, *_times(row))))


def _with_tag(shelf: Shelf, row: dict[str, Any], known: Known) -> Shelf:
    key, text, named = _id(row.get("id")), _text(row.get("tag")), row.get("conversation_id")
    if text is None or not isinstance(named, str) or named not in known or len(shelf.tags) >= MAX_TAGS:
        return shelf
    number = known[named]
    if any(tag.id == key or (tag.number, tag.tag) == (number, text) for tag in shelf.tags):
        return shelf
    return replace(shelf, tags=(*shelf.tags, Tag(key, named, number, text, *_times(row))))


def _id(value: Any) -> str:
    """Return the id that something had if it can stand in a path, else a new one."""
    try:
        return check_id(str(value or ""))
    except InvalidRequest:
        return str(uuid.uuid4())


def _text(value: Any) -> str | None:
    text = value.strip()[:MAX_LENGTH].rstrip() if isinstance(value, str) else ""
    return text or None


def _times(row: dict[str, Any]) -> tuple[str, str]:
    created_at = clock.normalize_or(row.get("created_at"), "") or clock.now()
    return created_at, clock.normalize_or(row.get("updated_at"), created_at)
