"""Where imported chats go: projects, folders and tags are found by name, or made.

Folders and tags are one file for all, so they are written for many chats at once, after these are stored.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from core import clock
from self_agent.models import Conversation, Folder, Shelf, Tag
from self_agent.shelves import DEFAULT, DEFAULT_NAME, MAX_FOLDERS, MAX_TAGS, complete
from self_agent.storage.base import Store
from self_agent.transfer.chats import Group

AT_ONCE = 200  # chats whose folders and tags are written together
MAX_NEW_PROJECTS = 1000  # by one import: each writes all projects

_Placement = tuple[Conversation, Sequence[Group], Sequence[str]]


class Places:
    """A user's projects, folders and tags while an import goes on."""

    def __init__(self, store: Store, user_id: str) -> None:
        self._store = store
        self._user_id = user_id
        self._projects: dict[str, int] | None = None
        self._new_projects = 0
        self._waiting: list[_Placement] = []

    def project(self, name: str | None) -> int:
        """Return the id of the project with this name, which is made where there is none; 0 for no name."""
        if not name:
            return 0
        if self._projects is None:
            self._projects = {project.name: project.id for project in reversed(self._store.projects(self._user_id))}
        if name not in self._projects:
            if self._new_projects >= MAX_NEW_PROJECTS:
                return 0
            self._new_projects += 1
            self._projects[name] = self._store.create_project(self._user_id, name).id
        return self._projects[name]

    def put(self, conversation: Conversation, groups: Sequence[Group], tags: Sequence[str]) -> None:
        """Put a conversation into folders, and give it tags, at the latest with `settle`."""
        if groups or tags:
            self._waiting.append((conversation, groups, tags))
        if len(self._waiting) >= AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Write down what has been put anywhere."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._store.change_shelf(self._user_id, lambda shelf: _with(shelf, waiting))


def _with(shelf: Shelf, waiting: list[_Placement]) -> Shelf:
    now = clock.now()
    folders = {folder.id: folder for folder in complete(shelf, now).folders}
    ids = {folder.name: folder.id for folder in folders.values()}
    added: dict[str, dict[str, int]] = {}
    tags = list(shelf.tags)
    known = {(tag.number, tag.tag) for tag in tags}
    for conversation, groups, texts in waiting:
        for group in groups:
            folder_id = _folder_id(group, folders, ids)
            if folder_id not in folders and len(folders) < MAX_FOLDERS:
                folders[folder_id] = Folder(folder_id, group.name, {}, now, now)
                ids[group.name] = folder_id
            added.setdefault(folder_id, {})[conversation.id] = conversation.number
        for text in texts:
            if (conversation.number, text) not in known and len(tags) < MAX_TAGS:
                known.add((conversation.number, text))
                tags.append(Tag(str(uuid.uuid4()), conversation.id, conversation.number, text, now, now))
    for folder_id in added.keys() & folders.keys():
        conversations = {**folders[folder_id].conversations, **added[folder_id]}
        folders[folder_id] = replace(folders[folder_id], conversations=conversations, updated_at=now)
    return Shelf(tuple(folders.values()), tuple(tags))


def _folder_id(group: Group, folders: Mapping[str, Folder], ids: Mapping[str, str]) -> str:
    """Return the id of a folder: of one that was made for the same before, or has this name, or a new one."""
    if group.name == DEFAULT_NAME:
        return DEFAULT
    made = str(uuid.uuid5(uuid.NAMESPACE_OID, group.id)) if group.id else ""
    return made if made in folders else ids.get(group.name) or made or str(uuid.uuid4())
