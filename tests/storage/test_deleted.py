"""`deleted/` as files: crashes, editors, full disks, and what a start does with what is there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core import clock
from core.config import Settings
from core.errors import Conflict, NotFound, StorageBusy, StorageError, StorageFull
from self_agent import storage
from self_agent.models import Message
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.json_files import opened as module
from tests.storage.conftest import Refusing, age

Open = Callable[[], JsonFileStore]
DAY = 86_400


def filled(store: JsonFileStore, *names: str, size: int = 1000) -> None:
    for name in names:
        store.create(name, "u", title=name)
        store.append(name, Message("user", name * size))
        store.delete(name, keep=True)


def places(folder: Path) -> dict[str, list[str]]:
    return {kind: sorted(path.name for path in (folder / kind).iterdir()) for kind in ("conversations", "deleted")}


@pytest.fixture
def in_days(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Set the clock so many days on."""
    yield lambda days: monkeypatch.setattr(clock, "wall", lambda: time.time_ns() + int(days * DAY * 1e9))
    clock._last = 0


def test_restored_says_nothing_of_it(open_store: Open, folder: Path) -> None:
    """A restored document is as if nothing had been, also where somebody moved it by hand and it was changed then."""
    store = open_store()
    filled(store, "a", "b")
    store.restore("u", "a")
    store.close()
    os.replace(folder / "deleted" / "b~2.json", folder / "conversations" / "b.json")
    open_store().update("b", title="t")
    assert places(folder) == {"conversations": ["a.json", "b.json"], "deleted": []}
    for name in "ab":
        document = json.loads((folder / "conversations" / f"{name}.json").read_bytes())
        assert not {"is_deleted", "deleted_at"} & document.keys()


@pytest.mark.parametrize("what", ["deletion", "restoration"])
def test_half_done_is_in_one_place(open_store: Open, folder: Path, what: str) -> None:
    """A crash that left both files leaves one conversation, which can be deleted and restored as any other."""
    store = open_store()
    filled(store, "a")
    kept = folder / "deleted" / "a~1.json"
    half = kept.read_bytes()
    store.restore("u", "a")
    if what == "restoration":
        store.append("a", Message("user", "since then"))
    store.close()
    kept.write_bytes(half)
    store = open_store()
    assert places(folder) == {"conversations": ["a.json"], "deleted": []}
    with pytest.raises(NotFound):
        store.restore("u", "a")
    before = store.messages("a")
    assert len(before) == (2 if what == "restoration" else 1)
    store.delete("a", keep=True)
    store = open_store()
    store.restore("u", "a")
    assert store.messages("a") == before


def test_failed_deletion_is_not_restored(open_store: Open, folder: Path, disk: Refusing) -> None:
    """What a deletion that failed left behind is not brought back after the next one, which is for good."""
    store = open_store()
    store.create("a", "u")
    disk.refused = {"unlink": errno.EIO}
    with pytest.raises(StorageError):
        store.delete("a", keep=True)
    disk.refused = {}
    assert store.get("a")
    with pytest.raises(NotFound):
        store.restore("u", "a")
    store.delete("a")
    assert places(folder) == {"conversations": [], "deleted": []}


def test_restoring_needs_no_room(open_store: Open, folder: Path, disk: Refusing) -> None:
    """On a full disk the document is moved; one that would have to be rewritten stays where it is."""
    store = open_store()
    filled(store, "a", "b")
    edited = folder / "deleted" / "b~2.json"
    edited.write_text(json.dumps(json.loads(edited.read_bytes()), indent=2))
    age(edited)
    disk.refused = {"write": errno.ENOSPC}
    assert store.restore("u", "a").title == "a"
    with pytest.raises(StorageFull):
        store.restore("u", "b")
    assert places(folder) == {"conversations": ["a.json"], "deleted": ["b~2.json"]}
    assert store.messages("a")[0].content == "a" * 1000
    disk.refused = {}
    assert store.restore("u", "b").title == "b"
    store.append("a", Message("user", "goes on"))
    assert [len(open_store().messages(name)) for name in "ab"] == [2, 1]


