"""The body of an upstream's answer is read from its socket without waiting, whoever waits for more of it, and how."""

from __future__ import annotations

import socket
import ssl
import time
import zlib

from self_agent.providers.base import Cancellation, Live, is_readable
from self_agent.providers.openai import errors as upstream_errors
from self_agent.providers.openai.connections import Connection
from self_agent.providers.openai.http1 import Head, body_of

PIECE = 64 * 1024  # bytes read at once at most
LARGEST_BODY = 64 * 1024 * 1024  # bytes of an answer that is not streamed
LINGER = 0.2  # seconds to wait for the end of a stream after its last event


class Answer(Live[bytes]):
    """An upstream's answer to one request: `head` is here, the content of its body comes."""

    def __init__(
        self, connection: Connection, head: Head, data: bytes, *, cancel: Cancellation, silence: float, where: str
    ) -> None:
        """`data` came behind the head; `where` is for messages. Raises ValueError if the body cannot be read."""
        self.status = head.status
        self.headers = head.headers
        self.content_type = head.headers.get("content-type", "")
        self.silence = silence
        self.where = where
        self.cancel = cancel
        self._body = body_of(head)
        self.is_over = self._body.ended
        encoding = head.headers.get("content-encoding", "identity").lower()
        # Nobody asked for it. 32 + 15: either of the two formats.
        self._inflate = zlib.decompressobj(32 + 15).decompress if encoding in ("gzip", "deflate") else None
        self._connection: Connection | None = connection
        self._is_persistent = head.is_persistent
        self._sock = connection.sock
        self._is_plain = type(connection.sock) is socket.socket  # no TLS
        self._data = data  # to be fed to the body before what the socket has
        self._early = b""  # content, found by `wait`

    def fileno(self) -> int:
        return self._sock.fileno()

    def receive(self) -> list[bytes]:
        content = self.take()
        return [content] if content else []

    def take(self) -> bytes:
        """Return what has come, as `receive` does, in one piece."""
        if self.cancel.cancelled:
            self.is_over = True
            return b""
        early, self._early = self._early, b""
        content = b""
        try:
            while not self.is_over:
                data, self._data = self._data or self._sock.recv(PIECE), b""
                content += self._body.feed(data)
                if not data or self._body.ended:
                    self._end(is_cut=not data)
                elif self._is_plain or not self._holds_more():
                    break
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            self._fail(error)
        return early + (self._inflated(content) if self._inflate else content)

    def _end(self, is_cut: bool) -> None:
        self.is_over = True
        if self._body.fault or (is_cut and not self._body.ends_on_close):
            self._fail(None)

    def _fail(self, error: Exception | None) -> None:
        self.is_over = True
        if not self.cancel.cancelled:
            self.failure = upstream_errors.cut_off(error, self.where)

    def _inflated(self, content: bytes) -> bytes:
        assert self._inflate is not None
        try:
            return self._inflate(content)
        except zlib.error as error:
            self._fail(error)
            return b""

    def _holds_more(self) -> bool:
        """Say whether TLS holds bytes of which the descriptor knows nothing."""
        # TLS within TLS, to a proxy, does not tell.
        return not self._is_plain and (not isinstance(self._sock, ssl.SSLSocket) or self._sock.pending() > 0)

    def read(self, limit: int = LARGEST_BODY) -> bytes:
        """Wait for the whole body and return it, cut at about `limit`. Raises UpstreamError."""
        body = bytearray()
        for piece in self:
            body += piece
            if len(body) > limit:
                break
        return bytes(body)

    def wait(self) -> None:
        """Wait until something has come, for `receive` to return. Raises UpstreamError if that is nothing."""
        while not (content := self.take()) and not self.is_over:
            if not is_readable(self.fileno(), self.silence):
                self.give_up()
        if not content and self.failure is not None:
            self.close()
            raise self.failure
        self._early = content

    def give_up(self) -> None:
        self._fail(TimeoutError())

    def finish(self) -> None:
        """Read what follows the last event, normally nothing, so that the connection can be used again."""
        until = time.monotonic() + LINGER
        while not self.is_over and (left := until - time.monotonic()) > 0:
            self._sock.settimeout(left)
            self.take()

    def close(self) -> None:
        """Let go of the connection; it is used again only if the body was read to its end."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        body = self._body
        is_clean = body.ended and not (body.fault or body.rest or self._data or self._holds_more())
        if is_clean and self._is_persistent and not self.cancel.cancelled:
            connection.keep()
        else:
            connection.close()
