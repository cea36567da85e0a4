"""A real server: a client that was cut off goes on, and one that heard no answer sends again, also after a restart."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from self_agent.events import LAST
from tests.dialects.resuming import Reader
from tests.serving import CONVERSATIONS, Server
from tests.upstream import HANG, FakeUpstream, Reply

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")

WORDS = "你好 😀 one two three"


def on(upstream: FakeUpstream) -> dict[str, str]:
    return {"provider": "openai", "openai_base_url": upstream.base_url, "openai_model": "m"}


def resume(server: Server, reader: Reader) -> requests.Response:
    url = f"{server.url}{CONVERSATIONS}/c/stream"
    answer = requests.get(url, headers={"Last-Event-ID": str(reader.last)} if reader.last else None, timeout=30)
    reader.read(answer.content)
    return answer


def cut_off(server: Server, path: str, body: dict[str, Any] | None, length: int) -> bytes:
    """Ask, read so many bytes behind the headers, and go away."""
    parts = urlsplit(server.url)
    data = b""
    method = "GET" if body is None else "POST"
    content = b"" if body is None else requests.Request("POST", server.url, json=body).prepare().body
    assert isinstance(content, bytes)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        head = f"{method} {path} HTTP/1.0\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        while b"\r\n\r\n" not in data or len(data) - data.index(b"\r\n\r\n") - 4 < length:
            piece = connection.recv(1)
            if not piece:
                break
            data += piece
    return data.partition(b"\r\n\r\n")[2]


def test_cut_at_many_bytes(tmp_path: Path) -> None:
    """Over real sockets, cut inside characters too: while the reply runs, and when it has ended."""
    with FakeUpstream(delay=0.005) as upstream, Server(tmp_path, **on(upstream)) as server:
        for length in (0, 20, 75, 150, 199, 200, 201, 202, 280, 350):
            reader = Reader()
            reader.read(cut_off(server, f"{CONVERSATIONS}/c/messages/stream", {"content": WORDS}, length))
            if resume(server, reader).status_code == 404:  # it knew no event, and the reply had ended
                reader.read(requests.get(f"{server.url}{CONVERSATIONS}/c/stream?after=0", timeout=30).content)
            assert reader.text.partition(": ")[2] == WORDS
            assert reader.end["full_content"] == reader.text
            assert reader.kinds.count("start") == reader.kinds.count("done") == 1
            assert resume(server, reader).status_code == 204


def test_joined_at_the_tip_costs_no_thread(tmp_path: Path) -> None:
    """More clients than there are threads have their headers while nothing comes; each gets the rest, once."""
    with FakeUpstream() as upstream, Server(tmp_path, threads=20, **on(upstream)) as server:
        upstream.enqueue(Reply(["first ", HANG]))
        stream = server.stream("c", "hi")
        stream.first_piece()
        url = f"{server.url}{CONVERSATIONS}/c/stream?after=7"
        answers = [requests.get(url, stream=True, timeout=10) for _ in range(100)]
        assert requests.get(f"{server.url}/healthz", timeout=5).status_code == 200
        server.stop("c")
        for answer in answers:
            reader = Reader(7)
            reader.read(answer.content)
            assert (reader.text, reader.kinds, reader.end["full_content"]) == ("", ["done"], "first ")


def test_long_reply_to_slow_joiner(tmp_path: Path) -> None:
    """Who joins behind much that was said already gets all of it, once, however slowly it reads."""
    with FakeUpstream() as upstream, Server(tmp_path, **on(upstream)) as server:
        upstream.enqueue(Reply(["x" * 1000] * 3000 + [1.0, "end"]))
        stream = server.stream("c", "hi")
        stream.first_piece()
        time.sleep(0.3)
        answer = requests.get(f"{server.url}{CONVERSATIONS}/c/stream?after=500", stream=True, timeout=30)
        data = b""
        for piece in answer.iter_content(1 << 16):
            data += piece
            time.sleep(0.001)
        reader = Reader(500)
        reader.read(data)
        assert len(reader.text) == 3_000_003 - 499
        stream.close()


def test_ended_reply_after_a_restart(tmp_path: Path) -> None:
    """The reply that a client lost with its server is numbered as before when that is there again."""
    with FakeUpstream() as upstream, Server(tmp_path, **on(upstream)) as server:
        data = cut_off(server, f"{CONVERSATIONS}/c/messages/stream", {"content": WORDS}, 250)
        server.until_messages("c", 2)
        server.signal(signal.SIGTERM)
        server.wait()
    with Server(tmp_path) as server:
        reader = Reader()
        reader.read(data)
        assert reader.last > 1
        assert resume(server, reader).status_code == 200
        assert (reader.text, reader.kinds.count("start")) == (f"reply 1: {WORDS}", 1)
        assert resume(server, reader).status_code == 204


def test_reply_that_a_crash_cut_off(tmp_path: Path) -> None:
    """Its client gets what was kept, or only its end where it has more; then the question can be repeated."""
    with FakeUpstream() as upstream, Server(tmp_path, **on(upstream)) as server:
        upstream.enqueue(Reply(["kept ", 2.5, "lost ", HANG]))
        reader, cut = Reader(), Reader()
        with requests.post(
            f"{server.url}{CONVERSATIONS}/c/messages/stream", json={"content": "hi"}, stream=True, timeout=30,
            headers={"Idempotency-Key": "k"},
        ) as answer:  # fmt: skip
            data = b""
            for piece in answer.iter_content(None):
                data += piece
                if not cut.last and b"kept" in data:
                    cut.read(data)
                if b"lost" in data:
                    break
            reader.read(data)
            server.kill()
    with Server(tmp_path, **on(upstream)) as server:
        assert [message["content"] for message in server.messages("c")] == ["hi", "kept "]
        assert resume(server, reader).status_code == resume(server, cut).status_code == 200
        assert (cut.text, reader.end, cut.last) == ("kept ", cut.end, LAST)
        assert (reader.end["full_content"], reader.end["incomplete"]) == ("kept ", True)
        assert resume(server, reader).status_code == resume(server, cut).status_code == 204
        again = Reader()
        again.read(
            requests.post(
                f"{server.url}{CONVERSATIONS}/c/messages/stream", json={"content": "hi"}, timeout=30,
                headers={"Idempotency-Key": "k"},
            ).content
        )  # fmt: skip
        assert again.end == reader.end


@pytest.mark.parametrize("after", ["question", "reply"])
def test_unanswered_send_is_repeated(tmp_path: Path, after: str) -> None:
    """Killed behind the question or the reply, and sent again with its key: one of each, and an answer."""
    headers = {"Idempotency-Key": "k"}
    with FakeUpstream() as upstream:
        with Server(tmp_path, **on(upstream)) as server:
            if after == "question":
                upstream.enqueue(Reply([HANG], before=HANG))
            sender = threading.Thread(target=lambda: _ignore(server, headers))
            sender.start()
            server.until_messages("c", 1 if after == "question" else 2)
            server.kill()
            sender.join()
        for _ in range(2):
            with Server(tmp_path, **on(upstream)) as server:
                answer = server.send("c", "hi", headers=headers)
                assert answer.json()["data"]["reply"] == "reply 1: hi"
                assert [message["content"] for message in server.messages("c")] == ["hi", "reply 1: hi"]
                assert server.send("c", "else", headers=headers).status_code == 422


def _ignore(server: Server, headers: dict[str, str]) -> None:
    with contextlib.suppress(requests.RequestException):  # killed
        server.send("c", "hi", headers=headers)
