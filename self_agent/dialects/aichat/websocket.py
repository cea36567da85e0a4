"""A WebSocket on the socket that the WSGI server lends to a request: one thread receives, any thread sends.

flask-sock's connection is not used, because four things matter here: a frame is sent whole or the
connection is over; a client that stops reading is dropped; a message that is too big is answered with 1009,
which the client gets to read; and an idle connection holds no compression buffers (300 kB for a browser).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from types import TracebackType
from typing import NoReturn, cast

from flask import Request
from wsproto import ConnectionType, WSConnection
from wsproto import events as wire
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from core.errors import InvalidRequest

TICK = 1.0  # seconds that one wait for the client takes at most
STALL = 10.0  # seconds without a byte leaving after which a client that does not read is dropped
LINGER = 2.0  # seconds that a client has, after our goodbye, to finish what it is sending and hang up
RECEIVE = 65536  # bytes

Goodbye = CloseReason


class Closed(Exception):
    """Raised when the connection is over, whoever ended it."""


class WebSocket:
    """An open connection; leaving the `with` closes it."""

    def __init__(self, request: Request, max_bytes: int) -> None:
        """Accept the handshake in `request`. Raises InvalidRequest as long as HTTP can answer."""
        self._socket = _socket_of(request)
        self._max_bytes = max_bytes
        self._protocol = _protocol_of(request)
        self._sending = threading.Lock()
        self._ended = False
        self._events: deque[wire.Event] = deque()
        self._pieces: list[str] = []  # of a message that is still coming
        self._size = 0  # of them, in bytes
        self.heard = time.monotonic()  # when the client last sent anything
        self._socket.settimeout(TICK)
        self._send(wire.AcceptConnection())  # without extensions, so without compression

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(Goodbye.INTERNAL_ERROR if error else Goodbye.NORMAL_CLOSURE)

    def receive(self) -> str | None:
        """Return the next message, or None when it is not there after a TICK. Raises Closed."""
        if not self._events:
            self._events.extend(self._read())
        event = self._events.popleft() if self._events else None
        if isinstance(event, wire.TextMessage):
            return self._assemble(event)
        if isinstance(event, wire.Ping):
            self._send(event.response())
        elif isinstance(event, wire.BytesMessage):
            self._refuse(Goodbye.UNSUPPORTED_DATA, "only text is understood")
        elif isinstance(event, wire.CloseConnection):  # the client's, or the answer to a broken frame
            self._refuse(event.code, event.reason)
        return None

    def send(self, *texts: str) -> None:
        """Send each text as a message; without any, see that the connection is still open. Raises Closed."""
        self._send(*(wire.TextMessage(text) for text in texts))

    def close(self, code: int, reason: str | None = None) -> None:
        """Say goodbye and let the client read it; harmless when the connection is over."""
        try:
            self._send(wire.CloseConnection(code, reason), last=True)
            self._socket.shutdown(socket.SHUT_WR)  # nor can the WSGI server's HTTP answer get out any more
            self._drain()
        except (Closed, OSError):
            self._end()

    def _read(self) -> list[wire.Event]:
        try:
            data = self._socket.recv(RECEIVE)
        except TimeoutError:
            return []
        except OSError:
            data = b""
        if not data or self._ended:
            self._end()
            raise Closed
        self.heard = time.monotonic()
        self._protocol.receive_data(data)
        return list(self._protocol.events())

    def _assemble(self, event: wire.TextMessage) -> str | None:
        self._pieces.append(event.data)
        self._size += len(event.data.encode())
        if self._size > self._max_bytes:
            self._refuse(Goodbye.MESSAGE_TOO_BIG, f"a message may have {self._max_bytes} bytes")
        if not event.message_finished:
            return None
        message = "".join(self._pieces)
        self._pieces, self._size = [], 0
        return message

    def _refuse(self, code: int, reason: str | None) -> NoReturn:
        self.close(code, reason)
        raise Closed

    def _send(self, *events: wire.Event, last: bool = False) -> None:
        with self._sending:
            if self._ended:
                raise Closed
            try:
                self._write(b"".join(map(self._protocol.send, events)))
            except (OSError, LocalProtocolError):
                self._end()
                raise Closed from None
            if last:
                self._ended = True

    def _write(self, data: bytes) -> None:
        """Write all of `data`. Raises TimeoutError when the client takes none of it for too long."""
        rest, progress = memoryview(data), time.monotonic()
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
                progress = time.monotonic()
            except TimeoutError:
                if self._ended or time.monotonic() - progress >= STALL:
                    raise

    def _drain(self) -> None:
        """Read what the client is still sending: closing before that would reset the connection."""
        deadline = time.monotonic() + LINGER
        while time.monotonic() < deadline:
            try:
                if not self._socket.recv(RECEIVE):
                    return
            except TimeoutError:
                continue

    def _end(self) -> None:
        self._ended = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def _protocol_of(request: Request) -> WSConnection:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
    protocol = WSConnection(ConnectionType.SERVER)
    try:
        protocol.initiate_upgrade_connection(headers, "/")
    except RemoteProtocolError as error:
        raise InvalidRequest(f"this is no WebSocket handshake: {error}") from None
    return protocol


def _socket_of(request: Request) -> socket.socket:
    """Return the connection's socket, under the name that gunicorn or werkzeug gives it."""
    lent = request.environ.get("gunicorn.socket") or request.environ.get("werkzeug.socket")
    if lent is None:
        raise InvalidRequest("this server cannot open a WebSocket")
    return cast(socket.socket, lent)
