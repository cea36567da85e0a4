"""A disk that remembers what it was told, and can say what may be left of it after the power failed at any point.

What is promised is what POSIX promises: content is durable after a sync of the file, a name after a sync of
its folder. Until then a change may be there or not, whatever happened to the others: data without the size
(cut off), the size without the data (zeros), a later write without an earlier one.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from core import files

BLOCK = 512  # bytes; what a disk writes as a whole
AGE = 10**10  # nanoseconds; a machine takes longer to start again than an editor to save
MOST = 40  # states of one moment that are tried; more are sampled, always the same

Image = dict[str, "Left"]  # by path below the folder


class File:
    """What a name stands for: it keeps its identity when it is renamed."""


@dataclass(frozen=True)
class Left:
    """The content of a file after a failure; `mtime_ns` where a file whose size was not written kept its time."""

    content: bytes
    mtime_ns: int | None = None


@dataclass(frozen=True)
class Write:
    file: File
    offset: int
    data: bytes


@dataclass(frozen=True)
class Cut:
    file: File
    size: int


@dataclass(frozen=True)
class Synced:
    """`ok` False: the disk said no, and the system will not write again what it holds of the file."""

    file: File
    ok: bool
    mtime_ns: int = 0


@dataclass(frozen=True)
class Named:
    """A path stands for a file from now on, or for none."""

    path: str
    file: File | None


@dataclass(frozen=True)
class Renamed:
    source: str
    target: str
    file: File


@dataclass(frozen=True)
class FolderSynced:
    path: str


Event = Union[Write, Cut, Synced, Named, Renamed, FolderSynced]
Naming = Union[Named, Renamed]
Change = Union[Write, Cut]


class Recorder(files.Operations):
    """Keeps every call, and passes all but the syncs on to the real disk.

    `log` is what another one kept of the same folder: what was not synced then is not synced now.
    """

    def __init__(self, folder: Path, log: Iterable[Event] = ()) -> None:
        self.folder = folder
        self.log = list(log)
        self._names = last_names(self.log)
        self._open: dict[int, File] = {}

    def _path(self, path: str | Path) -> str:
        return Path(path).relative_to(self.folder).as_posix()

    def open(self, path: str | Path, flags: int) -> int:
        name = self._path(path)
        fd = super().open(path, flags)
        if name not in self._names:
            self._names[name] = File()
            self.log.append(Named(name, self._names[name]))
            if size := os.fstat(fd).st_size:  # put there by the test
                self.log.append(Write(self._names[name], 0, os.pread(fd, size, 0)))
        self._open[fd] = self._names[name]
        if flags & os.O_TRUNC:
            self.log.append(Cut(self._open[fd], 0))
        return fd

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        taken = super().write(fd, data, offset)
        self.log.append(Write(self._open[fd], offset, bytes(data[:taken])))
        return taken

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        self.log.append(Cut(self._open[fd], size))

    def sync(self, fd: int) -> None:
        self.log.append(Synced(self._open[fd], True, os.fstat(fd).st_mtime_ns))

    def sync_folder(self, fd: int) -> None:
        self.log.append(FolderSynced(self._folder_of(fd)))

    def _folder_of(self, fd: int) -> str:
        status = os.fstat(fd)
        folders = [self.folder, *(path for path in self.folder.iterdir() if path.is_dir())]
        return next((self._path(path) for path in folders if os.path.samestat(path.stat(), status)), "..")

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        file = self._names.pop(self._path(source))
        self._names[self._path(target)] = file
        self.log.append(Renamed(self._path(source), self._path(target), file))

    def link(self, source: Path, target: Path) -> None:
        super().link(source, target)
        name = self._path(target)
        self._names[name] = self._names[self._path(source)]
        self.log.append(Named(name, self._names[name]))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        del self._names[self._path(path)]
        self.log.append(Named(self._path(path), None))


def last_names(log: Iterable[Event]) -> dict[str, File]:
    """Return which paths stand for which files at the end of a log."""
    names: dict[str, File] = {}
    for event in log:
        if isinstance(event, (Named, Renamed)):
            rename(names, event)
    return names


def rename(names: dict[str, File], event: Naming) -> None:
    """Do to the names what an event says."""
    if isinstance(event, Renamed):
        if names.get(event.source) is event.file:
            del names[event.source]
        names[event.target] = event.file
    elif event.file is None:
        names.pop(event.path, None)
    else:
        names[event.path] = event.file


class Moment:
    """What is durable, and what is not yet, after the events of a log."""

    def __init__(self, log: Iterable[Event]) -> None:
        self.names: dict[str, File] = {}
        self.content: dict[File, Left] = {}
        self.open_names: list[Naming] = []
        self.open_changes: dict[File, list[Change]] = {}
        for event in log:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take in the next event."""
        if isinstance(event, (Write, Cut)):
            self.open_changes.setdefault(event.file, []).append(event)
        elif isinstance(event, Synced):
            changes = self.open_changes.pop(event.file, [])
            if event.ok:
                self.content[event.file] = Left(applied(self.durable(event.file), changes), event.mtime_ns)
        elif isinstance(event, FolderSynced):
            self._sync_names(event.path)
        else:
            self.open_names.append(event)

    def _sync_names(self, folder: str) -> None:
        waiting, self.open_names = self.open_names, []
        for event in waiting:
            path = event.target if isinstance(event, Renamed) else event.path
            if Path(path).parent.as_posix() == folder:
                rename(self.names, event)
            else:
                self.open_names.append(event)

    def durable(self, file: File) -> bytes:
        """Return the content that is on the disk for certain."""
        return self.content.get(file, Left(b"")).content

    def killed(self) -> Image:
        """Return what a killed process leaves: everything that it did."""
        return self.image(self.open_names, {f: applied(self.durable(f), c) for f, c in self.open_changes.items()})

    def power_cuts(self, seed: int) -> Iterator[Image]:
        """Yield what may be left when the power fails now, the worst first."""
        chosen_files = list(self.open_changes)
        contents = [list(possible(self.durable(f), self.open_changes[f], seed)) for f in chosen_files]
        every = itertools.product(subsets(self.open_names, seed), *contents)
        for names, *content in sampled(every, seed):
            yield self.image(names, dict(zip(chosen_files, content, strict=True)))

    def image(self, open_names: Iterable[Naming], contents: dict[File, bytes]) -> Image:
        """Return the folder with some of what is not durable."""
        names = dict(self.names)
        for event in open_names:
            rename(names, event)
        return {path: self._left(file, contents) for path, file in names.items()}

    def _left(self, file: File, contents: dict[File, bytes]) -> Left:
        durable = self.content.get(file, Left(b""))
        content = contents.get(file, durable.content)
        # A sync need not write the time, and a write that did not change the size need not either.
        return Left(content, durable.mtime_ns if len(content) == len(durable.content) else None)


