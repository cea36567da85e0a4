"""Copies of the data folder, what is wrong in it, and putting that right."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest, StartupError
from self_agent.models import LOCAL_USER, Message
from self_agent.shelves import Shelves
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.json_files.lines import CLOSING
from self_agent.transfer import backup as backup_module
from self_agent.transfer import verifying
from self_agent.transfer.backup import MARKER, backup
from self_agent.transfer.repairing import repair
from self_agent.transfer.verifying import verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with one of each kind of file, of a server that was stopped."""
    path = tmp_path / "data"
    store = JsonFileStore(path)
    project = store.create_project(LOCAL_USER, "P")
    for name in ("a", "b", "Cd", "gone"):
        store.create(name, LOCAL_USER, project_id=project.id)
        store.append(name, Message("user", f"question {name}"), Message("assistant", f"answer {name}"))
    [first, *_] = store.messages("b")
    store.append("b", Message("assistant", "another", parent=first.id))
    store.delete("gone", keep=True)
    fill_shelf(store)
    store.close()
    (path / "checkpoints" / "a.jsonl").write_text(
        json.dumps({"conversation_id": "zzz", "id": 1, "role": "assistant", "timestamp": "t"}) + '\n"He"\n"ll'
    )
    return path


def fill_shelf(store: JsonFileStore) -> None:
    class Found:
        find = staticmethod(lambda user, name: store.get(name))

    shelves = Shelves(store, Found())  # type: ignore[arg-type]
    made = shelves.create_folder(LOCAL_USER, "F")
    shelves.add(LOCAL_USER, made.id, "a")
    shelves.add_tag(LOCAL_USER, "b", "T")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong files are not waited for."""
    monkeypatch.setattr(verifying, "AGAIN", (0.0,))


def texts(path: Path) -> dict[str, list[str]]:
    """What a server finds in a folder: the messages of each conversation."""
    store = JsonFileStore(path)
    try:
        found = store.conversations(LOCAL_USER).items
        return {each.id: [message.content for message in store.everything(each.id)] for each in found}
    finally:
        store.close()


def contents(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


# --- backup


def test_copy_is_a_data_folder(folder: Path, tmp_path: Path) -> None:
    """All that is in the folder is in the copy, which a server can use."""
    target = tmp_path / "copies" / "today"
    report = backup(folder, target)
    before = {name: data for name, data in contents(folder).items() if not name.startswith(".")}
    assert {name: data for name, data in contents(target).items() if name != MARKER} == before
    assert report.files == report.copied == len(before)
    assert not list(verify(target))
    assert texts(target) == texts(folder)
    store = JsonFileStore(target)
    assert [folder.name for folder in store.shelf(LOCAL_USER).folders] == ["默认收藏夹", "F"]
    store.close()


def test_second_copy_reads_what_changed(folder: Path, tmp_path: Path) -> None:
    """Unchanged files are kept, changed ones are whole, and those that are gone are gone."""
    target = tmp_path / "copy"
    backup(folder, target)
    store = JsonFileStore(folder)
    store.append("a", Message("user", "more"))
    store.delete("b")
    store.close()
    report = backup(folder, target)
    assert report.copied <= 3  # the document, the catalog and the numbers
    assert texts(target) == texts(folder)
    assert not (target / "conversations" / "b.json").exists()
    assert not list(tmp_path.glob("copy~*"))


def test_copy_does_not_change_later(folder: Path, tmp_path: Path) -> None:
    """Documents are appended to in place, and nothing of the copy is theirs."""
    target = tmp_path / "copy"
    backup(folder, target)
    before = contents(target)
    store = JsonFileStore(folder)
    for name in ("a", "b", "Cd"):
        store.append(name, Message("user", "more"))
    store.close()
    assert contents(target) == before


def test_copy_of_a_running_server(folder: Path, tmp_path: Path) -> None:
    """While four threads append, delete and create, each copy is clean and has all that was stored before it began."""
    store = JsonFileStore(folder)
    stored: list[str] = []
    stop = threading.Event()

    def write(number: int) -> None:
        name = f"w{number}"
        store.create(name, LOCAL_USER)
        turn = 0
        while not stop.is_set():
            turn += 1
            text = f"{name} {turn} " + "x" * (turn % 7 * 5000)
            store.append(name, Message("user", text))
            stored.append(text)
            store.create(f"{name}-{turn}", LOCAL_USER)
            store.delete(f"{name}-{turn}", keep=turn % 2 == 0)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for copy in range(4):
            before = list(stored)
            backup(folder, tmp_path / "copy")
            assert not list(verify(tmp_path / "copy")), copy
            kept = {text for found in texts(tmp_path / "copy").values() for text in found}
            assert kept >= set(before)
            assert not list(verify(folder))
            (tmp_path / "copy" / ".lock").unlink(missing_ok=True)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        store.close()


def test_torn_document_is_waited_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is being appended to is copied again until it is whole; one that stays so is copied as it is."""
    path = folder / "conversations" / "a.json"
    whole, tries = path.read_bytes(), 0
    path.write_bytes(whole[: -len(CLOSING) - 5])

    def pause(seconds: float) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            path.write_bytes(whole)

    monkeypatch.setattr(backup_module.time, "sleep", pause)
    backup(folder, tmp_path / "copy")
    assert (tmp_path / "copy" / "conversations" / "a.json").read_bytes() == whole
    path.write_bytes(whole[:-2])
    backup(folder, tmp_path / "copy")
    assert (tmp_path / "copy" / "conversations" / "a.json").read_bytes() == whole[:-2]


