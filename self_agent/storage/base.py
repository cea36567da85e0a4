"""The storage contract: what a use case may ask of a store, and what it may rely on afterwards.

A store is safe to call from any thread. What a method returned is durable: it survives a power cut.
Writes to one conversation happen one after the other, writes to different ones in parallel. Messages are
in the order in which they were appended; where one does not follow the one before it but its `parent`, a branch begins.
One branch is shown, and is what is counted and listed of a conversation; the others are kept. Nothing deleted is ever
returned. Ids of conversations are checked by the caller (`models.check_id`); numbers and message ids are never used
twice, gaps are allowed.

Raises `NotFound` for an unknown conversation or message unless the method says otherwise, `StorageFull`
or `StorageError` when the disk refuses: then nothing has changed.

When a persistent store opens again, after `close` or after its process was killed:

- A checkpoint that was left is stored as the reply it is of, with its text so far, `incomplete` and with the `error`
  CUT_OFF, unless a message with its id was appended. One without text is dropped, and so is that of a conversation
  that is gone. Text with a hole is never stored: a piece that could not be kept ends what is.
- The id that was reserved behind a question that is stored is not given again, though nothing else is left of it.
- `core.clock` returns no time at or before one that is stored and not more than a day ahead of the wall clock. One that
  is keeps its conversation at the head of lists, and no new message takes after it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from core.errors import Conflict, NotFound, NotYours
from self_agent.models import CUT_OFF as CUT_OFF
from self_agent.models import MAX_POSITION, Conversation, Message, Page, Project, Shelf
from self_agent.storage.begun import Begun as Begun
from self_agent.storage.begun import Sent as Sent
from self_agent.storage.shelves import Marks

# How every store words what it refuses.
NO_CONVERSATION = "There is no such conversation."  # also of another user's
NO_MESSAGE = "There is no such message."
NO_PROJECT = "There is no such project."
NOT_DELETED = "There is nothing to restore: no conversation with this id was deleted lately."
TAKEN = "A conversation with this id exists already."
FULL = f"The conversation is full: it holds {MAX_POSITION:,} messages at most."
CLOSED = "The store is closed: the server is stopping."

Change = Callable[[Message], Message]
ShelfChange = Callable[[Shelf], Shelf]


class Store(ABC):
    """A place that keeps conversations, their messages, projects and shelves."""

    persistent: ClassVar[bool] = True  # what is stored is there again when the store is opened again

    # --- conversations

    @abstractmethod
    def create(
        self,
        conversation_id: str,
        user_id: str,
        *,
        messages: Sequence[Message] = (),
        shown: int | None = None,
        created_at: str | None = None,
        updated_at: str | None = None,
        **fields: Any,
    ) -> Conversation:
        """Create a conversation with the next free number. Raises Conflict if the id is taken.

        It begins with `messages`, which are stored with it or not at all; their ids are only names to which their
        `parent`s refer (0 begins anew, None follows the one before); the branch of `shown`, else of the last, is shown.

        `fields` are any of `models.SETTABLE`; another is a TypeError. A project that was deleted is none. `created_at`
        and `updated_at`, which is the same unless given, are for a conversation that is older than this store; its
        messages bring their own timestamps.
        """

    @abstractmethod
    def get(self, conversation_id: str) -> Conversation | None:
        """Return a conversation, or None."""

    @abstractmethod
    def by_number(self, number: int) -> Conversation | None:
        """Return the conversation that has this number, or None."""

    @abstractmethod
    def conversations(
        self,
        user_id: str,
        *,
        project_id: int | None = None,
        archived: bool | None = False,
        matching: str = "",
        offset: int = 0,
        limit: int | None = None,
    ) -> Page[Conversation]:
        """Return a user's conversations, the pinned ones first, then newest update first; limit None is all.

        `project_id` and `archived` choose those that have this value, None takes any; `matching` those that have this
        text in their title or in the beginning of their first user message, in letters of any case and width. One with
        `is_draft` is left out until it gets its first message, and stays when that is hidden later.
        """

    @abstractmethod
    def update(
        self, conversation_id: str, *, expect: Mapping[str, Any] | None = None, moves: bool = True, **changes: Any
    ) -> Conversation:
        """Set any of `models.SETTABLE`; `updated_at` becomes now, unless `moves` is False.

        A project that was deleted is none. Where the conversation has another value than `expect` says in any of its
        fields, nothing changes. Returns it as it is afterwards, either way.
        """

    @abstractmethod
    def delete(self, conversation_id: str, *, keep: bool = False) -> int:
        """Remove a conversation and return how many messages it showed.

        Its id is free for a new conversation. With `keep` its row stays in the store, marked `is_deleted`, and is not
        shown until `restore` brings it back.
        """

    @abstractmethod
    def restore(self, user_id: str, conversation_id: str, *, since: str = "") -> Conversation:
        """Bring back a user's conversation that was deleted with `keep`, of several with this id the newest one.

        It is as it was: its number, the ids of its messages, its times, its place in folders and its tags. Raises
        NotFound when there is none that was deleted at `since` or later, Conflict when its id is taken meanwhile.
        """

    @abstractmethod
    def sweep(self, before: str) -> int:
        """Remove for good what was deleted with `keep` before a time; return how many that were."""

    # --- messages

    @abstractmethod
    def reserve(self, conversation_id: str) -> int:
        """Return a message id that no other message will get, for a reply that is not written yet."""

    @abstractmethod
    def append(self, conversation_id: str, *messages: Message) -> list[Message]:
        """Append messages durably, in order, and return them with `id` and `timestamp` filled in.

        An `id` of 0 gets the next free one; another id must come from `reserve`. The first follows its `parent`, or
        else the end of the shown branch, the others follow one another; the branch they end is shown from then on.
        Raises NotFound when there is no such parent.
        """

    @abstractmethod
    def messages(self, conversation_id: str, *, offset: int = 0, limit: int | None = None) -> list[Message]:
        """Return messages of the shown branch, oldest first, from the `offset`-th on; past the end there are none."""

    @abstractmethod
    def latest(self, conversation_id: str, limit: int, until: int | None = None) -> list[Message]:
        """Return the last `limit` messages of the shown branch, oldest first.

        With `until` those of the branch that ends in this message, whichever is shown. Raises NotFound without it.
        """

    @abstractmethod
    def everything(self, conversation_id: str) -> list[Message]:
        """Return the messages of all branches, each with its `parent` (0: none) before it, as `create` takes them."""

    @abstractmethod
    def message(self, message_id: int) -> Message:
        """Return one message; its conversation has the number `models.number_of(message_id)`."""

    @abstractmethod
    def edit(self, message_id: int, change: Change) -> Message:
        """Put what `change` makes of a message in its place, with the same id, role and timestamp, and return it.

        No other write comes between. What `change` raises is passed on, and nothing has changed; it must not call
        the store.
        """

    @abstractmethod
    def hide(self, message_ids: list[int]) -> int:
        """Mark messages of any conversations as deleted; return how many were shown before. Unknown ids are 0."""

    # --- branches

    @abstractmethod
    def choose(self, conversation_id: str, message_id: int) -> Conversation:
        """Show the branch through a message, as far as its newest continuation; `updated_at` stays.

        Raises NotFound for a message that is not in this conversation.
        """

    @abstractmethod
    def siblings(self, conversation_id: str) -> dict[int, list[int]]:
        """Return the ids of all messages that follow the same one, oldest first, by the id of each of several."""

    # --- turns: these defaults need nothing but the other methods; a store that can do it in fewer steps does

    @abstractmethod
    def sent(self, conversation_id: str, key: str) -> Sent | None:
        """Return the last message that was stored with a key of this name (see `keys`) in the last 24 hours, or None.

        Raises KeyReused when it was another body's. An unknown conversation has none. It reads no more than has been
        appended since the last call, but for the first one.
        """

    def begin(self, user_id: str, conversation_id: str, *said: Message, new: Mapping[str, Any] | None = None) -> Begun:
        """Store a user's new question, and reserve the id of its reply, which is the question's plus one.

        The question is the last that is `said`; the others are stored in front of it.

        With `new` a conversation that is not there is created with these fields. A question with a `key` that `sent`
        knows is not stored again: no other `begin` comes between looking and storing. Raises NotYours for another
        user's conversation, KeyReused as `sent` does, and nothing is stored. This default must not run twice at once.
        """
        found = self.get(conversation_id)
        if found is None and new is not None:
            with suppress(Conflict):  # somebody else was faster
                found = self.create(conversation_id, user_id, **new)
            found = found or self.get(conversation_id)
        if found is None:
            raise NotFound(NO_CONVERSATION)
        if found.user_id != user_id:
            raise NotYours(NO_CONVERSATION)
        if (key := said[-1].key) and (sent := self.sent(conversation_id, key)):
            return Begun(found, sent.question, sent.question.id + 1, True, sent.reply)
        *_, stored = self.append(conversation_id, *said)
        reply_id = self.reserve(conversation_id)
        return Begun(self.get(conversation_id) or found, stored, reply_id)

    def finish(self, conversation_id: str, reply: Message | None) -> Message | None:
        """Append the reply that was begun, if there is one, and forget its checkpoint; return it as it is stored."""
        stored = self.append(conversation_id, reply)[0] if reply else None
        self.discard_checkpoint(conversation_id)
        return stored

    @abstractmethod
    def checkpoint(self, conversation_id: str, reply: Message, text: str) -> None:
        """Remember another piece of a reply that is still being written, in case this process dies.

        `reply` is the message without its content (`id` reserved); `text` is what came since the last call.
        """

    @abstractmethod
    def discard_checkpoint(self, conversation_id: str) -> None:
        """Forget the checkpoint, if there is one: the reply has been appended, or there is none."""

    # --- projects

    @abstractmethod
    def create_project(self, user_id: str, name: str) -> Project:
        """Create a project with the next free id, from 1."""

    @abstractmethod
    def projects(self, user_id: str) -> list[Project]:
        """Return a user's projects, oldest first."""

    @abstractmethod
    def project(self, project_id: int) -> Project | None:
        """Return a project, or None."""

    @abstractmethod
    def rename_project(self, project_id: int, name: str) -> Project:
        """Rename a project. Raises NotFound."""

    @abstractmethod
    def delete_project(self, project_id: int) -> None:
        """Delete a project; its conversations stay and belong to no project. Raises NotFound."""

    # --- shelves

    @abstractmethod
    def shelf(self, user_id: str) -> Shelf:
        """Return a user's folders and tags, without conversations that are gone or are not the user's."""

    @abstractmethod
    def marks(self, user_id: str) -> Mapping[int, Marks]:
        """Return the folders and tags of each of a user's conversations that has any, by number.

        It is made once for each change of the shelf, and may name conversations that are gone.
        """

    @abstractmethod
    def change_shelf(self, user_id: str, change: ShelfChange) -> Shelf:
        """Put what `change` makes of a user's folders and tags in their place, and return it.

        No other change comes between. What `change` raises is passed on, and nothing has changed; it must not call
        the store. What can be restored keeps the place that it has there, though neither `change` nor anybody sees it.
        """

    # --- the store itself

    @abstractmethod
    def ready(self) -> bool:
        """Say whether the store has finished opening; the other methods wait until it has."""

    def failure(self) -> str | None:
        """Return why no method works, or None; the reason names no path."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Write what is only in memory and let go of the data folder. Calling it twice is harmless."""
