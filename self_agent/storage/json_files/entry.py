"""From a document to its entry in the catalog, and from an entry to the header of its document."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import files
from self_agent.storage.json_files import lines as document
from self_agent.storage.json_files.catalog import Entry, pack
from self_agent.storage.json_files.lines import Fields, Irregular
from self_agent.storage.json_files.salvage import is_heading, salvage


def read_entry(path: Path, conversation_id: str) -> Entry:
    """Return the entry of a document in the line form. Raises Irregular and FileNotFoundError."""
    return entry_of(*read_file(path), conversation_id)


def read_header(path: Path) -> Fields:
    """Return the header of a document in any layout. Raises Irregular and FileNotFoundError."""
    return salvage(read_file(path)[0]).header


def read_file(path: Path) -> tuple[bytes, os.stat_result]:
    """Return a file, and its size and time when it was read. Raises FileNotFoundError."""
    fd = files.open_file(path, files.READ)
    try:
        status = os.fstat(fd)
        return files.read_at(fd, status.st_size, 0), status
    finally:
        os.close(fd)


def entry_of(data: bytes, status: os.stat_result, conversation_id: str) -> Entry:
    """Return the entry of a document in the line form. Raises Irregular."""
    header, end = document.parse_header(data)
    if not is_heading(header, conversation_id):
        raise Irregular
    facts = document.survey(data, header["number"], end)
    return Entry(
        conversation_id,
        header["number"],
        sys.intern(header["user_id"]),
        header["name"],
        shared(header["system_prompt"]),
        shared(header["model"]),
        header["project_id"],
        max(header["updated_at"], facts.last_timestamp),
        pack(header["created_at"], facts.first, facts.summary),
        facts.total,
        facts.hidden,
        facts.next_position,
        status.st_size,
        status.st_mtime_ns,
    )


def shared(text: str | None) -> str | None:
    """Return the one copy of a text that many conversations have."""
    return None if text is None else sys.intern(text)


def header_of(entry: Entry) -> Fields:
    """Return the header of a new conversation's document."""
    return {
        "conversation_id": entry.id,
        "number": entry.number,
        "user_id": entry.user_id,
        "name": entry.title,
        "system_prompt": entry.system_prompt,
        "model": entry.model,
        "project_id": entry.project_id,
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
    }


def with_header(data: bytes, changes: Mapping[str, Any]) -> list[bytes | memoryview]:
    """Return a document, in pieces, with some fields of its header set."""
    header, end = document.parse_header(data)
    return [document.header_line({**header, **changes}), memoryview(data)[end:]]
