"""A copy of the data folder while a server uses it: whole documents, and never half a copy under the name that counts.

What changed since the last copy is read, the rest is linked from it. Documents are appended to in place, so nothing is
ever linked to the data folder itself. What an answer has acknowledged before the copy began is in it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from core import clock, files
from core.errors import InvalidRequest
from self_agent.storage.json_files.folder import SUFFIX, deleted_number
from self_agent.storage.json_files.lines import CLOSING, OPENING, Irregular, parse_header

if sys.platform == "linux":
    import fcntl

MARKER = "backup.json"  # in a copy that is whole
_FOLDERS = ("checkpoints", "conversations", "deleted", "conversations", "deleted", "quarantine")  # see `_copy_all`
_ALONE = ("store.json", "shelves.json", "catalog.json")
_ATTEMPTS = 50
_PAUSE = 0.02  # seconds: an append takes a few milliseconds
_CLONE = 0x40049409  # FICLONE: the copy shares its blocks until one of the two is written to
_PIECE = 1 << 20


@dataclass
class Report:
    """How many files are in a copy, and how many of these had changed."""

    files: int = 0
    copied: int = 0


def backup(source: Path, target: Path, step: Callable[[], object] = lambda: None) -> Report:
    """Make `target` a copy of a data folder; `step` is called after each file.

    Raises InvalidRequest when the target cannot be one, OSError when the disk refuses: then an older copy is as it was.
    """
    check(source, target)
    building, before = (target.with_name(f"{target.name}~{part}") for part in ("new", "old"))
    if not target.exists() and before.exists():  # the process was killed between two renames
        before.rename(target)
    for leftover in (building, before):
        if leftover.exists():
            shutil.rmtree(leftover)
    building.mkdir(parents=True)
    report = _copy_all(source, target, building, step)
    content = {"format": 1, "finished_at": clock.now(), "files": report.files}
    files.replace_file(building / MARKER, [orjson.dumps(content) + b"\n"])
    _sync(building)
    if target.exists():
        target.rename(before)
    building.rename(target)
    files.sync_folder(target.parent)
    if before.exists():
        shutil.rmtree(before)
    return report


def check(source: Path, target: Path) -> None:
    """Raise InvalidRequest unless a copy of `source` may become `target`."""
    here, there = source.resolve(), target.resolve()
    if not (here / "conversations").is_dir():
        raise InvalidRequest(f"{source} is no data folder: it has no conversations/; name another with DATA_DIR")
    if here == there or here in there.parents or there in here.parents:
        raise InvalidRequest("the target must lie outside the data folder, and not around it: choose another place")
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise InvalidRequest(f"{target} is no folder: choose another name")
    if any(target.iterdir()) and not (target / MARKER).is_file():
        raise InvalidRequest(f"{target} holds something that is no backup: choose another name, or empty it")
    if (target / ".lock").exists():
        try:
            FileLock(target / ".lock").acquire(timeout=0).lock.release()
        except Timeout:
            raise InvalidRequest(f"a server uses {target} as its data folder: stop it, or choose another") from None


# --- all files


def _copy_all(source: Path, known: Path, target: Path, step: Callable[[], object]) -> Report:
    """Copy everything, in an order in which nothing falls between two folders.

    A reply goes from its checkpoint into its document, a conversation from `conversations` to `deleted` and back. So
    what is left is copied before where it goes, and both places twice. Projects and shelves name what is in documents,
    not the other way round: they come last.
    """
    report = Report()
    for name in _FOLDERS:
        (target / name).mkdir(exist_ok=True)
        for path in _files(source / name):
            report.copied += _take(path, known / name / path.name, target / name / path.name)
            step()
    for path in [source / name for name in _ALONE] + _others(source):
        report.copied += _take(path, known / path.name, target / path.name)
        step()
    _without_doubles(source, target)
    report.files = sum(1 for path in target.rglob("*") if path.is_file())
    return report


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder; what is being written, and what is no file, is none."""
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        for item in sorted(found, key=lambda item: item.name):
            with suppress(OSError):
                if item.is_file() and not item.name.endswith(files.TEMPORARY) and item.name != ".probe":
                    yield folder / item.name


def _others(source: Path) -> list[Path]:
    known = {*_ALONE, MARKER}
    return [path for path in _files(source) if path.name not in known and not path.name.startswith(".lock")]


def _without_doubles(source: Path, target: Path) -> None:
    """Remove one of two copies of a conversation that was deleted, or put back, meanwhile."""
    for path in _files(target / "deleted"):
        stem = path.stem.rpartition("~")[0]
        live = target / "conversations" / (stem + SUFFIX)
        if path.suffix == SUFFIX and live.exists() and _number_of(live) == deleted_number(path.stem):
            (path if (source / "conversations" / live.name).exists() else live).unlink()


def _number_of(path: Path) -> int:
    try:
        with path.open("rb") as file:
            number = parse_header(file.readline())[0].get("number")
    except (OSError, Irregular):
        return -1
    return number if isinstance(number, int) else -1


# --- one file


def _take(path: Path, known: Path, target: Path) -> bool:
    """Copy a file unless the copy is there or in the last backup already; say whether it had to be read."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    for place in (target, known):
        with suppress(OSError):
            there = place.stat()
            if (there.st_size, there.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
                if place is known and not target.exists():
                    _link(known, target)
                    return False
                if place is target:
                    return False
    for attempt in range(_ATTEMPTS):
        try:
            if _copied(path, target) or attempt == _ATTEMPTS - 1:
                return True  # at last as it is: a crash may have left it torn, and the next start repairs it
        except FileNotFoundError:
            target.unlink(missing_ok=True)
            return False
        time.sleep(_PAUSE)
    return True


def _link(known: Path, target: Path) -> None:
    try:
        os.link(known, target)
    except OSError:  # a disk without links
        shutil.copy2(known, target)


def _copied(path: Path, target: Path) -> bool:
    """Copy a file; False when it was being written meanwhile."""
    temporary = target.with_name(target.name + files.TEMPORARY)
    with path.open("rb") as reading, temporary.open("wb") as writing:
        before = os.fstat(reading.fileno())
        _fill(reading.fileno(), writing.fileno())
        writing.flush()
        after = os.fstat(reading.fileno())
        os.fsync(writing.fileno())
    os.utime(temporary, ns=(after.st_atime_ns, after.st_mtime_ns))
    os.replace(temporary, target)
    is_same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return is_same and target.stat().st_size == after.st_size and _is_closed(target)


def _fill(source: int, target: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.ioctl(target, _CLONE, source)
            return
    while piece := os.read(source, _PIECE):
        view = memoryview(piece)
        while view:
            view = view[os.write(target, view) :]


def _is_closed(path: Path) -> bool:
    """Say whether a document in the line form has its end; any other file is as whole as it looks."""
    if path.suffix != SUFFIX:
        return True
    with path.open("rb") as file:
        first = file.readline(_PIECE)
        if not first.endswith(OPENING + b"\n"):
            return True
        file.seek(-len(CLOSING), os.SEEK_END)
        return file.read() == CLOSING


def _sync(folder: Path) -> None:
    for path in (folder, *filter(Path.is_dir, folder.iterdir())):
        files.sync_folder(path)
