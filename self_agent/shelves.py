"""Folders and tags that a user gives to conversations; a conversation can be in any number of folders.

There is always the default folder, which nobody makes, renames or deletes. A conversation that is deleted, in whichever
way, is out of every folder and without tags: see `storage.shelves`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

from core import clock
from core.errors import InvalidRequest, NotFound
from self_agent.conversations import Conversations
from self_agent.events import Change, Tell, unheard
from self_agent.models import Folder, Shelf, Tag, check_id
from self_agent.storage.base import Store
from self_agent.storage.shelves import Marks

__all__ = ["Marks", "Shelves"]

DEFAULT = "default"
DEFAULT_NAME = "默认收藏夹"
NO_MARKS = Marks()
MAX_LENGTH = 500  # characters of a name or a tag
MAX_FOLDERS = MAX_TAGS = 10_000  # of a user: all of them are shown at once


class Shelves:
    """The use cases, over one store; `user_id` is who asks, and what is another user's does not exist."""

    def __init__(self, store: Store, conversations: Conversations, tell: Tell = unheard) -> None:
        """`tell` is called with each conversation whose folders or tags are others now."""
        self._store = store
        self._tell = tell
        self._conversations = conversations
        self._began = clock.now()

    # --- folders

    def folders(self, user_id: str) -> list[Folder]:
        """Return a user's folders, the default one first, then oldest first."""
        return list(self._complete(self._store.shelf(user_id)).folders)

    def create_folder(self, user_id: str, name: str) -> Folder:
        """Create a folder. Raises InvalidRequest for a name that is empty, too long or taken."""
        now = clock.now()
        made = Folder(str(uuid.uuid4()), _checked("name", name), {}, now, now)

        def change(shelf: Shelf) -> Shelf:
            _check_free(shelf, made)
            if len(shelf.folders) >= MAX_FOLDERS:
                raise InvalidRequest(f"there are {MAX_FOLDERS:,} folders already: delete one first")
            return replace(shelf, folders=(*shelf.folders, made))

        self._change(user_id, change)
        return made

    def rename_folder(self, user_id: str, folder_id: str, name: str) -> Folder:
        """Rename a folder. Raises InvalidRequest for the default one, and as `create_folder` does."""
        wanted = _checked("name", name)

        def rename(shelf: Shelf, folder: Folder) -> Folder:
            _check_own(folder)
            renamed = replace(folder, name=wanted)
            _check_free(shelf, renamed)
            return renamed

        return self._change_folder(user_id, folder_id, rename)

    def delete_folder(self, user_id: str, folder_id: str) -> None:
        """Delete a folder; its conversations stay. Raises InvalidRequest for the default one."""

        def change(shelf: Shelf) -> Shelf:
            gone = _folder(shelf, folder_id)
            _check_own(gone)
            return replace(shelf, folders=tuple(folder for folder in shelf.folders if folder is not gone))

        self._change(user_id, change)

    def add(self, user_id: str, folder_id: str, conversation_id: str) -> Folder:
        """Put a conversation into a folder, where it may be already."""
        found = self._conversations.find(user_id, conversation_id)

        def add(_: Shelf, folder: Folder) -> Folder:
            return replace(folder, conversations={**folder.conversations, found.id: found.number})

        return self._change_folder(user_id, folder_id, add)

    def remove(self, user_id: str, folder_id: str, conversation_id: str) -> Folder:
        """Take a conversation out of a folder; it need not be in it, nor exist any more."""
        check_id(conversation_id)

        def remove(_: Shelf, folder: Folder) -> Folder:
            rest = {name: number for name, number in folder.conversations.items() if name != conversation_id}
            return replace(folder, conversations=rest)

        return self._change_folder(user_id, folder_id, remove)

    # --- tags

    def tags(self, user_id: str, conversation_id: str | None = None) -> list[Tag]:
        """Return a user's tags, oldest first, or those of one conversation, which need not exist."""
        wanted = conversation_id and check_id(conversation_id)
        tags = self._store.shelf(user_id).tags
        return [tag for tag in tags if wanted is None or tag.conversation_id == wanted]

    def marks(self, user_id: str) -> Mapping[int, Marks]:
        """Return the folders and tags of conversations by number; see Store.marks."""
        return self._store.marks(user_id)

    def add_tag(self, user_id: str, conversation_id: str, text: str) -> Tag:
        """Give a conversation a tag, and return it, or the one it has with this text."""
        found = self._conversations.find(user_id, conversation_id)
        now = clock.now()
        made = Tag(str(uuid.uuid4()), found.id, found.number, _checked("tag", text), now, now)

        def change(shelf: Shelf) -> Shelf:
            if _same_tag(shelf, made):
                return shelf
            if len(shelf.tags) >= MAX_TAGS:
                raise InvalidRequest(f"there are {MAX_TAGS:,} tags already: delete one first")
            return replace(shelf, tags=(*shelf.tags, made))

        return _same_tag(self._change(user_id, change), made) or made

    def change_tag(self, user_id: str, tag_id: str, text: str) -> Tag:
        """Give a tag another text. Raises InvalidRequest if its conversation has one with this text already."""
        wanted = _checked("tag", text)

        def change(shelf: Shelf) -> Shelf:
            before = _tag(shelf, tag_id)
            if before.tag == wanted:
                return shelf
            after = replace(before, tag=wanted, updated_at=clock.now())
            if _same_tag(shelf, after):
                raise InvalidRequest("tag: the conversation has this tag already")
            return replace(shelf, tags=tuple(after if tag is before else tag for tag in shelf.tags))

        return _tag(self._change(user_id, change), tag_id)

    def delete_tag(self, user_id: str, tag_id: str) -> None:
        """Take a tag away."""

        def change(shelf: Shelf) -> Shelf:
            gone = _tag(shelf, tag_id)
            return replace(shelf, tags=tuple(tag for tag in shelf.tags if tag is not gone))

        self._change(user_id, change)

    # --- shelves

    def _change(self, user_id: str, change: Callable[[Shelf], Shelf]) -> Shelf:
        touched: set[tuple[str, int]] = set()

        def complete_change(shelf: Shelf) -> Shelf:
            before = self._complete(shelf)
            after = change(before)
            touched.update(place[:2] for place in _places(before) ^ _places(after))
            return after

        shelf = self._store.change_shelf(user_id, complete_change)
        for conversation_id, number in sorted(touched):
            self._tell(user_id, Change("changed", conversation_id, number))
        return shelf

    def _change_folder(self, user_id: str, folder_id: str, change: Callable[[Shelf, Folder], Folder]) -> Folder:
        def on_shelf(shelf: Shelf) -> Shelf:
            before = _folder(shelf, folder_id)
            after = change(shelf, before)
            if after == before:
                return shelf
            after = replace(after, updated_at=clock.now())
            return replace(shelf, folders=tuple(after if folder is before else folder for folder in shelf.folders))

        return _folder(self._change(user_id, on_shelf), folder_id)

    def _complete(self, shelf: Shelf) -> Shelf:
        return complete(shelf, self._began)


