"""The WebSocket on the server as a process: gunicorn, its threads and its end."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from websocket import WebSocketBadStatusException

from tests.dialects.aichat.conftest import Frames, text_of
from tests.serving import Server
from tests.upstream import FakeUpstream, Reply

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn and these signals are not on Windows")


def start(folder: Path, **settings: Any) -> Server:
    return Server(folder, dialects="self_agent,aichat", **settings)


def on(upstream: FakeUpstream) -> dict[str, str]:
    return {"openai_base_url": upstream.base_url, "openai_model": "m"}


def connect(server: Server, path: str, **options: Any) -> Frames:
    return Frames(server.url.replace("http", "ws") + path, **options)


def test_sockets_and_stream_agree(tmp_path: Path) -> None:
    """Two sockets and a native stream on one session: all get the same reply, in order, and it is on disk."""
    with FakeUpstream(delay=0.005) as upstream, start(tmp_path, provider="openai", **on(upstream)) as server:
        connections = [connect(server, "/ws/s"), connect(server, "/ws?session_id=s")]
        words = " ".join(f"w{number}" for number in range(100))
        requests.post(server.url + "/api/v1/conversations/s/messages", json={"content": words}, timeout=30)
        connections[1].say("next")
        replies = [[connection.reply(), connection.reply()] for connection in connections]
        assert replies[0] == replies[1]
        assert [text_of(reply) for reply in replies[0]] == [f"reply 1: {words}", "reply 2: next"]
        assert [message["content"] for message in server.messages("s")][3] == "reply 2: next"
        for connection in connections:
            connection.close()


def test_huge_frame_and_foreign_page(tmp_path: Path) -> None:
    """gunicorn too: 20 MB are closed with 1009 at once, a foreign page gets 403 in the envelope."""
    with start(tmp_path) as server:
        connection = connect(server, "/ws/s")
        began = time.monotonic()
        connection.say("x" * 20_000_000)
        assert connection.close_code() == 1009
        assert time.monotonic() - began < 5
        connection.close()
        with pytest.raises(WebSocketBadStatusException) as caught:
            connect(server, "/ws/s", origin="https://evil.example")
        assert caught.value.status_code == 403
        assert b'"code":403' in caught.value.resp_body
        assert requests.get(server.url + "/ws/s", timeout=10).json()["code"] == 400
    assert "Traceback" not in (tmp_path / "logs" / "self_agent.log").read_text()


def test_sigterm_closes_sockets(tmp_path: Path) -> None:
    """A stop waits for running replies, says 1001 to every socket, and the server leaves with 0."""
    with FakeUpstream() as upstream, start(tmp_path, provider="openai", **on(upstream)) as server:
        upstream.enqueue(Reply([f"w{number} " for number in range(20)], delay=0.05))
        idle = [connect(server, f"/ws/idle{number}") for number in range(20)]
        busy = connect(server, "/ws/busy")
        busy.say("hi")
        assert busy.next()["type"] == "stream_start"
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        seen = [busy.next()]
        while seen[-1]["type"] == "stream_chunk":
            seen.append(busy.next())
        assert (len(seen), seen[-1]["type"]) == (21, "stream_end")
        assert [connection.close_code() for connection in (busy, *idle)] == [1001] * 21
        for connection in (busy, *idle):
            connection.close()
        assert server.wait() == 0
        assert time.monotonic() - began < 6
