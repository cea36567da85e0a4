"""OpenAI's own paths: a request goes to the model as it came, the answer comes back as it is, nothing is stored."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint, request
from pydantic import Field
from typing_extensions import TypedDict

from core.errors import AppError, NotFound
from core.web import Json, ViewResult, json_response
from self_agent.dialects.base import callers_key, conversations, relayed
from self_agent.document import Asks, Sample
from self_agent.openapi import Body, spec

MODELS = "/v1/models"
COMPLETIONS = "/v1/chat/completions"

blueprint = Blueprint("openai", __name__)


Name = Annotated[str, Field(examples=["echo"])]


class UnknownModel(NotFound):
    """Raised when no model has the name that was asked for."""


class CompletionBody(Body):
    """What is checked of a chat completion request; the model gets the whole of it."""

    messages: list[Any] = Field(min_length=1, examples=[[{"role": "user", "content": "Hello"}]])


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


EVENTS = Sample(
    "text/event-stream",
    'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\ndata: [DONE]\n\n',
)
Relayed = Annotated[ViewResult, EVENTS]  # or whatever the upstream says


@blueprint.get(MODELS)
@spec.validate(tags=["poe"])
def models() -> Asks[Json[Models]]:
    """List the models that can be asked for. Source: https://platform.openai.com/docs/api-reference/models/list"""
    names = conversations.models(api_key=callers_key())
    return json_response({"object": "list", "data": [_model(name) for name in names]})


@blueprint.get(MODELS + "/<path:model>")
@spec.validate(tags=["poe"])
def model(model: Name) -> Asks[Json[Model]]:
    """Return a model. Source: https://platform.openai.com/docs/api-reference/models/retrieve"""
    if model not in conversations.models(api_key=callers_key()):
        raise UnknownModel(f"The model '{model}' does not exist")
    return json_response(_model(model))


@blueprint.post(COMPLETIONS)
@spec.validate(tags=["poe"])
def complete(json: CompletionBody) -> Asks[Json[dict[str, Any]]] | Relayed:
    """Answer a chat completion request, plain or streamed; what the upstream refuses comes back in its own words.

    The bytes are the upstream's, so there are no pings: a client that leaves is noticed, and the upstream let
    go of, at the next piece.
    """
    completion = conversations.complete(request.get_data(), api_key=callers_key())
    headers = {
        **completion.headers,
        "Content-Type": completion.content_type,
        "X-Accel-Buffering": "no",  # a proxy such as nginx must not hold a stream back
    }
    return relayed(completion.body), completion.status, headers


def error_of(error: AppError) -> dict[str, Any]:
    """Return what OpenAI's SDKs look for in `error`. Source: openai-python, `APIError`"""
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    is_model = isinstance(error, UnknownModel)
    param, code = ("model", "model_not_found") if is_model else (None, None)
    return {"message": error.message, "type": kind, "param": param, "code": code}


def _model(name: str) -> Model:
    return {"id": name, "object": "model", "created": 0, "owned_by": "self_agent"}
