"""Chats as other programs write them, made small."""

from __future__ import annotations

from typing import Any

START = 1_700_000_000.0


def node(
    name: str,
    parent: str | None,
    role: str = "",
    text: Any = None,
    *,
    children: list[str] | None = None,
    at: float = 0,
    kind: str = "text",
    **more: Any,
) -> dict[str, Any]:
    """A node of ChatGPT's mapping; without a role it has no message."""
    message: dict[str, Any] | None = None
    if role:
        parts = text if isinstance(text, list) else [text]
        message = {
            "id": name,
            "author": {"role": role, "name": None, "metadata": {}},
            "create_time": START + at if at else None,
            "content": {"content_type": kind, "parts": parts},
            "status": "finished_successfully",
            "recipient": "all",
            "metadata": {},
            **more,
        }
    return {"id": name, "message": message, "parent": parent, "children": children or []}


def chatgpt(*nodes: dict[str, Any], current: str | None = None, **more: Any) -> dict[str, Any]:
    """A chat of ChatGPT."""
    return {
        "title": "On rivers",
        "create_time": START,
        "update_time": START + 100.5,
        "mapping": {each["id"]: each for each in nodes},
        "current_node": current,
        "conversation_id": "67f0c1d2-0000-8000-9000-000000000001",
        "is_archived": False,
        **more,
    }


def regenerated(**more: Any) -> dict[str, Any]:
    """A chat of ChatGPT with a question whose first reply is shown although there is a second, and tools in between."""
    thought = {"content_type": "thoughts", "thoughts": [{"summary": "Length", "content": "It is long."}]}
    return chatgpt(
        node("root", None, children=["sys"]),
        node("sys", "root", "system", "", children=["ask"]),
        node("ask", "sys", "user", "How long is the Nile?", children=["think", "second"], at=1),
        node("think", "ask", "assistant", "", children=["call"], content=thought),
        node("call", "think", "assistant", "search()", children=["found"], kind="code", recipient="browser"),
        node("found", "call", "tool", "6650", children=["first"]),
        node("first", "found", "assistant", "6650 km.", at=3, metadata={"model_slug": "o3"}),
        node("second", "ask", "assistant", "Very long.", at=9, metadata={"model_slug": "gpt-4o"}),
        current="first",
        **more,
    )


def webui(messages: dict[str, Any] | None = None, current: str | None = "a2", **more: Any) -> dict[str, Any]:
    """A chat of Open WebUI, with two replies to one question of which the second is shown."""
    history = {
        "q": {"id": "q", "parentId": None, "childrenIds": ["a1", "a2"], "role": "user", "content": "Hi?",
              "timestamp": int(START), "models": ["qwen"]},
        "a1": {"id": "a1", "parentId": "q", "childrenIds": [], "role": "assistant", "content": "Hello.",
               "timestamp": int(START) + 1, "model": "qwen", "done": True, "usage": {"total_tokens": 3}},
        "a2": {"id": "a2", "parentId": "q", "childrenIds": [], "role": "assistant", "model": "llama",
               "content": '<details type="reasoning" done="true" duration="2">\n<summary>Thought</summary>\n'
                          "&gt; It &amp; I\n</details>\nHello there.",
               "timestamp": int(START) + 2, "sources": [{"source": {"name": "a"}}]},
    }  # fmt: skip
    return {
        "id": "b7e3",
        "user_id": "u",
        "title": "Greetings",
        "chat": {"history": {"messages": history if messages is None else messages, "currentId": current}},
        "created_at": int(START),
        "updated_at": int(START) + 60,
        "archived": True,
        "pinned": True,
        "meta": {"tags": ["polite", "short"]},
        "folder_id": "f-1234567890",
        **more,
    }
