"""On a full disk what is there can be read and removed, after a restart too."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import NotFound, StorageFull
from self_agent.models import Message
from self_agent.storage.json_files import JsonFileStore
from tests.storage.conftest import Refusing, age

Open = Callable[[], JsonFileStore]

FULL = {"write": errno.ENOSPC}


def filled(open_store: Open) -> JsonFileStore:
    store = open_store()
    for name in "abc":
        store.create(name, "u")
        store.append(name, Message("user", name * 1000))
    return store


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("call", ["write", "sync", "open"])
def test_deletion_needs_no_room(open_store: Open, folder: Path, disk: Refusing, call: str, *, keep: bool) -> None:
    """The last conversation is deleted, its room is free if it was for good, and its number is not given again."""
    store = filled(open_store)
    disk.refused = {call: errno.ENOSPC}
    assert store.delete("c", keep=keep) == 1
    with pytest.raises(NotFound):
        store.messages("c")
    sizes = [path.stat().st_size for path in (folder / "deleted").iterdir()]
    assert sum(sizes) > 1000 if keep or call == "open" else sizes == [0]
    if call != "open":  # then nothing can be read either
        store = open_store()
        assert store.get("c") is None
        assert store.messages("a")
    disk.refused = {}
    for number in (4, 5):
        store = open_store()
        assert store.create(f"n{number}", "u").number == number
    assert [path.name for path in (folder / "deleted").iterdir()] == (["c~3.json"] if keep else [])


def test_room_that_came_free_is_used(open_store: Open, folder: Path, disk: Refusing) -> None:
    """Where the deletion itself made room, nothing is left of it."""
    store = filled(open_store)
    disk.refused = dict(FULL)
    start = disk.unlink

    def unlink(path: Path) -> None:
        start(path)
        disk.refused = {}  # the half of `store.json` that did not fit is gone

    disk.unlink = unlink  # type: ignore[method-assign]
    store.delete("c")
    assert list((folder / "deleted").iterdir()) == []
    assert open_store().create("d", "u").number == 4


def test_refused_deletion_changes_nothing(open_store: Open, disk: Refusing) -> None:
    """Where even a name cannot be changed, nothing has happened."""
    store = filled(open_store)
    disk.refused = {"replace": errno.ENOSPC}
    for keep in (True, False):
        with pytest.raises(StorageFull):
            store.delete("c", keep=keep)
    disk.refused = {}
    assert store.messages("c")
    assert open_store().messages("c")


@pytest.mark.parametrize("calls", [["write"], ["write", "sync"], ["write", "sync", "truncate", "replace", "unlink"]])
def test_restart_serves_reads(open_store: Open, folder: Path, disk: Refusing, calls: list[str]) -> None:
    """Neither probe, pid, leftover, checkpoint nor snapshot stops the start; writes say what is wrong."""
    store = filled(open_store)
    store.checkpoint("b", Message("assistant", "", id=store.reserve("b")), "half")
    store.close()
    (folder / "conversations" / "a.json.1-1.tmp").write_text("half")
    (folder / "catalog.json").unlink()
    disk.refused = dict.fromkeys(calls, errno.ENOSPC)
    store = open_store()
    assert store.failure() is None
    assert [store.messages(name)[0].content for name in "abc"] == [name * 1000 for name in "abc"]
    for use in (
        lambda: store.append("a", Message("user", "x")),
        lambda: store.create("d", "u"),
        lambda: store.update("a", title="t"),
    ):
        with pytest.raises(StorageFull):
            use()
    disk.refused = {}
    store.append("a", Message("user", "x"))
    assert open_store().messages("b")[-1].content == "half"


def test_edited_file_waits_for_room(open_store: Open, folder: Path, disk: Refusing) -> None:
    """A document that a person indented is listed after a restart on a full disk, and read when there is room."""
    store = filled(open_store)
    store.close()
    path = folder / "conversations" / "a.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=2))
    age(path)
    disk.refused = dict(FULL)
    store = open_store()
    assert store.conversations("u").total == 3
    with pytest.raises(StorageFull):
        store.messages("a")
    disk.refused = {}
    assert store.messages("a")[0].content == "a" * 1000
