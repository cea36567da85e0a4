"""The dialect of OpenAI-style clients, `poe.md`: the server keeps the history, and replies end in `[DONE]`.

There is one module for each noun of its paths.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from core.errors import AppError
from self_agent.dialects.base import Dialect
from self_agent.dialects.poe import chat, projects

blueprint = Blueprint("poe", __name__)
for part in (chat, projects):
    blueprint.register_blueprint(part.blueprint)


def _error_body(error: AppError) -> tuple[Any, int]:
    return {"detail": error.message}, error.status


# Its clients ask for the models and for plain completions too, which are OpenAI's.
ROOTS = (chat.CONVERSATIONS, chat.STOP, chat.MESSAGES, projects.ROOT)
DIALECT = Dialect("poe", ROOTS, blueprint, _error_body, brings="openai")
