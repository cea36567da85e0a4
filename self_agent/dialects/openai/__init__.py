"""The dialect of OpenAI's SDKs: models, chat completions, and the stateful API with its history kept here.

There is one module for each noun of its paths.
"""

from __future__ import annotations

from flask import Blueprint

from self_agent.dialects.base import Dialect
from self_agent.dialects.openai import completions, conversations, errors, models, responses, stored

blueprint = Blueprint("openai", __name__)
for part in (models, completions, stored, conversations, responses):
    blueprint.register_blueprint(part.blueprint)

# All of /v1: whatever else an SDK asks for there is told so in its own words.
DIALECT = Dialect("openai", ("/v1",), blueprint, errors.error_body)
