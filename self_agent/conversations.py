"""Every use case once: what can be done with conversations, who may, and what the model is asked.

Dialects call these and render what they return. `user_id` is who asks; a conversation of somebody else
raises NotYours, one that does not exist NotFound.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from core import clock
from core.errors import Conflict, InvalidRequest, NotFound, NotYours
from self_agent import history
from self_agent.events import Chunk
from self_agent.models import ROLES, SUMMARY_LENGTH, Conversation, Message, Page, Project, check_id, number_of
from self_agent.providers.base import Cancellation, Completion, Provider
from self_agent.storage.base import Store
from self_agent.turns.runner import Listener, Turns
from self_agent.turns.turn import Turn

FIRST_READ = 64  # messages read for the model's history before asking for more


class EmptyContent(InvalidRequest):
    """Raised when a message has no text but white space."""


class Conversations:
    """The use cases, over one store, its turns and one provider."""

    def __init__(
        self, store: Store, turns: Turns, provider: Provider, *, system_prompt: str = "", context_tokens: int = 0
    ) -> None:
        self.store = store
        self.turns = turns
        self.provider = provider
        self._system_prompt = system_prompt
        self._context_tokens = context_tokens

    # --- finding

    def page(self, user_id: str, page: int, size: int) -> Page[Conversation]:
        """Return a page of a user's conversations, newest update first."""
        return self.store.conversations(user_id, offset=(page - 1) * size, limit=size)

    def all(self, user_id: str, project_id: int | None = None) -> list[Conversation]:
        """Return all conversations of a user, or those of one project, newest update first."""
        self._check_project(user_id, project_id)
        return self.store.conversations(user_id, project_id=project_id).items

    def find(self, user_id: str, conversation_id: str) -> Conversation:
        """Return a conversation."""
        found = self.store.get(check_id(conversation_id))
        if found is None:
            raise NotFound(f"conversation {conversation_id} does not exist")
        return _owned(user_id, found)

    def find_number(self, user_id: str, number: int) -> Conversation:
        """Return the conversation with this number."""
        found = self.store.by_number(number)
        if found is None:
            raise NotFound(f"conversation #{number} does not exist")
        return _owned(user_id, found)

    def messages(self, conversation: Conversation, page: int, size: int) -> list[Message]:
        """Return a page of messages, oldest first."""
        offset = (page - 1) * size
        return self.store.messages(conversation.id, offset=offset, limit=size) if offset < conversation.count else []

    def history(self, conversation: Conversation) -> list[Message]:
        """Return all messages, oldest first."""
        return self.store.messages(conversation.id)

    def recent(self, conversation: Conversation, limit: int) -> list[Message]:
        """Return the last messages, oldest first."""
        return self.store.latest(conversation.id, limit)

    def summary(self, conversation: Conversation) -> str:
        """Return the whole content of the latest message, which is read only if lists cut it."""
        if len(conversation.summary) < SUMMARY_LENGTH:
            return conversation.summary
        return self.store.latest(conversation.id, 1)[-1].content

    def message(self, user_id: str, message_id: int, conversation_id: str | None = None) -> Message:
        """Return a message, which must be of that conversation if one is named."""
        self._check_owner(user_id, message_id, conversation_id)
        return self.store.message(message_id)

    def _check_owner(self, user_id: str, message_id: int, conversation_id: str | None = None) -> None:
        conversation = self.store.by_number(number_of(message_id))
        if conversation is None or conversation_id not in (None, conversation.id):
            raise NotFound(f"message {message_id} does not exist")
        _owned(user_id, conversation)

    # --- changing

    def create(self, user_id: str, conversation_id: str | None = None, **fields: Any) -> Conversation:
        """Create a conversation, with an id of its own unless one is given. Raises Conflict if that is taken.

        `fields`: `title`, `system_prompt`, `model`, `project_id`.
        """
        self._check_project(user_id, fields.get("project_id"))
        return self.store.create(check_id(conversation_id) if conversation_id else str(uuid.uuid4()), user_id, **fields)

    def find_or_create(self, user_id: str, conversation_id: str, **fields: Any) -> Conversation:
        """Return the conversation, created if there is none."""
        if self.store.get(check_id(conversation_id)) is None:
            with contextlib.suppress(Conflict):  # somebody else was faster
                return self.create(user_id, conversation_id, **fields)
        return self.find(user_id, conversation_id)

    def update(self, user_id: str, conversation_id: str, **changes: Any) -> Conversation:
        """Set any of `title`, `system_prompt`, `model`, `project_id`."""
        conversation = self.find(user_id, conversation_id)
        self._check_project(user_id, changes.get("project_id"))
        return self.store.update(conversation.id, **changes)

    def delete(self, user_id: str, conversation_id: str, *, keep: bool = False) -> int:
        """Delete a conversation, stopping its reply; return how many messages it had. `keep`: see Store.delete."""
        conversation = self.find(user_id, conversation_id)
        self.stop(user_id, conversation.id)
        return self.store.delete(conversation.id, keep=keep)

    def edit_message(self, user_id: str, message_id: int, content: str) -> Message:
        """Replace the content of a user's message. Raises InvalidRequest for a message of another role."""

        def change(message: Message) -> Message:
            if message.role != "user":
                raise InvalidRequest("only messages of role user can be edited")
            return replace(message, content=_checked(content), edited_at=clock.now())

        self._check_owner(user_id, message_id)
        return self.store.edit(message_id, change)

    def delete_messages(self, user_id: str, message_ids: list[int]) -> int:
        """Delete messages of one's own; return how many there were. Unknown ids count for nothing."""
        for number in {number_of(message_id) for message_id in message_ids}:
            if conversation := self.store.by_number(number):
                _owned(user_id, conversation)
        return self.store.hide(message_ids)

    # --- talking

    def add(self, conversation: Conversation, role: str, content: str) -> Message:
        """Append a message that is not answered."""
        if role not in ROLES:
            raise InvalidRequest(f"role must be one of {', '.join(sorted(ROLES))}")
        [message] = self.store.append(conversation.id, Message(role, _checked(content)))
        return message

    def send(
        self,
        user_id: str,
        conversation_id: str,
        content: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        create: bool = True,
        title: str | None = None,
    ) -> Turn:
        """Begin a turn: store the user's message, ask the model, store the reply.

        Raises before anything is stored when the content is empty or no model can answer now. With `create`
        an unknown conversation is made, titled `title`. `api_key` goes to the model's server for this turn only.
        """
        _checked(content)
        self.provider.check()
        if create:
            conversation = self.find_or_create(user_id, conversation_id, title=title)
        else:
            conversation = self.find(user_id, conversation_id)

        def ask(cancel: Cancellation) -> Iterator[Chunk]:
            current = self.store.get(conversation.id) or conversation
            wanted = model or current.model
            return self.provider.stream(
                self._prompt(current), model=wanted, api_key=api_key, cancel=cancel, may_pause=True
            )

        return self.turns.submit(conversation.id, Message("user", content), ask, model=model)

    def running(self, user_id: str, conversation_id: str) -> Turn | None:
        """Return the turn that is answering in this conversation now, or None."""
        return self.turns.current(self.find(user_id, conversation_id).id)

    def stop(self, user_id: str, conversation_id: str) -> bool:
        """Stop the reply that is being generated, keeping what there is; False if there was none."""
        turn = self.running(user_id, conversation_id)
        return turn is not None and self.turns.stop(turn)

    def stop_turn(self, user_id: str, turn_id: str) -> bool:
        """Stop the running turn with this id; False if there is none (any more)."""
        turn = self.turns.find(turn_id)
        if turn is None:
            return False
        self.find(user_id, turn.conversation_id)
        return self.turns.stop(turn)

    def listen(self, user_id: str, conversation_id: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every turn of a conversation, which need not exist yet; see Turns.listen.

        It may become somebody else's later: before a turn is shown, `find` its conversation.
        """
        found = self.store.get(check_id(conversation_id))
        return self.turns.listen(_owned(user_id, found).id if found else conversation_id, listener)

    def complete(self, body: bytes, *, api_key: str | None = None, cancel: Cancellation | None = None) -> Completion:
        """Pass a chat completion request on to the model; nothing of it is stored."""
        self.provider.check()
        return self.provider.complete(body, api_key=api_key, cancel=cancel)

    def _prompt(self, conversation: Conversation) -> list[dict[str, Any]]:
        """Return what the model is asked: the instructions, and as much of the history as there is room for.

        Passages of the user's own documents are not looked up yet; they will come in here. `ask` in `send` then
        yields them as `Sources` before the model's chunks: from there on they are streamed, stored and shown.
        """
        instructions = conversation.system_prompt or self._system_prompt or self.provider.system_prompt
        room = self._context_tokens or self.provider.context_tokens
        return history.fit(instructions, self._newest_first(conversation), room)

    def _newest_first(self, conversation: Conversation) -> Iterator[Message]:
        """Read a conversation backwards, only as far as the caller goes on asking."""
        seen, size = 0, FIRST_READ
        while True:
            block = self.store.latest(conversation.id, size)
            yield from reversed(block[: len(block) - seen])
            if len(block) < size:
                return
            seen, size = len(block), size * 4

    # --- projects

    def projects(self, user_id: str) -> list[Project]:
        """Return a user's projects, oldest first."""
        return self.store.projects(user_id)

    def project(self, user_id: str, project_id: int) -> Project:
        """Return a project."""
        project = self.store.project(project_id)
        if project is None:
            raise NotFound(f"project {project_id} does not exist")
        if project.user_id != user_id:
            raise NotYours(f"project {project_id} does not exist")
        return project

    def create_project(self, user_id: str, name: str) -> Project:
        """Create a project."""
        return self.store.create_project(user_id, _project_name(name))

    def rename_project(self, user_id: str, project_id: int, name: str) -> Project:
        """Rename a project."""
        return self.store.rename_project(self.project(user_id, project_id).id, _project_name(name))

    def delete_project(self, user_id: str, project_id: int) -> None:
        """Delete a project; its conversations stay."""
        self.store.delete_project(self.project(user_id, project_id).id)

    def _check_project(self, user_id: str, project_id: int | None) -> None:
        if project_id:
            self.project(user_id, project_id)


def _owned(user_id: str, conversation: Conversation) -> Conversation:
    if conversation.user_id != user_id:
        raise NotYours(f"conversation {conversation.id} does not exist")
    return conversation


def _checked(content: str) -> str:
    if not content.strip():
        raise EmptyContent("content must not be empty")
    return content


def _project_name(name: str) -> str:
    if not name.strip():
        raise InvalidRequest("name must not be empty")
    return name.strip()
