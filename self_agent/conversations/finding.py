"""Finding conversations and messages: what there is, and whose it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from core.errors import InvalidRequest, NotFound, NotYours
from self_agent.events import Change, Tell, unheard
from self_agent.models import SUMMARY_LENGTH, Conversation, Message, Page, Project, check_id, number_of
from self_agent.storage.base import Store
from self_agent.turns.runner import Turns
from self_agent.turns.turn import Turn

Owned = TypeVar("Owned", Conversation, Project)


class EmptyContent(InvalidRequest):
    """Raised when a message has no text but white space."""


class Finding:
    """What only reads; the other use cases stand on it."""

    def __init__(self, store: Store, turns: Turns, *, keep_deleted_days: int = 30, tell: Tell = unheard) -> None:
        """`tell` is called with every change that is made here."""
        self._store = store
        self._turns = turns
        self._tell = tell
        self._keep_deleted_days = keep_deleted_days

    def _told(self, kind: str, conversation: Conversation) -> Conversation:
        """Tell what happened to a conversation, and return it."""
        self._tell(conversation.user_id, Change(kind, conversation.id, conversation.number))
        return conversation

    def page(
        self, user_id: str, page: int, size: int, *, archived: bool = False, matching: str = ""
    ) -> Page[Conversation]:
        """Return a page of a user's conversations, pinned ones first, then newest update first.

        `archived` and `matching`: see Store.conversations.
        """
        return self._store.conversations(
            user_id, archived=archived, matching=matching, offset=(page - 1) * size, limit=size
        )

    def all(self, user_id: str, project_id: int | None = None, *, archived: bool = False) -> list[Conversation]:
        """Return all conversations of a user, or those of one project, in the order of `page`."""
        self._check_project(user_id, project_id)
        return self._store.conversations(user_id, project_id=project_id, archived=archived).items

    def find(self, user_id: str, conversation_id: str) -> Conversation:
        """Return a conversation."""
        return owned(user_id, self._store.get(check_id(conversation_id)), f"conversation {conversation_id}")

    def find_number(self, user_id: str, number: int) -> Conversation:
        """Return the conversation with this number."""
        return owned(user_id, self._store.by_number(number), f"conversation #{number}")

    def owner(self, conversation_id: str) -> str | None:
        """Return whose a conversation is, for who acts in the owner's name; None if there is none."""
        found = self._store.get(check_id(conversation_id))
        return found.user_id if found else None

    def owner_of_message(self, message_id: int) -> str | None:
        """Return whose the conversation is that a message would be in; None if there is none."""
        found = self._store.by_number(number_of(message_id))
        return found.user_id if found else None

    def read(
        self, user_id: str, conversation_id: str, page: int = 1, size: int | None = None
    ) -> tuple[Conversation, list[Message]]:
        """Return a conversation and a page of its messages, oldest first; without `size` all of them."""
        conversation = self.find(user_id, conversation_id)
        offset = (page - 1) * (size or 0)
        if offset and offset >= conversation.count:
            return conversation, []
        return conversation, self._store.messages(conversation_id, offset=offset, limit=size)

    def recent(self, user_id: str, conversation_id: str, limit: int) -> tuple[Conversation, list[Message]]:
        """Return a conversation and its last messages, oldest first."""
        conversation = self.find(user_id, conversation_id)
        return conversation, self._store.latest(conversation_id, limit)

    def summary(self, user_id: str, conversation_id: str) -> str:
        """Return the whole content of the latest message, which is read only if lists cut it."""
        conversation = self.find(user_id, conversation_id)
        if len(conversation.summary) < SUMMARY_LENGTH:
            return conversation.summary
        return self._store.latest(conversation_id, 1)[-1].content

    def page_before(
        self, user_id: str, conversation_id: str, size: int, before: int | None = None
    ) -> tuple[Conversation, list[Message], dict[int, list[int]]]:
        """Return a conversation, the last `size` messages shown, or shown before one, and all that have siblings.

        Each message has its parent, 0 for the first of all. For the siblings see `Store.siblings`.
        """
        conversation = self.find(user_id, conversation_id)
        if before is None:
            found = self._store.latest(conversation_id, size + 1)
        else:
            self._member(user_id, conversation_id, before)
            found = self._store.latest(conversation_id, size + 2, until=before)[:-1]
        parents = [0, *(message.id for message in found)]
        messages = [replace(message, parent=parent) for message, parent in zip(found, parents, strict=False)]
        return conversation, messages[-size:], self._store.siblings(conversation_id)

    def _member(self, user_id: str, conversation_id: str, message_id: int) -> Message:
        """Return a message of a conversation. Raises NotFound."""
        if number_of(message_id) != self.find(user_id, conversation_id).number:
            raise NotFound(f"there is no message {message_id} in this conversation")
        return self._store.message(message_id)

    def answering(self) -> set[str]:
        """Return the ids of all conversations that are answering now."""
        return self._turns.answering()

    def message(self, user_id: str, message_id: int) -> tuple[Conversation, Message]:
        """Return a message and its conversation."""
        conversation = owned(user_id, self._store.by_number(number_of(message_id)), f"message {message_id}")
        return conversation, self._store.message(message_id)

    def running(self, user_id: str, conversation_id: str) -> Turn | None:
        """Return the turn that is answering in this conversation now, or None."""
        return self._turns.current(self.find(user_id, conversation_id).id)

    # --- projects

    def project_names(self, user_id: str, found: Iterable[Conversation]) -> dict[int, str]:
        """Return the names of the user's projects that conversations are in, by id."""
        ids = {conversation.project_id for conversation in found} - {0}
        projects = (self._store.project(project_id) for project_id in ids)
        return {project.id: project.name for project in projects if project and project.user_id == user_id}

    def projects(self, user_id: str) -> list[Project]:
        """Return a user's projects, oldest first."""
        return self._store.projects(user_id)

    def project(self, user_id: str, project_id: int) -> Project:
        """Return a project."""
        return owned(user_id, self._store.project(project_id), f"project {project_id}")

    def _check_project(self, user_id: str, project_id: int | None) -> None:
        if project_id:
            self.project(user_id, project_id)


def owned(user_id: str, found: Owned | None, what: str) -> Owned:
    """Return what was found if it is the user's; `what` it is said not to exist otherwise."""
    if found is None:
        raise NotFound(f"{what} does not exist")
    if found.user_id != user_id:
        raise NotYours(f"{what} does not exist")
    return found


def checked(content: str) -> str:
    if not content.strip():
        raise EmptyContent("content must not be empty")
    return content
