"""The server as a process: what dies, what lives, and what is on disk afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.serving import CONVERSATIONS, Server
from tests.upstream import FakeUpstream, Reply

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn and these signals are not on Windows")


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as upstream:
        yield upstream


def on(upstream: FakeUpstream) -> dict[str, str]:
    return {"provider": "openai", "openai_base_url": upstream.base_url, "openai_model": "m"}


def long_reply() -> Reply:
    return Reply([f"w{n} " for n in range(400)], delay=0.05)


def test_two_turns_remember(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The second question is asked with the first and its reply."""
    with Server(tmp_path, **on(upstream)) as server:
        server.send("c", "my name is Ada")
        assert server.send("c", "who am I?").json()["data"]["reply"] == "reply 2: who am I?"
    roles = [message["role"] for message in upstream.requests[-1].body["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_client_gone_reply_stored(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A closed tab does not cost the reply."""
    upstream.enqueue(Reply(["one ", "two ", "three"], delay=0.2))
    with Server(tmp_path, **on(upstream)) as server:
        answer = server.stream("c", "hi")
        answer.first_piece()
        answer.close()
        assert server.until_messages("c", 2)[1]["content"] == "one two three"


def test_stop_is_quick_and_reaches_upstream(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A stop answers at once, keeps the pieces, and hangs up on the model."""
    upstream.enqueue(long_reply())
    with Server(tmp_path, **on(upstream)) as server:
        answer = server.stream("c", "hi")
        answer.first_piece()
        began = time.monotonic()
        assert server.stop("c").json()["data"]["stopped"] is True
        assert time.monotonic() - began < 5  # half a second on an idle machine; the benchmark has the figure
        reply = server.messages("c")[1]
        assert reply["incomplete"] is True
        assert reply["content"].startswith("w0 ")
        assert b'"type":"done"' in answer.rest()
        assert upstream.disconnected.wait(5)


def test_killed_reply_is_recovered(tmp_path: Path, upstream: FakeUpstream) -> None:
    """kill -9 in the middle of a reply: the question is there, and what was checkpointed of the reply."""
    with Server(tmp_path, **on(upstream)) as server:
        server.send("other", "untouched")
        upstream.enqueue(long_reply())
        answer = server.stream("c", "hi")
        answer.first_piece()
        deadline = time.monotonic() + 10
        while not list((tmp_path / "data" / "checkpoints").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        server.kill()
        answer.close()
    with Server(tmp_path, **on(upstream)) as server:
        question, reply = server.messages("c")
        assert question["content"] == "hi"
        assert reply["content"].startswith("w0 ")
        assert reply["incomplete"] is True
        assert len(server.messages("other")) == 2
        assert server.send("c", "go on").status_code == 200
        assert [m["role"] for m in server.messages("c")] == ["user", "assistant", "user", "assistant"]
    assert not list((tmp_path / "data" / "checkpoints").iterdir())
    for path in (tmp_path / "data" / "conversations").iterdir():
        json.loads(path.read_bytes())


def test_worker_killed_server_lives(tmp_path: Path) -> None:
    """When only the worker dies, the master starts another on the same address and folder."""
    with Server(tmp_path) as server:
        server.send("c", "hi")
        pid = int((tmp_path / "data" / ".lock.pid").read_text().split()[0])
        assert pid != server.process.pid
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert len(server.messages("c")) == 2
                return
            except requests.RequestException:
                assert time.monotonic() < deadline
                time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_gives_grace(tmp_path: Path, upstream: FakeUpstream, number: int) -> None:
    """SIGTERM and Ctrl-C: a running reply is finished within the grace, delivered and stored; exit 0."""
    upstream.enqueue(Reply(["one ", "two ", "three"], delay=0.3))
    with Server(tmp_path, grace_seconds=10, **on(upstream)) as server:
        answer = server.stream("c", "hi")
        answer.first_piece()
        server.signal(number)
        assert b"one two three" in answer.rest()
        assert server.wait() == 0
    with Server(tmp_path) as server:
        assert server.messages("c")[1].get("incomplete") is None


def test_grace_ends(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A reply that takes longer than the grace is stored as far as it came; exit 0."""
    upstream.enqueue(long_reply())
    with Server(tmp_path, grace_seconds=0.2, **on(upstream)) as server:
        answer = server.stream("c", "hi")
        answer.first_piece()
        server.signal(signal.SIGTERM)
        assert b'"incomplete":true' in answer.rest()
        assert server.wait() == 0
    with Server(tmp_path) as server:
        assert server.messages("c")[1]["incomplete"] is True


def test_second_server_is_refused(tmp_path: Path) -> None:
    """One process owns the data folder; a second is told who."""
    with Server(tmp_path):
        pid = (tmp_path / "data" / ".lock.pid").read_text().split()[0]
        second = Server(tmp_path)
        assert second.wait() != 0
        assert f"pid {pid}" in second.output
        assert "--data-dir" in second.output
        assert "Traceback" not in second.output


def test_port_in_use_is_one_line(tmp_path: Path) -> None:
    """A taken port is one clear line that says what to do."""
    with Server(tmp_path) as server:
        port = server.url.rsplit(":", 1)[1]
        second = Server(tmp_path, "--port", port, "--data-dir", str(tmp_path / "other"))
        assert second.wait() == 1
        [line] = second.output.splitlines()
        assert "--port" in line


def test_unusable_folder_is_one_line(tmp_path: Path) -> None:
    """A data folder that cannot be used is one clear line."""
    (tmp_path / "file").write_text("")
    server = Server(tmp_path, "--data-dir", str(tmp_path / "file"))
    assert server.wait() != 0
    [line] = server.output.splitlines()
    assert str(tmp_path / "file") in line


def test_banner_says_all(tmp_path: Path) -> None:
    """Address, data folder, model and whether auth is on."""
    with Server(tmp_path) as server:
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert str(tmp_path / "data") in server.output
        assert "echo" in server.output
        assert "auth:  off" in server.output


def test_debug_server_answers(tmp_path: Path) -> None:
    """`--debug` serves the same from the development server."""
    with Server(tmp_path, "--debug", port=_free_port()) as server:
        assert server.send("c", "hi").json()["data"]["reply"] == "echo: hi"


def test_nothing_secret_is_logged(tmp_path: Path, upstream: FakeUpstream) -> None:
    """No content, key or token is in any file of the log folder."""
    with Server(tmp_path, openai_api_key="sk-very-secret", log_level="DEBUG", **on(upstream)) as server:
        server.send("c", "my private words", headers={"Authorization": "Bearer tok-private"})
        server.send(".bad", "my private words")
        requests.get(f"{server.url}{CONVERSATIONS}/?token=tok-private", timeout=10)
        assert upstream.requests[0].headers["authorization"] == "Bearer sk-very-secret"
    text = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert "POST /api/v1/conversations/c/messages 200" in text
    assert not any(secret in text for secret in ("private", "sk-very-secret"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_lingering_clients_hold_nobody_up(tmp_path: Path) -> None:
    """Clients that asked for the end of their connection, and then do not close it, cost others no time."""
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with Server(tmp_path) as server, contextlib.ExitStack() as stack:
        address = (urlsplit(server.url).hostname, urlsplit(server.url).port)
        for _ in range(20):
            lingering = stack.enter_context(socket.create_connection(address))
            lingering.sendall(request)
        assert requests.get(f"{server.url}/healthz", timeout=10).status_code == 200
