"""The models that can be asked for."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from pydantic import Field
from typing_extensions import TypedDict

from core.web import Json, json_response
from self_agent.dialects.base import callers_key, conversations
from self_agent.dialects.openai.errors import Unknown
from self_agent.document import Asks
from self_agent.openapi import spec

ROOT = "/v1/models"

blueprint = Blueprint("models", __name__)

Name = Annotated[str, Field(examples=["echo"])]


class Model(TypedDict):
    """A model that can be asked for."""

    id: str
    object: str
    created: int
    owned_by: str


class Models(TypedDict):
    """The models that can be asked for."""

    object: str
    data: list[Model]


@blueprint.get(ROOT)
@spec.validate(tags=["openai"])
def list_models() -> Asks[Json[Models]]:
    """List the models that can be asked for. Source: https://platform.openai.com/docs/api-reference/models/list"""
    names = conversations.models(api_key=callers_key())
    return json_response({"object": "list", "data": [_model(name) for name in names]})


@blueprint.get(ROOT + "/<path:model>")
@spec.validate(tags=["openai"])
def retrieve(model: Name) -> Asks[Json[Model]]:
    """Return a model. Source: https://platform.openai.com/docs/api-reference/models/retrieve"""
    if model not in conversations.models(api_key=callers_key()):
        raise Unknown(f"The model '{model}' does not exist", "model", "model_not_found")
    return json_response(_model(model))


def _model(name: str) -> Model:
    return {"id": name, "object": "model", "created": 0, "owned_by": "self_agent"}
