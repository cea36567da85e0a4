"""What every request passes on its way in and out: host, origin, body, errors, request id, access log.

The order matters: a request from a foreign host or page, or without a token, is refused before anything reads its body.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, cast
from urllib.parse import urlsplit

import orjson
from flask import Flask, Response, g, request
from flask.json.provider import JSONProvider
from flask_cors.core import get_cors_options, set_cors_headers
from werkzeug.exceptions import HTTPException

from core import logs
from core.config import Settings
from core.errors import AppError, Forbidden, InvalidRequest, Unauthorized, UnsupportedMediaType, from_http_status

log = logging.getLogger("self_agent.http")

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})  # to listen on, not to be called by
# A page opened from disk in Electron says file://. A browser says "null" there, and in any sandboxed frame
# of any web page, so "null" is foreign.
LOCAL_ORIGINS = (
    r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?",
    r"(tauri|app|file)://.*",
    r"https?://tauri\.localhost",
)
READS_ITSELF = "reads_body_itself"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE, OTHER = "(none)", "(other)"  # what is said of a path that is none, and of a method that nobody knows
_CHUNK = 1 << 16  # bytes of a body that is not read at once
ALLOWED_HEADERS = [
    "authorization",
    "content-type",
    "accept",
    "last-event-id",
    "idempotency-key",
    "x-request-id",
    r"x-stainless-.*",
    r"openai-.*",  # of the SDKs in a browser: beta, organization, project
]

ErrorBody = Callable[[AppError, str], tuple[Any, int]]
Answered = Callable[[str, str, int, float], None]  # is told of each answer: method, route, status, seconds
ViewResult = tuple[Any, int, dict[str, str]]
T = TypeVar("T")
View = TypeVar("View", bound=Callable[..., Any])


class Json(tuple[Any, int, dict[str, str]], Generic[T]):
    """What a view returns that answers with the JSON of a `T`: only a type, at run time it is a plain `ViewResult`.

    A type checker holds the answer against it, and `/openapi.json` is made of it, so the two cannot differ.
    """


class OrjsonProvider(JSONProvider):
    """JSON as the contract has it: UTF-8, Chinese unescaped."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return orjson.dumps(obj).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return orjson.loads(s)


def json_response(data: T, status: int = 200) -> Json[T]:
    """Return what a view returns to answer with JSON."""
    return cast("Json[T]", (orjson.dumps(data), status, {"Content-Type": "application/json"}))


def install(app: Flask, settings: Settings, error_body: ErrorBody, answered: Answered | None = None) -> None:
    """Put the gates, the error handler and the access log into `app`.

    `error_body(error, path)` gives the body and the status that the dialect of that path answers with. `answered` is
    told the template of a route, never a path, and of no method that is not one of HTTP's.
    """
    app.json = OrjsonProvider(app)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["MAX_IMPORT_LENGTH"] = settings.max_import_bytes
    app.url_map.strict_slashes = False  # with or without a trailing slash, and never a redirect
    app.url_map.merge_slashes = False
    origins = allowed_origins(settings)
    hosts = allowed_hosts(settings)
    cors = get_cors_options(
        app,
        {
            "origins": "*" if origins is None else origins,
            "allow_headers": ALLOWED_HEADERS,
            "expose_headers": ["X-Request-Id", "Retry-After", "Content-Disposition"],
            "methods": ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
            "max_age": 600,
        },
    )

    @app.before_request
    def gate() -> None:
        g.request_id = os.urandom(8).hex()
        logs.request_id.set(g.request_id)
        g.began = time.monotonic()
        check_host(request.host, hosts)
        if (target := _raw_path())[:1] not in ("/", ""):  # a whole URL, which no browser sends to a server itself
            check_host(_netloc(target) or "", hosts)
        check_origin(request.headers.get("Origin"), origins, request.host)

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        if "Origin" in request.headers:  # for the others flask-cors would search in vain, 14 µs of a view's 55
            set_cors_headers(response, cors)
        method, path, status, request_id, began = (
            request.method, request.path, response.status_code, g.request_id, g.began,
        )  # fmt: skip
        route = request.url_rule.rule if request.url_rule else NO_ROUTE

        def close() -> None:
            seconds = time.monotonic() - began
            _log_access(method, path, status, request_id, seconds)
            if answered is not None:
                answered(method if method in METHODS else OTHER, route, status, seconds)

        response.call_on_close(close)
        return response

    @app.teardown_request
    def forget(_: BaseException | None) -> None:
        logs.request_id.set("")  # the thread goes on to work for others

    _install_errors(app, error_body)


def install_body(app: Flask) -> None:
    """Let no body be read before all that is installed so far has let its request pass: a stranger's costs nothing."""

    @app.before_request
    def check() -> None:
        if request.method in ("POST", "PUT", "PATCH") and request.routing_exception is None:
            if getattr(app.view_functions[request.endpoint or ""], READS_ITSELF, False):
                request.max_content_length = app.config["MAX_IMPORT_LENGTH"]
                _check_media_type()
            else:
                _check_body()


