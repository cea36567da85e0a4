"""The native dialect: `self_agent.md`, and what the contract adds to it; one module for each noun of its paths."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from core import errors
from core.errors import AppError
from self_agent.dialects.base import Dialect
from self_agent.dialects.native import conversations, shelves

blueprint = Blueprint("self_agent", __name__)
for part in (conversations, shelves):
    blueprint.register_blueprint(part.blueprint)


def _error_body(error: AppError) -> tuple[Any, int]:
    return errors.body(error), error.status


MOUNTS = (conversations.ROOT, conversations.MODELS, shelves.FOLDERS, shelves.TAGS)
DIALECT = Dialect("self_agent", MOUNTS, blueprint, _error_body)
