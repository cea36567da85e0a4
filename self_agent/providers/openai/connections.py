"""A request can be cut off from another thread at every stage: connecting, handshake, waiting, reading.

`requests` offers no way to do that, so its sockets are watched where urllib3 makes and lends them. Only
the look-up of a host's name cannot be interrupted: the system has no call for it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError


class Interrupt:
    """Cuts the connection that one request uses now, and never one that has gone on to another request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def cut(self) -> None:
        """Wake whoever is blocked on the connection; a connection made later is cut as well."""
        with self._lock:
            self._cut = True
            self._shut()

    def watch(self, sock: socket.socket) -> None:
        with self._lock:
            self._socket = sock
            if self._cut:
                self._shut()

    def release(self) -> None:
        with self._lock:
            self._socket = None

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed already
                # Not SSLSocket's own shutdown: that one drops the TLS layer under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Current(threading.local):
    interrupt: Interrupt | None = None


_current = _Current()


@contextlib.contextmanager
def interruptible(interrupt: Interrupt) -> Iterator[None]:
    """Let `interrupt` cut the request that this thread sends in the block, and the reading of its answer."""
    _current.interrupt = interrupt
    try:
        yield
    finally:
        _current.interrupt = None


def _watch(sock: socket.socket | None) -> None:
    if _current.interrupt is not None and sock is not None:
        _current.interrupt.watch(sock)


class _Connection(HTTPConnection):
    interrupt: Interrupt | None = None
    _twin: socket.socket | None = None

    def connect(self) -> None:
        try:
            super().connect()
        finally:
            if self._twin is not None:
                self._twin.close()
        _watch(self.sock)

    def _new_conn(self) -> socket.socket:
        # As urllib3 does it, but with a socket that is known before it is connected.
        try:
            places = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            name_error = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(self.host, self, name_error) from None
        failure: OSError | None = None
        for family, kind, protocol, _, address in places:
            try:
                return self._connected(socket.socket(family, kind, protocol), address)
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "timed out") from failure
        raise NewConnectionError(self, "failed") from failure

    def _connected(self, sock: socket.socket, address: Any) -> socket.socket:
        try:
            # TLS takes the descriptor away from `sock`, so until the handshake is over a twin is watched.
            if self._twin is not None:
                self._twin.close()
            self._twin = sock.dup()
            _watch(self._twin)
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(self.timeout)
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if isinstance(connection, _Connection):
            connection.interrupt = _current.interrupt
            _watch(connection.sock)  # kept alive since an earlier request
        return connection

    def _put_conn(self, conn: Any) -> None:
        if isinstance(conn, _Connection) and conn.interrupt is not None:
            conn.interrupt.release()
            conn.interrupt = None
        super()._put_conn(conn)


class _TLSPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS = {"http": _Pool, "https": _TLSPool}


class InterruptibleAdapter(HTTPAdapter):
    """The transport of a `requests.Session` whose requests can be sent within `interruptible`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
