"""Errors as OpenAI's API words them, so that each SDK raises the exception that its user expects."""

from __future__ import annotations

from typing import Any

from flask import request
from werkzeug.exceptions import MethodNotAllowed as WrongMethod
from werkzeug.exceptions import NotFound as NoSuchPath

from core.errors import AppError, InvalidRequest, NotFound

_BY_STATUS = {
    401: ("invalid_request_error", "invalid_api_key"),
    405: ("invalid_request_error", "method_not_supported"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


class Refused(InvalidRequest):
    """Raised when a parameter is wrong; `code` is OpenAI's word for how."""

    def __init__(self, message: str, param: str, code: str = "invalid_value") -> None:
        super().__init__(message, param=param)
        self.code = code


class Unknown(NotFound):
    """Raised when there is no such thing; `code` is OpenAI's word for it, where it has one."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param=param)
        self.code = code


def unsupported(param: str) -> Refused:
    """Return the refusal of what OpenAI can do and this server cannot."""
    return Refused(f"Unsupported parameter: '{param}' is not supported by this server.", param, "unsupported_parameter")


def missing(param: str) -> Refused:
    """Return the refusal of a request without what it needs."""
    return Refused(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def error_body(error: AppError) -> tuple[Any, int]:
    """Return the body that the SDKs read. Source: https://platform.openai.com/docs/guides/error-codes"""
    return {"error": error_of(error)}, error.status


def error_of(error: AppError) -> dict[str, Any]:
    """Return what the SDKs look for in `error`. Source: openai-python, `APIError`"""
    default = ("server_error", None) if error.status >= 500 else ("invalid_request_error", None)
    kind, code = _BY_STATUS.get(error.status, default)
    message = error.message
    if isinstance(request.routing_exception, NoSuchPath) and type(error) is NotFound:
        message = f"Invalid URL ({request.method} {request.path})"
    elif isinstance(request.routing_exception, WrongMethod):
        message = f"Not allowed to {request.method} on {request.path}"
    return {"message": message, "type": kind, "param": error.param, "code": getattr(error, "code", code)}
