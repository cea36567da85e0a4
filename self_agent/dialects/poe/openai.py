"""OpenAI's own paths: a request goes to the model as it came, the answer comes back as it is, nothing is stored."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint, request
from pydantic import Field
from typing_extensions import TypedDict

from core.errors import AppError
from core.web import Json, ViewResult, json_response
from self_agent.dialects.base import callers_key, conversations, relayed
from self_agent.document import Asks, Sample
from self_agent.openapi import Body, spec

MODELS = "/v1/models"
COMPLETIONS = "/v1/chat/completions"
PATHS = (MODELS, COMPLETIONS)

blueprint = Blueprint("openai", __name__)


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
    data: list[Model] = [{"id": name, "object": "model", "created": 0, "owned_by": "self_agent"} for name in names]
    return json_response({"object": "list", "data": data})


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
    return {"message": error.message, "type": kind, "param": None, "code": None}