def reads_body(view: View) -> View:
    """Mark a view that reads the body itself, with `body_chunks`, for it may be larger than memory."""
    setattr(view, READS_ITSELF, True)
    return view


def body_chunks() -> Iterator[bytes]:
    """Yield the body of the current request as it comes. Raises InvalidRequest when the WSGI server cannot read it."""
    try:
        while chunk := request.stream.read(_CHUNK):
            yield chunk
    except HTTPException:
        raise
    except Exception as error:  # of a broken chunk: each WSGI server has a class of its own
        raise InvalidRequest("the body cannot be read to its end") from error


def _install_errors(app: Flask, error_body: ErrorBody) -> None:
    def answer(error: AppError) -> Response:
        body, status = error_body(error, request.path)
        response = app.make_response(json_response(body, status))
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(max(1, round(error.retry_after)))
        if isinstance(error, Unauthorized):
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    @app.errorhandler(AppError)
    def refuse(error: AppError) -> Response:
        if error.status >= 500:
            log.warning("request %s: %s: %s", g.request_id, type(error).__name__, error.message)
        return answer(error)

    @app.errorhandler(HTTPException)
    def refuse_routing(error: HTTPException) -> Response:
        if error.code == 404 and re.search(r"%2f|%5c", _raw_path(), re.IGNORECASE):
            return answer(InvalidRequest("an id in the path must not contain an encoded slash"))
        response = answer(from_http_status(error.code or 500, error.description or ""))
        if error.code == 405:
            response.headers["Allow"] = dict(error.get_headers()).get("Allow", "")
        return response

    @app.errorhandler(Exception)
    def refuse_bug(error: Exception) -> Response:
        log.exception("request %s failed", g.request_id, exc_info=error)
        return answer(AppError(f"internal error; the server's log has it under request {g.request_id}"))


# --- the gates


def allowed_origins(settings: Settings) -> list[str] | None:
    """Return patterns of the origins that may call; None is any."""
    listed = settings.listed("cors_origins")
    if "*" in listed:
        return None
    return [f"^{pattern}$" for pattern in (*LOCAL_ORIGINS, *map(re.escape, listed))]


def allowed_hosts(settings: Settings) -> frozenset[str] | None:
    """Return the host names this server may be called by; None is any."""
    listed = settings.listed("allowed_hosts")
    if "*" in listed:
        return None
    return (LOCAL_HOSTS | {settings.host.lower(), *map(str.lower, listed)}) - WILDCARDS


def check_host(host: str, allowed: frozenset[str] | None) -> None:
    """Raise Forbidden for a foreign name: a web page could rebind its own name to this address."""
    if allowed is not None and host_name(host) not in allowed:
        raise Forbidden("this host name is not served here; list it in ALLOWED_HOSTS to allow it")


def check_origin(origin: str | None, allowed: list[str] | None, host: str) -> None:
    """Raise Forbidden for a page of another site; a page that this server itself served is no such."""
    if origin is None or allowed is None or any(re.match(pattern, origin) for pattern in allowed):
        return
    if _netloc(origin) != host.lower():
        raise Forbidden("pages of this origin may not call; list it in CORS_ORIGINS to allow it")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # half an IPv6 address: no browser sends that
        return None


def host_name(host: str) -> str:
    """Return the name in a Host header, without port, brackets, or the dot of a full name."""
    name = host.lower().strip()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


def _check_body() -> None:
    """Refuse a body that is not a JSON object: other sites can send forms, but not JSON, unasked."""
    if not request.content_length and "Transfer-Encoding" not in request.headers:
        return
    _check_media_type()
    _read_body()
    body = request.get_json(silent=True)  # Flask keeps the result for the view
    if not isinstance(body, dict):
        try:
            orjson.loads(request.get_data())
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"the body is not valid JSON: {error}") from None
        raise InvalidRequest("the body must be a JSON object")
    try:
        orjson.dumps(body)  # which goes less deep than reading does
    except orjson.JSONEncodeError:
        raise InvalidRequest("the body is nested too deeply") from None


def _check_media_type() -> None:
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("the body must be JSON: send 'Content-Type: application/json'")


def _read_body() -> None:
    """Read the whole body, which the request keeps. Raises InvalidRequest when the WSGI server cannot."""
    try:
        request.get_data()
        request.stream.read(1)  # raises at the limit, where a body without a length would just be cut
    except HTTPException:
        raise
    except Exception as error:  # of a broken chunk: each WSGI server has a class of its own
        raise InvalidRequest("the body cannot be read") from error


def _raw_path() -> str:
    return str(request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or "").partition("?")[0]


def _log_access(method: str, path: str, status: int, request_id: str, seconds: float) -> None:
    milliseconds = seconds * 1000
    path = path if path.isprintable() else ascii(path)  # or it could forge lines
    fields = {"method": method, "path": path, "status": status, "milliseconds": round(milliseconds, 1)}
    fields["request_id"] = request_id
    log.info("%s %s %d %.1fms %s", method, path, status, milliseconds, request_id, extra=fields)
