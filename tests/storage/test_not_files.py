"""What is no file in the place of one is stepped over, never waited for; what cannot be opened says so."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import StorageError
from self_agent.models import Message
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.memory import MemoryStore
from tests.conftest import MakeApp
from tests.hostile.conftest import within
from tests.storage.conftest import Refusing

Open = Callable[[], JsonFileStore]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "full folder": lambda path: (path / "inside").mkdir(parents=True),
    "pipe": os.mkfifo,
    "socket": a_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
}
PLACES = [
    "x.tmp", "conversations/x.tmp", "deleted/x.tmp", "conversations/c.json.1-1.tmp", "store.json", "catalog.json",
    "conversations/x.json", "deleted/x~9.json", "deleted/x~9.gone", "checkpoints/x.jsonl", "checkpoints/c.jsonl",
    "quarantine/store.json", ".lock.pid",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_no_file_in_its_place(folder: Path, kind: str, place: str) -> None:
    """Whatever it is and wherever, the store opens, shows what there is, and takes what is new."""
    store = JsonFileStore(folder)
    store.create("c", "u")
    store.append("c", Message("user", "x"))
    store.create("gone", "u")
    store.close()
    (folder / place).unlink(missing_ok=True)
    KINDS[kind](folder / place)
    store = within(20, lambda: JsonFileStore(folder))
    assert within(20, lambda: store.messages("c"))[0].content == "x"
    assert store.failure() is None
    store.append("c", Message("user", "y"))
    store.delete("gone")
    store.create_project("u", "p")
    if place != "checkpoints/c.jsonl":
        within(20, lambda: store.checkpoint("c", Message("assistant", "", id=store.reserve("c")), "half"))
    within(20, store.close)


@pytest.mark.parametrize("kind", KINDS)
def test_document_is_no_file_any_more(open_store: Open, folder: Path, kind: str) -> None:
    """Put in the place of a document while the server runs, it costs this conversation, for as long as it is there."""
    store = open_store()
    store.create("c", "u")
    path = folder / "conversations" / "c.json"
    path.rename(folder / "c.json")
    KINDS[kind](path)
    for use in (
        lambda: store.messages("c"),
        lambda: store.append("c", Message("user", "x")),
        lambda: store.update("c", title="t"),
    ):
        with pytest.raises(StorageError):
            within(20, use)
    path.rename(folder / "aside")
    (folder / "c.json").rename(path)
    store.append("c", Message("user", "x"))


def test_health_tells_of_failure(make_app: MakeApp, folder: Path, disk: Refusing) -> None:
    """When the data folder cannot be opened, /healthz says so and why, and names no path."""
    JsonFileStore(folder).close()
    disk.refused = {"sync_folder": errno.EIO}
    store = JsonFileStore(folder)
    with pytest.raises(StorageError):
        store.get("x")
    answer = make_app(store=store).test_client().get("/healthz")
    assert (answer.status_code, answer.json["status"], answer.json["store"]["ready"]) == (200, "failed", False)
    assert "could not be opened" in answer.json["store"]["error"]
    assert str(folder) not in answer.text


def test_closed_stores_say_so() -> None:
    """A store that is closed is not ready."""
    store = MemoryStore()
    assert store.failure() is None
    store.close()
    assert store.failure()
