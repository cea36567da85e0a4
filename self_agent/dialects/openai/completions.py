"""Chat completions: a request goes to the model as it came, and the answer comes back as it is."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint, request
from pydantic import Field

from core.web import Json, ViewResult
from self_agent import keys
from self_agent.dialects.base import Keyed, callers_key, conversations, relayed
from self_agent.dialects.openai import stored
from self_agent.document import Asks, Sample
from self_agent.openapi import Body, spec

ROOT = "/v1/chat/completions"

blueprint = Blueprint("completions", __name__)


class CompletionBody(Body):
    """What is checked of a chat completion request; the model gets the whole of it."""

    keep: bool | None = Field(None, alias="store")
    messages: list[Any] = Field(min_length=1, examples=[[{"role": "user", "content": "Hello"}]])


EVENTS = Sample(
    "text/event-stream",
    'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\ndata: [DONE]\n\n',
)
Relayed = Annotated[ViewResult, EVENTS]  # or whatever the upstream says


@blueprint.post(ROOT)
@spec.validate(tags=["openai"])
def create(json: CompletionBody) -> Asks[Json[dict[str, Any]]] | Relayed:
    """Answer a chat completion request, plain or streamed; what the upstream refuses comes back in its own words.

    With `store` the question and the reply are kept, and the answer is this server's: see `stored`. Without it the
    bytes are the upstream's, so there are no pings: a client that leaves is noticed, and the upstream let
    go of, at the next piece.
    """
    if json.keep:
        return stored.answer(request.get_json(), _key())
    completion = conversations.complete(request.get_data(), api_key=callers_key())
    passed = {
        **completion.headers,
        "Content-Type": completion.content_type,
        "X-Accel-Buffering": "no",  # a proxy such as nginx must not hold a stream back
    }
    return relayed(completion.body), completion.status, passed


def _key() -> str | None:
    """Return what is kept of the key, which only a completion that is stored has."""
    return Keyed(**{keys.HEADER: request.headers.get(keys.HEADER)}).stored
