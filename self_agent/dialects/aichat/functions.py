"""The functions of the document, with its names and arguments; what they return is ready to be shown.

`db` is the `Conversations` service. The document's functions do not say who asks, so these act for the
owner of what they are given: a caller makes sure first that this is who asks, as `routes` does.
"""

from __future__ import annotations

from typing import Any

from core import clock
from core.errors import NotFound
from self_agent.conversations import Conversations
from self_agent.models import Conversation, Message, check_id, number_of

Shown = dict[str, Any]  # a ChatSession or a ChatMessage of the document

DEFAULT_TITLE = "新会话"
SESSIONS = 20  # a page of sessions, unless the caller says otherwise
MESSAGES = 50  # a page of messages

# --- sessions


def create_session(db: Conversations, session_id: str, user_id: str, title: str = DEFAULT_TITLE) -> Shown:
    """Create a session. Raises Conflict if the id is taken."""
    return _session(db.create(user_id, session_id, title=title))


def get_session(db: Conversations, session_id: str) -> Shown | None:
    """Return a session, or None."""
    found = _find(db, session_id)
    return _session(found) if found else None


def list_sessions(db: Conversations, user_id: str, page: int = 1, page_size: int = SESSIONS) -> list[Shown]:
    """Return a page of a user's sessions, newest update first."""
    return [_session(conversation) for conversation in db.page(user_id, page, page_size).items]


def soft_delete_session(db: Conversations, session_id: str) -> bool:
    """Hide a session, stopping its reply; False if there is none."""
    found = _find(db, session_id)
    if found:
        db.delete(found.user_id, found.id, keep=True)
    return found is not None


def update_session_title(db: Conversations, session_id: str, new_title: str = DEFAULT_TITLE) -> bool:
    """Set the title of a session; False if there is none."""
    found = _find(db, session_id)
    if found:
        db.update(found.user_id, found.id, title=new_title)
    return found is not None


# --- messages


def create_message(db: Conversations, session_id: str, content: str, role: str) -> Shown:
    """Store a message and return it. One of role `user` is answered, which this does not wait for.

    Raises NotFound for an unknown session, InvalidRequest for an unknown role or empty content.
    """
    found = _find(db, session_id)
    if found is None:
        raise NotFound(f"session {session_id} does not exist")
    if role == "user":
        return _message(found, db.send(found.user_id, found.id, content, create=False).wait_stored())
    return _message(found, db.add(found, role, content))


def get_message(db: Conversations, message_id: int) -> Shown | None:
    """Return a message, or None."""
    found = db.store.by_number(number_of(message_id))
    try:
        return _message(found, db.message(found.user_id, message_id)) if found else None
    except NotFound:
        return None


def list_messages(db: Conversations, session_id: str, page: int = 1, page_size: int = MESSAGES) -> list[Shown]:
    """Return a page of a session's messages, oldest first; none if there is no session."""
    found = _find(db, session_id)
    return [_message(found, message) for message in db.messages(found, page, page_size)] if found else []


def latest_messages(db: Conversations, session_id: str) -> list[Shown]:
    """Return the last messages of a session, oldest first; none if there is no session."""
    found = _find(db, session_id)
    return [_message(found, message) for message in db.recent(found, MESSAGES)] if found else []


def soft_delete_message(db: Conversations, message_id: int) -> bool:
    """Hide a message; False if there is none."""
    found = db.store.by_number(number_of(message_id))
    return found is not None and db.delete_messages(found.user_id, [message_id]) > 0


def update_message_content(db: Conversations, message_id: int, new_content: str) -> bool:
    """Replace the content of a user's message; False if there is none.

    Raises InvalidRequest for a message of another role and for empty content.
    """
    found = db.store.by_number(number_of(message_id))
    if found is None or get_message(db, message_id) is None:
        return False
    db.edit_message(found.user_id, message_id, new_content)
    return True


# --- how they are shown


def _find(db: Conversations, session_id: str) -> Conversation | None:
    return db.store.get(check_id(session_id))


def _session(conversation: Conversation) -> Shown:
    return {
        "session_id": conversation.id,
        "user_id": conversation.user_id,
        "title": conversation.name or DEFAULT_TITLE,
        "message_count": conversation.count,
        "created_at": clock.to_seconds(conversation.created_at),
        "updated_at": clock.to_seconds(conversation.updated_at),
        "is_deleted": False,  # what is deleted is never shown
    }


def _message(conversation: Conversation, message: Message) -> Shown:
    return {
        "message_id": message.id,
        "session_id": conversation.id,
        "role": message.role,
        "content": message.content,
        "created_at": clock.to_seconds(message.timestamp),
        "updated_at": clock.to_seconds(message.edited_at or message.timestamp),
        "is_deleted": False,
    }
