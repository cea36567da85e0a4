"""What happens in a reply, as facts without bytes: encoders turn them into what a client reads.

A reply is `Started (Delta | CallDelta | Sources)* (Done | Failed)`. A provider yields `Delta`, `CallDelta`, `Sources`
and `Info`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Union

from core.errors import AppError
from self_agent.models import CUT_OFF, Message

LAST = (1 << 53) - 1  # the largest integer that JavaScript can hold


@dataclass(frozen=True, slots=True)
class Started:
    """The user's message is stored and the model has accepted the question.

    `message_id` is the id that the reply will have; `turn_id` names the turn for a stop.
    """

    turn_id: str
    conversation_id: str
    user_message_id: int
    message_id: int


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the reply's text, or of the model's reasoning before it."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class CallDelta:
    """The next piece of a call of one of the client's functions; the first piece has its `call_id` and `name`.

    `index` tells the calls of a reply apart, from 0; `arguments` are a piece of JSON.
    """

    index: int
    arguments: str = ""
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Sources:
    """What the reply draws on: `{"type", "id" or "url", "title", …}` each; all so far, not only the new ones."""

    sources: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Info:
    """What the upstream says about its own reply; kept with the message, not sent to readers."""

    model: str | None = None
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The reply ended and is stored. `message` is `None` if it was stopped before its first character."""

    message: Message | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The model failed; the user's message stays, and what was generated is stored as incomplete."""

    error: AppError


def reached(number: int, event: Event) -> int:
    """Return the number of an event behind the one that has `number`: what a reader has then, whatever the pieces were.

    It grows by the characters of each piece and by one with each other event but sources, which are sent again to
    everybody, and calls, which OpenAI's API alone shows and counts by itself. Hence a reply that is running and the
    same one read from the store are numbered alike.
    """
    if isinstance(event, Delta):
        return number + len(event.text) + len(event.reasoning)
    if isinstance(event, (Sources, CallDelta)):
        return number
    if isinstance(event, Done) and event.message and event.message.error == CUT_OFF:
        return LAST  # readers may have had more of it than was kept
    return number + 1


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a user's chats, see `KINDS`; `number` is the conversation's, `id` the place in the feed."""

    kind: str
    conversation_id: str = ""
    number: int = 0
    id: str = ""


# A chat is there, is another than it was, is gone, has begun to answer, has ended that; or: load the list anew.
KINDS = frozenset({"created", "changed", "deleted", "answering", "answered", "reset"})

Tell = Callable[[str, Change], None]  # called with the user whose chats they are; never waits, never raises


def unheard(user_id: str, change: Change) -> None:
    """Tell nobody."""


Event = Union[Started, Delta, CallDelta, Sources, Done, Failed]
Chunk = Union[Delta, CallDelta, Sources, Info]
