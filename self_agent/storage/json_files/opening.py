"""On start, only documents that changed since the last snapshot are read; what a crash left is put right first.

Which id a file has: the one that its name spells; else the one in its header, else its plain name, and the file
gets the name that spells it. A copy made by hand is a conversation of its own, with a number of its own.
"""

from __future__ import annotations

import gc
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union

from core import clock, files
from core.errors import NotFound, StorageBusy, StorageError
from self_agent.models import MAX_NUMBER, Message, number_of, position_of
from self_agent.storage.json_files import reading, snapshot
from self_agent.storage.json_files.catalog import Catalog
from self_agent.storage.json_files.checkpoints import Checkpoint, Checkpoints
from self_agent.storage.json_files.documents import Documents
from self_agent.storage.json_files.entry import PROJECT, Entry, read_entry
from self_agent.storage.json_files.folder import GONE, SUFFIX, Folder, deleted_number, file_stem, id_of_stem, valid_id
from self_agent.storage.json_files.foreign import state_of
from self_agent.storage.json_files.lines import Fields, Irregular
from self_agent.storage.json_files.projects import Projects
from self_agent.storage.json_files.salvage import is_number

log = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds for which a start waits for editors

Odd = dict[Path, Union[Entry, None]]  # files, with what the snapshot knows of each


def open_folder(documents: Documents, checkpoints: Checkpoints) -> None:
    """Fill the catalog and the projects from the data folder."""
    folder, catalog, projects = documents.folder, documents.catalog, documents.projects
    for path in (folder.projects, folder.catalog):
        if path.exists() and not path.is_file():
            documents.foreign.quarantine(path)
    for path in filter(Path.is_dir, (folder.path, folder.conversations, folder.deleted)):
        files.remove_leftovers(path)
        files.sync_folder(path)  # a crash may have come between a rename and its sync; from here on we build on it
    projects.load(documents.foreign.quarantine)
    catalog.raise_numbers(projects.last_number)
    given = [deleted_number(path.stem) for path in folder.deleted.glob("*~*")]
    with _no_collector():
        known = snapshot.load(folder.catalog)
        given += [entry.number for entry in known.values()]
        entries, odd, is_news = _collect(folder, known)
        catalog.load(entries, given)
    catalog.is_dirty = is_news
    _take_in_all(odd, documents)
    _settle(catalog, projects)
    _finish_deletions(documents)
    for path, checkpoint in checkpoints.left_over():
        _recover(path, checkpoint, documents)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Keep Python from searching a growing catalog for cycles, again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _collect(folder: Folder, known: dict[str, Entry]) -> tuple[dict[int, Entry], Odd, bool]:
    """Return the documents in the line form, by number, the files that need a closer look, and whether any is news.

    `known` are the entries of the snapshot by stem.
    """
    entries: dict[int, Entry] = {}
    changed: dict[str, Entry | None] = {}
    with files.storage_errors(), os.scandir(folder.conversations) as items:
        for item in items:
            stem = item.name[: -len(SUFFIX)]
            if not item.name.endswith(SUFFIX) or (status := _status(item)) is None:
                continue
            entry = known.pop(stem, None)
            if entry and entry.size == status.st_size and entry.mtime_ns == status.st_mtime_ns:
                entries[entry.number] = entry
            else:
                changed[stem] = entry
    odd: Odd = {}
    for stem in sorted(changed):  # after the others: a copy must not take the number of its original
        path = folder.conversations / (stem + SUFFIX)
        try:
            entry = read_entry(path, id_of_stem(stem) or "")
            if entries.setdefault(entry.number, entry) is not entry:
                odd[path] = changed[stem]
        except (Irregular, FileNotFoundError, StorageError):
            odd[path] = changed[stem]
    return entries, odd, bool(changed or known)


