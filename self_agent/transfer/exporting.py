"""Chats on their way out, one at a time: what stands in memory is the chat that is being written."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from core.errors import NotFound, StorageBusy
from self_agent.models import Conversation, Message
from self_agent.storage.base import Store
from self_agent.storage.json_files.lines import dump
from self_agent.transfer import markdown, own

JSON, MARKDOWN = "json", "markdown"
FORMATS = (JSON, MARKDOWN)
ENDINGS = {JSON: "json", MARKDOWN: "md"}
TYPES = {JSON: "application/json", MARKDOWN: "text/markdown; charset=utf-8"}

Names = defaultdict[int, list[str]]

_ATTEMPTS = 5  # at a chat whose file an editor has open


def written(store: Store, user_id: str, conversation_ids: list[str], form: str) -> Iterator[bytes]:
    """Yield a file with these conversations; one that goes meanwhile is left out.

    Raises StorageError in the middle where one cannot be read: a file that ends there is seen to be no whole one.
    """
    on_shelf = _names_of(store, user_id)
    records = filter(None, (_record(store, user_id, each, on_shelf) for each in conversation_ids))
    if form == MARKDOWN:
        for place, found in enumerate(records):
            yield (b"\n\n" if place else b"") + markdown.page(found).encode()
        return
    before = b"[\n"
    for found in records:
        yield before + dump(found)
        before = b",\n"
    yield (b"" if before == b",\n" else before) + b"\n]\n"


def all_ids(store: Store, user_id: str) -> list[str]:
    """Return the ids of a user's conversations, newest update first."""
    return [conversation.id for conversation in store.conversations(user_id, archived=None).items]


def _names_of(store: Store, user_id: str) -> tuple[Names, Names]:
    """Return the names of the folders, and the tags, of each conversation by its number."""
    shelf = store.shelf(user_id)
    folders, tags = Names(list), Names(list)
    for folder in shelf.folders:
        for number in folder.conversations.values():
            folders[number].append(folder.name)
    for tag in shelf.tags:
        tags[tag.number].append(tag.tag)
    return folders, tags


def _record(store: Store, user_id: str, conversation_id: str, on_shelf: tuple[Names, Names]) -> dict[str, Any] | None:
    try:
        conversation, messages, shown = _patiently(lambda: _read(store, conversation_id))
    except NotFound:
        return None
    if conversation.user_id != user_id:
        return None
    project = store.project(conversation.project_id) if conversation.project_id else None
    folders, tags = (names.get(conversation.number, []) for names in on_shelf)
    name = project.name if project else None
    return own.record(conversation, messages, shown, project=name, folders=folders, tags=tags)


def _read(store: Store, conversation_id: str) -> tuple[Conversation, list[Message], int]:
    """Return a conversation, the messages of all its branches, and the last one that is shown."""
    conversation = store.get(conversation_id)
    if conversation is None:
        raise NotFound("it went meanwhile")
    messages = store.everything(conversation_id)
    return conversation, as_appended(messages), messages[-1].id if messages else 0


def as_appended(messages: list[Message]) -> list[Message]:
    """Return all messages of a conversation with the last one, where the shown branch ends, back in its own place.

    So whichever branch is shown, those that stand for one another stay in their order.
    """
    if not messages:
        return []
    *others, last = messages
    ids = [message.id for message in others]
    after = ids.index(last.parent) + 1 if last.parent in ids else 0
    place = next((place for place in range(after, len(ids)) if ids[place] > last.id), len(ids))
    return [*others[:place], last, *others[place:]]


def _patiently(read: Callable[[], Any]) -> Any:
    for attempt in range(_ATTEMPTS):
        try:
            return read()
        except StorageBusy as error:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(error.retry_after or 1)
    return None
