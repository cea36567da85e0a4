"""A chat for reading: the branch that is shown, as Markdown; what a message says is left as it is."""

from __future__ import annotations

from typing import Any

from core import clock

_NAMES = {"user": "User", "assistant": "Assistant", "system": "System"}


def page(chat: dict[str, Any]) -> str:
    """Return a chat, as `own.record` has it, as a page."""
    messages = branch(chat["messages"], chat["shown"])
    first = next((message["content"] for message in messages if message["role"] == "user"), "")
    title = " ".join((chat["title"] or first[:80]).split()) or chat["conversation_id"]
    facts = [f"{clock.to_seconds(chat['created_at'])} – {clock.to_seconds(chat['updated_at'])}"]
    facts += [f"project: {chat['project']}"] if chat["project"] else []
    facts += [f"folders: {', '.join(chat['folders'])}"] if chat["folders"] else []
    facts += [f"tags: {', '.join(chat['tags'])}"] if chat["tags"] else []
    parts = [f"# {title}", "*" + " · ".join(" ".join(fact.split()) for fact in facts) + "*"]
    if chat["system_prompt"]:
        parts.append(quoted(chat["system_prompt"]))
    return "\n\n".join([*parts, *map(section, messages)]) + "\n"


def branch(messages: list[dict[str, Any]], shown: int) -> list[dict[str, Any]]:
    """Return the messages from the first to the one that is shown last; `id`s are places, from 1."""
    found = []
    while shown:
        found.append(messages[shown - 1])
        shown = messages[shown - 1]["parent"]
    return found[::-1]


def section(message: dict[str, Any]) -> str:
    """Return a message under its heading."""
    model = f" ({message['model']})" if message.get("model") else ""
    parts = [f"## {_NAMES.get(message['role'], message['role'])}{model}, {clock.to_seconds(message['timestamp'])}"]
    if message.get("reasoning"):
        parts.append(f"<details><summary>Reasoning</summary>\n\n{message['reasoning']}\n\n</details>")
    parts.append(message["content"])
    if message.get("incomplete"):
        parts.append(f"*(incomplete{': ' + message['error'] if message.get('error') else ''})*")
    return "\n\n".join(parts)


def quoted(text: str) -> str:
    """Return a text as a block quote."""
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
