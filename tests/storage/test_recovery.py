"""What is found in a data folder on start: crashes, copies, older versions, nonsense."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from self_agent.models import Message
from self_agent.storage.base import CUT_OFF
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.json_files.checkpoints import read_checkpoint
from tests.storage.conftest import age

Open = Callable[[], JsonFileStore]


def user(text: str) -> Message:
    return Message("user", text)


def texts(messages: list[Message]) -> list[str]:
    return [message.content for message in messages]


def put(folder: Path, name: str, content: object) -> Path:
    """Put a file among the conversations, before or while a store is open."""
    path = folder / "conversations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content, indent=2).encode())
    return path


LEGACY = {
    "conversation_id": "conv_123",
    "name": "Greetings",
    "summary": "old",
    "created_at": "2025-04-30T10:00:00Z",
    "updated_at": "2025-04-30T18:00:01+08:00",
    "messages": [
        {"role": "user", "content": "你好", "timestamp": "2025-04-30T10:00:01Z"},
        {"role": "assistant", "content": "Hi", "timestamp": "2025-04-30T10:00:01"},
        {"role": "user", "content": "no time"},
    ],
    "config": {"model": "old-model"},
}


@pytest.mark.parametrize("indent", [None, 2])
def test_older_documents_are_read(open_store: Open, folder: Path, indent: int | None) -> None:
    """A document of the older shape is read with its times in one form, and keeps its number ever after."""
    put(folder, "conv_123.json", json.dumps(LEGACY, indent=indent).encode())
    store = open_store()
    found = store.get("conv_123")
    assert found
    assert (found.title, found.model, found.user_id, found.count) == ("Greetings", "old-model", "local", 3)
    assert found.created_at == "2025-04-30T10:00:00.000000Z"
    assert found.updated_at == "2025-04-30T10:00:01.000000Z"
    before = store.messages("conv_123")
    assert texts(before) == ["你好", "Hi", "no time"]
    assert {message.timestamp for message in before} == {"2025-04-30T10:00:01.000000Z"}
    store.append("conv_123", user("more"))
    store = open_store()
    assert store.messages("conv_123")[:3] == before
    assert store.by_number(found.number) == store.get("conv_123")


def test_names_that_spell_no_id(open_store: Open, folder: Path) -> None:
    """A file takes the name of the id in it, or is its plain name's; one that has neither is set aside."""
    put(folder, "My chat.json", LEGACY)
    put(folder, "ABC.json", {"messages": []})
    put(folder, "no id.json", {"messages": []})
    put(folder, "second copy.json", LEGACY)
    store = open_store()
    assert store.get("conv_123")
    assert store.get("ABC")
    assert sorted(p.name for p in (folder / "conversations").iterdir()) == ["abc+7.json", "conv_123.json"]
    assert sorted(p.name for p in (folder / "quarantine").iterdir()) == ["no id.json", "second copy.json"]


def test_copied_file_is_its_own(open_store: Open, folder: Path) -> None:
    """A copy made by hand becomes a conversation of its own: its name's, with a number of its own."""
    store = open_store()
    store.create("z", "u", title="t")
    stored = store.append("z", user("x"), user("y"))
    store.close()
    shutil.copy(folder / "conversations" / "z.json", folder / "conversations" / "a.json")
    for _ in range(2):
        store = open_store()
        assert store.messages("z") == stored
        copy = store.get("a")
        assert copy
        assert (copy.number, copy.title, texts(store.messages("a"))) == (2, "t", ["x", "y"])
        assert store.message(2 << 20 | 2).content == "y"


def test_same_number_twice(open_store: Open, folder: Path) -> None:
    """Of two files that claim one number the later one gets another."""
    store = open_store()
    store.create("a", "u")
    store.close()
    text = (folder / "conversations" / "a.json").read_text()
    put(folder, "b.json", text.replace('"conversation_id":"a"', '"conversation_id":"b"').encode())
    store = open_store()
    assert {name: store.get(name).number for name in "ab"} == {"a": 1, "b": 2}  # type: ignore[union-attr]


