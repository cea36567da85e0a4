"""One request to the upstream: on a connection that was kept or a new one, retried where that may help.

`requests` opens connections and handles what is odd about that: proxies, certificates. To send every request through
it takes ten times as long as one on a connection that is there already.
"""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass, field
from typing import Any, Union
from urllib.parse import urlsplit

import requests
import urllib3
from requests import PreparedRequest

from core.errors import StartupError, UpstreamKeyRefused
from self_agent.providers.base import Cancellation
from self_agent.providers.openai import errors as upstream_errors
from self_agent.providers.openai.answer import PIECE, Answer
from self_agent.providers.openai.connections import (
    Connection,
    IdleConnections,
    Interrupt,
    InterruptibleAdapter,
    interruptible,
    take_over,
)
from self_agent.providers.openai.errors import Failure
from self_agent.providers.openai.http1 import Head, read_head

OPENAI = "https://api.openai.com/v1"
LONGEST_PAUSE = 20.0  # seconds; who is asked to wait longer is told so instead
LOOPBACK = ("localhost", "127.0.0.1", "::1")
FIRST_PAUSE = 0.5  # seconds before the first retry; doubled for each further one


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: dict[str, str] = field(repr=False)  # with the key
    body: bytes | None
    cancel: Cancellation
    interrupt: Interrupt


class UpstreamClient:
    """The connections to one OpenAI-compatible API; its keys are used and never kept."""

    def __init__(self, base_url: str, timeout: tuple[float, float], retries: int) -> None:
        """Raises StartupError if `base_url` is not an HTTP URL."""
        self._base_url = _api_root(base_url)
        self.where = upstream_errors.shown(self._base_url)  # for messages
        self.host = urlsplit(self._base_url).hostname or ""
        self._timeout = timeout  # seconds to connect, and of silence
        self.silence = timeout[1]
        self._retries = retries
        self._adapter = InterruptibleAdapter()
        self._idle = IdleConnections()
        # A proxy cannot reach what listens on this computer's loopback.
        proxies = {"no_proxy": self.host} if self.host in LOOPBACK else {}
        session = requests.Session()
        self._settings: Any = session.merge_environment_settings(self._base_url, proxies, True, None, None)
        self._headers = {
            "User-Agent": requests.utils.default_user_agent(),
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",
            "Connection": "keep-alive",
        }
        self._address = urlsplit(str(self._prepared("GET", "", {}, None).url))

    def close(self) -> None:
        self._idle.close()
        self._adapter.close()

    def send(
        self, method: str, path: str, body: bytes | None = None, *, key: str, cancel: Cancellation
    ) -> Answer | None:
        """Send a request, again where that may help; return its answer of any status, None if cancelled.

        Raises UpstreamError and its kin when there is no answer at all.
        """
        if not (key.isascii() and key.isprintable()):  # http.client would raise, with the key in its message
            raise UpstreamKeyRefused("the API key has characters that no key has; check OPENAI_API_KEY")
        headers = dict(self._headers)
        if body is not None:
            headers.update({"Content-Type": "application/json", "Content-Length": str(len(body))})
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = _Request(method, path, headers, body, cancel, Interrupt())
        cancel.on_cancel(request.interrupt.cut)
        attempt = 0
        while not cancel.cancelled:
            outcome = self._attempt(request)
            pause = _pause(outcome, attempt) if attempt < self._retries else None
            if pause is None and not cancel.cancelled:
                if isinstance(outcome, Failure):
                    raise outcome.error
                return outcome
            if isinstance(outcome, Answer):
                outcome.close()
            cancel.wait(pause or 0)
            attempt += 1
        return None

    def _attempt(self, request: _Request) -> Answer | Failure:
        # A failure is returned, not raised: requests' exceptions hold the request with its headers, and
        # raising from inside `except` would keep them as the new error's context.
        try:
            sock = self._idle.take()
            return (sock and self._on_kept(sock, request)) or self._on_new(request)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return upstream_errors.no_answer(error, self.where)

    def _on_kept(self, sock: socket.socket, request: _Request) -> Answer | None:
        """Send a request on a connection kept since an earlier one; None if that turns out to be dead."""
        connection = Connection(sock, request.interrupt, sock.close, self._idle.put)
        data = b""
        try:
            request.interrupt.watch(sock)
            sock.settimeout(self.silence)
            sock.sendall(self._head(request) + (request.body or b""))
            while (found := read_head(data)) is None:
                piece = sock.recv(PIECE)
                if not piece:
                    raise ConnectionResetError("closed before its answer")
                data += piece
            sock.settimeout(0)
            return self._answer(connection, *found, request)
        except (OSError, ValueError) as error:
            connection.close()
            if data or isinstance(error, TimeoutError) or request.cancel.cancelled:
                raise
            return None

    def _head(self, request: _Request) -> bytes:
        """Return what requests would send before the body."""
        default_port = ":443" if self._address.scheme == "https" else ":80"
        host = self._address.netloc.rpartition("@")[2].removesuffix(default_port)
        lines = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
        path = self._address.path + request.path
        return f"{request.method} {path} HTTP/1.1\r\nHost: {host}\r\n{''.join(lines)}\r\n".encode("latin-1")

    def _on_new(self, request: _Request) -> Answer:
        prepared = self._prepared(request.method, request.path, request.headers, request.body)
        with interruptible(request.interrupt):
            # Not through a session: that reads redirects, for which there is no following as the key is for this
            # host only, and keeps cookies, which must not go along with another user's key.
            response = self._adapter.send(prepared, timeout=self._timeout, **self._settings)
        headers = {name.lower(): value for name, value in response.headers.items()}
        connection, data = take_over(response.raw, request.interrupt, self._idle.put)
        return self._answer(connection, Head(response.status_code, headers), data, request)

    def _prepared(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> PreparedRequest:
        # With an auth that does nothing, or requests would make one of a password in the URL.
        return requests.Request(method, self._base_url + path, headers, data=body, auth=lambda it: it).prepare()

    def _answer(self, connection: Connection, head: Head, data: bytes, request: _Request) -> Answer:
        try:
            return Answer(connection, head, data, cancel=request.cancel, silence=self.silence, where=self.where)
        except ValueError:
            connection.close()
            raise


def _api_root(base_url: str) -> str:
    url = (base_url.strip() or OPENAI).rstrip("/")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that cannot be read
        valid = False
    if not valid:
        raise StartupError("OPENAI_BASE_URL must be an HTTP URL such as https://api.poe.com/v1")
    return url if parts.path else url + "/v1"


def _pause(outcome: Union[Answer, Failure], attempt: int) -> float | None:
    """Return the seconds to wait before asking again; None if that would not help."""
    wait = None
    if isinstance(outcome, Answer):
        passing = outcome.status == 429 or (outcome.status >= 500 and outcome.status != 504)
        wait = upstream_errors.retry_after(outcome.headers)
    else:
        passing = outcome.passing
    if not passing or (wait is not None and wait > LONGEST_PAUSE):
        return None
    if wait is not None:
        return wait
    jitter = random.uniform(0.75, 1.25)  # noqa: S311 - keeps many clients apart, nothing to guess
    return FIRST_PAUSE * 2.0**attempt * jitter
