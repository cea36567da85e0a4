"""Conversations as the store writes them, made from data/README.md alone: the code that is measured takes no part."""

from __future__ import annotations

from pathlib import Path

import orjson

CONTENT = "0123456789 " * 32  # with the other fields of its line about 440 bytes
TIME = "2025-04-30T10:00:01.000000Z"
POSITION_BITS = 20  # of a message's id; the conversation's number is above them
SEPARATOR, CLOSING = b",\n", b"\n]}\n"


def fields(number: int, position: int, content: str = CONTENT) -> dict[str, object]:
    """Return the fields of the message that the conversation with this number has at this position."""
    role = "user" if position % 2 else "assistant"
    return {"id": number << POSITION_BITS | position, "role": role, "content": content, "timestamp": TIME}


def ending(number: int, position: int) -> bytes:
    """Return what takes the place of the closing when a message is appended."""
    return SEPARATOR + orjson.dumps(fields(number, position)) + CLOSING


def write_document(folder: Path, name: str, number: int, messages: int, content: str = CONTENT) -> Path:
    """Write a conversation's document and return where it is."""
    header = {
        "conversation_id": name,
        "number": number,
        "user_id": "local",
        "name": None,
        "system_prompt": None,
        "model": None,
        "project_id": 0,
        "created_at": TIME,
        "updated_at": TIME,
    }
    lines = (orjson.dumps(fields(number, position, content)) for position in range(1, messages + 1))
    path = folder / f"{name}.json"
    opening = orjson.dumps(header)[:-1] + b',"messages": [\n'
    path.write_bytes(opening + SEPARATOR.join(lines) + CLOSING)
    return path