@pytest.mark.parametrize("call", ["open", "write", "sync", "replace", "sync_folder"])
def test_refused_restoration_changes_nothing(open_store: Open, folder: Path, disk: Refusing, call: str) -> None:
    """Whichever call the disk refuses, the conversation is where it was, and is restored when the disk is well."""
    store = open_store()
    filled(store, "a")
    disk.refused = {call: errno.EIO}
    with pytest.raises(StorageError):
        store.restore("u", "a")
    disk.refused = {}
    assert store.get("a") is None
    assert places(folder) == {"conversations": [], "deleted": ["a~1.json"]}
    assert store.restore("u", "a").count == 1
    assert open_store().messages("a")[0].content == "a" * 1000


def test_what_stays_behind_goes_at_the_next_start(open_store: Open, folder: Path, disk: Refusing) -> None:
    """Where the deleted document cannot be removed, it is restored all the same, and once."""
    store = open_store()
    filled(store, "a")
    disk.refused = {"unlink": errno.EIO}
    store.restore("u", "a")
    disk.refused = {}
    with pytest.raises(NotFound):
        store.restore("u", "a")
    open_store()
    assert places(folder) == {"conversations": ["a.json"], "deleted": []}


def test_editor_is_waited_for(open_store: Open, folder: Path) -> None:
    """While somebody writes the file it is busy; what they made of it is restored, under its number."""
    store = open_store()
    filled(store, "a")
    path = folder / "deleted" / "a~1.json"
    document = json.loads(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StorageBusy):
        store.restore("u", "a")
    path.write_text(json.dumps({**document, "name": "edited", "number": 77, "pinned": "yes"}, indent=2))
    found = store.restore("u", "a")
    assert (found.title, found.number, found.pinned, found.count) == ("edited", 1, False, 1)
    assert store.message(1 << 20 | 1).content == "a" * 1000
    assert open_store().get("a") == found
    assert places(folder) == {"conversations": ["a.json"], "deleted": []}


def test_document_beyond_reading(open_store: Open, folder: Path) -> None:
    """What is no document any more, or was taken away, cannot be restored; the file stays for a person to mend."""
    store = open_store()
    filled(store, "a", "b")
    path = folder / "deleted" / "a~1.json"
    path.write_text("nonsense")
    age(path)
    (folder / "deleted" / "b~2.json").unlink()
    for name in "ab":
        with pytest.raises(NotFound):
            store.restore("u", name)
    assert places(folder) == {"conversations": [], "deleted": ["a~1.json"]}


def test_file_in_its_place_is_not_overwritten(open_store: Open, folder: Path) -> None:
    """A file that somebody put into the folder while the server runs is theirs."""
    store = open_store()
    filled(store, "a")
    target = folder / "conversations" / "a.json"
    target.write_text("somebody's")
    with pytest.raises(StorageError, match="restart"):
        store.restore("u", "a")
    assert target.read_text() == "somebody's"
    assert places(folder)["deleted"] == ["a~1.json"]


def test_number_of_another_is_not_taken(open_store: Open, folder: Path) -> None:
    """A document that got the number of one that is there stays deleted: messages would have the ids of others."""
    store = open_store()
    store.create("b", "u")
    filled(store, "a")
    store.close()
    os.replace(folder / "deleted" / "a~2.json", folder / "deleted" / "a~1.json")
    store = open_store()
    with pytest.raises(Conflict):
        store.restore("u", "a")
    assert places(folder) == {"conversations": ["b.json"], "deleted": ["a~1.json"]}


def opened(folder: Path, **settings: Any) -> storage.Store:
    store = storage.open_store(Settings(data_dir=folder, log_dir=folder / "logs", **settings))
    store.get("")
    return store


def swept(folder: Path, store: storage.Store, left: list[str]) -> bool:
    """Wait a moment for the store's own thread."""
    for _ in range(200):
        if places(folder)["deleted"] == left:
            return True
        time.sleep(0.01)
    return False


def test_start_sweeps(open_store: Open, folder: Path, in_days: Callable[[float], None]) -> None:
    """A start removes what was deleted longer ago than KEEP_DELETED_DAYS, by the files' times, and nothing else."""
    filled(store := open_store(), "a", "b")
    (folder / "deleted" / "notes.txt").write_text("a person's")
    store.close()
    age(folder / "deleted" / "a~1.json", 40 * DAY)  # a copy that kept the file's time; the system knows when it came
    store = opened(folder)
    store.close()
    assert places(folder)["deleted"] == ["a~1.json", "b~2.json", "notes.txt"]
    in_days(29)
    store = opened(folder)
    store.close()
    assert places(folder)["deleted"] == ["a~1.json", "b~2.json", "notes.txt"]
    in_days(31)
    store = opened(folder)
    assert swept(folder, store, ["notes.txt"])
    with pytest.raises(NotFound):
        store.restore("u", "a")
    assert store.create("c", "u").number == 3
    store.close()


