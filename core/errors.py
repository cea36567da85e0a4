"""Every failure the server can answer with is one class here; the body it gets belongs to the dialect.

AppError                     500  a bug, or anything nobody foresaw
├── InvalidRequest           400  the request itself is wrong
│   ├── PayloadTooLarge      413
│   └── UnsupportedMediaType 415
├── Unauthorized             401
├── Forbidden                403
├── NotFound                 404
│   └── NotYours             404  (403 where a dialect's document says so)
├── MethodNotAllowed         405
├── ClientGone               499  nobody reads the answer any more
├── Conflict                 409
├── KeyReused                422
├── TooManyRequests          429
├── StorageError             503  the store cannot be used now
│   ├── StorageBusy          503  another program is writing it
│   ├── StoreUnavailable     503  the database does not answer
│   └── StorageFull          507
├── UpstreamError            502  the model failed: unreachable, cut off, nonsense
│   ├── UpstreamTimeout      504
│   ├── UpstreamKeyRefused   401
│   └── UpstreamRateLimited  429
└── ModelUnavailable         503  no model configured, or not ready yet
StartupError                      refuses to start; never reaches a client
"""

from __future__ import annotations

from typing import Any, ClassVar

import click


class AppError(Exception):
    """Raised when nothing more precise is known.

    `message` is one sentence for the person at the client: the reason and, where there is one, the
    remedy. It must hold no path, key or content of a message. `param` is the field that is wrong, if one is.
    """

    status: ClassVar[int] = 500

    def __init__(self, message: str, *, retry_after: float | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after  # seconds, for the `Retry-After` header


class InvalidRequest(AppError):
    """Raised when the request is malformed or a field has the wrong type or value."""

    status = 400


class PayloadTooLarge(InvalidRequest):
    """Raised when a request body is over the size limit."""

    status = 413


class UnsupportedMediaType(InvalidRequest):
    """Raised when a request body is not JSON by its content type."""

    status = 415


class Unauthorized(AppError):
    """Raised when a token is required and is missing or not valid."""

    status = 401


class Forbidden(AppError):
    """Raised when the request comes from a host or origin that is not allowed."""

    status = 403


class NotFound(AppError):
    """Raised when what the path or body names does not exist."""

    status = 404


class NotYours(NotFound):
    """Raised when it exists, but belongs to another user."""


class MethodNotAllowed(AppError):
    """Raised when the path exists, but not for this method."""

    status = 405


class ClientGone(AppError):
    """Raised when the client has hung up before its answer was there; the number is nginx's."""

    status = 499


class Conflict(AppError):
    """Raised when what should be created exists already."""

    status = 409


class KeyReused(AppError):
    """Raised when the key of a request was used for one with another body."""

    status = 422


class TooManyRequests(AppError):
    """Raised when more is waiting to be done than the server keeps waiting."""

    status = 429


class StorageError(AppError):
    """Raised when the store cannot read or write now; nothing was acknowledged."""

    status = 503


class StorageBusy(StorageError):
    """Raised when another program is changing what is asked for; nothing was acknowledged."""


class StoreUnavailable(StorageError):
    """Raised when the database does not answer, or not in time; nothing was acknowledged."""


class StorageFull(StorageError):
    """Raised when the disk is full; nothing was acknowledged."""

    status = 507


class UpstreamError(AppError):
    """Raised when the model's server is unreachable, cuts its answer off or sends nonsense."""

    status = 502


class UpstreamTimeout(UpstreamError):
    """Raised when the model's server does not answer, or stops sending, for too long."""

    status = 504


class UpstreamKeyRefused(UpstreamError):
    """Raised when the model's server refuses the API key."""

    status = 401


class UpstreamRateLimited(UpstreamError):
    """Raised when the model's server asks to slow down."""

    status = 429


class ModelUnavailable(AppError):
    """Raised when no model is configured, or the one that is cannot answer yet."""

    status = 503


class StartupError(click.ClickException):
    """Raised when the server must not start; its text is the one line the user sees.

    Being click's, it is that one line in the `flask` command too, not a traceback.
    """


_BY_STATUS: dict[int, type[AppError]] = {
    400: InvalidRequest,
    404: NotFound,
    405: MethodNotAllowed,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
}
_WORDS = {
    404: "there is nothing at this path",
    405: "this path does not take this method",
    413: "the request body is too large",
}


def from_http_status(status: int, description: str) -> AppError:
    """Turn what the web framework refuses by itself into an error of this tree."""
    kind = AppError if status >= 500 else _BY_STATUS.get(status, InvalidRequest)
    return kind(_WORDS.get(status, description))


def body(error: AppError) -> dict[str, Any]:
    """Return the envelope of the native dialect, which is also that of paths that belong to none."""
    return {"data": {"success": False, "error": error.message}}
