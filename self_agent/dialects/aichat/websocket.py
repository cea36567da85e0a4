"""A WebSocket on the connection that the server lends: the hub receives and sends, so an idle one costs no thread.

flask-sock's connection is not used, because four things matter here: a frame is sent whole or the
connection is over; a client that stops reading is dropped; a message that is too big is answered with 1009,
which the client gets to read; and an idle connection holds no compression buffers (300 kB for a browser).
"""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable
from functools import partial

from flask import Request
from wsproto import ConnectionType, WSConnection
from wsproto import events as wire
from wsproto.frame_protocol import CloseReason as Goodbye
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from core.errors import InvalidRequest
from self_agent.outlet import Lent, Outlet
from self_agent.turns.hub import READ, WRITE, Hub

HEARTBEAT = 30.0  # seconds between two heartbeats
SILENCE = 60.0  # seconds without anything from the client after which it is gone
LINGER = 2.0  # seconds that a client has, after our goodbye, to finish what it is sending and hang up
RECEIVE = 65536  # bytes


class WebSocket(Outlet):
    """An open connection. `act` is called with each message, one after the other, in a thread that may wait."""

    def __init__(self, hub: Hub, protocol: WSConnection, max_bytes: int, heartbeat: str, lent: Lent) -> None:
        super().__init__(hub, lent)
        self.act: Callable[[str], object] = str
        self.at_end: Callable[[], object] = bool
        self._protocol = protocol
        self._max_bytes = max_bytes
        self._heartbeat = heartbeat
        self.expires = math.inf  # seconds since the epoch, when who opened it is nobody any more
        self._pieces: list[str] = []  # of a message that is still coming
        self._size = 0  # of them, in bytes
        self._is_closing = False  # our goodbye was said
        self._heard = self._pinged = time.monotonic()
        self.reads = READ

    def start(self) -> None:
        super().start()
        self.say(wire.AcceptConnection())  # without extensions, so without compression

    def frame(self, text: str) -> bytes:
        """Return the bytes of a message."""
        return self._protocol.send(wire.TextMessage(text))

    def send(self, data: bytes, *, ends: bool | None = None) -> None:
        self.write(data)

    def say(self, event: wire.Event) -> None:
        """Send what the protocol makes of an event; a connection that it thinks over is."""
        with self.lock, contextlib.suppress(LocalProtocolError):
            self.write(self._protocol.send(event))

    def close(self, code: int, reason: str | None = None) -> None:
        """Say goodbye, and let the client read it and hang up; harmless when the connection is over."""
        with self.lock:
            if self._is_closing or self.is_gone:
                return
            self.say(wire.CloseConnection(code, reason))
            self._is_closing = True
            self._heard = time.monotonic()
            self._end_sending()

    def leave(self, *, is_usable: bool = False) -> None:
        super().leave()
        with self.lock:
            at_end, self.at_end = self.at_end, bool
        if at_end is not bool:
            self.hub.run(at_end)

    def stop(self) -> None:
        self.close(Goodbye.GOING_AWAY, "the server is stopping")

    def broken(self, error: Exception) -> None:
        self.close(Goodbye.INTERNAL_ERROR)

    # --- called by the hub

    def ready(self) -> None:
        self.flush()
        with self.lock:
            if self._is_closing:
                self._end_sending()
        self._receive()

    def late(self) -> None:
        now = time.monotonic()
        if self.rest or self._is_closing:
            self.leave()
        elif time.time() >= self.expires:
            self.close(Goodbye.POLICY_VIOLATION, "the token has expired")
        elif now - self._heard >= SILENCE:
            self.close(Goodbye.POLICY_VIOLATION, "no answer to the heartbeats")
        elif now - self._pinged >= HEARTBEAT:
            self._pinged = now
            self.send(self.frame(self._heartbeat))
        else:
            self.deadline = self.next_deadline()

    def next_deadline(self) -> float:
        if self._is_closing:
            return self._heard + LINGER
        left = self.expires - time.time()
        return min(self._pinged + HEARTBEAT, self._heard + SILENCE, time.monotonic() + left)

    def _end_sending(self) -> None:
        """Send nothing more, once the goodbye is out: nor can the server's HTTP answer get out any more."""
        if not (self.rest or self.is_gone):
            self.deadline = self.next_deadline()
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def _receive(self) -> None:
        """Take in what has come; closing before all of it is read would reset the connection."""
        if self.is_gone or not self.reads:
            return
        try:
            data = self.sock.recv(RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.leave()
        elif not self._is_closing:
            self._heard = time.monotonic()
            with self.lock:
                self._protocol.receive_data(data)
            messages = [text for event in self._protocol.events() if (text := self._message(event)) is not None]
            if messages:  # nothing more is read until they are dealt with: nobody can pile up work
                self._read_on(0)
                self.hub.run(partial(self._act, messages))

    def _read_on(self, reads: int) -> None:
        with self.lock:
            self.reads = reads
            if not self.is_gone:
                self.hub.watch(self.sock.fileno(), self, reads | (WRITE if self.rest else 0))

    def _act(self, messages: list[str]) -> None:
        try:
            for message in messages:
                self.act(message)
        finally:
            self._read_on(READ)

    def _message(self, event: wire.Event) -> str | None:
        """Return the message that an event completes, if it does; answer other events."""
        if isinstance(event, wire.TextMessage):
            return self._assembled(event)
        if isinstance(event, wire.Ping):
            self.say(event.response())
        elif isinstance(event, wire.BytesMessage):
            self.close(Goodbye.UNSUPPORTED_DATA, "only text is understood")
        elif isinstance(event, wire.CloseConnection):  # the client's, or the answer to a broken frame
            self.close(event.code, event.reason)
        return None

    def _assembled(self, event: wire.TextMessage) -> str | None:
        self._pieces.append(event.data)
        self._size += len(event.data.encode())
        if self._size > self._max_bytes:
            self._pieces = []
            self.close(Goodbye.MESSAGE_TOO_BIG, f"a message may have {self._max_bytes} bytes")
        if not event.message_finished or self._is_closing:
            return None
        message = "".join(self._pieces)
        self._pieces, self._size = [], 0
        return message


def handshake(request: Request) -> WSConnection:
    """Return the protocol of a connection that a request asks for. Raises InvalidRequest."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
    protocol = WSConnection(ConnectionType.SERVER)
    try:
        protocol.initiate_upgrade_connection(headers, "/")
    except RemoteProtocolError as error:
        raise InvalidRequest(f"this is no WebSocket handshake: {error}") from None
    return protocol
