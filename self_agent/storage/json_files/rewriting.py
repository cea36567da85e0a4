"""What changes a document other than by adding to its end: its bytes anew, and what the catalog keeps of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from core.errors import NotFound
from self_agent.models import Message
from self_agent.storage.base import NO_MESSAGE, Change
from self_agent.storage.branches import BEGINNING
from self_agent.storage.json_files import lines
from self_agent.storage.json_files.entry import Entry, choice, pack, reader
from self_agent.storage.json_files.outline import Outline
from self_agent.storage.json_files.reading import line_of
from self_agent.storage.rows import edited, from_rows, with_message


class Rewritten(NamedTuple):
    """A document as it is to be, and the fields of its entry that are others then."""

    pieces: Iterable[bytes | memoryview]
    changes: dict[str, Any]


def changed(entry: Entry, data: bytes, ids: list[int], change: Change) -> tuple[list[Message], Rewritten | None]:
    """Change those of the messages that are not deleted, and return these; what `change` raises is passed on."""
    messages: list[Message] = []
    spans: dict[tuple[int, int], bytes] = {}
    for start, end in lines.find_lines(data, ids):
        row = lines.load(data[start:end])
        if not row.get("is_deleted"):
            messages.append(edited(from_rows([row])[0], change))
            spans[start, end] = lines.dump(with_message(row, messages[-1]))
    if not messages:
        return [], None
    after = lines.with_lines(data, spans)
    return messages, Rewritten([after], shown(entry, after, Outline(after, entry.chosen)))


def chosen(entry: Entry, data: bytes, outline: Outline, message_id: int) -> Rewritten | None:
    """Show the branch through a message, to its newest continuation; None: it is shown already. Raises NotFound."""
    end = outline.end_of(line_of(outline, message_id))
    if end == outline.end:
        return None
    is_last = end == outline.total - 1
    outline = Outline(data, 0 if is_last else outline.ids[end])
    header, start = lines.parse_header(data)
    header.pop("chosen", None)
    if not is_last:
        header |= choice(outline.chosen, outline.ids[-1])
    pieces: list[bytes | memoryview] = [lines.header_line(header), memoryview(data)[start:]]
    return Rewritten(pieces, {"chosen": outline.chosen, **shown(entry, data, outline)})


def shown(entry: Entry, data: bytes, outline: Outline) -> dict[str, Any]:
    """Return what an entry says of the messages that are shown."""
    texts = pack(entry.created_at, *outline.names(reader(data)))
    return {"hidden": outline.total - outline.count, "texts": texts}


def placed(outline: Outline, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return messages that are to be appended with the parent that the first is stored with: none behind its parent.

    Raises NotFound when there is no such parent.
    """
    if not messages:
        return messages
    parent = messages[0].parent
    if parent is None:
        line: int | None = outline.end
    else:
        line = outline.line_of(parent) if parent else BEGINNING
    if line is None:
        raise NotFound(NO_MESSAGE)
    is_behind = line == outline.total - 1
    stored = None if is_behind else outline.ids[line] if line >= 0 else 0
    return (replace(messages[0], parent=stored), *messages[1:])
