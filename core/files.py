"""A write that returned is on the disk; one that failed left behind what was there before.

Everything that changes the disk goes through `operations`, the one seam where a test can record the calls or
have them refused. Failures come out as `StorageFull` or `StorageError`, whose messages name no path.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import StorageError, StorageFull

if sys.platform == "darwin":
    import fcntl

log = logging.getLogger(__name__)

TEMPORARY = ".tmp"  # suffix of files that are being written; what a crash leaves of them is worth nothing
READ = os.O_RDONLY
CHANGE = os.O_RDWR

_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would turn \n into \r\n
_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)  # a pipe in the place of a file must not make its reader wait
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_counter = itertools.count()


class Operations:
    """The calls that change the disk, one method each."""

    def open(self, path: str | Path, flags: int) -> int:
        return os.open(path, flags | _BINARY | _NONBLOCK, 0o666)

    if sys.platform == "win32":

        def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            """Write at an offset and return how much was taken, as `os.pwrite` does."""
            os.lseek(fd, offset, os.SEEK_SET)
            return os.write(fd, data)

    else:
        write = staticmethod(os.pwrite)

    if sys.platform == "linux":
        sync = staticmethod(os.fdatasync)  # the content and the size, not the times: half the price of fsync
    elif sys.platform == "darwin":

        def sync(self, fd: int) -> None:
            """Return when the content and the size of the file are on the disk."""
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync there stops at the drive's own cache

    else:
        sync = staticmethod(os.fsync)

    def sync_folder(self, fd: int) -> None:
        os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)


operations = Operations()


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn an OSError of the block into the StorageError or StorageFull that a client may see."""
    try:
        yield
    except OSError as error:
        raise storage_error(error) from error


def storage_error(error: OSError) -> StorageError:
    """Word an OSError for a client: the reason and the remedy, no path."""
    if error.errno in _FULL:
        return StorageFull("The disk is full: free some space, then try again.")
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return StorageError(f"The data folder cannot be used now ({reason}): check the disk and its permissions.")


def open_file(path: str | Path, flags: int) -> int:
    """Open an existing file. Raises FileNotFoundError, or StorageError for any other reason."""
    try:
        return operations.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error) from error


def read_file(path: str | Path) -> tuple[bytes, os.stat_result]:
    """Return a file, and its size and time just before. Raises FileNotFoundError, StorageError for what is none."""
    fd = open_file(path, READ)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise StorageError("What lies in the place of a file in the data folder is none: move it away.")
        return read_at(fd, status.st_size, 0), status
    finally:
        os.close(fd)


def read_at(fd: int, length: int, offset: int) -> bytes:
    """Read up to `length` bytes from `offset`; fewer only where the file ends."""
    try:
        data = _read_once(fd, length, offset)
        while len(data) < length and (piece := _read_once(fd, length - len(data), offset + len(data))):
            data += piece
    except OSError as error:
        raise storage_error(error) from error
    return data


if sys.platform == "win32":

    def _read_once(fd: int, length: int, offset: int) -> bytes:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, length)

