"""The dialect of OpenAI-style clients, `poe.md`: the server keeps the history, and replies end in `[DONE]`.

There is one module for each noun of its paths.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from core.errors import AppError
from self_agent.dialects.base import Dialect
from self_agent.dialects.poe import chat, openai, projects

blueprint = Blueprint("poe", __name__)
for part in (chat, projects, openai):
    blueprint.register_blueprint(part.blueprint)


def _error_body(error: AppError) -> tuple[Any, int]:
    body: dict[str, Any] = {"detail": error.message}
    if request.path.rstrip("/").endswith(openai.PATHS):  # whatever the prefix
        body["error"] = openai.error_of(error)
    return body, error.status


DIALECT = Dialect("poe", (chat.ROOT, projects.ROOT, openai.MODELS), blueprint, _error_body)
