"""What a store says of a question that is stored."""

from __future__ import annotations

from typing import NamedTuple

from self_agent.models import Conversation, Message


class Sent(NamedTuple):
    """A question that was stored with a key, and its reply if that is stored; both may be hidden (`is_deleted`)."""

    question: Message
    reply: Message | None


class Begun(NamedTuple):
    """A question that is stored, its conversation since then, and the id of its reply, which is the next one."""

    conversation: Conversation
    question: Message
    reply_id: int
    is_repeat: bool = False  # it was stored before, with the same key
    reply: Message | None = None  # of a repeat, if it is stored; it may be hidden, and the question too
