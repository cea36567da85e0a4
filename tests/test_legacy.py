"""Taking in an older backend's folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from core.config import Settings
from self_agent import close, create_app
from self_agent.cli import import_legacy
from self_agent.legacy import NotLegacy, files, parse, take_in
from self_agent.providers.echo import Echo
from self_agent.storage import Store, choices, open_store
from self_agent.storage.memory import MemoryStore
from tests.postgres import empty_url
from tests.serving import ROOT, Server

OLD: dict[str, Any] = {
    "conversation_id": "uuid4-1745971200000",
    "name": "你好",
    "summary": "你好，有什么可以帮您？",
    "created_at": "2025-04-30T10:00:00Z",
    "updated_at": "2025-04-30T10:10:00Z",
    "messages": [
        {"role": "user", "content": "你好", "timestamp": "2025-04-30T10:00:01Z"},
        {"role": "assistant", "content": "你好，有什么可以帮您？", "timestamp": "2025-04-30T10:00:02Z"},
    ],
    "config": {"model": "gpt-4o"},
}


@pytest.fixture(params=choices())
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each store."""
    folder, url = tmp_path / "data", empty_url(request.param)
    store = open_store(Settings(store=request.param, data_dir=folder, log_dir=tmp_path / "logs", database_url=url))
    yield store
    store.close()


def written(folder: Path, name: str, document: Any) -> Path:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document, indent=2, ensure_ascii=False))
    return path


def test_conversation_arrives_whole(tmp_path: Path) -> None:
    """Id, times, model and messages are those of the old file; the name it made itself is no title."""
    store = MemoryStore()
    outcome = take_in(store, written(tmp_path, "a.json", OLD))
    assert (outcome.state, outcome.detail) == ("imported", "2 messages")
    found = store.get("uuid4-1745971200000")
    assert found is not None
    assert (found.title, found.name, found.model, found.count) == (None, "你好", "gpt-4o", 2)
    assert found.created_at == "2025-04-30T10:00:00.000000Z"
    assert found.updated_at == "2025-04-30T10:10:00.000000Z"
    assert store.messages(found.id)[0].timestamp == "2025-04-30T10:00:01.000000Z"


def test_second_import_changes_nothing(tmp_path: Path) -> None:
    """What is here already stays as it is."""
    store, path = MemoryStore(), written(tmp_path, "a.json", OLD)
    take_in(store, path)
    assert take_in(store, path).state == "skipped"
    assert len(store.messages("uuid4-1745971200000")) == 2


@pytest.mark.parametrize(
    ("updated", "expected"),
    [
        ("2025-05-01T10:00:00+08:00", "2025-05-01T02:00:00.000000Z"),
        ("2025-04-30T10:00:01Z", "2025-04-30T10:00:02.000000Z"),
        (None, "2025-04-30T10:00:02.000000Z"),
        ("yesterday", "2025-04-30T10:00:02.000000Z"),
    ],
)
def test_last_update_is_the_old_one(store: Store, tmp_path: Path, updated: Any, expected: str) -> None:
    """It is the old file's, or the last message's where that is later or there is none."""
    take_in(store, written(tmp_path, "a.json", {**OLD, "updated_at": updated}))
    take_in(store, written(tmp_path, "b.json", {**OLD, "conversation_id": "b", "messages": []}))
    found = {c.id: (c.created_at, c.updated_at) for c in store.conversations("local").items}
    assert found[OLD["conversation_id"]] == ("2025-04-30T10:00:00.000000Z", expected)
    assert found["b"] == ("2025-04-30T10:00:00.000000Z", "2025-04-30T10:10:00.000000Z")


FOLDER = {
    "folder_id": "f-1",
    "name": "旅行",
    "conversation_ids": ["b", "gone", "a", "b", 5, None],
    "created_at": "2025-04-30T10:00:00Z",
    "updated_at": "2025-05-01T10:00:00Z",
}
TAG = {"id": "t-1", "conversation_id": "a", "tag": "工作", "created_at": "2025-04-30T10:00:00Z", "updated_at": None}


def imported(store: Store, folder: Path, **documents: Any) -> dict[str, tuple[str, str]]:
    """Take in two conversations and these files; return what became of these."""
    for name in "ab":
        written(folder, f"{name}.json", {**OLD, "conversation_id": name})
    for name, document in documents.items():
        written(folder, f"{name}.json", document)
    outcomes = {path.stem: take_in(store, path) for path in files(folder)}
    return {name: (outcomes[name].state, outcomes[name].detail) for name in documents}


def test_folders_and_tags_arrive(store: Store, tmp_path: Path) -> None:
    """With their ids and times, after the conversations that they name, without those that are not there."""
    default = {"folder_id": "default", "name": "默认收藏夹", "conversation_ids": ["a"], "is_default": True}
    tags = [TAG, {**TAG, "id": "t-2", "conversation_id": "gone"}, {**TAG, "id": 7, "tag": "other"}]
    outcomes = imported(store, tmp_path, folders=[FOLDER, default], tags=tags)
    assert outcomes == {"folders": ("imported", "2 folders"), "tags": ("imported", "2 tags")}
    shelf = store.shelf("local")
    assert [(f.id, f.name, list(f.conversations)) for f in shelf.folders] == [
        ("default", "默认收藏夹", ["a"]),
        ("f-1", "旅行", ["b", "a"]),
    ]
    assert shelf.folders[1].updated_at == "2025-05-01T10:00:00.000000Z"
    assert [(t.id, t.conversation_id, t.tag) for t in shelf.tags] == [("t-1", "a", "工作"), ("7", "a", "other")]
    assert shelf.tags[0].updated_at == "2025-04-30T10:00:00.000000Z"


