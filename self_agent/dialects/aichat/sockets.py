"""The WebSocket: it takes a user's messages, and gets every reply of its session, whoever asked for it.

A session that does not exist yet can be listened to; the first message creates it. Two threads serve a
connection: the request's own receives, the other follows the replies, so a client that reads slowly
delays nobody but itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Union

from flask import Blueprint, current_app, g, request

from core.errors import AppError, InvalidRequest, NotFound
from core.web import ViewResult
from self_agent.dialects.aichat.functions import DEFAULT_TITLE
from self_agent.dialects.aichat.websocket import Closed, Goodbye, WebSocket
from self_agent.dialects.base import conversations, user
from self_agent.encoders import frames
from self_agent.models import Conversation, check_id
from self_agent.turns.turn import Turn

log = logging.getLogger(__name__)

HEARTBEAT = 30.0  # seconds between two heartbeats
SILENCE = 60.0  # seconds without anything from the client after which it is gone
LOOK = 1.0  # seconds of a silent reply after which its follower sees whether the client is still there

Turns = SimpleQueue[Union[Turn, None]]  # None: there will be no more

blueprint = Blueprint("sockets", __name__)


@blueprint.route("/ws", websocket=True)
@blueprint.route("/ws/<session_id>", websocket=True)
def talk(session_id: str | None = None) -> ViewResult:
    """Serve a connection until it is over."""
    session_id = check_id(session_id or request.args.get("session_id", ""))
    turns: Turns = SimpleQueue()
    unlisten = conversations.listen(user(), session_id, turns.put)
    try:
        with WebSocket(request, current_app.config["MAX_CONTENT_LENGTH"]) as connection:
            find = partial(conversations.find, user(), session_id)
            follower = threading.Thread(target=_follow, args=(connection, turns, find), daemon=True)
            follower.start()
            _converse(connection, session_id)
            turns.put(None)
            follower.join()
            connection.close(Goodbye.GOING_AWAY, "the server is stopping")
    except Closed:
        pass
    finally:
        unlisten()
        turns.put(None)
    return b"", 101, {}  # for the access log: the connection is shut


@blueprint.get("/ws")
@blueprint.get("/ws/<session_id>")
def explain(session_id: str | None = None) -> ViewResult:
    """Answer who comes without a handshake."""
    raise InvalidRequest("this path is a WebSocket: connect with ws://")


# --- in the request's thread


def _converse(connection: WebSocket, session_id: str) -> None:
    """Take messages and send heartbeats until the server stops. Raises Closed."""
    pinged = time.monotonic()
    while not conversations.turns.closing:
        frame = connection.receive()
        if frame is not None:
            _take(connection, session_id, frame)
        now = time.monotonic()
        if now - connection.heard >= SILENCE:
            connection.close(Goodbye.POLICY_VIOLATION, "no answer to the heartbeats")
            raise Closed
        if now - pinged >= HEARTBEAT:
            connection.send(frames.HEARTBEAT)
            pinged = now


def _take(connection: WebSocket, session_id: str, frame: str) -> None:
    try:
        _act(session_id, frame)
    except AppError as error:
        connection.send(frames.error(error.message))
    except Exception:
        log.exception("request %s: a message failed", g.request_id)
        connection.send(frames.error(f"internal error; the server's log has it under request {g.request_id}"))


def _act(session_id: str, frame: str) -> None:
    """Do what a message asks for; one of an unknown type asks for nothing."""
    try:
        fields = frames.decode(frame)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    if fields.get("type") == "stop":
        conversations.stop(user(), session_id)
    elif fields.get("type") == "user":
        content = fields.get("content")
        if not isinstance(content, str):
            raise InvalidRequest("content: input should be a valid string")
        conversations.send(user(), session_id, content, title=DEFAULT_TITLE)


# --- in a thread of its own


def _follow(connection: WebSocket, turns: Turns, find: Callable[[], Conversation]) -> None:
    """Send the replies, one after the other, each from its start."""
    try:
        while (turn := turns.get()) is not None:
            try:
                find()  # it may be another user's by now
            except NotFound:
                continue
            for batch in turn.follow(first_silence=LOOK, silence=LOOK):
                texts = (frames.encode(event, turn.id) for event in batch)
                connection.send(*filter(None, texts))
    except Closed:
        pass
    except Exception:
        log.exception("a reply could not be sent to a WebSocket")
        connection.close(Goodbye.INTERNAL_ERROR)
