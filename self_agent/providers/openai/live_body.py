"""The body of a streamed answer, read without ever waiting: who reads it decides how to wait for more.

urllib3 reads only in a thread that may block. So once it has read the headers, what follows is taken from the socket.
"""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Iterator
from typing import Any

from urllib3.exceptions import ProtocolError

PIECE = 64 * 1024  # bytes read at once at most
LONGEST_LINE = 4096  # bytes of a chunk's size line or of a trailer
CAN_WAIT_FOR_MANY = sys.platform != "win32"  # which waits for 512 sockets at most


class Dechunker:
    """Takes the chunked coding off an HTTP/1.1 body that comes cut anywhere (RFC 9112, section 7.1); no I/O."""

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""  # of a line that is not whole yet; once it has ended, what is not of this body
        self._left = 0  # bytes of the chunk still to come
        self._expects_end = False  # the line break behind a chunk's data
        self._in_trailer = False

    def feed(self, data: bytes) -> bytes:
        """Return the content that `data` brings. Raises ProtocolError for what is no chunked body."""
        data = self.rest + data
        content = []
        at = 0
        while not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            end = data.find(b"\n", at)
            if end < 0:
                break
            self._line(data[at:end].rstrip(b"\r"))
            at = end + 1
        self.rest = data[at:]
        if len(self.rest) > LONGEST_LINE and not self.ended:
            raise ProtocolError("a chunk's size line without end")
        return b"".join(content)

    def _line(self, line: bytes) -> None:
        if self._expects_end:
            if line:
                raise ProtocolError("a chunk longer than its size")
            self._expects_end = False
        elif self._in_trailer:
            self.ended = not line
        else:
            size = line.partition(b";")[0].strip()
            if not size.isalnum():
                raise ProtocolError("a chunk without its size")
            try:
                self._left = int(size, 16)
            except ValueError:
                raise ProtocolError("a chunk without its size") from None
            self._expects_end = self._left > 0
            self._in_trailer = self._left == 0


class LiveBody:
    """A body whose socket is read directly."""

    def __init__(self, raw: Any) -> None:
        """`raw` is urllib3's response, of which `suits` is true and nothing of the body was read."""
        self._raw = raw
        self._sock: socket.socket = raw.connection.sock
        self._timeout = self._sock.gettimeout()
        self._chunks = Dechunker()

    def fileno(self) -> int:
        """Return the descriptor that can be read when more has come."""
        return self._sock.fileno()

    def __iter__(self) -> Iterator[bytes | None]:
        """Yield the pieces of the body, and None where one has to wait. Raises ProtocolError."""
        self._sock.settimeout(0)
        data: bytes | None = _taken_over(self._raw)
        while True:
            if data:
                yield self._chunks.feed(data)
            if self._chunks.ended:
                return
            if not (data and self._is_more_decrypted()):
                yield None
            data = self._receive()

    def _receive(self) -> bytes | None:
        """Return what has come, None if nothing."""
        try:
            data = self._sock.recv(PIECE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError as error:
            raise ProtocolError("the connection broke", error) from error
        if not data:
            raise ProtocolError("the connection was closed within the body")
        return data

    def _is_more_decrypted(self) -> bool:
        """Say whether TLS holds bytes for us of which the descriptor knows nothing."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def finish(self, seconds: float) -> None:
        """Read to the body's end, normally nothing is left, and give the connection back for another request."""
        self._sock.settimeout(seconds)
        try:
            while not self._chunks.ended and (data := self._sock.recv(PIECE)):
                self._chunks.feed(data)
        except (OSError, ProtocolError):
            return
        if self._chunks.ended and not self._chunks.rest:
            self._sock.settimeout(self._timeout)
            self._raw.release_conn()


def suits(raw: Any) -> bool:
    """Say whether urllib3's response is one that a LiveBody can read: in chunks, not compressed, from a socket."""
    sock = getattr(raw.connection, "sock", None)
    is_plain = raw.headers.get("Content-Encoding", "identity") == "identity"
    return CAN_WAIT_FOR_MANY and bool(raw.chunked) and is_plain and isinstance(sock, socket.socket)


def _taken_over(raw: Any) -> bytes:
    """Return what came together with the headers; for http.client the answer is over, and its buffers are freed.

    The connection still is ours alone: the pool gets it back with `release_conn`, or it is closed.
    """
    try:
        return bytes(raw._fp.fp.peek())  # of a BufferedReader, which has no use for it any more
    except (BlockingIOError, ssl.SSLWantReadError):
        return b""
    finally:
        raw._fp.close()
