"""A recorded disk that refuses chosen calls, as a full, broken or read-only one does."""

from __future__ import annotations

from pathlib import Path

from core import files
from tests.torture.disk import Recorder, Synced

WRITES = ("open", "write", "truncate", "replace", "link", "unlink")


class Failing(Recorder):
    """A recorded disk on which chosen calls fail, for files whose path contains `only`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refused: dict[str, int] = {}
        self.only = ""

    def _pass(self, name: str, path: str) -> None:
        if name in self.refused and self.only in path:
            raise OSError(self.refused[name], "refused by the test")

    def _name(self, fd: int) -> str:
        return next((path for path, file in self._names.items() if file is self._open[fd]), "")

    def open(self, path: str | Path, flags: int) -> int:
        if flags & ~files.READ:
            self._pass("open", str(path))
        return super().open(path, flags)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._pass("write", self._name(fd))
        return super().write(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        self._pass("truncate", self._name(fd))
        super().truncate(fd, size)

    def replace(self, source: Path, target: Path) -> None:
        self._pass("replace", str(target))
        super().replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        self._pass("link", str(target))
        super().link(source, target)

    def unlink(self, path: Path) -> None:
        self._pass("unlink", str(path))
        super().unlink(path)

    def sync(self, fd: int) -> None:
        """Fail as Linux does: what was not written is believed to be written from then on, and never tried again."""
        if "sync" in self.refused and self.only in self._name(fd):
            self.log.append(Synced(self._open[fd], ok=False))
        self._pass("sync", self._name(fd))
        super().sync(fd)

    def sync_folder(self, fd: int) -> None:
        self._pass("sync_folder", self._folder_of(fd))
        super().sync_folder(fd)
