"""Editors save in place while the server runs, in as many steps as they like: nothing that is on the disk is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from core import files
from core.errors import NotFound, StorageBusy, StorageError
from self_agent.models import Message
from self_agent.storage.json_files import JsonFileStore
from tests.storage.conftest import Refusing, age

Open = Callable[[], JsonFileStore]

CUTS = [0.0, 0.1, 0.33, 0.5, 0.9, 0.999]


def user(text: str) -> Message:
    return Message("user", text)


def texts(store: JsonFileStore) -> list[str]:
    return [message.content for message in store.messages("c")]


def filled(open_store: Open, folder: Path, count: int = 40) -> tuple[JsonFileStore, Path]:
    """Return a store with one conversation, and its file."""
    store = open_store()
    store.create("c", "u", title="t")
    store.append("c", *(user(f"m{n}") for n in range(count)))
    return store, folder / "conversations" / "c.json"


def layouts(path: Path) -> dict[str, bytes]:
    """Return a document with a message that was edited, as editors of each kind would write it."""
    document = json.loads(path.read_bytes())
    document["messages"][0]["content"] = "edited"
    line_form = path.read_bytes().replace(b'"m0"', b'"edited"')
    return {"lines": line_form, "indented": json.dumps(document, indent=2).encode()}


@pytest.mark.parametrize("layout", ["lines", "indented"])
@pytest.mark.parametrize("cut", CUTS)
def test_half_saved_file_is_left_alone(open_store: Open, folder: Path, layout: str, cut: float) -> None:
    """Between the halves of a save in place everything is refused and nothing written; then all of it is there."""
    store, path = filled(open_store, folder)
    data = layouts(path)[layout]
    half = int(len(data) * cut)
    with path.open("wb") as editor:
        editor.write(data[:half])
        editor.flush()
        first = (1 << 20) + 1
        for use in (
            lambda: store.messages("c"),
            lambda: store.latest("c", 5),
            lambda: store.append("c", user("lost")),
            lambda: store.update("c", title="lost"),
            lambda: store.hide([first]),
            lambda: store.delete("c", keep=True),
        ):
            with pytest.raises(StorageBusy) as refused:
                use()
            assert refused.value.status == 503
            assert refused.value.retry_after
        assert path.read_bytes() == data[:half]
        editor.write(data[half:])
    assert texts(store) == ["edited", *(f"m{n}" for n in range(1, 40))]
    store.append("c", user("more"))
    assert len(json.loads(path.read_bytes())["messages"]) == 41
    assert not list((folder / "quarantine").iterdir())


def test_all_saved_while_others_use_it(open_store: Open, folder: Path) -> None:
    """An editor that saves in halves, one that renames into place, readers and writers: each message is there once."""
    store, path = filled(open_store, folder)
    stop, loading = threading.Event(), threading.Lock()
    appended: list[str] = []
    errors: list[BaseException] = []

    def write() -> None:
        n = 0
        while not stop.is_set():
            with suppress(StorageBusy), loading:  # what an editor has read before is not in what it saves
                store.append("c", user(f"a{n}"))
                appended.append(f"a{n}")
                n += 1
            time.sleep(0.001)

    def use(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                while not stop.is_set():
                    with suppress(StorageBusy):
                        call()
            except BaseException as error:
                errors.append(error)

        return run

    def reading() -> None:
        assert {f"m{n}" for n in range(1, 40)} <= set(texts(store))

    threads = [threading.Thread(target=run) for run in (write, use(reading), use(lambda: len(store.latest("c", 3))))]
    threads.append(threading.Thread(target=use(lambda: rename(store, loading))))
    for thread in threads:
        thread.start()
    try:
        for turn in range(24):
            save(path, turn, loading)
            time.sleep(0.03)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert [text for text in texts(store) if text in set(appended)] == appended
    assert len(appended) > 5
    assert json.loads(path.read_bytes())["turn"] == 23
    assert not list((folder / "quarantine").iterdir())


def rename(store: JsonFileStore, loading: threading.Lock) -> None:
    with loading:
        store.update("c", title="renamed")
    time.sleep(0.001)


def save(path: Path, turn: int, loading: threading.Lock) -> None:
    """Save a document in one of four ways: indented or not, in place or renamed into place."""
    with loading:  # the person looks at what is on the disk now
        document = json.loads(path.read_bytes()) | {"turn": turn}
        data = json.dumps(document, indent=2 if turn % 2 else None).encode()
        half = int(len(data) * CUTS[turn // 4 % len(CUTS)])
        if turn % 4 > 1:
            return replaced(path, data)
        editor = path.open("wb")
        editor.write(data[:half])
        editor.flush()
    with editor:
        time.sleep(0.02)
        editor.write(data[half:])
    return None


def test_abandoned_half_is_taken_over(open_store: Open, folder: Path) -> None:
    """A save that was never finished is taken over once it has been still for a second, and kept as it was."""
    store, path = filled(open_store, folder)
    half = path.read_bytes()[:700]
    path.write_bytes(half)
    with pytest.raises(StorageBusy):
        store.messages("c")
    age(path)
    found = texts(store)
    assert found == [f"m{n}" for n in range(len(found))]
    assert len(found) > 3
    assert [kept.read_bytes() for kept in (folder / "quarantine").iterdir()] == [half]


def test_stillness_is_seen_without_a_clock(open_store: Open, folder: Path) -> None:
    """A file from the future is still when nothing happened to it for a second."""
    store, path = filled(open_store, folder)
    path.write_bytes(path.read_bytes()[:700])
    age(path, -1000)
    with pytest.raises(StorageBusy):
        store.messages("c")
    time.sleep(1.1)
    assert texts(store)


def test_late_rest_lands_in_quarantine(open_store: Open, folder: Path) -> None:
    """An editor that goes on after its half was taken over writes into the copy that was kept."""
    store, path = filled(open_store, folder)
    data = path.read_bytes()
    with path.open("wb") as editor:
        editor.write(data[:700])
        editor.flush()
        age(path)
        assert texts(store)
        editor.write(data[700:])
    assert (folder / "quarantine" / "c.json").read_bytes() == data


def test_copies_do_not_pile_up(open_store: Open, folder: Path, disk: Refusing) -> None:
    """A file that cannot be taken over for want of room is kept once, however often it is asked for."""
    store, path = filled(open_store, folder)
    half = path.read_bytes()[:700]
    path.write_bytes(half)
    age(path)
    disk.refused = {"write": 28}
    for _ in range(5):
        with pytest.raises(StorageError):
            store.messages("c")
    assert len(list((folder / "quarantine").iterdir())) <= 1
    disk.refused = {}
    assert texts(store)
    assert [kept.read_bytes() for kept in (folder / "quarantine").iterdir()] == [half]


def test_lost_rows_keep_a_copy(open_store: Open, folder: Path) -> None:
    """A torn end is mended silently only where all that was known is still there: at a start as well."""
    store, path = filled(open_store, folder)
    whole = path.read_bytes()
    store.close()
    for torn, copies in ((whole[:-4] + b',\n{"id":1048617,"role":"us', 0), (whole[:700], 1)):
        path.write_bytes(torn)
        age(path)
        store = open_store()
        assert texts(store)
        assert len(list((folder / "quarantine").iterdir())) == copies
        store.close()


@pytest.mark.parametrize("layout", ["lines", "indented"])
def test_start_waits_for_an_editor(open_store: Open, folder: Path, layout: str) -> None:
    """A file that is being saved while the server starts is waited for."""
    store, path = filled(open_store, folder)
    data = layouts(path)[layout]
    store.close()
    path.write_bytes(data[:700])
    with path.open("ab") as editor:
        rest = threading.Timer(0.4, lambda: (editor.write(data[700:]), editor.flush()))
        rest.start()
        store = open_store()
        rest.join()
    assert texts(store) == ["edited", *(f"m{n}" for n in range(1, 40))]
    assert not list((folder / "quarantine").iterdir())


def test_gap_of_a_rename_is_no_deletion(open_store: Open, folder: Path) -> None:
    """An editor that moves the old file away before it writes the new one does not delete the conversation."""
    store, path = filled(open_store, folder)
    data = path.read_bytes()
    path.rename(path.with_suffix(".bak"))
    with pytest.raises(StorageBusy):
        store.messages("c")
    path.write_bytes(data.replace(b'"m0"', b'"edited"'))
    assert texts(store)[0] == "edited"
    path.unlink()
    with pytest.raises(StorageBusy):
        store.append("c", user("lost"))
    time.sleep(1.1)
    with pytest.raises(NotFound):
        store.messages("c")
    assert store.get("c") is None


class Late(files.Operations):
    """Runs something just before a file gets its name, or just before a write."""

    def __init__(self, call: str, act: Callable[[], object]) -> None:
        self.call, self.act = call, act

    def sync(self, fd: int) -> None:
        super().sync(fd)
        if self.call == "sync":
            self.act()


@pytest.mark.parametrize("step", ["rename", "append"])
def test_save_during_a_write_wins(open_store: Open, folder: Path, disk: Refusing, step: str) -> None:
    """A save that comes while a rename or an append waits for the disk is not overwritten, and nothing acknowledged."""
    store, path = filled(open_store, folder)
    data = path.read_bytes().replace(b'"m0"', b'"edited"')
    files.operations = Late("sync", lambda: replaced(path, data) if step == "append" else path.write_bytes(data))
    with pytest.raises(StorageBusy):
        store.update("c", title="lost") if step == "rename" else store.append("c", user("lost"))
    files.operations = disk
    assert texts(store) == ["edited", *(f"m{n}" for n in range(1, 40))]
    assert store.update("c", title="kept").title == "kept"
    store.append("c", user("kept"))
    assert texts(store)[-1] == "kept"


def replaced(path: Path, data: bytes) -> None:
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").replace(path)


def test_failed_append_spares_an_editor(open_store: Open, folder: Path, disk: Refusing) -> None:
    """What an append left that could not be undone is cut off later only if nobody has touched the file since."""
    store, path = filled(open_store, folder)
    data = path.read_bytes()
    disk.refused = {"sync": 5, "truncate": 5}
    with pytest.raises(StorageError):
        store.append("c", user("lost"))
    disk.refused = {}
    longer = data.replace(b'"m0"', b'"' + b"edited" * 400 + b'"')
    path.write_bytes(longer[:-40])
    with pytest.raises(StorageBusy):
        store.append("c", user("lost"))
    assert path.read_bytes() == longer[:-40]
    path.write_bytes(longer)
    assert texts(store)[-1] == "m39"
