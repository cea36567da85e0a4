"""What the store of JSON files promises beyond the contract: its files, restarts, and a disk that refuses."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import NotFound, StartupError, StorageBusy, StorageError, StorageFull
from self_agent.models import Message
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.json_files.lines import ending, header_line
from tests.storage.conftest import Refusing, age
from tests.storage.samples import message_line, said

Open = Callable[[], JsonFileStore]


def user(text: str) -> Message:
    return Message("user", text)


def texts(messages: list[Message]) -> list[str]:
    return [message.content for message in messages]


def test_files_are_json_at_rest(open_store: Open, folder: Path) -> None:
    """After every write the document is valid JSON, one message a line, text unescaped."""
    store = open_store()
    store.create("Ab", "u", title="t")
    path = folder / "conversations" / "ab+1.json"
    assert json.loads(path.read_bytes())["messages"] == []
    for n in range(1, 4):
        store.append("Ab", user("你好😀"))
        assert len(json.loads(path.read_bytes())["messages"]) == n
        assert path.read_text("utf-8").count("\n") == n + 2
    assert "你好😀" in path.read_text("utf-8")


def test_everything_survives_restart(open_store: Open) -> None:
    """A store that is closed and opened again answers the same."""
    store = open_store()
    project = store.create_project("u", "p")
    store.create("a", "u", title="t", system_prompt="s", model="m", project_id=project.id)
    stored = store.append("a", user("x"), Message("assistant", "y", sources=[{}]), user("z"))
    store.edit(stored[0].id, said("new"))
    store.hide([stored[2].id])
    store.create("b", "u")
    before = (store.conversations("u"), store.messages("a"), store.projects("u"))
    store = open_store()
    assert (store.conversations("u"), store.messages("a"), store.projects("u")) == before
    assert store.append("a", user("more"))[0].id > stored[2].id
    assert store.messages("a")[-1].timestamp > before[0].items[0].updated_at


def test_numbers_are_never_reused(open_store: Open) -> None:
    """Neither a deletion nor a restart brings a number or a project's id back."""
    numbers = []
    for keep in (True, False, True, False):
        store = open_store()
        numbers.append(store.create("c", "u").number)
        store.delete("c", keep=keep)
        store.delete_project(store.create_project("u", "p").id)
    assert numbers == [1, 2, 3, 4]
    store = open_store()
    assert store.create("c", "u").number == 5
    assert store.create_project("u", "p").id == 5


def test_kept_deletion_is_marked(open_store: Open, folder: Path) -> None:
    """A soft-deleted document lies among the deleted ones, whole, and says when."""
    store = open_store()
    for _ in range(2):
        store.create("c", "u")
        store.append("c", user("x"))
        store.delete("c", keep=True)
    names = sorted(path.name for path in (folder / "deleted").iterdir())
    assert names == ["c~1.json", "c~2.json"]
    kept = json.loads((folder / "deleted" / "c~1.json").read_bytes())
    assert kept["is_deleted"] is True
    assert kept["deleted_at"]
    assert [message["content"] for message in kept["messages"]] == ["x"]
    assert not list((folder / "conversations").iterdir())


def test_long_conversation_reads_few_bytes(open_store: Open, folder: Path) -> None:
    """The tail, a page and a single message of a long conversation are right, in any state of the caches."""
    (folder / "conversations").mkdir(parents=True)
    lines = [message_line(Message("user", f"m{n} " + "x" * 50, 1 << 20 | n + 1, TIME)) for n in range(5000)]
    header = {"conversation_id": "c", "number": 1, "user_id": "u", "name": None, "system_prompt": None, "model": None}
    header |= {"project_id": 0, "created_at": TIME, "updated_at": TIME}
    (folder / "conversations" / "c.json").write_bytes(header_line(header) + ending(lines, first=True))
    store = open_store()
    everything = store.messages("c")
    assert len(everything) == 5000
    for limit in (1, 20, 300, 4999, 5000, 6000):
        assert store.latest("c", limit) == everything[-limit:]
    for _ in range(2):
        assert store.messages("c", offset=2500, limit=100) == everything[2500:2600]
        everything += store.append("c", user("new"), Message("assistant", "y" * 70_000))
    assert store.messages("c", offset=4990, limit=100) == everything[4990:]
    assert store.messages("c", offset=4999, limit=1) == everything[4999:5000]
    late = store.reserve("c")
    everything += store.append("c", *[user("x")] * 100, Message("assistant", "late", id=late))
    for index in (0, 1, 2500, 5000, -1, -2):
        assert store.message(everything[index].id) == everything[index]
    everything[2500] = store.edit(everything[2500].id, said("edited"))
    assert store.messages("c", offset=2499, limit=3) == everything[2499:2502]
    with pytest.raises(NotFound):
        store.message((1 << 20) + 1_000_000)


