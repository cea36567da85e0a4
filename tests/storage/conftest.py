"""The stores that the contract's tests run against, and ways to look at a data folder from outside."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest

from core import clock, files
from core.config import Settings
from self_agent import storage
from self_agent.storage import Store, choices
from self_agent.storage.json_files import JsonFileStore
from tests.postgres import Server, empty_server


def opened(name: str, folder: Path, database_url: str = "") -> Store:
    """Open the store with this name, as the setting STORE does."""
    settings = Settings(store=name, data_dir=folder, log_dir=folder / "logs", database_url=database_url)
    store = storage.open_store(settings)
    store.get("")  # waits until it is open
    return store


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A PostgreSQL with empty tables, in which numbers are given one at a time, so that they are known beforehand."""
    server = empty_server()
    monkeypatch.setattr("self_agent.storage.postgres.opened.BLOCK", 1)
    return server


def url_of(name: str, request: pytest.FixtureRequest) -> str:
    """Return the database of the store with this name, or "" if it has none; skips the test where there is none."""
    if name != "postgres":
        return ""
    server: Server = request.getfixturevalue("server")
    return server.url


@pytest.fixture(params=choices())
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """Each implementation of the contract."""
    store = opened(request.param, folder, url_of(request.param, request))
    yield store
    store.close()


def is_persistent(name: str) -> bool:
    """Say whether what this store keeps is there again when it is opened again."""
    kind = get_type_hints(import_module(f"self_agent.storage.{name}").open_store)["return"]
    return bool(kind.persistent)


PERSISTENT = filter(is_persistent, choices())


@pytest.fixture(params=itertools.product(PERSISTENT, ("closed", "killed")), ids="-".join)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Open each persistent store, again and again, after it was closed or killed.

    What `kill -9` leaves is the data folder as it is while the store is open, or a database with no connections; a new
    process knows no time but its own.
    """
    name, end = request.param
    url = url_of(name, request)
    stores: list[Store] = []
    folder = tmp_path / "0"

    def again() -> Store:
        nonlocal folder
        if stores and end == "closed":
            stores[-1].close()
        elif stores and url:
            request.getfixturevalue("server").hang_up()
        elif stores:
            folder = shutil.copytree(folder, tmp_path / f"{len(stores)}")
        clock._last = 0
        stores.append(opened(name, folder, url))
        return stores[-1]

    yield again
    for store in stores:
        store.close()
    clock._last = 0


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


def age(path: Path, seconds: float = 10) -> None:
    """Let a file have been as it is for a while: nobody is writing it any more."""
    then = time.time() - seconds
    os.utime(path, (then, then))


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
