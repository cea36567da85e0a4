"""Taking chats along: exports of one or all, and imports, neither of which ever stands in memory as a whole."""

from __future__ import annotations

from typing import Annotated, Literal

from flask import Response
from pydantic import Field
from typing_extensions import TypedDict

from core.errors import InvalidRequest
from core.web import Json, body_chunks, json_response, reads_body
from self_agent.dialects.base import transfer, user
from self_agent.dialects.native.answers import Data
from self_agent.dialects.native.conversations import ROOT, blueprint
from self_agent.document import Sample, with_body
from self_agent.openapi import Query, spec
from self_agent.transfer import THE_FILE

EXPORT = "/api/v1/export"
IMPORT = "/api/v1/import"

_TIME = "2025-04-30T10:00:00Z"
_CHAT = {
    "format": "self_agent",
    "version": 1,
    "conversation_id": "a-walk",
    "title": "A walk",
    "created_at": _TIME,
    "shown": 2,
    "messages": [
        {"id": 1, "parent": 0, "role": "user", "content": "Shall we?", "timestamp": _TIME},
        {"id": 2, "parent": 1, "role": "assistant", "content": "With pleasure.", "timestamp": _TIME, "model": "echo"},
    ],
}
File = Annotated[
    Response,
    Sample("application/json", '[\n{"format":"self_agent","version":1,"conversation_id":"a-walk","messages":[]}\n]\n'),
    Sample("text/markdown; charset=utf-8", "# A walk\n\n## User, 2025-04-30T10:00:00Z\n\nShall we?\n"),
]


class ExportQuery(Query):
    """Which form a file has: JSON with all branches, or Markdown with those that are shown."""

    format: Literal["json", "markdown"] = "json"


class Taken(TypedDict):
    """What became of one chat; `state` is `imported`, `skipped` or `failed`, `detail` says how many, or why."""

    chat: str
    state: Annotated[str, Field(examples=["imported"])]
    detail: str
    conversation_id: str | None


class Report(TypedDict):
    """What became of a file, and of each chat in it."""

    imported: int
    skipped: int
    failed: int
    chats: list[Taken]


@blueprint.get(ROOT + "/<conversation_id>/export")
@spec.validate(tags=["self_agent"])
def export_one(conversation_id: str, query: ExportQuery) -> File:
    """Download a conversation."""
    return _download(query.format, conversation_id)


@blueprint.get(EXPORT)
@spec.validate(tags=["self_agent"])
def export_all(query: ExportQuery) -> File:
    """Download all conversations, archived ones too, newest first."""
    return _download(query.format)


@blueprint.post(IMPORT)
@reads_body
@with_body([_CHAT])
@spec.validate(tags=["self_agent"])
def import_file() -> Json[Data[Report]]:
    """Take in a file of chats, by this server, ChatGPT or Open WebUI; what is here already stays as it is."""
    chats: list[Taken] = []
    counts = {"imported": 0, "skipped": 0, "failed": 0}
    for outcome in transfer.take_in(user(), body_chunks()):
        counts[outcome.state] += 1
        chats.append(
            {
                "chat": outcome.chat,
                "state": outcome.state,
                "detail": outcome.detail,
                "conversation_id": outcome.conversation_id,
            }
        )
    if [chat["chat"] for chat in chats] == [THE_FILE]:
        raise InvalidRequest(chats[0]["detail"])
    report: Report = {
        "imported": counts["imported"],
        "skipped": counts["skipped"],
        "failed": counts["failed"],
        "chats": chats,
    }
    return json_response({"data": report})


def _download(form: str, conversation_id: str | None = None) -> Response:
    found = transfer.export(user(), form, conversation_id)
    response = Response(found.pieces, content_type=found.content_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{found.name}"'
    return response
