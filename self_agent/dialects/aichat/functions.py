"""The functions of the document, with its names and arguments; what they return is ready to be shown.

`db` is the `Conversations` service. The document's functions do not say who asks, so these act for the
owner of what they are given: a caller makes sure first that this is who asks, as `routes` does.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from core import clock
from core.errors import NotFound
from self_agent.conversations import Conversations
from self_agent.models import Conversation, Message

Time = Annotated[str, Field(examples=["2025-04-30T10:00:00Z"])]

DEFAULT_TITLE = "新会话"
SESSIONS = 20  # a page of sessions, unless the caller says otherwise
MESSAGES = 50  # a page of messages


class ChatSession(TypedDict):
    """A session of the document."""

    session_id: str
    user_id: str
    title: str
    message_count: int
    created_at: Time
    updated_at: Time
    is_deleted: bool


class ChatMessage(TypedDict):
    """A message of the document."""

    message_id: int
    session_id: str
    role: str
    content: str
    created_at: Time
    updated_at: Time
    is_deleted: bool


# --- sessions


def create_session(db: Conversations, session_id: str, user_id: str, title: str = DEFAULT_TITLE) -> ChatSession:
    """Create a session. Raises Conflict if the id is taken."""
    return _session(db.create(user_id, session_id, title=title))


def get_session(db: Conversations, session_id: str) -> ChatSession | None:
    """Return a session, or None."""
    owner = db.owner(session_id)
    return _session(db.find(owner, session_id)) if owner else None


def list_sessions(db: Conversations, user_id: str, page: int = 1, page_size: int = SESSIONS) -> list[ChatSession]:
    """Return a page of a user's sessions, newest update first."""
    return [_session(conversation) for conversation in db.page(user_id, page, page_size).items]


def soft_delete_session(db: Conversations, session_id: str) -> bool:
    """Hide a session, stopping its reply; False if there is none."""
    owner = db.owner(session_id)
    if owner:
        db.delete(owner, session_id)
    return owner is not None


def update_session_title(db: Conversations, session_id: str, new_title: str = DEFAULT_TITLE) -> bool:
    """Set the title of a session; False if there is none."""
    owner = db.owner(session_id)
    if owner:
        db.update(owner, session_id, {"title": new_title})
    return owner is not None


# --- messages


def create_message(db: Conversations, session_id: str, content: str, role: str, key: str | None = None) -> ChatMessage:
    """Store a message and return it. One of role `user` is answered, which this does not wait for.

    With `key` (see `keys`) one that was stored with the same is returned. Raises NotFound for an unknown session,
    InvalidRequest for an unknown role or empty content.
    """
    owner = db.owner(session_id)
    if owner is None:
        raise NotFound(f"session {session_id} does not exist")
    if role == "user":
        return _message(session_id, db.send(owner, session_id, content, attend=False, key=key).wait_stored())
    return _message(session_id, db.add(owner, session_id, role, content, key=key))


def get_message(db: Conversations, message_id: int) -> ChatMessage | None:
    """Return a message, or None."""
    owner = db.owner_of_message(message_id)
    with suppress(NotFound):
        if owner:
            conversation, message = db.message(owner, message_id)
            return _message(conversation.id, message)
    return None


def list_messages(db: Conversations, session_id: str, page: int = 1, page_size: int = MESSAGES) -> list[ChatMessage]:
    """Return a page of a session's messages, oldest first; none if there is no session."""
    owner = db.owner(session_id)
    return [_message(session_id, m) for m in db.read(owner, session_id, page, page_size)[1]] if owner else []


def latest_messages(db: Conversations, session_id: str) -> list[ChatMessage]:
    """Return the last messages of a session, oldest first; none if there is no session."""
    owner = db.owner(session_id)
    return [_message(session_id, m) for m in db.recent(owner, session_id, MESSAGES)[1]] if owner else []


def soft_delete_message(db: Conversations, message_id: int) -> bool:
    """Hide a message; False if there is none."""
    owner = db.owner_of_message(message_id)
    return owner is not None and db.delete_messages(owner, [message_id]) > 0


def update_message_content(db: Conversations, message_id: int, new_content: str) -> bool:
    """Replace the content of a user's message; False if there is none.

    Raises InvalidRequest for a message of another role and for empty content.
    """
    owner = db.owner_of_message(message_id)
    with suppress(NotFound):
        if owner:
            db.edit_message(owner, message_id, new_content)
            return True
    return False


# --- how they are shown


def _session(conversation: Conversation) -> ChatSession:
    return {
        "session_id": conversation.id,
        "user_id": conversation.user_id,
        "title": conversation.name or DEFAULT_TITLE,
        "message_count": conversation.count,
        "created_at": clock.to_seconds(conversation.created_at),
        "updated_at": clock.to_seconds(conversation.updated_at),
        "is_deleted": False,  # what is deleted is never shown
    }


def _message(session_id: str, message: Message) -> ChatMessage:
    return {
        "message_id": message.id,
        "session_id": session_id,
        "role": message.role,
        "content": message.content,
        "created_at": clock.to_seconds(message.timestamp),
        "updated_at": clock.to_seconds(message.edited_at or message.timestamp),
        "is_deleted": False,
    }
