"""A disk that refuses costs what it refused and nothing else: the server says so, lives, and goes on afterwards."""

from __future__ import annotations

import errno
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from core import clock, files
from core.errors import StorageError
from self_agent.models import LOCAL_USER, Message
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.json_files.checkpoints import read_checkpoint
from tests.conftest import MakeApp
from tests.serving import CONVERSATIONS, ROOT
from tests.torture.disk import FolderSynced, Moment, Recorder, restore
from tests.torture.failing import WRITES, Failing
from tests.torture.stories import through, view

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no call that syncs a folder")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def disk(folder: Path) -> Iterator[Failing]:
    failing = Failing(folder)
    with through(failing):
        yield failing
        failing.refused = {}


@pytest.fixture
def app(make_app: MakeApp, folder: Path, disk: Failing) -> Flask:
    """An app over real files, where `c` and `d` have been asked once."""
    app = make_app(store=JsonFileStore(folder))
    for name in "cd":
        assert send(app.test_client(), name, "before") == 200
    return app


def send(client: FlaskClient, conversation_id: str, content: str) -> int:
    return client.post(f"{CONVERSATIONS}/{conversation_id}/messages", json={"content": content}).status_code


def said(client: FlaskClient, conversation_id: str) -> list[str]:
    data = client.get(f"{CONVERSATIONS}/{conversation_id}").json["data"]  # type: ignore[index]
    assert data["meta"]["total"] == len(data["messages"])
    return [message["content"] for message in data["messages"]]


def talk(*words: str) -> list[str]:
    return list(itertools.chain.from_iterable((word, f"echo: {word}") for word in words))


def after_power_cuts(disk: Recorder, folders: Path) -> list[JsonFileStore]:
    """Return stores that are open on what each possible power cut would leave now."""
    stores = []
    for n, image in enumerate(Moment(disk.log).power_cuts(seed=1)):
        restore(image, folders / str(n))
        stores.append(JsonFileStore(folders / str(n)))
    return stores


@pytest.mark.parametrize(
    ("calls", "number", "status"),
    [
        (["write"], errno.ENOSPC, 507),
        (["sync"], errno.ENOSPC, 507),
        (["write"], errno.EIO, 503),
        (["sync"], errno.EIO, 503),
        (["sync", "truncate"], errno.EIO, 503),
        (WRITES, errno.EROFS, 503),
    ],
)
def test_one_file_fails(app: Flask, disk: Failing, folder: Path, calls: list[str], number: int, status: int) -> None:
    """The conversation whose file fails says why; the others go on, and so does it when the fault is over."""
    client = app.test_client()
    disk.refused, disk.only = dict.fromkeys(calls, number), "c.json"
    assert send(client, "c", "lost") == status
    if "truncate" not in calls:  # else what was written cannot be undone now
        on_disk = json.loads((folder / "conversations" / "c.json").read_bytes())["messages"]
        assert [message["content"] for message in on_disk] == talk("before")
    assert send(client, "c", "lost") == status
    assert client.patch(f"{CONVERSATIONS}/c", json={"name": "lost"}).status_code == status
    assert send(client, "d", "meanwhile") == 200
    disk.refused = {}
    assert said(client, "c") == talk("before")
    assert send(client, "c", "after") == 200
    assert (said(client, "c"), said(client, "d")) == (talk("before", "after"), talk("before", "meanwhile"))
    with through(files.Operations()):
        for store in after_power_cuts(disk, folder.parent / "cuts"):
            assert [message.content for message in store.messages("c")] == talk("before", "after")
            store.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_whole_disk_fails(app: Flask, disk: Failing, number: int) -> None:
    """Nothing can be written any more: every write says so, everything can still be read, and later all is well."""
    client = app.test_client()
    disk.refused = dict.fromkeys(WRITES, number)
    status = 507 if number == errno.ENOSPC else 503
    uses: list[Callable[[], int]] = [
        lambda: send(client, "c", "lost"),
        lambda: send(client, "new", "lost"),
        lambda: client.patch(f"{CONVERSATIONS}/c", json={"name": "lost"}).status_code,
        lambda: client.delete(f"{CONVERSATIONS}/c").status_code,
        lambda: client.post("/v1/chat/conversations", json={}).status_code,
    ]
    assert [use() for use in uses] == [status] * len(uses)
    assert said(client, "c") == talk("before")
    assert client.get("/healthz").status_code == 200
    disk.refused = {}
    assert [send(client, "c", "after"), send(client, "new", "after")] == [200, 200]
    assert (said(client, "c"), said(client, "new")) == (talk("before", "after"), talk("after"))


def test_unsynced_name_is_no_ground(disk: Failing, folder: Path, tmp_path: Path) -> None:
    """What is appended after a rename whose last sync failed must not go when the power does."""
    store = JsonFileStore(folder)
    store.create("c", LOCAL_USER)
    disk.refused = {"sync_folder": errno.EIO}
    for use in (lambda: store.update("c", title="t"), lambda: store.append("c", Message("user", "lost"))):
        with pytest.raises(StorageError):
            use()
    disk.refused = {}
    store.append("c", Message("user", "kept"))
    store.close()
    with through(files.Operations()):
        for again in after_power_cuts(disk, tmp_path / "cuts"):
            assert [message.content for message in again.messages("c")] == ["kept"]
            again.close()