def complete(shelf: Shelf, created_at: str) -> Shelf:
    """Return a shelf with the default folder, which is stored with the first change; `created_at` is for a new one."""
    if any(folder.id == DEFAULT for folder in shelf.folders):
        return shelf
    return replace(shelf, folders=(Folder(DEFAULT, DEFAULT_NAME, {}, created_at, created_at), *shelf.folders))


def _places(shelf: Shelf) -> set[tuple[str, int, str, str]]:
    """Return where each conversation is: its id and number, and the folder or tag, with what that says."""
    filed = {(name, n, folder.id, "") for folder in shelf.folders for name, n in folder.conversations.items()}
    return filed | {(tag.conversation_id, tag.number, tag.id, tag.tag) for tag in shelf.tags}


def _folder(shelf: Shelf, folder_id: str) -> Folder:
    for folder in shelf.folders:
        if folder.id == folder_id:
            return folder
    raise NotFound("this folder does not exist")


def _tag(shelf: Shelf, tag_id: str) -> Tag:
    for tag in shelf.tags:
        if tag.id == tag_id:
            return tag
    raise NotFound("this tag does not exist")


def _same_tag(shelf: Shelf, wanted: Tag) -> Tag | None:
    """Return the tag of the same conversation with the same text, if there is one."""
    same = (tag for tag in shelf.tags if (tag.number, tag.tag) == (wanted.number, wanted.tag))
    return next(same, None)


def _check_own(folder: Folder) -> None:
    if folder.id == DEFAULT:
        raise InvalidRequest("the default folder can be neither renamed nor deleted")


def _check_free(shelf: Shelf, wanted: Folder) -> None:
    if any(folder.name == wanted.name and folder.id != wanted.id for folder in shelf.folders):
        raise InvalidRequest("name: there is a folder with this name already")


def _checked(field: str, text: str) -> str:
    if not text.strip():
        raise InvalidRequest(f"{field} must not be empty")
    if len(text.strip()) > MAX_LENGTH:
        raise InvalidRequest(f"{field} must not be longer than {MAX_LENGTH} characters")
    return text.strip()
