"""Bytes that no HTTP client sends, to a real server: it answers or hangs up, and serves the next one."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.serving import CONVERSATIONS, Server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn is not on Windows")

SEND = f"POST {CONVERSATIONS}/c/messages HTTP/1.1\r\nContent-Type: application/json\r\n".encode()
HOST = b"Host: localhost\r\n"
SECONDS = 15.0

REQUESTS = {
    "no request": b"\r\n\r\n",
    "no words": b"\0\xff\xfe\r\n\r\n",
    "one word": b"GET\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "odd version": b"GET /healthz HTTP/9.9\r\n" + HOST + b"\r\n",
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
    "long line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 20_000 + b"\r\n",
    "long header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 500_000 + b"\r\n\r\n",
    "bad header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n",
    "folded header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "bytes in header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"Authorization: Bearer \xff\xfe\x80\r\n\r\n",
    "bad chunk size": SEND + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "negative chunk": SEND + HOST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n",
    "huge chunk": SEND + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n{}",
    "cut chunk": SEND + HOST + b"Transfer-Encoding: chunked\r\n\r\n20\r\n{",
    "two lengths": SEND + HOST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": SEND + HOST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": SEND + HOST + b"Content-Length: -1\r\n\r\n",
    "length of words": SEND + HOST + b"Content-Length: many\r\n\r\n",
    "huge length": SEND + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{",
    "cut body": SEND + HOST + b'Content-Length: 1000\r\n\r\n{"content":',
    "two hosts": b"GET /healthz HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n",
    "broken host": b"GET /healthz HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "broken origin": b"GET /healthz HTTP/1.1\r\n" + HOST + b"Origin: http://[\r\n\r\n",
    "foreign target": b"GET http://evil.example/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "broken target": b"GET http://[ HTTP/1.1\r\n" + HOST + b"\r\n",
    "star target": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "connect": b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "odd escapes": b"GET /api/v1/conversations/%zz%00%ff HTTP/1.1\r\n" + HOST + b"\r\n",
    "raw bytes": b"GET /api/v1/conversations/\xff\xfe\x80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "dots": b"GET /../../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    "smuggled": b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "bad upgrade": b"GET /ws/c HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all; what it logged holds no traceback at the end."""
    folder = tmp_path_factory.mktemp("server")
    with Server(folder) as running:
        yield running
    for path in (folder / "logs").iterdir():
        assert "Traceback" not in path.read_text(), path.read_text()


def connect(server: Server) -> socket.socket:
    url = urlsplit(server.url)
    return socket.create_connection((url.hostname, url.port), timeout=SECONDS)


def exchange(server: Server, *pieces: bytes) -> bytes:
    """Send pieces, say that there will be no more, and return what comes back; a reset counts as nothing."""
    received = b""
    with connect(server) as connection, contextlib.suppress(ConnectionError):
        with contextlib.suppress(OSError):  # it may have answered, and hung up, before it got everything
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            received += piece
    return received


def check_alive(server: Server, name: str) -> None:
    began = time.monotonic()
    assert server.send(name, "hi").json()["data"]["reply"] == "echo: hi"
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("name", REQUESTS)
def test_odd_bytes_get_no_5xx(server: Server, name: str) -> None:
    """Each is refused, answered or hung up on, and the next request is served."""
    received = exchange(server, REQUESTS[name])
    assert all(int(status) < 500 for status in re.findall(rb"^HTTP/1\.[01] (\d+)", received, re.MULTILINE)), received
    assert b"Traceback" not in received
    assert b"root:" not in received
    check_alive(server, "alive")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"403"),
        (REQUESTS["two hosts"], b"40"),
        (REQUESTS["foreign target"], b"40"),
        (REQUESTS["broken origin"], b"403"),
    ],
)
def test_host_decides(server: Server, request_bytes: bytes, status: bytes) -> None:
    """A missing Host is a local caller's; a foreign one, or two, get nothing."""
    assert exchange(server, request_bytes).split(b" ", 2)[1].startswith(status)


def test_huge_body_is_refused(server: Server) -> None:
    """50 MB are 413, with a length that says so and without one, and nothing is stored."""
    piece = b"x" * 1_000_000
    said = exchange(server, SEND + HOST + b"Content-Length: 50000000\r\n\r\n", *[piece] * 50)
    unsaid = exchange(server, SEND + HOST + b"Transfer-Encoding: chunked\r\n\r\n", *[b"f4240\r\n%b\r\n" % piece] * 50)
    for received in (said, unsaid):  # nothing, if the connection was reset while we were still sending
        assert received[:12] in (b"", b"HTTP/1.1 413")
    small = exchange(server, SEND + HOST + b"Content-Length: 50000000\r\n\r\n")
    assert small[:12] == b"HTTP/1.1 413"
    check_alive(server, "after-50-MB")


def test_slow_clients_delay_nobody(server: Server) -> None:
    """Connections that never finish their request do not keep others from being served."""
    with contextlib.ExitStack() as stack:
        for number in range(40):
            connection = stack.enter_context(connect(server))
            connection.sendall([SEND[:20], SEND + HOST + b'Content-Length: 100\r\n\r\n{"'][number % 2])
        began = time.monotonic()
        check_alive(server, "meanwhile")
        assert time.monotonic() - began < 5
    check_alive(server, "afterwards")
