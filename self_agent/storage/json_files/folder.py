"""Where each thing lies in the data folder; different ids get different file names on any file system."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import InvalidRequest
from self_agent.models import check_id

SUFFIX = ".json"

# Windows opens the device, whatever follows the first dot of a name.
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)}
)


@dataclass(frozen=True)
class Layout:
    """The paths under one data folder."""

    folder: Path
    conversations: Path
    deleted: Path
    quarantine: Path
    partial: Path
    catalog: Path
    ledger: Path
    lock: Path
    pid: Path

    @classmethod
    def of(cls, folder: Path) -> Layout:
        """Lay out a data folder."""
        return cls(
            folder,
            folder / "conversations",
            folder / "deleted",
            folder / "quarantine",
            folder / "partial",
            folder / "catalog.json",
            folder / "store.json",
            folder / ".lock",
            folder / ".lock.pid",
        )

    def document(self, conversation_id: str) -> Path:
        """Return where a conversation's document lies."""
        return Path(self.document_name(conversation_id))

    def document_name(self, conversation_id: str) -> str:
        """Return the same as text: building a Path takes longer than opening the file."""
        return f"{self.conversations}{os.sep}{file_stem(conversation_id)}{SUFFIX}"

    def deleted_document(self, conversation_id: str, number: int) -> Path:
        """Return where a deleted conversation is kept: with its number, for its id may be used again."""
        return self.deleted / f"{file_stem(conversation_id)}~{number}{SUFFIX}"

    def partial_reply(self, conversation_id: str) -> Path:
        """Return where the reply that a conversation is waiting for is checkpointed."""
        return self.partial / (file_stem(conversation_id) + ".jsonl")


def file_stem(conversation_id: str) -> str:
    """Spell an id so that no two ids differ only in case, and none names a device.

    Small letters stay as they are; capitals become small ones and their positions a hex bit mask after a
    `+`, which no id holds: `Ab` is `ab+1`. At most 162 characters.
    """
    stem = conversation_id.lower()
    if stem != conversation_id:
        mask = sum(1 << place for place, letter in enumerate(conversation_id) if letter.isupper())
        stem = f"{stem}+{mask:x}"
    else:
        stem = conversation_id  # the same object: a catalog of many names is smaller for it
    return f"+{stem}" if stem.split(".", 1)[0] in _DEVICES else stem


def id_of_stem(stem: str) -> str | None:
    """Return the id that `file_stem` spells so, or None."""
    if file_stem(stem) == stem and "+" not in stem:
        return valid_id(stem)  # most ids: nothing to undo, and the same object serves as both
    letters, _, mask = stem.removeprefix("+").partition("+")
    try:
        bits = int(mask or "0", 16)
    except ValueError:
        return None
    found = "".join(c.upper() if bits >> place & 1 else c for place, c in enumerate(letters))
    return valid_id(found) if file_stem(found) == stem else None


def valid_id(text: Any) -> str | None:
    """Return what may be the id of a conversation, or None."""
    try:
        return check_id(text)
    except (InvalidRequest, TypeError):
        return None


def deleted_number(stem: str) -> int:
    """Return the number in the name of a deleted document, or 0."""
    number = stem.rpartition("~")[2]
    return int(number) if number.isascii() and number.isdigit() else 0