def test_deletion_is_synced_at_last(disk: Failing, folder: Path, tmp_path: Path) -> None:
    """A deletion that failed at its sync and is asked for again is durable, though the file was gone already."""
    store = JsonFileStore(folder)
    store.create("c", LOCAL_USER)
    store.create_project(LOCAL_USER, "p")
    disk.refused, disk.only = {"sync_folder": errno.EIO}, "conversations"
    with pytest.raises(StorageError):
        store.delete("c")
    disk.refused = {}
    store.delete("c")
    assert FolderSynced("conversations") in disk.log
    store.close()
    with through(files.Operations()):
        for again in after_power_cuts(disk, tmp_path / "cuts"):
            assert view(again) == {}
            again.close()


def test_checkpoint_has_no_hole(disk: Failing, folder: Path) -> None:
    """When a piece of a reply could not be checkpointed, what is recovered ends before it."""
    store = JsonFileStore(folder)
    store.create("c", LOCAL_USER)
    for first_refused in (0, 1):
        reply = Message("assistant", "", id=store.reserve("c"))
        for n, piece in enumerate(["one ", "two ", "three "]):
            disk.refused = {"write": errno.ENOSPC} if n == first_refused else {}
            if n == first_refused:
                with pytest.raises(StorageError):
                    store.checkpoint("c", reply, piece)
            else:
                store.checkpoint("c", reply, piece)
        path = folder / "checkpoints" / "c.jsonl"
        found = read_checkpoint(path.read_bytes())
        assert (found[1].content if found else "") == ["", "one "][first_refused]
        store.discard_checkpoint("c")
        assert not path.exists()
    store.close()


OUT_OF_FILES = """
import os, resource, sys
from pathlib import Path
from core.config import Settings
from self_agent import close, create_app
from self_agent.providers.echo import Echo
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
data = Path(sys.argv[1])
app = create_app(Settings(data_dir=data, log_dir=data / "logs"), provider=Echo())
client = app.test_client()
send = lambda text: client.post("/api/v1/conversations/c/messages", json={"content": text}).status_code
name = lambda text: client.patch("/api/v1/conversations/c", json={"name": text}).status_code
shown = lambda: client.get("/api/v1/conversations/c").json["data"]
assert (send("before"), name("before")) == (200, 200)
taken = []
def take():
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
take()
for free in range(4):
    statuses = send("maybe"), name("maybe%d" % free)
    assert set(statuses) <= {200, 503}, statuses
    assert free or set(statuses) == {503}, statuses
    kept = [os.close(taken.pop()) for _ in range(3)]
    found = shown()
    assert (found["name"] == "maybe%d" % free) == (statuses[1] == 200), (free, found["name"], statuses)
    take()
    for _ in range(free + 1):
        os.close(taken.pop())
for fd in taken:
    os.close(fd)
assert (send("after"), name("after")) == (200, 200)
said = [m["content"] for m in shown()["messages"]]
assert said[:2] == ["before", "echo: before"] and said[-2:] == ["after", "echo: after"], said
close(app)
"""


def test_no_descriptors_left(folder: Path) -> None:
    """Without a free descriptor writes are refused, whole, and with one again they are not."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_FILES, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_data_folder_goes_away(make_app: MakeApp, folder: Path) -> None:
    """Taken away while the server runs: 503 for what needs it, and all is well when it is back."""
    client = make_app(store=JsonFileStore(folder)).test_client()
    assert send(client, "c", "before") == 200
    folder.rename(folder.parent / "elsewhere")
    for _ in range(2):
        assert [send(client, "c", "lost"), send(client, "new", "lost")] == [503, 503]
        assert client.get(f"{CONVERSATIONS}/c").status_code == 503
        assert client.delete(f"{CONVERSATIONS}/c").status_code == 503
        assert client.get("/healthz").status_code == 200
    (folder.parent / "elsewhere").rename(folder)
    assert send(client, "c", "after") == 200
    assert said(client, "c") == talk("before", "after")


def test_clock_jumps_back(folder: Path) -> None:
    """What is on disk is from the future, as after a clock was set back: what comes now still comes later."""
    future = clock.from_microseconds(time.time_ns() // 1000 + 72_000_000_000)  # 20 hours ahead
    store = JsonFileStore(folder)
    store.create("c", LOCAL_USER)
    store.append("c", Message("user", "x", timestamp=future))
    store.close()
    clock._last = 0  # another process knows only what it reads
    try:
        store = JsonFileStore(folder)
        store.append("c", Message("assistant", "y"), Message("user", "z"))
        store.create("d", LOCAL_USER)
        times = [message.timestamp for message in store.messages("c")]
        assert times == sorted(set(times))
        assert times[0] == future
        assert [found.id for found in store.conversations(LOCAL_USER).items] == ["d", "c"]
        store.close()
    finally:
        clock._last = 0
