"""A reply that is being written is kept beside its document, so that a killed server loses at most its last second.

One file a conversation: a line with the message without its content, then one JSON string a piece of text. It is
not synced: it survives the process, not a power cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson

from core import files
from self_agent.models import Message
from self_agent.storage.base import CUT_OFF
from self_agent.storage.json_files.folder import Folder
from self_agent.storage.json_files.lines import dump
from self_agent.storage.rows import from_rows, row_of

Checkpoint = tuple[str, Message]  # a conversation's id, and what a crash left of its reply


class Checkpoints:
    """The checkpoints; the caller holds the conversation's lock."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._files: dict[str, tuple[int, bool]] = {}  # by conversation: whose reply the file is, and is it whole

    def add(self, conversation_id: str, reply: Message, text: str) -> None:
        """Add a piece of text; the first one for a message starts the file anew.

        After a piece that could not be written no other is taken: a recovered reply must have no hole.
        """
        known = self._files.get(conversation_id)
        if known == (reply.id, False):
            return
        self._files[conversation_id] = (reply.id, False)  # until we know better
        path, piece = self._folder.checkpoint(conversation_id), dump(text) + b"\n"
        if known == (reply.id, True):
            files.add_to_file(path, piece)
        else:
            first = {"conversation_id": conversation_id, **row_of(reply, reply.id, reply.timestamp), "content": ""}
            files.start_file(path, dump(first) + b"\n" + piece)
        self._files[conversation_id] = (reply.id, True)

    def discard(self, conversation_id: str) -> None:
        """Remove a checkpoint, if there is one."""
        if self._files.pop(conversation_id, None):
            files.forget_file(self._folder.checkpoint(conversation_id))

    def left_over(self) -> Iterator[tuple[Path, Checkpoint | None]]:
        """Yield the files that a crash left, each with what can be read of it."""
        for path in filter(Path.is_file, sorted(self._folder.checkpoints.glob("*.jsonl"))):
            yield path, read_checkpoint(files.read_file(path)[0])


def read_checkpoint(data: bytes) -> Checkpoint | None:
    """Read a checkpoint as far as it is whole, or None. The reply is marked as cut off."""
    lines = data.split(b"\n")[:-1]  # what follows the last line break is torn
    try:
        row = orjson.loads(lines[0])
        conversation_id = row.pop("conversation_id")
        if [type(row[name]) for name in ("id", "role", "timestamp")] != [int, str, str]:
            return None
        [reply] = from_rows([row])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    pieces = []
    with suppress(ValueError):  # the pieces before a bad one are good
        for line in lines[1:]:
            pieces.append(orjson.loads(line))
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    return str(conversation_id), replace(reply, content=text, incomplete=True, error=CUT_OFF)
