"""Lists as OpenAI's API pages them: behind a cursor, in either order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from flask import request
from pydantic import Field
from typing_extensions import TypedDict

from self_agent.dialects.openai.errors import Refused, unsupported
from self_agent.openapi import Query

INCLUDABLE = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
)  # of all these there is nothing here to include
LOGPROBS = "message.output_text.logprobs"


class Cursor(Query):
    """Which part of a list."""

    after: str | None = None
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


class Listing(TypedDict):
    """A part of a list; `first_id` and `last_id` are cursors, "" where there is nothing."""

    object: str
    data: list[Any]
    first_id: str
    last_id: str
    has_more: bool


def page_of(found: Iterable[dict[str, Any]], query: Cursor) -> Listing:
    """Return the page that begins with the first of what was found; more than its length says that there is more."""
    rows = list(found)
    data = rows[: query.limit]
    ends = (data[0]["id"], data[-1]["id"]) if data else ("", "")
    return {
        "object": "list",
        "data": data,
        "first_id": ends[0],
        "last_id": ends[1],
        "has_more": len(rows) > query.limit,
    }


def check_include(names: Iterable[str] | None = None) -> None:
    """Raise Refused for what cannot be included; without `names`, those in the query."""
    if names is None:
        names = [*request.args.getlist("include"), *request.args.getlist("include[]")]
    for name in names:
        if name == LOGPROBS:
            raise unsupported("include")
        if name not in INCLUDABLE:
            raise Refused(f"Invalid value: '{name}'. Use one of {', '.join(INCLUDABLE)}.", "include")