TIME = "2025-04-30T10:00:01.000000Z"


@pytest.mark.parametrize("calls", [["write"], ["sync"], ["sync", "truncate"]])
@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StorageFull), (errno.EIO, StorageError)])
def test_refused_append_changes_nothing(
    open_store: Open, folder: Path, disk: Refusing, calls: list[str], number: int, kind: type[StorageError]
) -> None:
    """What the disk refused is not there, then or after a restart, though undoing it was refused too."""
    store = open_store()
    store.create("c", "u")
    store.append("c", user("kept"))
    before = store.get("c")
    disk.refused = dict.fromkeys(calls, number)
    for _ in range(2):
        with pytest.raises(kind):
            store.append("c", user("lost"))
    assert store.get("c") == before
    disk.refused = {}
    assert texts(store.messages("c")) == ["kept"]
    store.append("c", user("after"))
    assert texts(open_store().messages("c")) == ["kept", "after"]


@pytest.mark.parametrize("call", ["open", "write", "sync", "replace"])
def test_refused_rewrite_changes_nothing(open_store: Open, folder: Path, disk: Refusing, call: str) -> None:
    """A creation, rename, edit or project that the disk refuses has not happened."""
    store = open_store()
    store.create("c", "u")
    stored = store.append("c", user("x"))
    before = (store.conversations("u"), store.messages("c"), store.projects("u"))
    disk.refused = {call: errno.ENOSPC}
    for use in (
        lambda: store.create("d", "u"),
        lambda: store.update("c", title="t"),
        lambda: store.edit(stored[0].id, said("y")),
        lambda: store.hide([stored[0].id]),
        lambda: store.create_project("u", "p"),
    ):
        with pytest.raises(StorageFull):
            use()
    disk.refused = {}
    assert (store.conversations("u"), store.messages("c"), store.projects("u")) == before
    assert not list(folder.rglob("*.tmp"))
    assert store.create("d", "u").count == 0
    store = open_store()
    assert store.messages("c") == before[1]


def test_refused_checkpoint_is_an_error(open_store: Open, disk: Refusing) -> None:
    """A checkpoint that cannot be written says so; whoever asked decides whether that matters."""
    store = open_store()
    store.create("c", "u")
    reply = Message("assistant", "", id=store.reserve("c"))
    disk.refused = {"write": errno.ENOSPC}
    with pytest.raises(StorageFull):
        store.checkpoint("c", reply, "x")


def test_real_size_limit_is_survived(folder: Path) -> None:
    """A real limit on file sizes, in another process, costs the append and nothing else."""
    script = """
import resource, signal, sys
from pathlib import Path
from core.errors import StorageError
from self_agent.models import Message
from self_agent.storage.json_files import JsonFileStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = JsonFileStore(Path(sys.argv[1]))
store.create("c", "u")
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
acknowledged = 0
try:
    while True:
        store.append("c", Message("user", "x" * 300))
        acknowledged += 1
except StorageError:
    pass
assert len(store.messages("c")) == acknowledged
print(acknowledged)
store.close()
"""
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True)
    store = JsonFileStore(folder)
    assert len(store.messages("c")) == int(done.stdout) > 5
    store.close()


