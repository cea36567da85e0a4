"""Taking in an older backend's folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from core.config import Settings
from self_agent import close, create_app
from self_agent.cli import import_legacy
from self_agent.legacy import NotLegacy, parse, take_in
from self_agent.providers.echo import Echo
from self_agent.storage.memory import MemoryStore
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
    assert found.updated_at == "2025-04-30T10:00:02.000000Z"
    assert store.messages(found.id)[0].timestamp == "2025-04-30T10:00:01.000000Z"


def test_second_import_changes_nothing(tmp_path: Path) -> None:
    """What is here already stays as it is."""
    store, path = MemoryStore(), written(tmp_path, "a.json", OLD)
    take_in(store, path)
    assert take_in(store, path).state == "skipped"
    assert len(store.messages("uuid4-1745971200000")) == 2


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
        assert answer.json["data"]["updated_at"] == "2025-04-30T10:00:02Z"
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
