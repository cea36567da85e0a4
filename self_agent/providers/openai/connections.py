"""A connection is opened by requests, can be cut at every stage, and is kept for requests that are sent without it.

`requests` offers no way to cut what it waits for, so its sockets are watched where urllib3 makes them. Only the
look-up of a host's name cannot be interrupted: the system has no call for it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from self_agent.providers.base import is_readable

MOST_IDLE = 4096  # connections kept: as many as the server has threads
IDLE_SECONDS = 60.0  # after which a connection is not used again; many a server closes it about then


class Interrupt:
    """Cuts the connection that one request uses now, and never one that has gone on to another request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.is_cut = False

    def cut(self) -> None:
        """Wake whoever is blocked on the connection; a connection made later is cut as well."""
        with self._lock:
            self.is_cut = True
            self._shut()

    def watch(self, sock: socket.socket | None) -> None:
        """Cut this one from now on; None before it is closed or used for another request."""
        with self._lock:
            self._socket = sock
            if self.is_cut:
                self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed already
                # Not SSLSocket's own shutdown: that one drops the TLS layer under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


@dataclass(frozen=True)
class Connection:
    """A connection that carries one request and its answer now; `keep`, if it may carry another after that."""

    sock: socket.socket
    interrupt: Interrupt
    _close: Callable[[], None]
    _keep: Callable[[socket.socket], None] | None = None

    def close(self) -> None:
        """Close it. Calling it twice is harmless."""
        self.interrupt.watch(None)
        self._close()

    def keep(self) -> None:
        """Leave it to the next request if possible."""
        self.interrupt.watch(None)
        if self._keep is None:
            self._close()
        else:
            self._keep(self.sock)


class IdleConnections:
    """Connections that wait for their next request; the one used last goes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: deque[tuple[float, socket.socket]] = deque()  # with the time until which it may be used
        self._most = MOST_IDLE

    def put(self, sock: socket.socket) -> None:
        """Keep a connection on which nothing is under way."""
        now = time.monotonic()
        with self._lock:
            self._idle.append((now + IDLE_SECONDS, sock))
            while self._idle and (len(self._idle) > self._most or self._idle[0][0] < now):
                self._idle.popleft()[1].close()

    def take(self) -> socket.socket | None:
        """Return a connection that the other side has neither closed nor written to, None if there is none."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                until, sock = self._idle.pop()
            if time.monotonic() < until and not is_readable(sock.fileno(), 0):
                return sock
            sock.close()

    def close(self) -> None:
        """Close all, and what comes later."""
        self._most = 0
        while sock := self.take():
            sock.close()


_current = threading.local()


@contextlib.contextmanager
def interruptible(interrupt: Interrupt) -> Iterator[None]:
    """Let `interrupt` cut the request that this thread sends in the block, and the reading of its answer."""
    _current.interrupt = interrupt
    try:
        yield
    finally:
        del _current.interrupt


class _Connection(HTTPConnection):
    _twin: socket.socket | None = None

    def connect(self) -> None:
        try:
            super().connect()
            # TLS within TLS, to a proxy, is no socket but has one.
            _current.interrupt.watch(getattr(self.sock, "socket", self.sock))
        finally:
            if self._twin is not None:
                self._twin.close()

    def _new_conn(self) -> socket.socket:
        # As urllib3 does it, but with a socket that can be cut before it is connected.
        failure = OSError("no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self._dns_host, self.port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                self._watch_twin(sock)
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(self.timeout)
                sock.connect(address)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "timed out") from failure
        raise NewConnectionError(self, "failed") from failure

    def _watch_twin(self, sock: socket.socket) -> None:
        """Until the handshake is over, for TLS takes the descriptor away from `sock`."""
        if self._twin is not None:
            self._twin.close()
        self._twin = sock.dup()
        _current.interrupt.watch(self._twin)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class InterruptibleAdapter(HTTPAdapter):
    """The transport of requests that are sent within `interruptible`."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return a pool whose connections can be cut."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _TLSConnection if pool.scheme == "https" else _Connection
        return pool


def take_over(raw: Any, interrupt: Interrupt, keep: Callable[[socket.socket], None]) -> tuple[Connection, bytes]:
    """Take the connection from urllib3's response, of which only the head was read, and what came together with that.

    Its socket never waits from now on.
    """
    reader, owner = raw._fp.fp, raw.connection
    sock: socket.socket = reader.raw._sock
    if owner.sock is None:  # http.client has closed it already: it lives as long as what reads from it
        connection = Connection(sock, interrupt, raw.close)
    elif owner.proxy_is_forwarding or not isinstance(sock, socket.socket):
        connection = Connection(sock, interrupt, sock.close)
    else:
        connection = Connection(sock, interrupt, sock.close, keep)
    sock.settimeout(0)
    try:
        data = bytes(reader.peek())
    except ssl.SSLWantReadError:
        data = b""
    except OSError:
        raw.close()
        raise
    if owner.sock is not None:
        owner.sock = None
        raw._fp.close()
    return connection, data
