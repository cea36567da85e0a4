"""What every store does with shelves: a conversation that is gone is on none, whoever removed it and however."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from self_agent.models import Folder, Shelf


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
