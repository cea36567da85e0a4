"""Changing conversations and messages, other than by talking."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core import clock
from core.errors import AppError, Conflict, InvalidRequest, NotFound
from self_agent.conversations.finding import Finding, checked, owned
from self_agent.models import MAX_POSITION, ROLES, Conversation, Message, check_id, check_title, number_of

KEPT_BY_FORK = ("title", "system_prompt", "model", "project_id")  # of the fields that can be set


class Changing(Finding):
    """What changes what is stored."""

    def create(self, user_id: str, conversation_id: str | None = None, **fields: Any) -> Conversation:
        """Create a conversation, with an id of its own unless one is given. Raises Conflict if that is taken.

        `fields`: what `update` can set.
        """
        self._check_fields(user_id, fields)
        made_id = check_id(conversation_id) if conversation_id else str(uuid.uuid4())
        made = self._store.create(made_id, user_id, **fields)
        return made if made.is_draft else self._told("created", made)

    def update(
        self, user_id: str, conversation_id: str, changes: Mapping[str, Any], *, create: bool = False
    ) -> Conversation:
        """Set any of `title`, `system_prompt`, `model`, `project_id`, `pinned`, `archived`.

        With `create` an unknown conversation is made, which no list shows before its first message.
        """
        if create and self._store.get(check_id(conversation_id)) is None:
            with contextlib.suppress(Conflict):  # somebody else was faster
                return self.create(user_id, conversation_id, is_draft=True, **changes)
        conversation = self.find(user_id, conversation_id)
        self._check_fields(user_id, changes)
        return self._told("changed", self._store.update(conversation_id, **changes)) if changes else conversation

    def delete(self, user_id: str, conversation_id: str, *, keep: bool = True) -> int:
        """Delete a conversation, stopping its reply; return how many messages it had.

        With `keep` it can be restored as long as KEEP_DELETED_DAYS says.
        """
        self.stop(user_id, conversation_id)
        found = self.find(user_id, conversation_id)
        count = self._store.delete(conversation_id, keep=keep and self._keep_deleted_days > 0)
        self._told("deleted", found)
        return count

    def delete_all(self, user_id: str) -> int:
        """Delete all that a user's lists show, archived ones too, each as `delete` does; return how many there were.

        Raises the first error that there was, when all that can be deleted are.
        """
        deleted, failure = 0, None
        for conversation in self._store.conversations(user_id, archived=None).items:
            try:
                self.delete(user_id, conversation.id)
                deleted += 1
            except NotFound:  # somebody else was faster
                continue
            except AppError as error:
                failure = failure or error
        if failure:
            raise failure
        return deleted

    def restore(self, user_id: str, conversation_id: str) -> Conversation:
        """Bring back a conversation that was deleted, the newest one with this id; see Store.restore."""
        since = clock.days_ago(self._keep_deleted_days)
        return self._told("changed", self._store.restore(user_id, check_id(conversation_id), since=since))

    def edit_message(self, user_id: str, message_id: int, content: str) -> Message:
        """Replace the content of a user's message. Raises InvalidRequest for a message of another role."""
        conversation = owned(user_id, self._store.by_number(number_of(message_id)), f"message {message_id}")
        checked(content)

        def change(message: Message) -> Message:
            if message.role != "user":
                raise InvalidRequest("only messages of role user can be edited")
            return replace(message, content=content, edited_at=clock.now())

        after = self._store.edit(message_id, change)
        self._told("changed", conversation)
        return after

    def delete_messages(self, user_id: str, message_ids: list[int]) -> int:
        """Delete messages of one's own; return how many there were. Unknown ids count for nothing."""
        found = [self._store.by_number(number) for number in {number_of(message_id) for message_id in message_ids}]
        touched = [owned(user_id, conversation, "the message") for conversation in found if conversation]
        count = self._store.hide(message_ids)
        for conversation in touched if count else ():
            self._told("changed", conversation)
        return count

    def add(self, user_id: str, conversation_id: str, role: str, content: str, **fields: Any) -> Message:
        """Append a message that is not answered; `fields` are further ones of `Message`, `key` as in `send`."""
        if role not in ROLES:
            raise InvalidRequest(f"role must be one of {', '.join(sorted(ROLES))}")
        before = self.find(user_id, conversation_id)
        message = Message(role, checked(content), **fields)
        if message.key:
            message = self._store.begin(user_id, conversation_id, message).question
        else:
            [message] = self._store.append(conversation_id, message)
        self._told("changed" if before.is_listed else "created", before)
        return message

    def choose(self, user_id: str, conversation_id: str, message_id: int) -> Conversation:
        """Show the branch through a message, to its newest end. Raises Conflict when the conversation is answering."""
        self._member(user_id, conversation_id, message_id)
        with self._turns.held(conversation_id):
            return self._told("changed", self._store.choose(conversation_id, message_id))

    def fork(self, user_id: str, conversation_id: str, message_id: int, new_id: str | None = None) -> Conversation:
        """Make a new conversation of a message and all before it on its branch.

        Raises Conflict if `new_id` is taken.
        """
        self._member(user_id, conversation_id, message_id)
        source = self.find(user_id, conversation_id)
        messages = self._store.latest(conversation_id, MAX_POSITION, until=message_id)
        fields = {name: getattr(source, name) for name in KEPT_BY_FORK}
        made_id = check_id(new_id) if new_id else str(uuid.uuid4())
        copies = [replace(message, parent=None, key=None) for message in messages]
        return self._told("created", self._store.create(made_id, user_id, messages=copies, **fields))

    def stop(self, user_id: str, conversation_id: str) -> bool:
        """Stop the reply that is being generated, keeping what there is; False if there was none."""
        turn = self.running(user_id, conversation_id)
        return turn is not None and self._turns.stop(turn)

    def stop_turn(self, user_id: str, turn_id: str) -> bool:
        """Stop the running turn with this id; False if there is none (any more)."""
        turn = self._turns.find(turn_id)
        if turn is None:
            return False
        self.find(user_id, turn.conversation_id)
        return self._turns.stop(turn)

    def _check_fields(self, user_id: str, fields: Mapping[str, Any]) -> None:
        check_title(fields.get("title") or "")
        self._check_project(user_id, fields.get("project_id"))