def test_second_owner_is_refused(open_store: Open, folder: Path) -> None:
    """Another process that wants the same folder is told whose it is and what to do."""
    open_store()
    script = (
        "import sys; from pathlib import Path; from self_agent.storage.json_files import JsonFileStore\n"
        "JsonFileStore(Path(sys.argv[1]), lock_timeout=0.1)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False)
    assert f"another server (pid {os.getpid()}) uses the data folder" in done.stderr
    assert "--data-dir" in done.stderr
    with pytest.raises(StartupError, match="another server"):
        JsonFileStore(folder, lock_timeout=0)


def test_closing_frees_the_folder(open_store: Open, folder: Path) -> None:
    """A closed store leaves neither lock nor pid; one that failed to open leaves no lock either."""
    open_store().close()
    assert not (folder / ".lock.pid").exists()
    (folder / "checkpoints").rmdir()
    (folder / "checkpoints").write_text("in the way")
    with pytest.raises(StartupError, match="cannot be used"):
        JsonFileStore(folder)
    (folder / "checkpoints").unlink()
    assert open_store().ready()


def test_unusable_folder_refuses_start(tmp_path: Path) -> None:
    """A data folder that cannot be a folder is refused with its name and the reason."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(StartupError, match=str(place)):
            JsonFileStore(place)


def test_folder_removed_while_running(open_store: Open, folder: Path) -> None:
    """The server lives when its data are taken away, and says what is wrong."""
    store = open_store()
    store.create("c", "u")
    store.create("d", "u")
    (folder / "conversations" / "d.json").unlink()
    with pytest.raises(StorageBusy):
        store.messages("d")
    time.sleep(1.1)
    with pytest.raises(NotFound):
        store.messages("d")
    assert store.get("d") is None
    (folder / "conversations").rename(folder / "elsewhere")
    for use in (lambda: store.messages("c"), lambda: store.append("c", user("x")), lambda: store.create("e", "u")):
        with pytest.raises(StorageError):
            use()
    (folder / "elsewhere").rename(folder / "conversations")
    assert store.messages("c") == []


def test_file_put_there_is_kept(open_store: Open, folder: Path) -> None:
    """A file that somebody put into the folder while the server runs is not overwritten."""
    store = open_store()
    (folder / "conversations" / "c.json").write_text('{"conversation_id": "c", "messages": []}')
    with pytest.raises(StorageError, match="restart"):
        store.create("c", "u")
    assert open_store().get("c")


def test_edited_file_is_read_again(open_store: Open, folder: Path) -> None:
    """A document that a person edits while the server runs counts as edited, indented or not."""
    store = open_store()
    store.create("c", "u")
    store.append("c", user("one"), user("two"))
    path = folder / "conversations" / "c.json"
    path.write_text(path.read_text().replace("two", "2"))
    assert texts(store.messages("c")) == ["one", "2"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": 1}, indent=2))
    store.append("c", user("three"))
    assert texts(store.messages("c")) == ["one", "2", "three"]
    assert json.loads(path.read_bytes())["later"] == 1
    found = store.get("c")
    assert found
    assert (found.count, found.summary) == (3, "three")


def test_unknown_fields_survive_changes(open_store: Open, folder: Path) -> None:
    """Fields that only a later version knows survive an edit and a rename."""
    store = open_store()
    store.create("c", "u")
    stored = store.append("c", user("one"))
    path = folder / "conversations" / "c.json"
    path.write_text(
        path.read_text().replace('"content"', '"later":7,"content"').replace('"number"', '"more":8,"number"')
    )
    store.edit(stored[0].id, said("x"))
    store.update("c", title="t")
    content = json.loads(path.read_bytes())
    assert (content["more"], content["messages"][0]["later"]) == (8, 7)


def test_ruined_file_is_set_aside(open_store: Open, folder: Path) -> None:
    """A document that becomes unreadable while the server runs is quarantined, its number is spent."""
    store = open_store()
    store.create("c", "u")
    (folder / "conversations" / "c.json").write_text("oops")
    age(folder / "conversations" / "c.json")
    with pytest.raises(NotFound):
        store.append("c", user("x"))
    assert (folder / "quarantine" / "c.json").read_text() == "oops"
    assert store.create("c", "u").number == 2
    (folder / "conversations" / "c.json").write_text("again")
    age(folder / "conversations" / "c.json")
    with pytest.raises(NotFound):
        store.messages("c")
    assert sorted(p.name for p in (folder / "quarantine").iterdir()) == ["c.json", "c~1.json"]


@pytest.mark.parametrize("call", ["open", "write", "sync", "replace", "sync_folder"])
def test_refused_beginning_leaves_nothing(open_store: Open, folder: Path, disk: Refusing, call: str) -> None:
    """When the disk refuses any step, neither the conversation nor its question is there, and both can be later."""
    store = open_store()
    disk.refused = {call: errno.ENOSPC}
    with pytest.raises(StorageFull):
        store.begin("u", "c", user("lost"), new={"title": "t"})
    disk.refused = {}
    assert store.get("c") is None
    assert not list((folder / "conversations").iterdir())
    store = open_store()
    assert store.begin("u", "c", user("kept"), new={}).conversation.count == 1
    assert texts(store.messages("c")) == ["kept"]


def test_beginning_is_one_replacement(open_store: Open, disk: Refusing) -> None:
    """A new conversation and its question take two syncs together, one more question takes one."""
    store = open_store()
    disk.calls.clear()
    store.begin("u", "c", user("first"), new={"title": "t"})
    assert disk.calls == ["open", "write", "sync", "replace", "sync_folder"]
    disk.calls.clear()
    store.begin("u", "c", user("second"), new={"title": "t"})
    assert disk.calls == ["open", "write", "sync"]


def test_memory_is_not_read(open_store: Open, folder: Path, disk: Refusing) -> None:
    """Lists and headings come from memory: they open no file."""
    store = open_store()
    store.create("c", "u")
    disk.calls.clear()
    store.conversations("u")
    store.get("c")
    assert disk.calls == []
    store.append("c", user("x"), user("y"))
    assert disk.calls == ["open", "write", "sync"]
