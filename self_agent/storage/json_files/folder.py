"""One process owns a data folder, and knows where each thing lies in it.

Different ids get different file names on any file system.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core import files
from core.errors import InvalidRequest, StartupError, StorageError, StorageFull
from self_agent.models import check_id

log = logging.getLogger(__name__)

SUFFIX = ".json"
GONE = ".gone"  # instead of SUFFIX: of a deleted document nothing is left but its number
_PROBE = ".probe"

# Windows opens the device, whatever follows the first dot of a name.
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)}
)


class Folder:
    """The paths under one data folder, and from `own` until `release` its lock.

    The owner's pid lies beside the lock: `filelock` empties the lock file itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.conversations = path / "conversations"
        self.deleted = path / "deleted"
        self.quarantine = path / "quarantine"
        self.checkpoints = path / "checkpoints"
        self.catalog = path / "catalog.json"
        self.projects = path / "store.json"
        self.shelves = path / "shelves.json"
        self._pid = path / ".lock.pid"
        self._lock = FileLock(path / ".lock", thread_local=False)  # the thread that closes may be another

    # --- the lock

    def own(self, timeout: float) -> None:
        """Take the lock. Raises StartupError when another process has it, or the folder cannot be written."""
        try:
            files.make_folder(self.path)
            self._lock.acquire(timeout=timeout)
            self._prepare()
        except Timeout:
            raise StartupError(
                f"another server (pid {self._owner()}) uses the data folder {self.path}; "
                "stop it or choose another with --data-dir"
            ) from None
        except (OSError, StorageError) as error:
            if self._lock.is_locked:
                self.release()
            reason = error.message if isinstance(error, StorageError) else error.strerror
            raise StartupError(f"the data folder {self.path} cannot be used: {reason}") from error

    def _prepare(self) -> None:
        """Make the folders, and find out now whether they can be written."""
        older = self.path / "partial"  # its name in older versions
        if older.is_dir() and not self.checkpoints.exists():
            files.move_file(older, self.checkpoints)
        for folder in (self.conversations, self.deleted, self.quarantine, self.checkpoints):
            with _room_or_not():
                files.make_folder(folder)
                files.start_file(folder / _PROBE, b"\n")
            with _room_or_not():
                files.forget_file(folder / _PROBE)
        try:
            files.forget_file(self._pid)  # that of a server which was killed misleads
            files.replace_file(self._pid, [b"%d\n" % os.getpid()])
        except StorageError as error:
            log.warning("%s: not written: %s", self._pid.name, error.message)

    def _owner(self) -> str:
        try:
            return files.read_file(self._pid)[0].decode("ascii").strip()
        except (OSError, ValueError, StorageError):
            return "unknown"

    def release(self) -> None:
        """Let go of the folder."""
        with suppress(StorageError):  # a name of a process that is gone misleads nobody: the lock is what counts
            files.forget_file(self._pid)
        self._lock.release()

    # --- the files

    def document(self, conversation_id: str) -> Path:
        """Return where a conversation's document lies."""
        return Path(self.document_name(conversation_id))

    def document_name(self, conversation_id: str) -> str:
        """Return the same as text: building a Path takes longer than opening the file."""
        return f"{self.conversations}{os.sep}{file_stem(conversation_id)}{SUFFIX}"

    def deleted_document(self, conversation_id: str, number: int) -> Path:
        """Return where a deleted conversation is kept: with its number, for its id may be used again."""
        return self.deleted / f"{file_stem(conversation_id)}~{number}{SUFFIX}"

    def checkpoint(self, conversation_id: str) -> Path:
        """Return where the reply that a conversation is waiting for is checkpointed."""
        return self.checkpoints / f"{file_stem(conversation_id)}.jsonl"


@contextmanager
def _room_or_not() -> Iterator[None]:
    """Go on when the disk is full: what is there can still be read, and deleting needs a server that runs."""
    try:
        yield
    except StorageFull:
        log.warning("the disk is full: nothing can be written until some space is free")


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
