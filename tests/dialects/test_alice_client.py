"""The client that alice.md documents reads a real server's replies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.serving import Server
from tests.upstream import FakeUpstream, Reply, chunk_of

CLIENT = Path(__file__).parent / "alice_client.mjs"
ROOT = "/api/v1/conversations"


@pytest.mark.skipif(not shutil.which("node"), reason="the documented client runs under Node")
@pytest.mark.skipif(sys.platform == "win32", reason="the server is started as on a POSIX system")
def test_documented_client_reads_reply(tmp_path: Path) -> None:
    """处理流式响应: the document's client shows every piece and the upstream's citations, and they are stored."""
    cited = chunk_of({"content": "：\n你好 \U0001f600"}, citations=["https://a.example"])
    with FakeUpstream() as upstream, Server(tmp_path, dialects="alice", **on(upstream)) as server:
        upstream.enqueue(Reply(["单例", "模式", cited, " data: 完"], delay=0.02))
        number = requests.post(f"{server.url}{ROOT}", timeout=10).json()["id"]
        shown = run_client(server.url, number, "什么是单例模式？")
        reply = requests.get(f"{server.url}{ROOT}/{number}", timeout=10).json()["messages"][1]
    assert shown["contents"][0] == "单例"
    assert shown["contents"][-1] == reply["content"] == "单例模式：\n你好 \U0001f600 data: 完"
    assert shown["sources"] == [{"type": "url", "url": "https://a.example", "title": "https://a.example"}]
    assert json.loads(reply["sources"]) == shown["sources"]


def on(upstream: FakeUpstream) -> dict[str, str]:
    return {"provider": "openai", "openai_base_url": upstream.base_url, "openai_model": "m"}


def run_client(url: str, number: int, content: str) -> dict[str, Any]:
    run = subprocess.run(["node", CLIENT, url, str(number), content], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    shown: dict[str, Any] = json.loads(run.stdout)
    return shown
