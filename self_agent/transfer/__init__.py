"""Taking chats along: out as JSON or Markdown, in from what this and other programs write, and copies of the folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from core import clock
from self_agent.conversations import Conversations
from self_agent.events import Change, Tell, unheard
from self_agent.storage.base import Store
from self_agent.transfer import exporting, importing
from self_agent.transfer.exporting import FORMATS
from self_agent.transfer.importing import THE_FILE, Outcome

__all__ = ["FORMATS", "THE_FILE", "Export", "Outcome", "Transfer"]


class Export(NamedTuple):
    """A file: what it may be called, its media type, and its pieces, which are made as they are asked for."""

    name: str
    content_type: str
    pieces: Iterator[bytes]


class Transfer:
    """The use cases, over one store; `user_id` is whose the chats are."""

    def __init__(self, store: Store, conversations: Conversations, tell: Tell = unheard) -> None:
        """`tell` is called with each conversation that is new."""
        self._store = store
        self._tell = tell
        self._conversations = conversations

    def export(self, user_id: str, form: str, conversation_id: str | None = None) -> Export:
        """Return all conversations of a user, or one, in one of FORMATS: JSON has all branches."""
        if conversation_id is None:
            name, ids = f"self_agent-{clock.now()[:10]}", exporting.all_ids(self._store, user_id)
        else:
            name, ids = conversation_id, [self._conversations.find(user_id, conversation_id).id]
        pieces = exporting.written(self._store, user_id, ids, form)
        return Export(f"{name}.{exporting.ENDINGS[form]}", exporting.TYPES[form], pieces)

    def take_in(self, user_id: str, chunks: Iterable[bytes]) -> Iterator[Outcome]:
        """Take in a file of chats, in chunks of any size; yield what became of each as soon as that is known."""
        for outcome in importing.take_in(self._store, user_id, chunks):
            made = self._store.get(outcome.conversation_id or "") if outcome.state == importing.IMPORTED else None
            if made:
                self._tell(user_id, Change("created", made.id, made.number))
            yield outcome
