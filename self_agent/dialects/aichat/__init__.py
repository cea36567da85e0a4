"""The dialect of a Vue frontend, `aichat.md`: HTTP for sessions and messages, a WebSocket for the replies."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from core.errors import AppError
from self_agent.dialects.aichat import routes, sockets
from self_agent.dialects.base import Dialect

__all__ = ["DIALECT"]


def _error_body(error: AppError) -> tuple[Any, int]:
    return {"code": error.status, "message": error.message, "data": None}, error.status


_blueprint = Blueprint("aichat", __name__)
_blueprint.register_blueprint(routes.blueprint)
_blueprint.register_blueprint(sockets.blueprint)

DIALECT = Dialect("aichat", ("/api/chat", "/aichat", "/ws"), _blueprint, _error_body)
