"""The nouns: what a conversation, a message, a project and a shelf are, whatever stores or shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from core.errors import InvalidRequest

LOCAL_USER = "local"  # the one user there is while auth is off
POSITION_BITS = 20  # a message id is `number << 20 | position`: unique, and it names its conversation
MAX_POSITION = (1 << POSITION_BITS) - 1  # messages a conversation can hold
MAX_NUMBER = (1 << 33) - 1  # so that an id stays below 2**53, the last integer JavaScript can hold
MAX_ID = MAX_NUMBER << POSITION_BITS | MAX_POSITION
SUMMARY_LENGTH = 200  # characters of the latest message that lists carry
MAX_TITLE = 500  # characters of a title or a project's name: lists carry them all
CUT_OFF = "the server stopped before the reply was finished"  # the `error` of a reply that only a checkpoint kept
NAME_LENGTH = 10  # characters of the first user message that name a conversation without a title
FIRST_LENGTH = 80  # characters of the first user message that lists carry

T = TypeVar("T")

ROLES = frozenset({"user", "assistant", "system"})

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Message:
    """One message as it is stored.

    `id` 0 and `timestamp` "" mean "not stored yet": the store fills them in. `timestamp` is in the form
    of `core.clock`. Of a reply: `model` is the one that answered, `incomplete` says that it was stopped
    or cut off (`error` says by what), `reasoning` is the model's thinking, `sources` and `usage` are the
    upstream's own objects. `parent` is the id of the message that it follows where that is not the one before it, 0
    where it begins the conversation anew; to a store None says "whatever is shown last". `key` is what is kept of the
    key that a question, or the wish for another reply, was sent with (see `keys`); no answer and no export shows it.
    `extra` is what few messages have: `calls`, the functions that a reply wants called, each `{"call_id", "name",
    "arguments"}`; `call_id`, which of them a question is the result of; `role`, what OpenAI's API calls a message that
    is `system` here; `asked`, how a question wants to be answered; `finish_reason`, why a reply was cut short.
    """

    role: str
    content: str
    id: int = 0
    timestamp: str = ""
    model: str | None = None
    incomplete: bool = False
    error: str | None = None
    reasoning: str | None = None
    sources: list[Any] | None = None
    usage: dict[str, Any] | None = None
    edited_at: str | None = None
    is_deleted: bool = False
    parent: int | None = None
    key: str | None = None
    extra: dict[str, Any] | None = None


class Metadata(dict[str, str]):
    """What a client wants kept with a conversation: words by their names. Nobody changes it in place."""

    def __hash__(self) -> int:  # type: ignore[override] # conversations that are alike share theirs
        return hash(frozenset(self.items()))


def _settable(default: Any) -> Any:
    return field(default=default, metadata={"settable": True})


@dataclass(frozen=True)
class Conversation:
    """What lists and headings need of a conversation; its messages are read page by page.

    `title` is `None` until somebody sets one. Lists begin with the `pinned` ones, and leave out those that are
    `archived` unless they are asked for. `count` counts the messages that are not deleted. `first`
    is the beginning of the first user message, `summary` the beginning of the latest message. Lists leave out a draft,
    for which only settings were chosen, until it has a message. What can be set
    stands together: a field that is added there, with a default, is all that the stores need.
    """

    id: str
    number: int
    user_id: str
    created_at: str
    updated_at: str
    title: str | None = _settable(None)
    system_prompt: str | None = _settable(None)
    model: str | None = _settable(None)
    project_id: int = _settable(0)
    is_draft: bool = _settable(False)
    metadata: Metadata | None = _settable(None)
    pinned: bool = _settable(False)
    archived: bool = _settable(False)
    count: int = 0
    first: str = ""
    summary: str = ""

    @property
    def is_listed(self) -> bool:
        """Whether lists show it, unless it is a draft whose messages are all hidden again."""
        return not self.is_draft or self.count > 0

    @property
    def name(self) -> str:
        """The title that was set, else the first characters of the first user message."""
        return self.title or self.first[:NAME_LENGTH]

    @property
    def first_line(self) -> str:
        """The first line that says something at the beginning of the first user message."""
        return self.first.strip().partition("\n")[0].strip()


# What `Store.create` and `Store.update` take, with the defaults.
SETTABLE: dict[str, Any] = {item.name: item.default for item in fields(Conversation) if item.metadata}


@dataclass(frozen=True)
class Project:
    """A folder of conversations; id 0 is "no project" and is never stored."""

    id: int
    name: str
    user_id: str
    created_at: str


@dataclass(frozen=True)
class Folder:
    """Conversations that a user put together: the number of each by its id, in the order in which they were added."""

    id: str
    name: str
    conversations: dict[str, int]
    created_at: str
    updated_at: str


@dataclass(frozen=True)
class Tag:
    """A word on a conversation, which `number` tells from a later one with the same id."""

    id: str
    conversation_id: str
    number: int
    tag: str
    created_at: str
    updated_at: str


@dataclass(frozen=True)
class Shelf:
    """A user's folders and tags, oldest first."""

    folders: tuple[Folder, ...] = ()
    tags: tuple[Tag, ...] = ()


@dataclass(frozen=True)
class Page(Generic[T]):
    """A slice of a list and how long the whole list is."""

    items: list[T]
    total: int


def check_id(conversation_id: str) -> str:
    """Return the id if it may name a conversation. Raises InvalidRequest.

    1 to 128 letters, digits, `.`, `_`, `-`, not starting with a dot (contract, point 3).
    """
    if not _ID.fullmatch(conversation_id):
        raise InvalidRequest("conversation id: use 1 to 128 letters, digits, '.', '_' or '-', not starting with a dot")
    return conversation_id


def check_title(title: str) -> str:
    """Return what may be a conversation's title or a project's name. Raises InvalidRequest when it is too long."""
    if len(title) > MAX_TITLE:
        raise InvalidRequest(f"a name has at most {MAX_TITLE} characters, this one {len(title)}")
    return title


def id_at(number: int, position: int) -> int:
    """Return the id of the message at a position, from 1, of the conversation with a number."""
    return number << POSITION_BITS | position


def number_of(message_id: int) -> int:
    """Return the number of the conversation that a message belongs to."""
    return message_id >> POSITION_BITS


def position_of(message_id: int) -> int:
    """Return the position that a message was given in its conversation."""
    return message_id & MAX_POSITION


def calls_of(message: Message) -> list[dict[str, str]]:
    """Return the functions that a reply wants called, as far as somebody who edited the file left them whole."""
    calls = (message.extra or {}).get("calls")
    if not isinstance(calls, list):
        return []
    names = ("call_id", "name", "arguments")
    return [call for call in calls if isinstance(call, dict) and all(isinstance(call.get(name), str) for name in names)]


def result_of(message: Message) -> str | None:
    """Return the `call_id` of the call that a question is the result of, None for all other messages."""
    call_id = (message.extra or {}).get("call_id")
    return call_id if isinstance(call_id, str) else None


def first_of(role: str, content: str) -> str:
    """Return what a message gives to tell its conversation from others: the start of a user's words."""
    return content[:FIRST_LENGTH] if role == "user" else ""


def summary_of(content: str) -> str:
    """Return what lists carry of the latest message."""
    return content[:SUMMARY_LENGTH]