def test_nothing_is_kept_for_no_days(open_store: Open, folder: Path) -> None:
    """With 0 days a start removes everything that was deleted."""
    filled(store := open_store(), "a")
    store.close()
    store = opened(folder, keep_deleted_days=0)
    assert swept(folder, store, [])
    store.close()


def test_running_store_sweeps_once_a_day(
    folder: Path, monkeypatch: pytest.MonkeyPatch, in_days: Callable[[float], None]
) -> None:
    """Without a start what is too old goes too."""
    monkeypatch.setattr(module, "SNAPSHOT_SECONDS", 0.01)
    store = opened(folder)
    assert isinstance(store, JsonFileStore)
    filled(store, "a")
    in_days(31)
    time.sleep(0.05)
    assert places(folder)["deleted"] == ["a~1.json"]
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.0)
    assert swept(folder, store, [])
    store.close()


def test_sweep_makes_room_on_a_full_disk(open_store: Open, folder: Path, disk: Refusing) -> None:
    """Where not even the numbers can be written down first, names remember them, and the room is free."""
    filled(store := open_store(), "a", "b")
    (folder / "store.json").unlink()
    store = open_store()
    disk.refused = {"write": errno.ENOSPC}
    assert store.sweep(clock.now()) == 2
    assert {path.name: path.stat().st_size for path in (folder / "deleted").iterdir()} == {"a~1.gone": 0, "b~2.gone": 0}
    store = open_store()
    disk.refused = {}
    assert open_store().create("c", "u").number == 3
    assert places(folder)["deleted"] == []


def test_sweep_is_cut_off(open_store: Open, folder: Path, tmp_path: Path, disk: Refusing) -> None:
    """Killed between two files, nothing that is left is unreadable, and no number is given again."""
    filled(store := open_store(), "a", "b", "c")
    (folder / "store.json").unlink()
    store = open_store()
    unlink, images = disk.unlink, []

    def watched(path: Path) -> None:
        images.append(shutil.copytree(folder, tmp_path / f"image{len(images)}"))
        unlink(path)

    disk.unlink = watched  # type: ignore[method-assign]
    assert store.sweep(clock.now()) == 3
    disk.unlink = unlink  # type: ignore[method-assign]
    assert len(images) >= 3
    images.append(shutil.copytree(folder, tmp_path / "end"))
    for image in images:
        again = JsonFileStore(image)
        assert again.create("n", "u").number == 4
        names = [path.name[0] for path in (image / "deleted").iterdir()]
        assert bool(names) == (image is not images[-1])
        assert [again.restore("u", name).title for name in names] == names
        again.close()


@pytest.mark.parametrize(("field", "value"), [("pinned", "yes"), ("pinned", 1), ("archived", None), ("archived", [])])
def test_flags_of_the_wrong_type(open_store: Open, folder: Path, field: str, value: Any) -> None:
    """A flag that a person wrote wrongly is none, the file as it was is kept, and the conversation is in its list."""
    store = open_store()
    store.create("a", "u", pinned=True, archived=True)
    path = folder / "conversations" / "a.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), field: value}))
    age(path)
    for _ in range(2):
        store.messages("a")
        assert (getattr(store.get("a"), field), store.conversations("u", archived=None).total) == (False, 1)
        assert store.conversations("u", archived=field != "archived").total == 1
        store = open_store()
    assert [each.name for each in (folder / "quarantine").iterdir()] == ["a.json"]


def test_flags_edited_by_hand_count(open_store: Open, folder: Path) -> None:
    """What a person sets moves the conversation to its place at the next touch, and after a start."""
    store = open_store()
    for name in "abc":
        store.create(name, "u")
    for name, field in [("a", "pinned"), ("b", "archived")]:
        path = folder / "conversations" / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), field: True}))
        age(path)
        store.messages(name)
    for _ in range(2):
        assert [each.id for each in store.conversations("u").items] == ["a", "c"]
        assert [each.id for each in store.conversations("u", archived=True).items] == ["b"]
        store = open_store()
