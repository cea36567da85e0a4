"""Putting right what `verify` finds, in the folder of a server that is stopped.

No line that can be read is lost, and of each file that is changed the one that was lies in `quarantine/`. The next
start's own repair does the most of it; here it is only made to look at what it would believe unseen.
"""

from __future__ import annotations

import filecmp
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from core import clock, files
from self_agent.storage.json_files.entry import with_header
from self_agent.storage.json_files.folder import SUFFIX, Folder, deleted_number, id_of_stem
from self_agent.storage.json_files.lines import Irregular
from self_agent.storage.json_files.mending import mended_projects, mended_shelves
from self_agent.storage.json_files.salvage import regular, salvage
from self_agent.storage.json_files.store import JsonFileStore
from self_agent.transfer.verifying import Wrong, misplaced, verify


class Repaired(NamedTuple):
    """A file that was wrong, how, and what was done: `is_done` is False where it is still wrong."""

    path: Path
    reason: str
    done: str
    is_done: bool = True


def repair(path: Path) -> Iterator[Repaired]:
    """Put right what is wrong in a data folder, and yield what was done.

    Raises StartupError when a server uses the folder, StorageError when the disk refuses.
    """
    folder = Folder(path)
    folder.own(0.5)
    try:
        kept = {wrong.path: (wrong, _prepared(folder, wrong)) for wrong in list(verify(path))}
    finally:
        folder.release()
    store = JsonFileStore(path)
    try:
        store.get("")  # waits until it is open
    finally:
        store.close()
    still = {wrong.path: wrong for wrong in verify(path)}
    for place, (wrong, before) in kept.items():
        name = _settled(folder, place, before)
        left = still.pop(place, None)
        if left is not None:
            yield Repaired(place, wrong.reason, f"still wrong: {left.reason}", is_done=False)
        else:
            yield Repaired(place, wrong.reason, f"mended; as it was it lies in quarantine/{name}" if name else "mended")
    for wrong in still.values():
        yield Repaired(wrong.path, wrong.reason, "wrong since the repair", is_done=False)


def _prepared(folder: Folder, wrong: Wrong) -> Path | None:
    """Keep a file as it is, and mend it where the next start would not; return where it is kept."""
    path = wrong.path
    if not path.is_file() or (path.parent == folder.checkpoints):
        return _moved(folder, path)
    kept = _free_place(folder, path)
    data = files.read_file(path)[0]
    files.replace_file(kept, [data])
    if path == folder.catalog:
        files.remove_file(path)
        files.remove_file(kept)  # derived: nobody misses it
        return None
    if path == folder.projects:
        files.replace_file(path, [mended_projects(data)])
    elif path == folder.shelves:
        files.replace_file(path, [mended_shelves(data)])
    elif path.parent == folder.deleted:
        if not _mended_deleted(path, data):
            files.remove_file(path)
    else:
        _mend_branches(path, data)
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 2_000_000_000))  # no snapshot knows it so
    return kept


def _moved(folder: Folder, path: Path) -> Path:
    target = _free_place(folder, path)
    files.move_file(path, target)
    return target


def _free_place(folder: Folder, path: Path) -> Path:
    files.make_folder(folder.quarantine)
    names = itertools.chain([path.name], (f"{path.stem}~{n}{path.suffix}" for n in itertools.count(1)))
    return next(folder.quarantine / name for name in names if not os.path.lexists(folder.quarantine / name))


def _mended_deleted(path: Path, data: bytes) -> bool:
    """Write a deleted conversation in the line form; False when nothing of it can be read."""
    stem = path.name.removesuffix(SUFFIX)
    number, conversation_id = deleted_number(stem), id_of_stem(stem.rpartition("~")[0])
    try:
        found = salvage(data)
    except Irregular:
        return False
    if not number or conversation_id is None:
        return False
    whole = b"".join(regular(found, conversation_id, number))
    since = clock.normalize_or(found.header.get("deleted_at"), "") or clock.now()
    files.replace_file(path, with_header(whole, {"is_deleted": True, "deleted_at": since}))
    return True


def _mend_branches(path: Path, data: bytes) -> None:
    """Let a message whose parent is not before it follow the one before it, as it is shown already."""
    try:
        found = salvage(data)
    except Irregular:
        return
    conversation_id, number = id_of_stem(path.name.removesuffix(SUFFIX)), found.header.get("number")
    rows = [row for row in found.messages if isinstance(row.get("id"), int)]
    wrong = misplaced(rows) if found.is_whole and len(rows) == len(found.messages) else []
    if wrong and conversation_id and isinstance(number, int):
        for row in wrong:
            del row["parent"]
        files.replace_file(path, regular(found, conversation_id, number))


def _settled(folder: Folder, path: Path, kept: Path | None) -> str | None:
    """Return the name under which a file is kept; the next start's repair may have kept it as well."""
    if kept is None or not kept.is_file():
        return kept.name if kept else None
    for other in sorted(folder.quarantine.glob(f"{_plain(path.stem)}*{path.suffix}")):
        if other != kept and other.is_file() and filecmp.cmp(other, kept, shallow=False):
            files.forget_file(other)
    if path.is_file() and filecmp.cmp(path, kept, shallow=False):  # it was only in the middle of a write
        files.forget_file(kept)
        return None
    return kept.name


def _plain(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