def test_unreadable_files_hide_nothing(open_store: Open, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read is set aside with a log line that shows none of it; the others are served."""
    put(folder, "good.json", {**LEGACY, "conversation_id": "good"})
    put(folder, "bad.json", b"secret nonsense")
    put(folder, "empty.json", b"")
    put(folder, "zeros.json", b"\0" * 5000)
    (folder / "conversations" / "folder.json").mkdir()
    put(folder, "notes.txt", b"not ours")
    with caplog.at_level(logging.INFO):
        store = open_store()
        assert store.conversations("local").total == 1
    assert sorted(p.name for p in (folder / "quarantine").iterdir()) == ["bad.json", "empty.json", "zeros.json"]
    assert "bad.json" in caplog.text
    assert "secret" not in caplog.text
    assert (folder / "conversations" / "notes.txt").exists()


def test_torn_append_is_repaired(open_store: Open, folder: Path) -> None:
    """Torn at each byte of its last append, a document loses at most that, and can be appended to."""
    store = open_store()
    store.create("c", "u")
    path = folder / "conversations" / "c.json"
    store.append("c", user("one"), user("two"))
    before = path.read_bytes()
    store = open_store()
    snapshot = (folder / "catalog.json").read_bytes()  # the last one before the power fails
    store.append("c", user("3"))
    after = path.read_bytes()
    store.close()
    start = len(before) - 4
    for cut in range(start, len(after), 3):
        path.write_bytes(after[:cut] + before[cut:])
        age(path)
        (folder / "catalog.json").write_bytes(snapshot)
        store = open_store()
        found = texts(store.messages("c"))
        assert found in (["one", "two"], ["one", "two", "3"])
        store.append("c", user("next"))
        assert [m["content"] for m in json.loads(path.read_bytes())["messages"]] == [*found, "next"]
        store.close()
    assert not list((folder / "quarantine").iterdir())


def test_broken_line_keeps_a_copy(open_store: Open, folder: Path) -> None:
    """A line that a person broke goes; the rest stays, and the file as it was lies in quarantine."""
    store = open_store()
    store.create("c", "u")
    store.append("c", user("one"), user("two"), user("three"))
    path = folder / "conversations" / "c.json"
    broken = path.read_text().replace('"two"', '"two')
    path.write_text(broken)
    age(path)
    assert texts(store.messages("c")) == ["one", "three"]
    assert (folder / "quarantine" / "c.json").read_text() == broken


KILLED = """
import os, signal, sys
from pathlib import Path
from self_agent.models import Message
from self_agent.storage.json_files import JsonFileStore
store = JsonFileStore(Path(sys.argv[1]))
store.create("c", "u")
store.append("c", Message("user", "question"))
reply = Message("assistant", "", id=store.reserve("c"), model="m")
store.checkpoint("c", reply, "par")
store.checkpoint("c", reply, "tial ✓")
if sys.argv[2] == "stored":
    store.append("c", Message("assistant", "whole", id=reply.id))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("state", ["cut", "stored"])
def test_killed_server_keeps_the_reply(open_store: Open, folder: Path, state: str) -> None:
    """What a killed server had of a reply becomes the incomplete reply, unless the reply was stored already."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), state], check=False)
    assert done.returncode == -signal.SIGKILL
    (folder / "conversations" / "c.json.1-1.tmp").write_text("half")
    for _ in range(2):
        store = open_store()
        question, reply = store.messages("c")
        assert question.content == "question"
        if state == "stored":
            assert (reply.content, reply.incomplete) == ("whole", False)
        else:
            assert (reply.content, reply.incomplete, reply.error) == ("partial ✓", True, CUT_OFF)
            assert reply.model == "m"
        assert not list((folder / "checkpoints").iterdir())
        assert not list((folder / "conversations").glob("*.tmp"))


def test_older_folder_is_renamed(open_store: Open, folder: Path) -> None:
    """A reply that an older version left in `partial/` is stored, and the folder has its new name."""
    store = open_store()
    store.create("c", "u")
    store.checkpoint("c", Message("assistant", "", id=store.reserve("c")), "half")
    store.close()
    (folder / "checkpoints").rename(folder / "partial")
    assert texts(open_store().messages("c")) == ["half"]
    assert not (folder / "partial").exists()


def test_odd_checkpoints_are_dropped(open_store: Open, folder: Path) -> None:
    """A checkpoint without text, without its conversation or without sense goes, and its id is not used again."""
    store = open_store()
    store.create("c", "u")
    store.close()
    left = folder / "checkpoints"
    first = {"conversation_id": "c", "id": 1 << 20 | 7, "role": "assistant", "content": "", "timestamp": ""}
    (left / "c.jsonl").write_text(json.dumps(first) + '\n""\n')
    (left / "d.jsonl").write_text(json.dumps({**first, "conversation_id": "d"}) + '\n"x"\n')
    (left / "e.jsonl").write_text("nonsense")
    store = open_store()
    assert store.messages("c") == []
    assert store.append("c", user("x"))[0].id == 1 << 20 | 8
    assert not list(left.iterdir())


def test_torn_checkpoint_is_read() -> None:
    """Pieces before a torn or broken one count."""
    first = b'{"conversation_id":"c","id":5,"role":"assistant","content":"","timestamp":""}\n'
    for rest in (b'"a"\n"b"\n"c', b'"a"\n"b"\n{"c\n"d"\n', b'"a"\n1\n"b"\n'):
        found = read_checkpoint(first + rest)
        assert found
        assert found[1].content == "ab"
    assert read_checkpoint(b"") is read_checkpoint(b"[]\n") is read_checkpoint(b"{}\n") is None


def test_broken_projects_are_set_aside(open_store: Open, folder: Path) -> None:
    """Without a readable `store.json` the server starts, and gives no project's id again that a document names."""
    store = open_store()
    store.create_project("u", "p")
    project = store.create_project("u", "p")
    store.create("c", "u", project_id=project.id)
    store.close()
    (folder / "store.json").write_text("oops")
    store = open_store()
    assert store.projects("u") == []
    found = store.get("c")
    assert found
    assert found.project_id == 0
    assert store.create_project("u", "q").id == 3
    assert (folder / "quarantine" / "store.json").read_text() == "oops"


def test_reserved_id_is_not_given_again(open_store: Open, folder: Path) -> None:
    """A reply's id that clients were told, of which a crash left nothing, is never another message's."""
    store = open_store()
    store.create("c", "u")
    store.append("c", user("question"))
    promised = store.reserve("c")
    left = (folder / "conversations" / "c.json").read_bytes()
    store.close()
    (folder / "catalog.json").unlink()
    (folder / "conversations" / "c.json").write_bytes(left)
    assert open_store().append("c", user("again"))[0].id > promised


def test_fields_of_a_wrong_kind_are_left_out(open_store: Open, folder: Path) -> None:
    """What an editor made of a field that cannot be so is dropped; the message, and what is right of it, stays."""
    message = {"role": "user", "content": "x", "edited_at": 5, "sources": "s", "model": None, "error": "e"}
    put(folder, "c.json", {"conversation_id": "c", "number": 5, "messages": [message]})
    [found] = open_store().messages("c")
    assert (found.content, found.edited_at, found.sources, found.model, found.error) == ("x", None, None, None, "e")


@pytest.mark.parametrize(
    "change",
    [{"name": 5}, {"project_id": 2**64 - 1}, {"created_at": "yesterday"}, {"messages": [{"edited_at": 5}]},
     {"messages": [{"timestamp": "noon"}]}, {}],
)  # fmt: skip
def test_values_that_go_are_kept(open_store: Open, folder: Path, change: dict[str, Any]) -> None:
    """When a value that somebody wrote cannot stay, the file as it was lies in quarantine; else nothing does."""
    rows = [{"role": "user", "content": "x", **fields} for fields in change.get("messages", [{}])]
    path = put(folder, "c.json", {"conversation_id": "c", **change, "messages": rows})
    before = path.read_bytes()
    assert texts(open_store().messages("c")) == ["x"]
    assert [kept.read_bytes() for kept in (folder / "quarantine").iterdir()] == ([before] if change else [])


def test_odd_messages_are_put_right(open_store: Open, folder: Path) -> None:
    """Ids that are missing or used twice are given anew, the others kept; so are unknown fields."""
    message = {"role": "user", "content": "x", "timestamp": "never"}
    ids = [5 << 20 | 3, 5 << 20 | 3, None, 17, 5 << 20 | 1]
    messages = [{**message, "id": key, "later": 1} for key in ids] + [{"role": "user"}, 5]
    put(folder, "c.json", {"conversation_id": "c", "number": 5, "updated_at": 7, "extra": 1, "messages": messages})
    store = open_store()
    assert [m.id & 0xFFFFF for m in store.messages("c")] == [3, 4, 5, 6, 1]
    assert store.append("c", user("x"))[0].id == 5 << 20 | 8  # 7 is left for a reply to the last question
    content = json.loads((folder / "conversations" / "c.json").read_bytes())
    assert (content["extra"], content["messages"][0]["later"]) == (1, 1)
    assert (folder / "quarantine" / "c.json").exists()
    assert store.create("next", "u").number == 6


def test_wrong_count_ends_reading(open_store: Open) -> None:
    """A catalog that counts more messages than a document has does not make a reader look for them for ever."""
    store = open_store()
    store.create("c", "u")
    store.append("c", user("a"), user("b"))
    entry = store._catalog.get("c")
    assert entry
    entry.total += 5
    assert [message.content for message in store.latest("c", 20)] == ["a", "b"]
