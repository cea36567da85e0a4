"""What every store does with shelves: a conversation that is gone is on none, whoever removed it and however."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from self_agent.models import Folder, Shelf, Tag

EMPTY = Shelf()


class Marks(NamedTuple):
    """The ids of the folders that a conversation is in, and its tags."""

    folders: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()


class MarkIndex:
    """The marks of conversations by number, made once for each shelf there is: a change makes another one."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Shelf, dict[int, Marks]]] = {}

    def of(self, user_id: str, shelf: Shelf) -> Mapping[int, Marks]:
        """Return the marks of everything on a user's shelf."""
        known = self._known.get(user_id)
        if known is None or known[0] is not shelf:
            known = self._known[user_id] = (shelf, _marks_on(shelf))
        return known[1]


def _marks_on(shelf: Shelf) -> dict[int, Marks]:
    folders: dict[int, list[str]] = {}
    tags: dict[int, list[Tag]] = {}
    for folder in shelf.folders:
        for number in folder.conversations.values():
            folders.setdefault(number, []).append(folder.id)
    for tag in shelf.tags:
        tags.setdefault(tag.number, []).append(tag)
    return {n: Marks(tuple(folders.get(n, ())), tuple(tags.get(n, ()))) for n in (*folders, *tags)}


def of_those(shelf: Shelf, is_there: Callable[[int], bool]) -> Shelf:
    """Return a shelf with only the conversations whose numbers are still somebody's.

    Numbers are never given again, so a deletion need not touch the shelf: were it cut off between the two, an id that
    is used again would bring back the folders and tags of the conversation that had it before.
    """
    folders = tuple(_folder_of_those(folder, is_there) for folder in shelf.folders)
    return Shelf(folders, tuple(tag for tag in shelf.tags if is_there(tag.number)))


def _folder_of_those(folder: Folder, is_there: Callable[[int], bool]) -> Folder:
    kept = {name: number for name, number in folder.conversations.items() if is_there(number)}
    return folder if len(kept) == len(folder.conversations) else replace(folder, conversations=kept)


def with_kept(shelf: Shelf, before: Shelf, is_kept: Callable[[int], bool]) -> Shelf:
    """Return a shelf that was changed with what was on it before and can be restored, which `of_those` had left out."""
    was = {folder.id: folder for folder in before.folders}
    folders = tuple(_folder_with_kept(folder, was.get(folder.id, folder), is_kept) for folder in shelf.folders)
    seen = {tag.id for tag in shelf.tags}
    hidden = tuple(tag for tag in before.tags if tag.id not in seen and is_kept(tag.number))
    if not hidden:
        return Shelf(folders, shelf.tags)
    places = {tag.id: place for place, tag in enumerate(before.tags)}
    return Shelf(folders, tuple(sorted(shelf.tags + hidden, key=lambda tag: places.get(tag.id, len(places)))))


def _folder_with_kept(folder: Folder, before: Folder, is_kept: Callable[[int], bool]) -> Folder:
    now = folder.conversations
    hidden = {name: n for name, n in before.conversations.items() if is_kept(n) and name not in now}
    if not hidden:
        return folder
    there = {name: n for name, n in before.conversations.items() if name in hidden or now.get(name) == n}
    return replace(folder, conversations={**there, **now})
