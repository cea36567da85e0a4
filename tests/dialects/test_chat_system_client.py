"""What a client of the chat system receives from a real server: text as it comes, and a sign of failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import requests

from tests.serving import Server
from tests.upstream import CUT, FakeUpstream, Reply

ROOT = "/chat/sessions"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn is not on Windows")


def test_cut_off_reply_breaks_connection(tmp_path: Path) -> None:
    """A client can tell a reply that was cut off from a whole one; the log has one line, the store the pieces."""
    with FakeUpstream() as upstream, Server(tmp_path, dialects="chat_system", **on(upstream)) as server:
        upstream.enqueue(Reply(["一半", "，", CUT], delay=0.05))
        broken, received = receive(server, "hi")
        assert (broken, received) == (True, "一半，")
        assert receive(server, "go on") == (False, "reply 2: go on")
        messages = requests.get(f"{server.url}{ROOT}/a/messages", timeout=10).json()["data"]["messages"]
    assert [message["content"] for message in messages] == ["hi", "一半，", "go on", "reply 2: go on"]
    logged = (tmp_path / "logs" / "self_agent.log").read_text()
    assert "Traceback" not in logged
    assert logged.count("failed after") == 1


def test_pieces_arrive_as_generated(tmp_path: Path) -> None:
    """The first piece is with the client while the model is still at the next."""
    with FakeUpstream() as upstream, Server(tmp_path, dialects="chat_system", **on(upstream)) as server:
        upstream.enqueue(Reply(["first", 30.0, "second"]))
        answer = ask(server, "hi")
        assert next(answer.iter_content(None)) == b"first"
        answer.close()


def on(upstream: FakeUpstream) -> dict[str, str]:
    return {"provider": "openai", "openai_base_url": upstream.base_url, "openai_model": "m"}


def ask(server: Server, message: str) -> requests.Response:
    return requests.post(f"{server.url}{ROOT}/a/chat", json={"message": message}, stream=True, timeout=10)


def receive(server: Server, message: str) -> tuple[bool, str]:
    """Send a message; return whether the connection broke, and the text until then."""
    answer = ask(server, message)
    received = b""
    try:
        for piece in answer.iter_content(None):
            received += piece
    except requests.exceptions.ChunkedEncodingError:
        return True, received.decode()
    return False, received.decode()
