"""A reply that is being written is kept beside its document, so that a killed server loses at most its last second.

One file a conversation: a line with the message without its content, then one JSON string a piece of text. It is
not synced: it survives the process, not a power cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import orjson

from core import files
from core.errors import StorageError
from self_agent.models import Message
from self_agent.storage.base import CUT_OFF
from self_agent.storage.json_files.folder import Folder
from self_agent.storage.json_files.lines import dump, message_line
from self_agent.storage.rows import from_rows


class Checkpoint(NamedTuple):
    """What a crash left of a reply."""

    conversation_id: str
    reply: Message


class Checkpoints:
    """The checkpoints; the caller holds the conversation's lock."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._current: dict[str, int] = {}  # the message that a conversation's file is of
        self._broken: set[str] = set()  # conversations whose file lacks a piece that could not be written

    def add(self, conversation_id: str, reply: Message, text: str) -> None:
        """Add a piece of text; the first one for a message starts the file anew.

        After a piece that could not be written no other is taken: a recovered reply must have no hole.
        """
        is_first = self._current.get(conversation_id) != reply.id
        self._current[conversation_id] = reply.id
        if is_first:
            self._broken.discard(conversation_id)
        elif conversation_id in self._broken:
            return
        try:
            self._write(conversation_id, reply if is_first else None, text)
        except StorageError:
            self._broken.add(conversation_id)
            raise

    def _write(self, conversation_id: str, starts: Message | None, text: str) -> None:
        path = self._folder.checkpoint(conversation_id)
        if starts is None:
            files.add_to_file(path, dump(text) + b"\n")
            return
        first = {"conversation_id": conversation_id, **orjson.loads(message_line(replace(starts, content="")))}
        files.start_file(path, dump(first) + b"\n" + dump(text) + b"\n")

    def discard(self, conversation_id: str) -> None:
        """Remove a checkpoint, if there is one."""
        self._broken.discard(conversation_id)
        if self._current.pop(conversation_id, None) is not None:
            files.forget_file(self._folder.checkpoint(conversation_id))

    def left_over(self) -> Iterator[tuple[Path, Checkpoint | None]]:
        """Yield the files that a crash left, each with what can be read of it."""
        for path in filter(Path.is_file, sorted(self._folder.checkpoints.glob("*.jsonl"))):
            with files.storage_errors():
                data = path.read_bytes()
            yield path, read_checkpoint(data)


def read_checkpoint(data: bytes) -> Checkpoint | None:
    """Read a checkpoint as far as it is whole, or None. The reply is marked as cut off."""
    lines = data.split(b"\n")[:-1]  # what follows the last line break is torn
    try:
        fields = orjson.loads(lines[0])
        conversation_id = fields.pop("conversation_id")
        if [type(fields[name]) for name in ("id", "role", "timestamp")] != [int, str, str]:
            return None
        [reply] = from_rows([{**fields, "incomplete": True, "error": CUT_OFF}])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    pieces = []
    with suppress(ValueError):  # the pieces before a bad one are good
        for line in lines[1:]:
            pieces.append(orjson.loads(line))
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    return Checkpoint(str(conversation_id), replace(reply, content=text))
