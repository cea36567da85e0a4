"""One request to the upstream, retried where that may help, cut off on cancel; its answer's bytes as they come."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from typing import Union
from urllib.parse import urlsplit

import requests
import urllib3
from requests.cookies import RequestsCookieJar

from core.errors import StartupError, UpstreamKeyRefused
from self_agent.events import Pause
from self_agent.providers.base import Cancellation
from self_agent.providers.openai import errors as upstream_errors
from self_agent.providers.openai import live_body
from self_agent.providers.openai.connections import Interrupt, InterruptibleAdapter, interruptible
from self_agent.providers.openai.errors import Failure
from self_agent.providers.openai.live_body import PIECE, LiveBody

OPENAI = "https://api.openai.com/v1"
LONGEST_PAUSE = 20.0  # seconds; who is asked to wait longer is told so instead
LOOPBACK = ("localhost", "127.0.0.1", "::1")
FIRST_PAUSE = 0.5  # seconds before the first retry; doubled for each further one
POOL = 4096  # connections kept alive: as many as the server has threads
LARGEST_BODY = 64 * 1024 * 1024  # bytes of an answer that is not streamed
LINGER = 0.2  # seconds to wait for the end of a stream after its last event


class Answer:
    """An upstream's answer whose body is still to be read; it must be closed."""

    def __init__(self, response: requests.Response) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.content_type: str = response.headers.get("Content-Type", "")
        self._response = response
        self._live: LiveBody | None = None
        self._pieces: Iterator[bytes | None] = self._body()

    def go_live(self, seconds: float) -> Pause | None:
        """Let the body, if it is one for that, say None where it would wait; return what then has to be done."""
        if "json" in self.content_type or not live_body.suits(self._response.raw):
            return None
        self._live = LiveBody(self._response.raw)
        self._pieces = iter(self._live)
        return Pause(self._live.fileno(), seconds)

    def __iter__(self) -> Iterator[bytes | None]:
        """Return the body as it comes; None only after `go_live`. Raises urllib3's HTTPError."""
        return self._pieces

    def read(self, limit: int = LARGEST_BODY) -> bytes:
        """Return the body, cut at about `limit`. Raises urllib3's HTTPError."""
        body = bytearray()
        for piece in self:
            body += piece or b""
            if len(body) > limit:
                break
        return bytes(body)

    def finish(self) -> None:
        """Read what follows the last event, normally nothing, so that the connection can be used again."""
        if self._live is not None:
            self._live.finish(LINGER)
            return
        connection = self._response.raw.connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(LINGER)
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                next(self._pieces, None)

    def close(self) -> None:
        """Let go of the connection; it is used again only if the body was read to its end."""
        self._response.close()

    def _body(self) -> Iterator[bytes]:
        raw = self._response.raw
        if raw.chunked:
            return iter(raw.stream(PIECE, decode_content=True))
        # Without chunks, `stream` waits until PIECE bytes are together; `read1` returns what there is.
        return iter(lambda: raw.read1(PIECE, decode_content=True), b"")


class UpstreamClient:
    """The connections to one OpenAI-compatible API; its keys are used and never kept."""

    def __init__(self, base_url: str, timeout: tuple[float, float], retries: int, *, keep_alive: bool = True) -> None:
        """Raises StartupError if `base_url` is not an HTTP URL."""
        self._base_url = _api_root(base_url)
        self.where = upstream_errors.shown(self._base_url)  # for messages
        self.host = urlsplit(self._base_url).hostname or ""
        self._timeout = timeout  # seconds to connect, and of silence
        self.silence = timeout[1]
        self._retries = retries
        self._session = _session()
        if not keep_alive:
            self._session.headers["Connection"] = "close"
        # A proxy cannot reach what listens on this computer's loopback.
        proxies = {"no_proxy": self.host} if self.host in LOOPBACK else {}
        self._settings = self._session.merge_environment_settings(self._base_url, proxies, True, None, None)
        self._prepared = lru_cache(self._prepare)

    def close(self) -> None:
        self._session.close()

    def send(
        self, method: str, path: str, body: bytes | None = None, *, key: str, cancel: Cancellation
    ) -> Answer | None:
        """Send a request, again where that may help; return its answer of any status, None if cancelled.

        Raises UpstreamError and its kin when there is no answer at all.
        """
        if not (key.isascii() and key.isprintable()):  # http.client would raise, with the key in its message
            raise UpstreamKeyRefused("the API key has characters that no key has; check OPENAI_API_KEY")
        interrupt = Interrupt()
        cancel.on_cancel(interrupt.cut)
        attempt = 0
        while not cancel.cancelled:
            outcome = self._attempt(method, path, body, key, interrupt)
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

    def _attempt(self, method: str, path: str, body: bytes | None, key: str, interrupt: Interrupt) -> Answer | Failure:
        # A failure is returned, not raised: requests' exceptions hold the request with its headers, and
        # raising from inside `except` would keep them as the new error's context.
        try:
            request = self._prepared(method, path).copy()
            if body is not None:
                request.body = body
                request.headers.update({"Content-Type": "application/json", "Content-Length": str(len(body))})
            if key:
                request.headers["Authorization"] = f"Bearer {key}"
            with interruptible(interrupt):
                # Redirects are not followed: the key is for this host only.
                response = self._session.send(request, timeout=self._timeout, allow_redirects=False, **self._settings)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return upstream_errors.no_answer(error, self.where)
        return Answer(response)

    def _prepare(self, method: str, path: str) -> requests.PreparedRequest:
        """Return what all requests of a kind are copies of: preparing each takes 15 times as long."""
        request = requests.Request(method, self._base_url + path, auth=_keep_from_netrc)
        return self._session.prepare_request(request)


def _keep_from_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Stand in for an auth, without which requests looks for one in ~/.netrc."""
    return request


def _session() -> requests.Session:
    session = requests.Session()
    session.headers.update({"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"})
    # One session serves all users: a cookie set for one key must not go along with another.
    session.cookies = RequestsCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, InterruptibleAdapter(pool_maxsize=POOL))
    return session


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