def applied(content: bytes, changes: Iterable[Change]) -> bytes:
    """Return a content after some changes."""
    result = bytearray(content)
    for change in changes:
        if isinstance(change, Cut):
            del result[change.size :]
            result += bytes(change.size - len(result))
        else:
            result += bytes(max(0, change.offset - len(result)))
            result[change.offset : change.offset + len(change.data)] = change.data
    return bytes(result)


def possible(content: bytes, changes: list[Change], seed: int) -> Iterator[bytes]:
    """Yield what a file may hold when none, some or all of its changes are on the disk, in any order, cut or padded."""
    pieces = [piece for change in changes for piece in blocks(change)]
    whole = applied(content, pieces)
    seen: set[bytes] = set()
    for chosen in subsets(pieces, seed):
        for order in {tuple(chosen), tuple(reversed(chosen))}:
            result = applied(content, order)
            sizes = {len(result), len(content), len(whole)}
            seen |= {applied(result, [Cut(changes[0].file, size)]) for size in sizes}
    yield from sorted(seen)


def blocks(change: Change) -> Iterator[Change]:
    """Split a write where the blocks of a disk end."""
    if isinstance(change, Cut):
        yield change
        return
    start = change.offset
    end = start + len(change.data)
    while start < end:
        stop = min(end, (start // BLOCK + 1) * BLOCK)
        yield Write(change.file, start, change.data[start - change.offset : stop - change.offset])
        start = stop


def subsets(items: list[Any], seed: int) -> list[tuple[Any, ...]]:
    """Return the subsets of a list, in its order, from none to all; of a long one the beginnings and some more."""
    if 2 ** len(items) <= MOST:
        return [chosen for n in range(len(items) + 1) for chosen in itertools.combinations(items, n)]
    chance = random.Random(seed)
    some = [tuple(item for item in items if chance.random() < 0.5) for _ in range(MOST)]
    return [*(tuple(items[:n]) for n in range(len(items))), *some, tuple(items)]


def sampled(items: Iterable[Any], seed: int) -> list[Any]:
    """Return all, or some that are always the same, of which the first and the last are two."""
    found = list(itertools.islice(items, 20_000))
    if len(found) <= MOST:
        return found
    return [found[0], *random.Random(seed).sample(found[1:-1], MOST - 2), found[-1]]


def key_of(image: Image) -> frozenset[tuple[str, Left]]:
    """Return what tells images apart; a temporary file is removed at the start, whatever it holds."""
    return frozenset((path, left) for path, left in image.items() if not path.endswith(files.TEMPORARY))


def restore(image: Image, folder: Path) -> None:
    """Make a folder what the failure left, some time ago."""
    for path, left in image.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(left.content)
        then = time.time_ns() - AGE if left.mtime_ns is None else left.mtime_ns
        os.utime(target, ns=(then, then))
