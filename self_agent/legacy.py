"""Taking in the folder of an older self_agent backend: `data/<id>.json`, a whole document each, and its shelves.

Nothing in that folder is changed. What is here already is left as it is, so the import can be run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from core import clock
from core.errors import AppError
from self_agent.legacy_shelves import take_in_folders, take_in_tags
from self_agent.models import LOCAL_USER, NAME_LENGTH, ROLES, Message, check_id
from self_agent.storage import Store

SHELVES: dict[str, Callable[[Store, Any], int]] = {"folders.json": take_in_folders, "tags.json": take_in_tags}


class NotLegacy(ValueError):
    """Raised when a file is not a conversation of the older backend; says why."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file: `state` is `imported`, `skipped` or `failed`."""

    file: str
    state: str
    detail: str


@dataclass(frozen=True)
class Legacy:
    """A conversation as the older backend wrote it."""

    id: str
    title: str | None
    model: str | None
    created_at: str
    updated_at: str
    messages: list[Message]
    dropped: int  # messages without content, which this store does not keep


def files(folder: Path) -> list[Path]:
    """Return the files that may hold a conversation, oldest change first, and then those that name conversations."""
    return sorted(folder.glob("*.json"), key=lambda path: (path.name in SHELVES, path.stat().st_mtime_ns))


def take_in(store: Store, path: Path) -> Outcome:
    """Import one file."""
    try:
        data = path.read_bytes()
        if path.name in SHELVES and not _is_conversation(document := _loaded(data)):
            taken = SHELVES[path.name](store, document)
            detail = f"{taken} {path.stem}" if taken else "nothing in it is new"
            return Outcome(path.name, "imported" if taken else "skipped", detail)
        legacy = parse(data, path.stem)
        if store.get(legacy.id) is not None:
            return Outcome(path.name, "skipped", f"{legacy.id} is here already")
        store.create(
            legacy.id,
            LOCAL_USER,
            messages=legacy.messages,
            created_at=legacy.created_at,
            updated_at=legacy.updated_at,
            title=legacy.title,
            model=legacy.model,
        )
    except NotLegacy as error:
        return Outcome(path.name, "failed", str(error))
    except AppError as error:
        return Outcome(path.name, "failed", error.message)
    except OSError as error:
        return Outcome(path.name, "failed", error.strerror or "cannot be read")
    dropped = f", {legacy.dropped} without content left out" if legacy.dropped else ""
    return Outcome(path.name, "imported", f"{len(legacy.messages)} messages{dropped}")


def parse(data: bytes, stem: str) -> Legacy:
    """Read a document; `stem`, the file's name, is the id if the document names none. Raises NotLegacy."""
    document = _loaded(data)
    if not _is_conversation(document):
        raise NotLegacy("not a conversation: it has no list of messages")
    conversation_id = check_id(str(document.get("conversation_id") or stem))
    messages = list(_messages(document["messages"]))
    kept = [message for message in messages if message.content.strip()]
    config = document.get("config")
    created_at = clock.normalize_or(document.get("created_at"), "") or (kept[0].timestamp if kept else clock.now())
    return Legacy(
        id=conversation_id,
        title=_title(document.get("name"), kept),
        model=str(config["model"]) if isinstance(config, dict) and config.get("model") else None,
        created_at=created_at,
        updated_at=clock.normalize_or(document.get("updated_at"), created_at),
        messages=kept,
        dropped=len(messages) - len(kept),
    )


def _loaded(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise NotLegacy(f"not JSON: {error}") from None


def _is_conversation(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("messages"), list)


def _messages(rows: list[Any]) -> Iterator[Message]:
    for place, row in enumerate(rows, 1):
        if not isinstance(row, dict) or row.get("role") not in ROLES or not isinstance(row.get("content"), str):
            raise NotLegacy(f"message {place} is not a role ({', '.join(sorted(ROLES))}) with a text")
        yield Message(
            row["role"], row["content"], timestamp=clock.normalize_or(row.get("timestamp"), "") or clock.now()
        )


def _title(name: Any, messages: list[Message]) -> str | None:
    """Return a name that somebody gave; the older backend also stored the one it made from the first message."""
    first = next((message.content for message in messages if message.role == "user"), "")
    return name if isinstance(name, str) and name and name != first[:NAME_LENGTH] else None
