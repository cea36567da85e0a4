"""Open WebUI's export: each chat has a `chat.history` of messages by id, in older versions a `chat.messages` list."""

from __future__ import annotations

import html
import re
from collections import Counter
from typing import Any

from self_agent.models import Message
from self_agent.transfer.chats import (
    Chat,
    Group,
    Node,
    NotAChat,
    counted,
    entries,
    fields_of,
    grown,
    moment,
    names_of,
    role_of,
    storable,
    title_of,
    words,
)  # fmt: skip

SOURCE = "Open WebUI"

_THOUGHTS = re.compile(r'<details type="reasoning"[^<>]*>(?:\s*<summary>[^<]*</summary>)?')
_END = "</details>"
_PICTURES = "pictures or files left out"


def is_one(document: dict[str, Any]) -> bool:
    """Say whether a document has the shape of this format."""
    chat = document.get("chat")
    return isinstance(chat, dict) and (_history(chat) is not None or isinstance(chat.get("messages"), list))


def parse(document: dict[str, Any]) -> Chat:
    """Read a chat. Raises NotAChat."""
    chat = document["chat"]
    left_out: Counter[str] = Counter()
    notes: list[str] = []
    history = _history(chat)
    if history is not None:
        nodes = {key: _node(row, left_out) for key, row in history.items() if isinstance(row, dict)}
        shown = fields_of(chat.get("history")).get("currentId")
    else:
        nodes = _list(entries(chat.get("messages")), left_out)
        shown = None
    if not nodes:
        raise NotAChat("it has no messages")
    messages, leaf = grown(nodes, shown, notes)
    title = title_of(document.get("title") or chat.get("title"), notes)
    for what, count in left_out.items():
        notes += counted(count, what)
    folder = words(document.get("folder_id"))[:100]
    return Chat(
        source=SOURCE,
        key=words(document.get("id")) or words(chat.get("id")),
        messages=messages,
        shown=leaf,
        created_at=moment(document.get("created_at")) or moment(chat.get("timestamp")),
        updated_at=moment(document.get("updated_at")),
        fields={
            "title": title,
            "system_prompt": words(fields_of(chat.get("params")).get("system")) or words(chat.get("system")) or None,
            "pinned": document.get("pinned") is True,
            "archived": document.get("archived") is True,
        },
        groups=(Group(f"{SOURCE} {folder[:8]}", folder),) if folder else (),
        tags=names_of(fields_of(document.get("meta")).get("tags") or chat.get("tags")),
        notes=tuple(notes),
    )


def _history(chat: dict[str, Any]) -> dict[str, Any] | None:
    messages = fields_of(chat.get("history")).get("messages")
    return messages if isinstance(messages, dict) and (messages or not chat.get("messages")) else None


def _list(rows: list[Any], left_out: Counter[str]) -> dict[Any, Node]:
    """Return the messages of the older form, each the parent of the next."""
    good = [row for row in rows if isinstance(row, dict)]
    return {place: _node({**row, "parentId": place - 1 if place else None}, left_out) for place, row in enumerate(good)}


def _node(row: dict[str, Any], left_out: Counter[str]) -> Node:
    node = Node(row.get("parentId"), children=entries(row.get("childrenIds")))
    content = row.get("content")
    parts = entries(content)
    text = "\n\n".join(words(fields_of(part).get("text")) for part in parts) if parts else words(content)
    thoughts = words(row.get("reasoning_content"))
    if row.get("role") == "assistant":
        text, inside = _apart(text)
        thoughts = thoughts or inside
    pictures = sum(not isinstance(fields_of(part).get("text"), str) for part in parts)
    left_out[_PICTURES] += pictures + len(entries(row.get("files")))
    role, error = role_of(row.get("role")), _error(row.get("error"))
    if role is None or not (text.strip() or (error and role == "assistant")):
        left_out["messages of tools or of an unknown role left out"] += role is None
        node.thoughts = thoughts
        return node
    is_reply = role == "assistant"
    sources = storable(entries(row.get("sources")) or entries(row.get("citations")))
    usage = storable(fields_of(row.get("usage")))
    node.message = Message(
        role,
        text,
        timestamp=moment(row.get("timestamp")),
        model=(words(row.get("model")) or None) if is_reply else None,
        incomplete=is_reply and (row.get("done") is False or error is not None),
        error=error if is_reply else None,
        reasoning=(thoughts or None) if is_reply else None,
        sources=(sources or None) if is_reply else None,
        usage=(usage or None) if is_reply else None,
    )
    return node


def _apart(text: str) -> tuple[str, str]:
    """Return a reply's words and what the model thought before, which Open WebUI keeps in one text."""
    words_of, thoughts, at = [], [], 0
    while found := _THOUGHTS.search(text, at):
        end = text.find(_END, found.end())
        if end < 0:
            break
        words_of.append(text[at : found.start()])
        thoughts.append(re.sub(r"(?m)^> ?", "", html.unescape(text[found.end() : end]).strip()))
        at = end + len(_END)
    if not at:
        return text, ""
    return ("".join(words_of) + text[at:]).strip(), "\n\n".join(filter(None, thoughts))


def _error(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content") or value.get("detail") or value.get("message") or "it failed"
    return words(value) or ("it failed" if value is True else None)
