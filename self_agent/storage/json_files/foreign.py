"""A file that somebody else wrote is taken over when it is whole or at rest; what goes of it lies in quarantine.

An editor that saves in place empties the file first, and then writes for as long as it likes. Nobody can tell half a
document that is being written from one that stays so, except by waiting.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from core import files
from core.errors import StorageBusy, StorageError
from self_agent.storage.json_files.entry import Entry, entry_of
from self_agent.storage.json_files.folder import Folder
from self_agent.storage.json_files.lines import Irregular
from self_agent.storage.json_files.salvage import Salvaged, regular, salvage

log = logging.getLogger(__name__)

STILL_SECONDS = 1.0  # without a change, and nobody is writing a file any more

State = tuple[int, int]  # the size and the time of a file
Source = tuple[bytes, os.stat_result]  # a file, and its size and time just before it was read


def busy() -> StorageBusy:
    """Return the refusal of whatever would have to touch a file that is being edited."""
    words = "This conversation's file is being edited by another program: try again in a second."
    return StorageBusy(words, retry_after=STILL_SECONDS)


def state_of(status: os.stat_result) -> State:
    """Return by what a file is known."""
    return status.st_size, status.st_mtime_ns


def check_unchanged(path: Path, state: State) -> None:
    """Raise StorageBusy when a file is not what we know any more."""
    with suppress(FileNotFoundError):
        if state_of(os.stat(path)) == state:
            return
    raise busy()


class Foreign:
    """What is done with files that this server did not write; the caller holds the conversation's lock."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._seen: dict[Path, tuple[State | None, float]] = {}  # what was found, and since when it is so

    def check_still(self, path: Path, status: os.stat_result | None) -> None:
        """Raise StorageBusy unless a file has been as it is, or missing (None), for a second.

        Its own time says so; where that is none to go by, such as one from the future, two looks a second apart do.
        """
        state = state_of(status) if status else None
        now = time.monotonic()
        known, since = self._seen.setdefault(path, (state, now))
        if known != state:
            self._seen[path], since = (state, now), now
        age = time.time() - status.st_mtime if status else 0.0
        if age < STILL_SECONDS and now - since < STILL_SECONDS:
            raise busy()
        self.settled(path)

    def settled(self, path: Path) -> None:
        """Forget that a file was being edited."""
        self._seen.pop(path, None)

    def salvaged(self, path: Path, source: Source, *, is_at_rest: bool = False) -> Salvaged:
        """Return what can be read of a file. Raises Irregular, and StorageBusy while it may still be written."""
        try:
            found = salvage(source[0])
        except Irregular:
            self.check_still(path, source[1])
            raise
        if not found.is_whole and not is_at_rest:
            self.check_still(path, source[1])
        return found

    def adopt(
        self, path: Path, state: State, found: Salvaged, conversation_id: str, number: int, known: int | None
    ) -> Entry:
        """Rewrite a file in the line form, with what was found in it, as this conversation; return its entry.

        A torn end is the work of an append that a crash cut off where all messages that are `known` are before it;
        None: it cannot be.
        """
        is_ours = found.is_whole or (known is not None and len(found.messages) >= known)
        kept = self._keep(path) if found.lost or not is_ours else None
        pieces = regular(found, conversation_id, number)
        try:
            target = self._folder.document(conversation_id)
            status = files.replace_file(target, pieces, lambda: check_unchanged(path, state))
        except BaseException:
            if kept:  # or there would be one for each attempt
                with suppress(StorageError):
                    files.forget_file(kept)
            raise
        log.warning("%s: rewritten in the line form with %d messages", path.name, len(found.messages))
        return entry_of(b"".join(pieces), status, conversation_id)

    def _keep(self, path: Path) -> Path:
        """Keep a file as it is beside what we make of it; what its editor still has to write goes there too."""
        target = self._free_place(path)
        if not target.exists():
            files.keep_file(path, target)
        log.warning("%s: parts cannot be read; the file as it was is in quarantine/%s", path.name, target.name)
        return target

    def quarantine(self, path: Path) -> None:
        """Move what cannot be read, file or not, to where a person will find it."""
        target = self._free_place(path)
        files.move_file(path, target)
        log.warning("%s: cannot be read; it is now quarantine/%s", path.name, target.name)

    def _free_place(self, path: Path) -> Path:
        """Return a name that is free, or that is this file's already because a crash came before it was replaced."""
        files.make_folder(self._folder.quarantine)
        names = itertools.chain([path.name], (f"{path.stem}~{n}{path.suffix}" for n in itertools.count(1)))
        places = (self._folder.quarantine / name for name in names)
        return next(place for place in places if not os.path.lexists(place) or _is_same(place, path))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
