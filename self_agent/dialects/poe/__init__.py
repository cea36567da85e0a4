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


DOCUMENTED = (chat.CONVERSATIONS, chat.STOP, chat.MESSAGES, projects.ROOT)  # the other paths are OpenAI's


def _error_body(error: AppError) -> tuple[Any, int]:
    body: dict[str, Any] = {"detail": error.message}
    if not any(own in request.path for own in DOCUMENTED):  # whatever the prefix
        body["error"] = openai.error_of(error)
    return body, error.status


# All of /v1: whatever else an OpenAI SDK asks for there is told so in its own words.
DIALECT = Dialect("poe", ("/v1",), blueprint, _error_body)
