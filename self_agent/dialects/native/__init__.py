"""The dialect of the native frontend, `self_agent.md`: ids are the client's own, replies come whole or as events."""

from __future__ import annotations

from typing import Any

from core import errors
from core.errors import AppError
from self_agent.dialects.base import Dialect
from self_agent.dialects.native import branches, feed, shelves, talking, transfer
from self_agent.dialects.native.conversations import MODELS, ROOT, blueprint

__all__ = ["DIALECT", "branches", "talking", "transfer"]


def _error_body(error: AppError) -> tuple[Any, int]:
    return errors.body(error), error.status


blueprint.register_blueprint(shelves.blueprint)
blueprint.register_blueprint(feed.blueprint)

_MOUNTS = (ROOT, MODELS, shelves.FOLDERS, shelves.TAGS, feed.EVENTS, transfer.EXPORT, transfer.IMPORT)

DIALECT = Dialect("self_agent", _MOUNTS, blueprint, _error_body)
