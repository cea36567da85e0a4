"""The WebSocket: it takes a user's messages, and gets every reply of its session, whoever asked for it.

A session that does not exist yet can be listened to; the first message creates it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, cast

from flask import Blueprint, current_app, g, request

from core.errors import AppError, InvalidRequest, NotYours
from core.web import ViewResult
from self_agent import keys
from self_agent.conversations import Conversations
from self_agent.dialects.aichat.functions import DEFAULT_TITLE
from self_agent.dialects.aichat.websocket import WebSocket, handshake
from self_agent.dialects.base import conversations, hub, user
from self_agent.encoders import frames
from self_agent.models import check_id
from self_agent.outlet import Follower, Lent
from self_agent.streams import taken_over
from self_agent.turns.turn import Turn

log = logging.getLogger(__name__)

blueprint = Blueprint("sockets", __name__)


@blueprint.route("/ws", websocket=True)
@blueprint.route("/ws/<session_id>", websocket=True)
def talk(session_id: str | None = None) -> ViewResult:
    """Open a connection, and leave it to the hub."""
    session_id = check_id(session_id or request.args.get("session_id", ""))
    if conversations.owner(session_id) not in (None, user()):
        raise NotYours("this session does not exist")
    service = cast(Conversations, conversations._get_current_object())  # type: ignore[attr-defined]
    limit = current_app.config["MAX_CONTENT_LENGTH"]
    open_on = partial(WebSocket, hub(), handshake(request), limit, frames.HEARTBEAT)
    serve = partial(_serve, service, user(), session_id, g.request_id)
    expires = g.expires

    def begin(lent: Lent) -> None:
        connection = open_on(lent)
        connection.expires = expires
        serve(connection)

    return taken_over(request, begin), 200, {}


def _serve(service: Conversations, user_id: str, session_id: str, request_id: str, connection: WebSocket) -> None:
    """Send every reply of the session, and do what the messages ask for."""

    def follow(turn: Turn) -> None:
        Follower(turn, frames.framing(turn.id, connection.frame), connection, ends=False).start()

    connection.act = partial(_act, partial(_do, service, user_id, session_id, follow), request_id, connection)
    connection.start()
    unlisten = service.listen(user_id, session_id, follow)
    with connection.lock:
        is_gone = connection.is_gone
        if not is_gone:
            connection.at_end = unlisten
    if is_gone:  # it ended while the store was asked
        unlisten()


@blueprint.get("/ws", endpoint="explain_ws")
@blueprint.get("/ws/<session_id>")
def explain(session_id: str = "") -> NoReturn:
    """Open a WebSocket, with `ws://` and a handshake; who comes without one is refused."""
    raise InvalidRequest("this path is a WebSocket: connect with ws://")


def _act(do: Callable[[str], None], request_id: str, connection: WebSocket, frame: str) -> None:
    try:
        do(frame)
    except AppError as error:
        connection.send(connection.frame(frames.error(error.message)))
    except Exception:
        log.exception("request %s: a message failed", request_id)
        sentence = f"internal error; the server's log has it under request {request_id}"
        connection.send(connection.frame(frames.error(sentence)))


def _do(service: Conversations, user_id: str, session_id: str, follow: Callable[[Turn], None], frame: str) -> None:
    """Do what a message asks for; one of an unknown type asks for nothing. `follow` shows a turn nobody was told of."""
    try:
        fields = frames.decode(frame)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    if fields.get("type") == "stop":
        service.stop(user_id, session_id)
    elif fields.get("type") == "user":
        content = fields.get("content")
        if not isinstance(content, str):
            raise InvalidRequest("content: input should be a valid string")
        turn = service.send(
            user_id, session_id, content, new={"title": DEFAULT_TITLE}, attend=False, key=_key(fields, content)
        )
        if turn.is_stored:  # all others are followed already
            follow(turn)


def _key(fields: dict[str, Any], content: str) -> str | None:
    """Return what is kept of the key of a message; without one it is null, or not there."""
    key = fields.get("idempotency_key")
    if key is None:
        return None
    return keys.stored_key("/ws", keys.check_key(key if isinstance(key, str) else ""), content.encode())
