"""What a dialect is, and the few things that every one of them needs to be a translation and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from flask import Blueprint, current_app, g, request
from werkzeug.local import LocalProxy

from core.errors import AppError
from self_agent import streams
from self_agent.conversations import Conversations
from self_agent.encoders import sse
from self_agent.events import Event
from self_agent.turns.turn import Turn

Stream = tuple[Iterator[bytes], int, dict[str, str]]


@dataclass(frozen=True)
class Dialect:
    """One frontend's way of speaking.

    `mounts` are the path roots it answers for, before a prefix: no other dialect may claim them, and errors
    below them have its envelope. `error_body(error)` returns that envelope and the status sent with it.
    """

    name: str
    mounts: tuple[str, ...]
    blueprint: Blueprint
    error_body: Callable[[AppError], tuple[Any, int]]


def _current() -> Conversations:
    return cast(Conversations, current_app.extensions["self_agent"])


conversations = cast(Conversations, LocalProxy(_current))


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


def follow(turn: Turn) -> Iterator[list[Event]]:
    """Wait until the model has accepted the question, then yield batches of events, empty for a ping.

    Raises the AppError of a turn that failed before: it can still be answered with a status.
    """
    turn.wait_started()
    return turn.follow(first_silence=streams.FIRST_PING, silence=streams.PING)


def event_stream(turn: Turn, encode: Callable[[Event], bytes]) -> Stream:
    """Answer with a reply as server-sent events. Raises as `follow` does."""
    turn.wait_started()
    sock = streams.lent_socket(request)
    pieces = streams.follow(turn, encode, sock) if sock else sse.chunks(follow(turn), encode)
    return pieces, 200, sse.HEADERS
