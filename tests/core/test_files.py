"""Durable writing: all or nothing, and failures that a client may see."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import files
from core.errors import StorageError, StorageFull


class Stingy(files.Operations):
    """A disk that takes seven bytes at a time, and fails where told."""

    def __init__(self, **failures: int) -> None:
        self.failures = failures

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return super().write(fd, data[:7], offset)

    def sync(self, fd: int) -> None:
        self._fail("sync")
        super().sync(fd)

    def truncate(self, fd: int, size: int) -> None:
        self._fail("truncate")
        super().truncate(fd, size)

    def replace(self, source: Path, target: Path) -> None:
        self._fail("replace")
        super().replace(source, target)

    def _fail(self, name: str) -> None:
        if name in self.failures:
            raise OSError(self.failures[name], "refused by the test", "/a/path")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    files.operations = files.Operations()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"before]")
    return path


def overwrite(path: Path, data: bytes) -> None:
    fd = files.open_file(path, files.CHANGE)
    try:
        files.overwrite_tail(fd, 6, data, b"]")
    finally:
        os.close(fd)


def test_short_writes_are_finished(path: Path) -> None:
    """A disk that takes a part at a time still gets everything."""
    files.operations = Stingy()
    overwrite(path, b", and a long tail]")
    assert path.read_bytes() == b"before, and a long tail]"
    files.replace_file(path, [b"", b"0123456789", memoryview(b"abc")])
    assert path.read_bytes() == b"0123456789abc"


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StorageError)]
)
def test_failed_append_is_undone(path: Path, number: int, kind: type[StorageError]) -> None:
    """When the disk refuses, the file is as it was, and the error says why without a path."""
    files.operations = Stingy(sync=number)
    with pytest.raises(kind) as caught:
        overwrite(path, b" more of it]")
    assert path.read_bytes() == b"before]"
    assert type(caught.value) is kind
    assert "/a/path" not in caught.value.message


@pytest.mark.parametrize("call", ["sync", "replace"])
def test_failed_replacement_leaves_old(path: Path, call: str) -> None:
    """A replacement that fails leaves the old content and nothing beside it."""
    files.operations = Stingy(**{call: errno.ENOSPC})
    with pytest.raises(StorageFull):
        files.replace_file(path, [b"new"])
    assert path.read_bytes() == b"before]"
    assert os.listdir(path.parent) == ["file"]


def test_leftovers_are_removed(path: Path) -> None:
    """What a crash left half written goes; everything else stays."""
    (path.parent / "file.1-2.tmp").write_bytes(b"half")
    files.remove_leftovers(path.parent)
    assert os.listdir(path.parent) == ["file"]


def test_missing_file_is_told_apart(tmp_path: Path) -> None:
    """A file that is not there is FileNotFoundError; one that cannot be opened is StorageError."""
    with pytest.raises(FileNotFoundError):
        files.open_file(tmp_path / "none", files.READ)
    with pytest.raises(StorageError):
        files.open_file(tmp_path, files.CHANGE)


def test_removing_twice_is_fine(path: Path) -> None:
    """Removing what is gone already is no error."""
    for remove in (files.remove_file, files.forget_file):
        path.write_bytes(b"")
        remove(path)
        remove(path)
        assert not path.exists()


def test_loose_writes_add_up(tmp_path: Path) -> None:
    """A file that is not worth a sync is started anew and added to."""
    path = tmp_path / "loose"
    for _ in range(2):
        files.start_file(path, b"a")
        files.add_to_file(path, b"bc")
    assert path.read_bytes() == b"abc"


def test_moving_replaces_target(path: Path) -> None:
    """A moved file takes the place of the one that was there."""
    target = path.parent / "deeper" / "target"
    files.make_folder(target.parent)
    files.make_folder(target.parent)
    target.write_bytes(b"old")
    files.move_file(path, target)
    assert target.read_bytes() == b"before]"
    with pytest.raises(StorageError):
        files.move_file(path, target)


def test_reading_stops_at_end(path: Path) -> None:
    """Reading past the end gives what there is."""
    fd = files.open_file(path, files.READ)
    assert (files.read_at(fd, 100, 3), files.read_at(fd, 5, 100)) == (b"ore]", b"")
    os.close(fd)
