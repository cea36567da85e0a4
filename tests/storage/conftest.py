"""The stores that the contract's tests run against, and ways to look at a data folder from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import files
from self_agent.storage.base import Store
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.memory import MemoryStore


@pytest.fixture(params=["json", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each implementation of the contract."""
    opened: Store = JsonFileStore(tmp_path / "data") if request.param == "json" else MemoryStore()
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_store(folder: Path) -> Iterator[Callable[[], JsonFileStore]]:
    """Open the folder anew, closing what was open before; what is open at the end is closed."""
    opened: list[JsonFileStore] = []

    def reopen() -> JsonFileStore:
        while opened:
            opened.pop().close()
        opened.append(JsonFileStore(folder, lock_timeout=0.2))
        opened[-1].get("")  # waits until it is open
        return opened[-1]

    yield reopen
    while opened:
        opened.pop().close()


class Refusing(files.Operations):
    """A disk that refuses chosen calls with an error number."""

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self.calls: list[str] = []

    def _pass(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refused:
            raise OSError(self.refused[name], "refused by the test")

    def open(self, path: str | Path, flags: int) -> int:
        self._pass("open")
        return super().open(path, flags)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._pass("write")
        return super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._pass("sync")
        super().sync(fd)

    def sync_folder(self, fd: int) -> None:
        self._pass("sync_folder")
        super().sync_folder(fd)

    def truncate(self, fd: int, size: int) -> None:
        self._pass("truncate")
        super().truncate(fd, size)

    def replace(self, source: Path, target: Path) -> None:
        self._pass("replace")
        super().replace(source, target)

    def unlink(self, path: Path) -> None:
        self._pass("unlink")
        super().unlink(path)


@pytest.fixture
def disk() -> Iterator[Refusing]:
    """The seam of `core.files`, filled with a disk that can refuse."""
    before = files.operations
    files.operations = refusing = Refusing()
    yield refusing
    files.operations = before