def test_failed_copy_leaves_the_older_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle, or a kill between any two files: the older copy is there as it was."""
    target = tmp_path / "copy"
    backup(folder, target)
    before = contents(target)
    count = 0

    def full() -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        backup(folder, target, full)
    assert contents(target) == before
    target.rename(tmp_path / "copy~old")  # killed between the two renames
    backup(folder, target)
    assert contents(target).keys() == before.keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "data"]


def test_target_must_be_a_place_for_a_copy(folder: Path, tmp_path: Path) -> None:
    """Not in the data folder or around it, nor anything that is no copy, nor another server's data folder."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    link = tmp_path / "link"
    link.symlink_to(folder / "quarantine")
    for target in (folder, folder / "copy", folder / "conversations", tmp_path, other, other / "letter.txt", link):
        before = contents(tmp_path)
        with pytest.raises(InvalidRequest):
            backup(folder, target)
        assert contents(tmp_path) == before
    with pytest.raises(InvalidRequest, match="no data folder"):
        backup(other, tmp_path / "copy")
    backup(folder, tmp_path / "copy")
    store = JsonFileStore(tmp_path / "copy")
    with pytest.raises(InvalidRequest, match="a server uses"):
        backup(folder, tmp_path / "copy")
    store.close()


def test_chat_in_two_places_is_in_one(folder: Path, tmp_path: Path) -> None:
    """One that is deleted, or put back, while the copy is made is not in it twice."""
    deleted = next((folder / "deleted").iterdir())
    live = folder / "conversations" / "gone.json"
    steps = 0

    def put_back() -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            live.write_bytes(deleted.read_bytes())
            deleted.unlink()

    backup(folder, tmp_path / "copy", put_back)
    assert (tmp_path / "copy" / "conversations" / "gone.json").exists()
    assert not list((tmp_path / "copy" / "deleted").iterdir())


# --- verify and repair

Break = Callable[[Path], Any]


def torn(path: Path) -> None:
    document = path / "conversations" / "a.json"
    document.write_bytes(document.read_bytes()[:-20])


def flipped(path: Path) -> None:
    """One byte of a document is another, though its size and its time are as they were."""
    document = path / "conversations" / "a.json"
    status = document.stat()
    document.write_bytes(document.read_bytes().replace(b'"question a"', b'"question\x00a"'))
    os.utime(document, ns=(status.st_atime_ns, status.st_mtime_ns))


def in_file(name: str, change: Callable[[bytes], bytes]) -> Break:
    def damage(path: Path) -> None:
        (path / name).write_bytes(change((path / name).read_bytes()))

    return damage


def orphaned(data: bytes) -> bytes:
    head, *lines = data.split(b"\n")
    return b"\n".join([head, lines[1], *lines[2:]])  # without the question that two replies follow


BROKEN: dict[str, tuple[Break, str, str]] = {
    "torn": (torn, "conversations/a.json", "end is torn; 1 messages"),
    "flipped": (flipped, "conversations/a.json", "parts of it cannot be read; 1 messages"),
    "indented": (
        in_file("conversations/a.json", lambda data: json.dumps(json.loads(data), indent=1).encode()),
        "conversations/a.json", "not in the line form; 2 messages",
    ),
    "no header": (in_file("conversations/a.json", lambda _: b"\0" * 500), "conversations/a.json", "header"),
    "emptied": (in_file("conversations/a.json", lambda _: b""), "conversations/a.json", "header"),
    "orphaned": (in_file("conversations/b.json", orphaned), "conversations/b.json", "which is not before it"),
    "copied": (
        lambda path: (path / "conversations" / "z.json").write_bytes((path / "conversations" / "a.json").read_bytes()),
        "conversations/z.json", "line form",
    ),
    "misnamed": (
        lambda path: (path / "conversations" / "a.json").rename(path / "conversations" / "My chat.json"),
        "conversations/My chat.json", "spells no id",
    ),
    "a folder": (lambda path: (path / "conversations" / "x.json").mkdir(), "conversations/x.json", "no file"),
    "deleted": (
        in_file("deleted/gone~4.json", lambda data: data[:-30]), "deleted/gone~4.json", "end is torn; 1 messages",
    ),
    "deleted nonsense": (in_file("deleted/gone~4.json", lambda _: b"nonsense"), "deleted/gone~4.json", "header"),
    "deleted, it does not say so": (
        in_file("deleted/gone~4.json", lambda data: data.replace(b'"is_deleted":true', b'"is_deleted":false')),
        "deleted/gone~4.json", "does not say",
    ),
    "checkpoint": (in_file("checkpoints/a.jsonl", lambda _: b"nonsense\n"), "checkpoints/a.jsonl", "first line"),
    "projects": (in_file("store.json", lambda data: data[:-30]), "store.json", "projects in it"),
    "a project": (in_file("store.json", lambda data: data.replace(b'"P"', b"7")), "store.json", "projects in it"),
    "shelves": (in_file("shelves.json", lambda data: data[:-40]), "shelves.json", "folders or tags"),
    "a tag": (in_file("shelves.json", lambda data: data.replace(b'"T"', b"7")), "shelves.json", "folders or tags"),
    "snapshot": (in_file("catalog.json", lambda data: data[:-3]), "catalog.json", "cannot be used"),
}  # fmt: skip


