"""Whatever goes wrong upstream becomes one error of `core`: reason, remedy and host, never the key."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import RemoteDisconnected, responses
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
import urllib3
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from core.errors import UpstreamError, UpstreamKeyRefused, UpstreamRateLimited, UpstreamTimeout

MESSAGE_LENGTH = 300  # characters of the upstream's own words that are passed on
LONGEST_WAIT = 1e9  # seconds; some number that can be counted with
MASK = "***"
_KEY_WORDS = ("invalid_api_key", "authentication", "permission", "unauthorized", "401", "403")
_RATE_WORDS = ("rate_limit", "rate limit", "insufficient_quota", "too_many_requests", "429")


@dataclass(frozen=True)
class Failure:
    """Why no answer came, and whether asking again soon may help."""

    error: UpstreamError
    passing: bool


def shown(url: str) -> str:
    """Return a URL as it may be shown: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def no_answer(error: Exception, where: str) -> Failure:
    """Say why a request failed before any answer; `error` is of requests or urllib3."""
    unreachable = f"cannot reach the model at {where}: "
    causes = list(_causes(error))
    if isinstance(error, requests.exceptions.ProxyError):  # first: its causes are those of the proxy
        text = unreachable + "the proxy does not let it through; check HTTPS_PROXY and NO_PROXY"
        return Failure(UpstreamError(text), passing=False)
    if timeout := timed_out(causes, where):
        return Failure(timeout, passing=False)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        text = unreachable + "connection refused; is it running? See OPENAI_BASE_URL"
        return Failure(UpstreamError(text), passing=True)
    if any(isinstance(cause, (ConnectionResetError, BrokenPipeError, RemoteDisconnected)) for cause in causes):
        text = f"the model at {where} closed the connection without an answer; try again"
        return Failure(UpstreamError(text), passing=True)
    if any(isinstance(cause, (socket.gaierror, UnicodeError)) for cause in causes):
        return Failure(UpstreamError(unreachable + "no such host; check OPENAI_BASE_URL"), passing=False)
    if isinstance(error, requests.exceptions.SSLError):
        text = unreachable + "no secure connection; check OPENAI_BASE_URL and the host's certificate"
        return Failure(UpstreamError(text), passing=False)
    text = unreachable + "it does not answer as an HTTP server does; check OPENAI_BASE_URL"
    return Failure(UpstreamError(text), passing=False)


def timed_out(causes: list[BaseException], where: str) -> UpstreamTimeout | None:
    """Say so if that is what happened."""
    # urllib3 derives a refused connection (NewConnectionError) from the timeouts.
    kinds = {type(cause) for cause in causes if not isinstance(cause, NewConnectionError)}
    if any(issubclass(kind, ConnectTimeoutError) for kind in kinds):
        return UpstreamTimeout(f"no connection to the model at {where} in time; is it up? See CONNECT_TIMEOUT")
    if any(issubclass(kind, (TimeoutError, urllib3.exceptions.TimeoutError)) for kind in kinds):
        return UpstreamTimeout(f"the model at {where} was silent for too long; try again, or raise READ_TIMEOUT")
    return None


def cut_off(error: Exception | None, where: str) -> UpstreamError:
    """Say why an answer that had begun broke off; without `error`, it just ended."""
    timeout = timed_out(list(_causes(error)), where)
    return timeout or UpstreamError(f"the model at {where} cut its answer off; try again")


def nonsense(what: str, where: str) -> UpstreamError:
    return UpstreamError(f"the model at {where} sent {what}; is OPENAI_BASE_URL an OpenAI-compatible API?")


def refused(status: int, headers: Mapping[str, str], body: bytes, where: str, key: str) -> UpstreamError:
    """Turn an answer that is no success into the error to raise."""
    wait = retry_after(headers)
    if 300 <= status < 400:
        try:
            target = _tidy(shown(headers.get("location", "")), key)
        except ValueError:
            target = "nowhere"
        return UpstreamError(f"{where} redirects to {target}; correct OPENAI_BASE_URL")
    said = _tidy(_words(body), key) or responses.get(status, "no reason given")
    if status in (401, 403):
        return UpstreamKeyRefused(f"{where} refused the API key ({said}); check OPENAI_API_KEY")
    if status == 429:
        return UpstreamRateLimited(f"{where} asks to slow down ({said}); try again later", retry_after=wait)
    if status in (408, 504):
        return UpstreamTimeout(f"{where} timed out ({said}); try again", retry_after=wait)
    remedy = "; check OPENAI_BASE_URL and OPENAI_MODEL" if status == 404 else ""
    return UpstreamError(f"{where} answered {status}: {said}{remedy}", retry_after=wait)


def reported(error: Any, where: str, key: str) -> UpstreamError:
    """Turn an error object inside a stream or a 200 answer into the error to raise."""
    fields = error if isinstance(error, dict) else {}
    said = _tidy(_words_of(error), key) or "no reason given"
    named = (fields.get("code"), fields.get("type"))
    kind = " ".join(str(name) for name in named if isinstance(name, (str, int))).lower()
    if any(word in kind for word in _RATE_WORDS):
        return UpstreamRateLimited(f"{where} asks to slow down ({said}); try again later")
    if any(word in kind for word in _KEY_WORDS):
        return UpstreamKeyRefused(f"{where} refused the API key ({said}); check OPENAI_API_KEY")
    return UpstreamError(f"the model at {where} failed: {said}")


def without_key(body: bytes, key: str) -> bytes:
    """Return an error's body as it may be passed on: some upstreams repeat the key that they refuse."""
    return body.replace(key.encode(), MASK.encode()) if key else body


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read a `Retry-After` header, in seconds or as a date; None if there is none that can be read."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        if re.fullmatch(r"\d+(\.\d+)?", value):
            wait = float(value)
        else:
            wait = parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, wait), LONGEST_WAIT)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(body: bytes) -> str:
    try:
        answer = orjson.loads(body)
    except ValueError:
        return ""  # a proxy's HTML page says nothing that the status does not
    return _words_of(answer.get("error") or answer) if isinstance(answer, dict) else ""


def _words_of(error: Any) -> str:
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail")  # FastAPI's name for it
    return error if isinstance(error, str) else ""


def _tidy(text: str, key: str) -> str:
    """Shorten the upstream's words, without the key and without what is left of it: OpenAI says "sk-ab***yz"."""
    words = (text.replace(key, MASK) if key else text)[: 4 * MESSAGE_LENGTH].split()
    text = " ".join(MASK if MASK in word else word for word in words)
    return text if len(text) <= MESSAGE_LENGTH else text[: MESSAGE_LENGTH - 1] + "…"
