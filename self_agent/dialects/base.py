"""What a dialect is, and the few things that every one of them needs to be a translation and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, cast

from flask import Blueprint, current_app, g, request
from pydantic import Field, WithJsonSchema
from werkzeug.local import LocalProxy

from core.errors import AppError
from self_agent import keys, listening, streams
from self_agent.conversations import Conversations
from self_agent.encoders.base import Framing
from self_agent.models import Message
from self_agent.openapi import Headers
from self_agent.shelves import Shelves
from self_agent.streams import Stream
from self_agent.transfer import Transfer
from self_agent.turns.hub import Hub
from self_agent.turns.turn import Turn

REPEATS = (
    "Any text that is new with each message. When the same comes again within 24 hours, with this path and body, also"
    " while the reply is running or after a restart, nothing is stored twice and the first answer comes again."
)
Key = Annotated[str, WithJsonSchema({"type": "string", "pattern": keys.PATTERN})]


@dataclass(frozen=True)
class Dialect:
    """One frontend's way of speaking.

    `mounts` are the path roots it answers for, before a prefix: no other dialect may claim them, and errors
    below them have its envelope, unless another's root lies below them. `error_body(error)` returns that envelope and
    the status sent with it. `prefix` is where it is served unless a setting says otherwise. `brings` names a dialect
    that is served beside it where a setting does not name that one.
    """

    name: str
    mounts: tuple[str, ...]
    blueprint: Blueprint
    error_body: Callable[[AppError], tuple[Any, int]]
    prefix: str = ""
    brings: str = ""


conversations = cast(Conversations, LocalProxy(lambda: current_app.extensions["self_agent"].conversations))
shelves = cast(Shelves, LocalProxy(lambda: current_app.extensions["self_agent"].shelves))
transfer = cast(Transfer, LocalProxy(lambda: current_app.extensions["self_agent"].transfer))


def hub() -> Hub:
    """Return the hub of the current app."""
    return cast(Hub, current_app.extensions["self_agent"].turns.hub)


def user() -> str:
    """Return the id of the user who asks."""
    return cast(str, g.user_id)


def callers_key() -> str | None:
    """Return the key for the model's server that the request carries, if it does.

    With auth on the header holds the user's token, which is nobody's business but ours.
    """
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if g.auth_enabled or scheme.lower() != "bearer":
        return None
    return key.strip() or None


class Keyed(Headers):
    """The key by which a send can be repeated."""

    key: Key | None = Field(None, alias="Idempotency-Key", description=REPEATS)

    @property
    def stored(self) -> str | None:
        """What a `Message` keeps of the key of the current request. Raises InvalidRequest for what is no key."""
        if self.key is None:
            return None
        return keys.stored_key(request.path.rstrip("/"), keys.check_key(self.key), request.get_data())


def finished(turn: Turn) -> Message | None:
    """Wait for a reply as long as the client does, and return it. Raises the AppError that it failed with."""
    return turn.wait(streams.check_client(request)).message


def event_stream(turn: Turn, framing: Framing) -> Stream:
    """Answer with a reply as it comes. Raises the AppError of one that failed before there was anything to show."""
    return streams.event_stream(hub(), request, turn, framing)


def live_list(after: str) -> Stream:
    """Answer with what happens to the chats of the user who asks, behind the event `after`."""
    feed = current_app.extensions["self_agent"].feed
    return listening.listened(hub(), request, feed, user(), after, g.expires)


def relayed(body: Iterable[bytes]) -> Iterator[bytes]:
    """Return what a view has to return to pass a body on."""
    return streams.relayed(hub(), request, body)
