"""The commands, also beside a server that runs."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result
from flask import current_app

from core.config import Settings
from self_agent import create_app, parts_of
from self_agent.cli import back_up, export, import_files, repair_folder, verify_folder
from self_agent.models import LOCAL_USER, Message
from self_agent.providers.echo import Echo
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.memory import MemoryStore
from tests.conftest import MakeApp
from tests.serving import CONVERSATIONS, ROOT, Server
from tests.transfer.samples import regenerated, webui

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command, each in an app of its own over the same folder."""

    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "true")  # as the command `flask` does
    settings = Settings(data_dir=tmp_path / "data", log_dir=tmp_path / "logs")

    def run(command: Any, *arguments: Any) -> Result:
        with create_app(settings, provider=Echo()).app_context():
            return CliRunner().invoke(command, list(map(str, arguments)))

    return run


def flask(folder: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, in the folder of a server."""
    environment = {"PATH": "/usr/bin", "PYTHONPATH": str(ROOT), "DATA_DIR": str(folder / "data"), "PROVIDER": "echo"}
    command = [sys.executable, "-m", "flask", "--app", "self_agent", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_files_and_archives_are_imported(run: Run, tmp_path: Path) -> None:
    """Several at once, ChatGPT's ZIP with its parts too; a line for each chat, then the sums."""
    (tmp_path / "webui.json").write_text(json.dumps([webui()]))
    with zipfile.ZipFile(tmp_path / "chatgpt.zip", "w") as archive:
        archive.writestr("user.json", "{}")
        archive.writestr("export/conversations-000.json", json.dumps([regenerated(title="\x1b[31mred")]))
        archive.writestr("export/conversations-001.json", json.dumps([regenerated(conversation_id="other"), 5]))
    result = run(import_files, tmp_path / "webui.json", tmp_path / "chatgpt.zip")
    assert result.exit_code == 1
    assert "imported  Greetings: 3 messages" in result.output
    assert "imported  \ufffd[31mred: 3 messages" in result.output
    assert "3 imported, 0 skipped, 1 failed" in result.output
    result = run(import_files, tmp_path / "chatgpt.zip")
    assert "0 imported, 2 skipped, 1 failed" in result.output


def test_unreadable_files_are_reported(run: Run, tmp_path: Path) -> None:
    """A ZIP without chats, one that is damaged, a folder: the others are imported."""
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("letter.txt", "dear")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", json.dumps([regenerated()] * 50))
    data = bytearray((tmp_path / "bad.zip").read_bytes())
    data[100:110] = b"\xff" * 10
    (tmp_path / "bad.zip").write_bytes(data)
    (tmp_path / "good.json").write_text(json.dumps(webui()))
    names = ("folder", "empty.zip", "bad.zip", "good.json")
    result = run(import_files, *(tmp_path / name for name in names))
    assert result.exit_code == 1
    assert "1 imported, 0 skipped, 3 failed" in result.output
    assert "no conversations.json in this ZIP" in result.output


def test_export_is_a_file_or_standard_output(run: Run, tmp_path: Path) -> None:
    """All chats or one, JSON or Markdown; an unknown one leaves no file."""
    store = JsonFileStore(tmp_path / "data")
    store.create("demo", LOCAL_USER)
    store.append("demo", Message("user", "你好"))
    store.close()
    assert json.loads(run(export).stdout_bytes)[0]["messages"][0]["content"] == "你好"
    assert run(export, "--format", "markdown", "--conversation", "demo", tmp_path / "a.md").exit_code == 0
    assert "你好" in (tmp_path / "a.md").read_text(encoding="utf-8")
    assert json.loads(run(export, "--user", "ada").stdout_bytes) == []
    result = run(export, "--conversation", "none", tmp_path / "b.json")
    assert (result.exit_code, list(tmp_path.glob("b.json*"))) == (1, [])
    assert "does not exist" in result.output


def test_verify_and_repair_say_what_they_did(run: Run, tmp_path: Path) -> None:
    """The exit status is 1 if anything is wrong."""
    store = JsonFileStore(tmp_path / "data")
    store.create("a", LOCAL_USER)
    store.append("a", Message("user", "Hi"), Message("assistant", "Hello"))
    store.close()
    assert run(verify_folder).exit_code == 0
    path = tmp_path / "data" / "conversations" / "a.json"
    path.write_bytes(path.read_bytes()[:-10])
    result = run(verify_folder)
    assert (result.exit_code, "conversations/a.json: its end is torn" in result.output) == (1, True)
    result = run(repair_folder, tmp_path / "data")
    assert (result.exit_code, "as it was it lies in quarantine/a.json" in result.output) == (0, True)
    assert "nothing is wrong" in run(repair_folder).output
    assert run(verify_folder, tmp_path / "data").exit_code == 0
    assert run(repair_folder, tmp_path).exit_code == 1


def test_store_in_memory_has_no_copy(make_app: MakeApp, tmp_path: Path) -> None:
    """There is nothing that could be copied."""
    with make_app(store=MemoryStore()).app_context():
        current_app.extensions["self_agent"] = replace(parts_of(current_app), settings=Settings(store="memory"))
        result = CliRunner().invoke(back_up, [str(tmp_path / "copy")])
    assert (result.exit_code, "STORE=memory" in result.output) == (1, True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        yield server


def test_beside_a_running_server(server: Server, tmp_path: Path) -> None:
    """Backup and verify need no lock; the commands that do say whose it is, and what else can be done."""
    url = server.url + CONVERSATIONS
    requests.post(f"{url}/demo/messages", json={"content": "Hi"}, timeout=10).raise_for_status()
    done = flask(tmp_path, "backup", tmp_path / "copy")
    assert (done.returncode, "files" in done.stdout) == (0, True), done.stderr
    assert flask(tmp_path, "verify").returncode == 0
    assert flask(tmp_path, "verify", tmp_path / "copy").returncode == 0
    (tmp_path / "chats.json").write_text(json.dumps([webui()]))
    for command in (["import", tmp_path / "chats.json"], ["export"], ["repair"]):
        refused = flask(tmp_path, *command)
        assert (refused.returncode, "another server" in refused.stderr) == (1, True), command
        assert "Traceback" not in refused.stderr
    answer = requests.post(
        f"{server.url}/api/v1/import",
        data=(tmp_path / "chats.json").read_bytes(),
        headers={"Content-Type": "application/json"},
        timeout=10,
    )
    assert answer.json()["data"]["imported"] == 1
    assert len(requests.get(f"{server.url}/api/v1/export", timeout=10).json()) == 2
    server.kill()
    assert flask(tmp_path, "import", tmp_path / "chats.json").stdout.endswith("0 imported, 1 skipped, 0 failed\n")
    assert len(json.loads(flask(tmp_path, "export").stdout)) == 2
