"""The live list of a real server: it tells, it ends with the server, and it begins anew with the next."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.serving import Server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn and these signals are not on Windows")


class Live:
    """A listener of a server."""

    def __init__(self, server: Server, after: str = "") -> None:
        headers = {"Last-Event-ID": after} if after else {}
        self.answer = requests.get(f"{server.url}/api/v1/events", headers=headers, stream=True, timeout=20)
        assert self.answer.status_code == 200
        self._lines = self.answer.iter_lines(chunk_size=1)
        self.position = after

    def next(self) -> str:
        """Return the type of the next event."""
        for line in self._lines:
            if line.startswith(b"id: "):
                self.position = line[4:].decode()
            if line.startswith(b"data: "):
                return str(json.loads(line[6:])["type"])
        return "end"


@pytest.mark.parametrize("debug", [False, True], ids=["gunicorn", "werkzeug"])
def test_listener_hears_and_resumes(tmp_path: Path, debug: bool) -> None:
    """Whichever server, the events come while the connection is open, and from a position on."""
    arguments, options = (("--debug",), {"port": _free_port()}) if debug else ((), {})
    with Server(tmp_path, *arguments, **options) as server:
        live = Live(server)
        assert live.next() == "reset"
        first = live.position
        server.send("c", "hi")
        assert [live.next() for _ in range(3)] == ["created", "answering", "answered"]
        again = Live(server, first)
        assert [again.next() for _ in range(3)] == ["created", "answering", "answered"]
        assert again.position == live.position
        live.answer.close()
        again.answer.close()


def test_stop_ends_streams_and_restart_resets(tmp_path: Path) -> None:
    """The streams end as whole answers, soon; whoever comes back to the next run is told to load the list."""
    with Server(tmp_path) as server:
        listeners = [Live(server) for _ in range(20)]
        old = socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port), timeout=20)
        old.sendall(b"GET /api/v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n")  # which a thread serves
        assert b"reset" in old.recv(4096) + old.recv(4096)
        server.send("c", "hi")
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        for live in listeners:
            seen = []
            while (kind := live.next()) != "end":  # raises where the body is cut off
                seen.append(kind)
            assert seen == ["reset", "created", "answering", "answered"]
        while old.recv(4096):
            pass
        old.close()
        assert server.wait() == 0
        assert time.monotonic() - began < 8
    with Server(tmp_path) as server:
        again = Live(server, listeners[0].position)
        assert again.next() == "reset"
        again.answer.close()
    assert "Traceback" not in (tmp_path / "logs" / "self_agent.log").read_text()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
