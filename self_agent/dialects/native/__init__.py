"""The dialect of the native frontend, `self_agent.md`: ids are the client's own, replies come whole or as events."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from core import errors
from core.errors import AppError
from self_agent.dialects.base import Dialect
from self_agent.dialects.native import conversations, shelves, talking

__all__ = ["DIALECT"]


def _error_body(error: AppError) -> tuple[Any, int]:
    return errors.body(error), error.status


_blueprint = Blueprint("self_agent", __name__)
for _part in (conversations, talking, shelves):
    _blueprint.register_blueprint(_part.blueprint)

DIALECT = Dialect(
    "self_agent", (conversations.ROOT, conversations.MODELS, shelves.FOLDERS, shelves.TAGS), _blueprint, _error_body
)
