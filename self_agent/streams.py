"""A reply's events go to a client's socket in the thread that has them, while the request's own thread sleeps.

Waking a thread for every token costs more than the token: where the server lends its socket, one wakes only when
there is something that it alone may do, to wait for a slow client, to end the answer, to send a ping.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

from flask import Request

from self_agent.encoders import sse
from self_agent.events import Done, Event, Failed
from self_agent.turns.turn import Turn

FIRST_PING = 1.0  # seconds of silence; a WSGI server notices a client that left only when it writes
PING = 10.0

Encode = Callable[[Event], bytes]


class Outlet:
    """Sends events to one socket, as chunks of an HTTP answer, until it takes no more or the reply ends."""

    def __init__(self, sock: socket.socket, encode: Encode) -> None:
        self._send = sock.send
        self._encode = encode
        self._asleep = threading.Lock()  # held as long as the reader may sleep
        self._asleep.acquire()
        self.taken = 0  # events, whole or begun
        self.rest = b""  # of what was begun

    def take(self, event: Event) -> bool:
        """Send an event without ever waiting; False when the reader has to go on."""
        if isinstance(event, (Done, Failed)):
            self._asleep.release()
            return False
        data = self._encode(event)
        data = b"%x\r\n%b\r\n" % (len(data), data)
        self.taken += 1
        try:
            sent = self._send(data, socket.MSG_DONTWAIT)
        except OSError:  # full, or the client is gone: the reader will meet the same, and knows what to do
            sent = 0
        if sent == len(data):
            return True
        self.rest = data[sent:]
        self._asleep.release()
        return False

    def sleep(self, seconds: float) -> bool:
        """Sleep until the reader has to go on; False if the time was up first."""
        return self._asleep.acquire(timeout=seconds)


def lent_socket(request: Request) -> socket.socket | None:
    """Return the socket of a request whose answer gunicorn will send in chunks, else None."""
    sock = request.environ.get("gunicorn.socket")
    is_chunked = request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and request.method != "HEAD"
    return sock if is_chunked and type(sock) is socket.socket else None


def follow(turn: Turn, encode: Encode, sock: socket.socket) -> Iterator[bytes]:
    """Yield what the server has to send of a reply's events; the others are sent to `sock` directly.

    The server has sent what was yielded when it asks for more.
    """
    start = 0
    patience = FIRST_PING
    while True:
        outlet = Outlet(sock, encode)
        if not turn.attach(outlet.take, start):  # there is something to send, or nothing more to come
            batch = next(turn.follow(start), None)
            if not batch:
                return
            yield b"".join(map(encode, batch))
            start += len(batch)
            continue
        try:
            is_woken = outlet.sleep(patience)
        finally:
            turn.detach(outlet.take)
        start += outlet.taken
        patience = PING
        if outlet.rest:
            sock.sendall(outlet.rest)
        elif not (is_woken or outlet.taken):
            yield sse.PING