def _status(item: os.DirEntry[str]) -> os.stat_result | None:
    """Return a file's size and time; None for a folder, a pipe, a link to nowhere and what has gone meanwhile."""
    try:
        status = item.stat()
    except OSError as error:
        log.warning("%s: skipped: %s", item.name, error.strerror)
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _take_in_all(odd: Odd, documents: Documents) -> None:
    """Take in the files that need a closer look; those that somebody is writing are waited for, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while odd:
        odd = {path: known for path, known in odd.items() if not _take_in(path, known, documents)}
        if odd and time.monotonic() > deadline:
            break
        time.sleep(0.05 if odd else 0)
    for path, known in odd.items():
        _leave(path, known, documents, "it is being edited by another program")


def _take_in(path: Path, known: Entry | None, documents: Documents) -> bool:
    """Add a file that is not in the line form, torn, misnamed or a copy; set it aside if it cannot be read.

    False: somebody may still be writing it.
    """
    try:
        try:
            _adopt(path, known, documents)
        except Irregular:
            documents.foreign.quarantine(path)
    except FileNotFoundError:
        log.warning("%s: removed while the server started", path.name)
    except StorageBusy:
        return False
    except StorageError as error:
        _leave(path, known, documents, error.message)
    return True


def _adopt(path: Path, known: Entry | None, documents: Documents) -> None:
    source = files.read_file(path)
    found = documents.foreign.salvaged(path, source)
    conversation_id = _id_for(path, found.header, documents)
    number = _number_for(conversation_id, documents.catalog, found.header)
    total = known.total if known else 0
    entry = documents.foreign.adopt(path, state_of(source[1]), found, conversation_id, number, total)
    if path != documents.folder.document(conversation_id):
        files.remove_file(path)
    documents.catalog.add(entry)


def _leave(path: Path, known: Entry | None, documents: Documents, reason: str) -> None:
    """Leave a file as it is; what the snapshot knows of it is shown, and who asks for its messages is told why not."""
    log.warning("%s: not read at the start: %s", path.name, reason)
    catalog = documents.catalog
    if known and catalog.get(known.id) is None and catalog.by_number(known.number) is None:
        known.size = -1  # so that it is read when it is asked for
        catalog.add(known)


def _id_for(path: Path, header: Fields, documents: Documents) -> str:
    """Return the id that a file is for. Raises Irregular when another file has it."""
    stem = path.name.removesuffix(SUFFIX)
    found = id_of_stem(stem) or valid_id(header.get("conversation_id")) or valid_id(stem)
    if found is None or documents.catalog.get(found):
        raise Irregular
    target = documents.folder.document(found)
    if target != path and target.exists():
        raise Irregular
    return found


def _number_for(conversation_id: str, catalog: Catalog, header: Fields) -> int:
    """Return the number a document has, or the next one if that is another's or was never given."""
    number = header.get("number")
    is_own = header.get("conversation_id") == conversation_id
    if is_own and is_number(number) and number <= MAX_NUMBER and catalog.by_number(number) is None:
        return number
    fresh = catalog.take_number()
    log.warning("conversation file %s gets the number %d", file_stem(conversation_id), fresh)
    return fresh


def _settle(catalog: Catalog, projects: Projects) -> None:
    """Take conversations out of projects that are gone, and set the clock after everything that happened."""
    newest, horizon = "", clock.horizon()
    for entries in catalog.batches():
        for entry in entries:
            if newest < entry.updated_at <= horizon:
                newest = entry.updated_at
            project_id = entry.settable[PROJECT]
            if project_id and projects.get(project_id) is None:
                projects.raise_project(project_id)
                entry.settable = entry.with_set({"project_id": 0})
    clock.not_before(newest)


def _finish_deletions(documents: Documents) -> None:
    """Remove what is left of deletions for which there was no room, when `store.json` has their numbers."""
    last = documents.catalog.last_number
    for path in documents.folder.deleted.glob(f"*{GONE}"):
        try:
            documents.projects.keep_number(last, last)
            files.forget_file(path)
        except StorageError as error:
            log.warning("deleted/%s: kept for the next start: %s", path.name, error.message)


def _recover(path: Path, checkpoint: Checkpoint | None, documents: Documents) -> None:
    """Store the reply that a crash cut off, unless it is stored already."""
    conversation_id, reply = checkpoint or ("", Message("", ""))
    entry = documents.catalog.get(conversation_id)
    try:
        if entry and number_of(reply.id) == entry.number:
            next_position = max(entry.next_position, position_of(reply.id) + 1)
            documents.catalog.update(entry, {}, next_position=next_position)
            if reply.content and documents.use(entry, reading.find, documents.outlines, reply.id) is None:
                documents.append(entry, (reply,))
        files.forget_file(path)
    except (NotFound, StorageError) as error:
        log.warning("checkpoints/%s: kept for the next start: %s", path.name, error.message)
