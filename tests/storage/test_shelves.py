"""`shelves.json`, whatever becomes of it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import StorageFull
from self_agent.models import Folder, Shelf
from self_agent.storage.json_files import JsonFileStore
from tests.storage.conftest import Refusing

Open = Callable[[], JsonFileStore]


def test_broken_shelves_are_set_aside(open_store: Open, folder: Path) -> None:
    """Without a readable `shelves.json` the server starts with empty shelves, which can be filled again."""
    for text in (
        "oops",
        '{"shelves": {"u": {"folders": [], "tags": [{"id": 5}]}}}',
        '{"shelves": {"u": {"tags": []}}}',
    ):
        open_store().close()
        (folder / "shelves.json").write_text(text)
        store = open_store()
        assert store.shelf("u") == Shelf()
        store.change_shelf("u", lambda _: Shelf((Folder("f", "f", {}, "2025", "2025"),)))
        assert [found.id for found in open_store().shelf("u").folders] == ["f"]
    assert (folder / "quarantine" / "shelves.json").read_text() == "oops"
    assert len(list((folder / "quarantine").iterdir())) == 3


def test_number_on_shelf_is_no_others(open_store: Open, folder: Path) -> None:
    """A conversation whose file was removed by hand gives its folders and tags to no other."""
    store = open_store()
    number = store.create("c", "u").number
    store.change_shelf("u", lambda _: Shelf((Folder("f", "f", {"c": number}, "2025", "2025"),)))
    store.close()
    (folder / "conversations" / "c.json").unlink()
    store = open_store()
    assert store.create("c", "u").number > number
    assert store.shelf("u").folders[0].conversations == {}


@pytest.mark.parametrize("call", ["open", "write", "sync", "replace"])
def test_refused_shelf_changes_nothing(open_store: Open, disk: Refusing, call: str) -> None:
    """What the disk did not take is not shown, now and after a restart; later it is taken."""
    store = open_store()
    kept, lost = (Shelf((Folder(name, name, {}, "2025", "2025"),)) for name in ("kept", "lost"))
    store.change_shelf("u", lambda _: kept)
    disk.refused = {call: errno.ENOSPC}
    with pytest.raises(StorageFull):
        store.change_shelf("u", lambda _: lost)
    assert store.shelf("u") == kept
    disk.refused = {}
    assert open_store().shelf("u") == kept
    assert open_store().change_shelf("u", lambda _: lost) == lost


def test_idle_change_is_not_written(open_store: Open, disk: Refusing) -> None:
    """A change that changes nothing waits for no disk."""
    store = open_store()
    shelf = store.change_shelf("u", lambda _: Shelf((Folder("f", "f", {}, "2025", "2025"),)))
    disk.calls.clear()
    assert store.change_shelf("u", lambda shelf: Shelf(shelf.folders)) == shelf
    assert disk.calls == []
