"""What the tests of this dialect share: an app that serves it, and real WebSockets to it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from websocket import WebSocket, create_connection
from werkzeug.serving import make_server

from tests.conftest import MakeApp

WAIT = 10.0  # seconds that nothing here takes unless it is broken
MakeChat = Callable[..., Flask]
Serve = Callable[..., "Served"]


class Frames:
    """A client: what it is sent comes as dicts."""

    def __init__(self, url: str, **options: Any) -> None:
        self.socket: WebSocket = create_connection(
            url,
            timeout=WAIT,
            skip_utf8_validation=True,  # a loop over characters in Python; `recv` decodes strictly anyway
            **options,
        )

    def say(self, content: str) -> None:
        self.send({"type": "user", "content": content})

    def send(self, fields: Any) -> None:
        self.socket.send(fields if isinstance(fields, str) else json.dumps(fields))

    def next(self) -> dict[str, Any]:
        frame = self.socket.recv()
        assert isinstance(frame, str)
        return json.loads(frame)

    def reply(self) -> list[dict[str, Any]]:
        """Read to the end of a reply."""
        seen = [self.next()]
        while seen[-1]["type"] not in ("stream_end", "error"):
            seen.append(self.next())
        return seen

    def close_code(self) -> int:
        """Read until the server says goodbye, and return its code; 0 if it only hangs up."""
        with contextlib.suppress(OSError):
            while True:
                opcode, data = self.socket.recv_data()
                if opcode == 8:
                    return int.from_bytes(data[:2], "big")
        return 0

    def close(self) -> None:
        self.socket.shutdown()


def text_of(reply: list[dict[str, Any]]) -> str:
    """Check that a reply is one whole stream, and return its text."""
    assert [reply[0]["type"], reply[-1]["type"]] == ["stream_start", "stream_end"], reply
    assert {frame["type"] for frame in reply[1:-1]} <= {"stream_chunk"}
    assert len({frame["stream_id"] for frame in reply}) == 1
    return "".join(frame["content"] for frame in reply[1:-1])


def until(condition: Callable[[], Any]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.005)


class Served:
    """An app on a real socket in this process."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self._clients: list[Frames] = []

    def connect(self, path: str, **options: Any) -> Frames:
        """Open a WebSocket."""
        client = Frames(f"ws://127.0.0.1:{self.port}{path}", **options)
        self._clients.append(client)
        return client

    def raw(self, path: str) -> socket.socket:
        """Open a WebSocket whose client does only what the test does."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT)
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        assert b"101 " in connection.recv(4096)
        return connection

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        self._server.shutdown()
        self._server.server_close()  # joins the threads of the requests
        self._thread.join()


@pytest.fixture
def make_chat(make_app: MakeApp) -> MakeChat:
    """Build apps that serve this dialect and the native one."""
    return lambda **settings: make_app(**{"dialects": "self_agent,aichat", **settings})


@pytest.fixture
def client(make_chat: MakeChat) -> FlaskClient:
    """A client of an app whose model echoes."""
    return make_chat().test_client()


@pytest.fixture
def serve(make_chat: MakeChat) -> Iterator[Serve]:
    """Serve apps on real sockets until the end of the test."""
    served: list[Served] = []

    def start(**settings: Any) -> Served:
        served.append(Served(make_chat(**settings)))
        return served[-1]

    yield start
    for one in served:
        one.stop()
