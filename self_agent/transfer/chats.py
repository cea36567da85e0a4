"""A chat on its way in, whatever wrote it: what every format is turned into, and how its values are believed.

What comes from outside is text, a time or a tree only if it looks like one; nothing here raises for what does not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from core import clock
from self_agent.models import MAX_TITLE, ROLES, Message

MAX_NAME = 500  # characters of the name of a folder or of a tag
_DEEPER = 32  # levels that an answer or a file may put around a value


class NotAChat(ValueError):
    """Raised when something is not the chat that it looks like; says why."""


@dataclass(frozen=True)
class Group:
    """A folder that a chat is in: by its name, and by an id where the source has one."""

    name: str
    id: str | None = None


@dataclass(frozen=True)
class Chat:
    """A chat as it was in its source.

    `messages` have ids that are only names, and `parent`s that refer to them (0: none); the branch through the message
    `shown` is the one that was shown. `fields` are of `models.SETTABLE`. `notes` say what was left out, or changed.
    """

    source: str  # the format
    key: str  # the source's own id of the chat
    messages: list[Message]
    shown: int
    created_at: str = ""
    updated_at: str = ""
    wanted_id: str | None = None  # the conversation's id, if it may be had
    fields: dict[str, Any] = field(default_factory=dict)
    project: str | None = None
    groups: tuple[Group, ...] = ()
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Node:
    """A place in a tree of messages; one without a message is passed over, and its thoughts go to what follows."""

    parent: Any
    message: Message | None = None
    children: list[Any] = field(default_factory=list)  # in the source's order
    thoughts: str = ""


def loads(data: bytes) -> Any:
    """Parse JSON as leniently as can be: NaN, halves of surrogate pairs, a key named twice. Raises NotAChat."""
    try:
        return orjson.loads(data)
    except ValueError as error:
        reason = str(error)
    try:
        return json.loads(data)
    except RecursionError:
        raise NotAChat("it is nested too deeply") from None
    except ValueError:
        raise NotAChat(f"it is not JSON: {reason}") from None


def words(value: Any) -> str:
    """Return a text that any file can hold, or "" for what is none."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:  # halves of surrogate pairs
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def moment(value: Any) -> str:
    """Return a time, from ISO 8601 or from seconds, milli-, micro- or nanoseconds since 1970; "" for what is none.

    A time that is still to come is none either: its chat would head every list until then.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 < value < 1e20 or not math.isfinite(value):
            return ""
        while value > 1e11:  # the year 5138 in seconds, 1973 in milliseconds
            value /= 1000
        found = clock.from_microseconds(round(value * 1_000_000))
    else:
        found = clock.normalize_or(value, "")
    return found if found <= clock.horizon() else ""


def title_of(value: Any, notes: list[str]) -> str | None:
    """Return a title of one line, cut where it is too long, which is noted; None for none."""
    title = words(value)
    if len(title) > MAX_TITLE:
        notes.append(f"title cut to {MAX_TITLE} characters")
        title = title[:MAX_TITLE]
    return " ".join(title.split()) or None


def names_of(value: Any) -> tuple[str, ...]:
    """Return the names in a list of texts, or of objects with a `name`, each once."""
    found = (words(each.get("name") if isinstance(each, dict) else each) for each in entries(value))
    return tuple(dict.fromkeys(name.strip()[:MAX_NAME] for name in found if name.strip()))


def entries(value: Any) -> list[Any]:
    """Return a list, or an empty one for what is none."""
    return value if isinstance(value, list) else []


def fields_of(value: Any) -> dict[str, Any]:
    """Return an object, or an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def storable(value: Any) -> Any:
    """Return a value that every answer and every file can hold, or None for one that is nested too deeply."""
    for _ in range(_DEEPER):
        value = [value]
    try:
        value = orjson.loads(orjson.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return None
    for _ in range(_DEEPER):
        [value] = value
    return value


def role_of(value: Any) -> str | None:
    """Return what may be the role of a message here, or None."""
    return value if isinstance(value, str) and value in ROLES else None


def counted(count: int, what: str) -> list[str]:
    """Return a note that so many things were left out; none for 0."""
    return [f"{count} {what}"] if count else []


def grown(nodes: Mapping[Any, Node], shown: Any, notes: list[str]) -> tuple[list[Message], int]:
    """Return the messages of a tree, parents first and siblings in their order, and which of them was shown.

    A node whose parent is missing begins the chat anew, and so does one of each circle.
    """
    below, roots, missing = _children(nodes)
    notes += counted(missing, "messages whose parent is missing begin anew")
    messages: list[Message] = []
    last: dict[Any, int] = {}  # by node: the id of the last message on the way to it, itself included
    time = ""
    waiting = iter(nodes)
    circles = 0
    stack: list[tuple[Any, int, _Thought | None]] = [(root, 0, None) for root in reversed(roots)]
    while len(last) < len(nodes):
        if not stack:  # what nothing leads to goes in a circle
            stack.append((next(name for name in waiting if name not in last), 0, None))
            circles += 1
        name, parent, thought = stack.pop()
        if name in last:
            continue
        node = nodes[name]
        if node.thoughts:
            thought = _Thought(node.thoughts, thought)
        if node.message is not None:
            time = node.message.timestamp or time
            reasoning = node.message.reasoning
            if node.message.role == "assistant":
                reasoning = reasoning or _taken(thought)
            new = replace(node.message, id=len(messages) + 1, parent=parent, timestamp=time, reasoning=reasoning)
            messages.append(new)
            parent, thought = new.id, None
        last[name] = parent
        stack += ((child, parent, thought) for child in reversed(below.get(name, ())))
    notes += counted(circles, "circles of messages were cut open")
    is_known = isinstance(shown, (str, int)) and shown in last
    return messages, (last[shown] if is_known else 0) or len(messages)


@dataclass
class _Thought:
    """What was thought on the way to a reply; the first reply that follows has it."""

    text: str
    before: _Thought | None


def _taken(thought: _Thought | None) -> str | None:
    pieces = []
    while thought is not None and thought.text:
        pieces.append(thought.text)
        thought.text, thought = "", thought.before
    return "\n\n".join(reversed(pieces)) or None


def _children(nodes: Mapping[Any, Node]) -> tuple[dict[Any, list[Any]], list[Any], int]:
    """Return who follows whom, in the order in which the parents name them, who follows nobody, and how many should."""
    below: dict[Any, list[Any]] = {}
    roots: list[Any] = []
    missing = 0
    for name, node in nodes.items():
        if isinstance(node.parent, (str, int)) and node.parent in nodes and node.parent != name:
            below.setdefault(node.parent, []).append(name)
        else:
            missing += node.parent is not None and node.parent != name
            roots.append(name)
    for name, names in below.items():
        if len(names) > 1:
            order = {child: place for place, child in enumerate(_hashable(nodes[name].children))}
            names.sort(key=lambda child: order.get(child, len(order)))
    return below, roots, missing


def _hashable(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, (str, int))]
