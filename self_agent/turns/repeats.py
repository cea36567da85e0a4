"""A question that was sent before, with the same key: its reply if that is stored, else whether to ask for it again."""

from __future__ import annotations

from core.errors import Conflict
from self_agent.models import Message
from self_agent.storage.base import Begun, Store
from self_agent.turns.turn import Turn

ANOTHER_KEY = "to send it again, use another key"


def stored(store: Store, conversation_id: str, key: str) -> tuple[Message, Message] | None:
    """Return the question and the reply that came of a send, or of the wish for another reply, with this key, or None.

    Raises KeyReused, and Conflict where one of them was deleted.
    """
    sent = store.sent(conversation_id, key)
    if sent is None:
        return None
    question, reply = sent.question, _shown(sent.question, sent.reply)
    if question.role == "assistant":  # the other reply itself
        [question, reply] = store.latest(conversation_id, 2, until=question.id)
    return (question, reply) if reply else None


def ended(store: Store, user_id: str, conversation_id: str, key: str) -> Turn | None:
    """Return the turn that is stored with this key, if it has a reply. Raises as `stored` does."""
    found = stored(store, conversation_id, key)
    return Turn.finished(user_id, conversation_id, *found) if found else None


def reply_to(store: Store, begun: Begun) -> Message | None:
    """Return the reply to a question that was stored before; None: the model has to be asked.

    Raises Conflict when it was deleted, or cannot be asked for any more.
    """
    reply = _shown(begun.question, begun.reply)
    if reply is None and [last.id for last in store.latest(begun.conversation.id, 1)] != [begun.question.id]:
        raise Conflict(f"this message is stored without a reply, and the conversation has gone on; {ANOTHER_KEY}")
    return reply


def _shown(question: Message, reply: Message | None) -> Message | None:
    if question.is_deleted or (reply and reply.is_deleted):
        raise Conflict(f"the message that was sent with this Idempotency-Key was deleted; {ANOTHER_KEY}")
    return reply