def test_second_import_doubles_nothing(store: Store, tmp_path: Path) -> None:
    """Folders and tags that are here, by their ids or by their words, are not taken in again."""
    unnamed = {"name": "no id", "conversation_ids": ["a"]}
    documents = {"folders": [FOLDER, unnamed], "tags": [TAG, {"conversation_id": "b", "tag": "no id"}]}
    imported(store, tmp_path, **documents)
    before = store.shelf("local")
    outcomes = imported(store, tmp_path, **documents)
    assert outcomes == dict.fromkeys(documents, ("skipped", "nothing in it is new"))
    assert store.shelf("local") == before
    more = {**FOLDER, "folder_id": "other", "conversation_ids": ["b"]}
    imported(store, tmp_path, folders={"folders": [unnamed, more]}, tags=[{**TAG, "id": "other"}])
    assert store.shelf("local") == before


@pytest.mark.parametrize(
    "document",
    [
        {"f-1": FOLDER},
        {"f-1": {**FOLDER, "folder_id": None}},
        {"folders": [FOLDER]},
        [5, None, [], {"name": 5}, FOLDER],
    ],
    ids=["by id", "by key", "wrapped", "odd"],
)
def test_folders_in_any_shape(store: Store, tmp_path: Path, document: Any) -> None:
    """A list or a dict; what is no folder is left out."""
    assert imported(store, tmp_path, folders=document)["folders"] == ("imported", "1 folders")
    assert [folder.id for folder in store.shelf("local").folders] == ["default", "f-1"]


def test_odd_shelves_do_no_harm(store: Store, tmp_path: Path) -> None:
    """Ids that fit in no path are given anew, what says nothing is left out, and what is no JSON fails."""
    folders = [
        {**FOLDER, "folder_id": "../x", "name": "x" * 600},
        {**FOLDER, "name": " "},
        {**FOLDER, "folder_id": "y"},
    ]
    imported(store, tmp_path, folders=folders, tags=[{**TAG, "tag": ""}, {**TAG, "conversation_id": ["a"]}, "x"])
    shelf = store.shelf("local")
    assert [len(folder.name) for folder in shelf.folders] == [5, 500, 2]
    assert "/" not in shelf.folders[1].id
    assert shelf.tags == ()
    assert imported(store, tmp_path, tags="{")["tags"][0] == "failed"
    assert imported(store, tmp_path, tags=5)["tags"][0] == "skipped"


def test_conversation_may_be_called_folders(store: Store, tmp_path: Path) -> None:
    """A file of that name that holds messages is a conversation."""
    assert imported(store, tmp_path, folders={**OLD, "conversation_id": "folders"})["folders"][0] == "imported"
    assert store.get("folders")


def test_given_name_is_title() -> None:
    """A name that somebody gave stays."""
    assert parse(json.dumps({**OLD, "name": "行程"}).encode(), "x").title == "行程"


def test_missing_parts_are_filled_in() -> None:
    """The file's name is the id, and broken times are no reason to refuse."""
    bare = {"messages": [{"role": "user", "content": "q", "timestamp": "yesterday"}, {"role": "user", "content": " "}]}
    legacy = parse(json.dumps(bare).encode(), "stem-1")
    assert (legacy.id, len(legacy.messages), legacy.dropped) == ("stem-1", 1, 1)
    assert legacy.created_at == legacy.messages[0].timestamp


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a conversation"),
        ('{"messages": {}}', "not a conversation"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "message 1"),
        ('{"messages": [{"role": "user", "content": 5}]}', "message 1"),
    ],
)
def test_other_files_are_refused(text: str, reason: str) -> None:
    """What is no conversation says why."""
    with pytest.raises(NotLegacy, match=reason):
        parse(text.encode(), "x")


def test_command_reports_every_file(tmp_path: Path) -> None:
    """The command takes in what it can, reports each file, changes none, and fails if one failed."""
    folder = tmp_path / "old"
    folder.mkdir()
    written(folder, "good.json", OLD)
    written(folder, "broken.json", "{")
    written(folder, "bad id.json", {"messages": []})
    written(folder, "notes.txt", "not looked at")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    settings = Settings(data_dir=tmp_path / "data", log_dir=tmp_path / "logs")
    app = create_app(settings, provider=Echo())
    result = app.test_cli_runner().invoke(args=["import-legacy", str(folder)])
    close(app)
    assert result.exit_code == 1
    assert "imported  good.json: 2 messages" in result.output
    assert "failed    broken.json: not JSON" in result.output
    assert "1 imported, 0 skipped, 2 failed" in result.output
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    again = create_app(settings, provider=Echo())
    try:
        answer = again.test_client().get("/api/v1/conversations/uuid4-1745971200000")
        assert answer.json["data"]["updated_at"] == "2025-04-30T10:10:00Z"
    finally:
        close(again)


def test_command_needs_free_folder(tmp_path: Path) -> None:
    """While a server uses the data folder, the command is one clear line."""
    (tmp_path / "old").mkdir()
    with Server(tmp_path) as server:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "self_agent", "import-legacy", str(tmp_path / "old")],
            cwd=ROOT,
            env={"DATA_DIR": str(server.folder / "data"), "PATH": "", "PROVIDER": "echo"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert "another server" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_the_folder() -> None:
    """The command's help says what it wants."""
    assert "FOLDER" in CliRunner().invoke(import_legacy, ["--help"]).output
