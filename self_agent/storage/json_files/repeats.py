"""Whether a question was stored before, with the same key, and its reply."""

from __future__ import annotations

from self_agent import keys
from self_agent.storage.base import Begun, Sent
from self_agent.storage.json_files import reading
from self_agent.storage.json_files.entry import Entry
from self_agent.storage.json_files.foreign import busy
from self_agent.storage.json_files.outline import Outlines


class Repeat:
    """What `Documents.append` asks, and what came of it."""

    def __init__(self, outlines: Outlines, key: str) -> None:
        self.sent: Sent | None = None  # what is to be returned instead
        self._outlines = outlines
        self._key = key

    def __call__(self, entry: Entry, fd: int) -> bool:
        self.sent = sent(entry, fd, self._outlines, self._key)
        return self.sent is not None


def sent(entry: Entry, fd: int, outlines: Outlines, key: str) -> Sent | None:
    """Return the message that was stored with a key in the last 24 hours, and its reply.

    Raises KeyReused, and StorageBusy when somebody else is changing the document.
    """
    try:
        message_id = outlines.keys.find(entry.number, entry.size, fd, key)
    except (ValueError, LookupError):
        outlines.keys.drop(entry.number)
        raise busy() from None
    question = reading.find(entry, fd, outlines, message_id) if message_id else None
    if question is None or question.timestamp < keys.oldest() or not keys.is_same(question.key or "", key):
        return None
    reply = reading.find(entry, fd, outlines, question.id + 1)
    return Sent(question, reply if reply and reply.role == "assistant" else None)


def begun(entry: Entry, known: Sent) -> Begun:
    """Return what `Store.begin` returns of a question that is stored already."""
    return Begun(entry.conversation(), known.question, known.question.id + 1, True, known.reply)
