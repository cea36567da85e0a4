"""Taking chats in: each is here as a whole or not at all, and one that cannot be read does not stop the others.

A chat's id here follows from its id there and from its user, so that a second import finds what the first one made.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from core.errors import AppError, Conflict
from self_agent.models import Conversation
from self_agent.storage.base import Store
from self_agent.transfer import chatgpt, older, open_webui, own
from self_agent.transfer.chats import Chat, NotAChat, loads
from self_agent.transfer.placing import Places
from self_agent.transfer.splitting import Flaw, split

log = logging.getLogger(__name__)

THE_FILE = "the file"  # in the place of a chat, where there is none
IMPORTED, SKIPPED, FAILED = "imported", "skipped", "failed"

_FORMATS: list[Any] = [own, chatgpt, open_webui, older]  # the first whose shape it is
_SHAPES = "a chat of self_agent, of ChatGPT (with a mapping) or of Open WebUI (with chat.history)"
_SPACE = uuid.UUID("b3a1c7de-52a8-4d5e-9a0c-0a3f6f1f7f10")  # of the ids that are made from those of other programs
_SHOWN = 80  # characters of a title in a report


@dataclass(frozen=True)
class Outcome:
    """What became of one chat: `state` is `imported`, `skipped` or `failed`; `detail` says how many, or why."""

    chat: str
    state: str
    detail: str
    conversation_id: str | None = None


def take_in(store: Store, user_id: str, chunks: Iterable[bytes]) -> Iterator[Outcome]:
    """Take in a file, which comes in chunks, and yield what became of each chat as soon as that is known."""
    places = Places(store, user_id)
    seen: set[str] = set()
    try:
        number = 0
        for number, piece in enumerate(split(chunks), 1):
            yield _taken(store, user_id, piece, number, places, seen)
        if not number:
            yield Outcome(THE_FILE, FAILED, f"there is no chat in it: expected {_SHAPES}, or a list of these")
    finally:
        places.settle()


def _taken(store: Store, user_id: str, piece: bytes | Flaw, number: int, places: Places, seen: set[str]) -> Outcome:
    name = f"chat {number}"
    try:
        if isinstance(piece, Flaw):
            return Outcome(name, FAILED, piece.reason)
        chat = parse(piece)
        name = (chat.fields.get("title") or name)[:_SHOWN]
        return _stored(store, user_id, chat, name, places, seen)
    except NotAChat as error:
        return Outcome(name, FAILED, str(error))
    except AppError as error:
        return Outcome(name, FAILED, error.message)
    except Exception:  # nobody knows what another program writes, and the others are to be taken in all the same
        log.exception("chat %d of an import", number)
        return Outcome(name, FAILED, "it is like none that was foreseen; the server's log says more")


def parse(data: bytes) -> Chat:
    """Read a chat of any format. Raises NotAChat."""
    document = loads(data)
    if isinstance(document, dict):
        for each in _FORMATS:
            if each.is_one(document):
                chat: Chat = each.parse(document)
                return chat if chat.key else _named(chat, data)
    raise NotAChat(f"it is not {_SHAPES}")


def _named(chat: Chat, data: bytes) -> Chat:
    """Return a chat that has no id under one that follows from what is in it."""
    return replace(chat, key=hashlib.sha256(data).hexdigest())


def _stored(store: Store, user_id: str, chat: Chat, name: str, places: Places, seen: set[str]) -> Outcome:
    derived = str(uuid.uuid5(_SPACE, "\0".join((chat.source, user_id, chat.key))))
    for conversation_id in filter(None, (chat.wanted_id, derived)):
        found = store.get(conversation_id)
        if conversation_id in seen:
            return Outcome(name, SKIPPED, "another chat of this file has the same id", conversation_id)
        if found is None:
            break
        if found.user_id == user_id:
            return Outcome(name, SKIPPED, "it is here already", conversation_id)
    else:
        return Outcome(name, SKIPPED, "it is here already")
    try:
        made = _created(store, user_id, conversation_id, chat, places.project(chat.project))
    except Conflict:  # somebody else was faster
        return Outcome(name, SKIPPED, "it is here already", conversation_id)
    seen.add(conversation_id)
    places.put(made, chat.groups, chat.tags)
    detail = "; ".join((f"{len(chat.messages)} messages", *chat.notes))
    return Outcome(name, IMPORTED, detail, conversation_id)


def _created(store: Store, user_id: str, conversation_id: str, chat: Chat, project_id: int) -> Conversation:
    times = [message.timestamp for message in chat.messages if message.timestamp]
    created_at = chat.created_at or min(times, default=chat.updated_at) or None
    return store.create(
        conversation_id,
        user_id,
        messages=chat.messages,
        shown=chat.shown or None,
        created_at=created_at,
        updated_at=chat.updated_at or max(times, default=created_at),
        project_id=project_id,
        **chat.fields,
    )
