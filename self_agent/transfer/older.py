"""A chat of an older self_agent backend, see `legacy`: one whole document with a list of messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from self_agent import legacy
from self_agent.storage.json_files.folder import valid_id
from self_agent.storage.json_files.lines import dump
from self_agent.transfer.chats import Chat, NotAChat, counted, title_of, words

SOURCE = "older self_agent"


def is_one(document: dict[str, Any]) -> bool:
    """Say whether a document has the shape of this format."""
    return isinstance(document.get("messages"), list)


def parse(document: dict[str, Any]) -> Chat:
    """Read a chat. Raises NotAChat."""
    notes: list[str] = []
    title = title_of(document.get("name"), notes)
    key = words(document.get("conversation_id"))
    wanted_id = valid_id(key)
    try:
        found = legacy.parse(dump({**document, "name": title, "conversation_id": wanted_id or "none"}), "")
    except legacy.NotLegacy as error:
        raise NotAChat(str(error)) from None
    messages = [replace(message, id=place, parent=place - 1) for place, message in enumerate(found.messages, 1)]
    return Chat(
        source=SOURCE,
        key=key,
        wanted_id=wanted_id,
        messages=messages,
        shown=len(messages),
        created_at=found.created_at,
        updated_at=found.updated_at,
        fields={"title": found.title and words(found.title), "model": found.model and words(found.model)},
        notes=(*notes, *counted(found.dropped, "messages without content left out")),
    )