else:
    _read_once = os.pread


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, not yet durably. Raises OSError."""
    taken = operations.write(fd, data, offset)
    if taken == len(data):
        return
    rest = memoryview(data)
    while taken < len(rest):  # a full disk may take a part first and say so only at the next call
        taken += operations.write(fd, rest[taken:], offset + taken)


def overwrite_tail(fd: int, offset: int, data: bytes, before: bytes) -> os.stat_result:
    """Durably put `data` where `before` ends the file; return the size and time it has then.

    When that fails `before` is put back as well as the disk allows; `cut_tail` can be tried again later.
    """
    try:
        if operations.write(fd, data, offset) != len(data):  # rarely: hence not a call of `write_at` alone
            write_at(fd, data, offset)
        operations.sync(fd)
        return os.fstat(fd)  # only now: Windows may set the time of a write when it is flushed
    except OSError as error:
        with suppress(StorageError):
            cut_tail(fd, offset, before)
        raise storage_error(error) from error


def cut_tail(fd: int, offset: int, closing: bytes) -> None:
    """Durably end the file with `closing` at `offset`."""
    with storage_errors():
        operations.truncate(fd, offset + len(closing))
        write_at(fd, closing, offset)
        operations.sync(fd)


def replace_file(
    path: Path, chunks: Iterable[bytes | memoryview], check: Callable[[], object] = lambda: None
) -> os.stat_result:
    """Durably make `chunks` the content of `path`: old or new at any moment, never a mixture.

    `check` is called at the last moment; what it raises leaves `path` as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{next(_counter)}{TEMPORARY}")
    try:
        with storage_errors():
            status = _write_new(temporary, chunks)
            check()
            operations.replace(temporary, path)
    except StorageError:
        with suppress(OSError):
            operations.unlink(temporary)
        raise
    sync_folder(path.parent)
    return status


def _write_new(path: Path, chunks: Iterable[bytes | memoryview]) -> os.stat_result:
    fd = operations.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        offset = 0
        for chunk in chunks:
            write_at(fd, chunk, offset)
            offset += len(chunk)
        operations.sync(fd)
        return os.fstat(fd)
    finally:
        os.close(fd)


def start_file(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`, not durably: it survives the process, not a power cut."""
    _write_loosely(path, data, os.O_TRUNC)


def add_to_file(path: Path, data: bytes) -> None:
    """Write `data` after the end of `path`, not durably."""
    _write_loosely(path, data, 0)


def _write_loosely(path: Path, data: bytes, flags: int) -> None:
    with storage_errors():
        fd = operations.open(path, os.O_WRONLY | os.O_CREAT | flags)
        try:
            write_at(fd, data, os.fstat(fd).st_size)
        finally:
            os.close(fd)


def move_file(source: Path, target: Path) -> None:
    """Durably rename a file within one disk, replacing `target`."""
    with storage_errors():
        operations.replace(source, target)
    sync_folder(target.parent)
    sync_folder(source.parent)


def keep_file(path: Path, target: Path) -> None:
    """Durably give a file a second name, which it keeps when `path` is replaced; where that cannot be, copy it."""
    with storage_errors():
        fd = operations.open(path, READ)
        try:
            operations.sync(fd)
            operations.link(path, target)
        except OSError:
            replace_file(target, [read_at(fd, os.fstat(fd).st_size, 0)])
        finally:
            os.close(fd)
    sync_folder(target.parent)


def remove_file(path: Path) -> None:
    """Durably remove a file; one that is gone already is fine."""
    with storage_errors(), suppress(FileNotFoundError):
        operations.unlink(path)
    sync_folder(path.parent)  # also of one that is gone: the call that removed it may have failed here


def forget_file(path: Path) -> None:
    """Remove a file without waiting for the disk: if it comes back after a power cut, that does no harm."""
    with storage_errors(), suppress(FileNotFoundError):
        operations.unlink(path)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, durably where they are new."""
    if path.is_dir():
        return
    with storage_errors():
        operations.make_folder(path)
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a crash left in a folder, as far as the disk lets us."""
    with storage_errors():
        leftovers = [entry for entry in os.scandir(folder) if entry.name.endswith(TEMPORARY)]
    for entry in leftovers:
        try:
            if entry.is_file(follow_symlinks=False):
                operations.unlink(Path(entry.path))
            else:
                log.warning("%s: no file, left alone", entry.name)
        except OSError as error:
            log.warning("%s: not removed: %s", entry.name, error.strerror)


def sync_folder(path: Path) -> None:
    """Return when the names in a folder are on the disk; Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    with storage_errors():
        fd = os.open(path, os.O_RDONLY)
        try:
            operations.sync_folder(fd)
        finally:
            os.close(fd)