def test_whole_folder_is_clean(folder: Path) -> None:
    """Also with a reply that a crash cut off, and with what the disk has of a write that failed."""
    (folder / "conversations" / "a.json.1-1.tmp").write_bytes(b"half")
    assert list(verify(folder)) == []
    assert list(repair(folder)) == []
    assert [wrong.reason for wrong in verify(folder / "none")] == ["it is no data folder: it has no conversations/"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", BROKEN)
def test_wrong_is_found_and_put_right(folder: Path, name: str) -> None:
    """Verify names the file and the fault and changes nothing; after repair it is clean, and what was is kept."""
    damage, place, reason = BROKEN[name]
    damage(folder)
    path = folder / place
    before, was = contents(folder), path.read_bytes() if path.is_file() else b""
    [wrong] = verify(folder)
    assert (wrong.path, reason in wrong.reason) == (path, True), wrong.reason
    assert contents(folder) == before
    [done] = repair(folder)
    assert done.is_done, done
    assert list(verify(folder)) == []
    kept = [each.read_bytes() for each in (folder / "quarantine").rglob("*") if each.is_file()]
    if place == "catalog.json":
        assert not kept
    elif was:
        assert kept == [was]
    assert list(repair(folder)) == []


@pytest.mark.usefixtures("impatient")
def test_no_readable_line_is_lost(folder: Path) -> None:
    """Whatever is wrong, every message, project, folder and tag that can be read is there afterwards."""
    for name in ("flipped", "orphaned", "deleted", "projects", "shelves"):
        BROKEN[name][0](folder)
    assert len(list(repair(folder))) == 5
    assert texts(folder) == {"a": ["answer a"], "b": ["answer b", "another"], "Cd": ["question Cd", "answer Cd"]}
    assert "question gone" in next((folder / "deleted").iterdir()).read_text()
    store = JsonFileStore(folder)
    assert store.create_project(LOCAL_USER, "next").id == 2
    assert store.create("new", LOCAL_USER).number == 5
    assert [folder.name for folder in store.shelf(LOCAL_USER).folders] == ["默认收藏夹", "F"]
    store.close()


def test_mended_files_keep_every_good_row(folder: Path) -> None:
    """Of projects and tags, one of which is wrong, the others are kept."""
    store = JsonFileStore(folder)
    for name in ("Q", "R"):
        store.create_project(LOCAL_USER, name)
    store.close()
    in_file("store.json", lambda data: data.replace(b'"Q"', b"[]"))(folder)
    in_file("shelves.json", lambda data: data.replace(b'"T"', b"7"))(folder)
    assert len(list(repair(folder))) == 2
    store = JsonFileStore(folder)
    assert [project.name for project in store.projects(LOCAL_USER)] == ["P", "R"]
    assert [folder.name for folder in store.shelf(LOCAL_USER).folders] == ["默认收藏夹", "F"]
    assert store.shelf(LOCAL_USER).tags == ()
    store.close()


def test_repair_needs_the_lock(folder: Path) -> None:
    """A server that runs is not disturbed."""
    store = JsonFileStore(folder)
    store.get("a")
    try:
        with pytest.raises(StartupError, match="another server"):
            list(repair(folder))
    finally:
        store.close()


def test_changing_file_is_looked_at_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is in the middle of a write is not said to be wrong, and neither is one that goes meanwhile."""
    path = folder / "conversations" / "a.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    looks: Iterator[Callable[[], object]] = iter([lambda: None, lambda: None, lambda: path.write_bytes(whole)])
    monkeypatch.setattr(verifying.time, "sleep", lambda seconds: next(looks, lambda: None)())
    assert list(verify(folder)) == []
    path.write_bytes(whole[:-10])
    looks = iter([lambda: None, path.unlink])
    assert list(verify(folder)) == []
