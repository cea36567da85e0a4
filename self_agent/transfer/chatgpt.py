"""ChatGPT's `conversations.json`: each chat has a `mapping` of nodes, most of which are no words of the chat.

The work of tools, hidden context and pictures are left out and counted; what the model thought goes to its reply.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from self_agent.models import Message
from self_agent.transfer.chats import (
    Chat,
    Node,
    NotAChat,
    counted,
    entries,
    fields_of,
    grown,
    moment,
    role_of,
    title_of,
    words,
)  # fmt: skip

SOURCE = "ChatGPT"

_SPOKEN = ("text", "multimodal_text")
_SILENT = ("reasoning_recap", "user_editable_context", "model_editable_context")  # nothing that anybody said
_TOOLS, _PICTURES = "messages of tools left out", "pictures or files left out"


def is_one(document: dict[str, Any]) -> bool:
    """Say whether a document has the shape of this format."""
    return isinstance(document.get("mapping"), dict)


def parse(document: dict[str, Any]) -> Chat:
    """Read a chat. Raises NotAChat."""
    left_out: Counter[str] = Counter()
    nodes = {name: _node(node, left_out) for name, node in document["mapping"].items() if isinstance(node, dict)}
    notes: list[str] = []
    messages, shown = grown(nodes, document.get("current_node"), notes)
    if not messages and not document["mapping"]:
        raise NotAChat("it has no messages")
    title = title_of(document.get("title"), notes)
    for what, count in left_out.items():
        notes += counted(count, what)
    return Chat(
        source=SOURCE,
        key=words(document.get("conversation_id")) or words(document.get("id")),
        messages=messages,
        shown=shown,
        created_at=moment(document.get("create_time")),
        updated_at=moment(document.get("update_time")),
        fields={
            "title": title,
            "archived": document.get("is_archived") is True,
            "pinned": document.get("is_starred") is True or bool(moment(document.get("pinned_time"))),
        },
        notes=tuple(notes),
    )


def _node(node: dict[str, Any], left_out: Counter[str]) -> Node:
    message = fields_of(node.get("message"))
    found = Node(node.get("parent"), children=entries(node.get("children")))
    content, metadata = fields_of(message.get("content")), fields_of(message.get("metadata"))
    if content.get("content_type") == "thoughts":
        found.thoughts = _thoughts(content)
        return found
    author = fields_of(message.get("author")).get("role")
    recipient = message.get("recipient", "all")
    if not message or content.get("content_type") in _SILENT or metadata.get("is_visually_hidden_from_conversation"):
        return found
    if author == "tool" or recipient not in ("all", None) or content.get("content_type") not in (*_SPOKEN, None):
        left_out[_TOOLS] += 1
        return found
    role = role_of(author)
    parts = content.get("parts")
    texts = [_text(part) for part in (entries(parts) or [parts or content.get("text")])]
    text = "\n\n".join(part for part in texts if part.strip())
    pictures = sum(isinstance(part, dict) and not _text(part) for part in entries(parts))
    left_out[_PICTURES] += max(pictures, len(entries(metadata.get("attachments"))))
    if role is None or not text:
        if text:
            left_out["messages of an unknown role left out"] += 1
        return found
    model = words(metadata.get("model_slug")) or None
    found.message = Message(
        role,
        text,
        timestamp=moment(message.get("create_time")),
        model=model if role == "assistant" else None,
        incomplete=message.get("status") == "in_progress",
        error=None,
    )
    return found


def _text(part: Any) -> str:
    """Return the words of a part: it is a text, or an object with a text, such as what was heard of a recording."""
    return words(part.get("text")) if isinstance(part, dict) else words(part)


def _thoughts(content: dict[str, Any]) -> str:
    pieces = []
    for thought in map(fields_of, entries(content.get("thoughts"))):
        heading, text = words(thought.get("summary")), words(thought.get("content"))
        pieces.append(f"**{heading}**\n\n{text}" if heading and text else heading or text)
    return "\n\n".join(filter(None, pieces))
