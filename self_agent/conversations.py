"""Every use case once: what can be done with conversations, who may, and what the model is asked.

Dialects call these and render what they return. `user_id` is who asks; a conversation of somebody else
raises NotYours, one that does not exist NotFound.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from core import clock
from core.errors import Conflict, InvalidRequest, NotFound, NotYours
from self_agent import history
from self_agent.events import Chunk
from self_agent.models import (
    ROLES,
    SUMMARY_LENGTH,
    Conversation,
    Message,
    Page,
    Project,
    check_id,
    check_title,
    number_of,
)
from self_agent.providers.base import Cancellation, Completion, Provider
from self_agent.providers.default import DefaultModel
from self_agent.storage.base import Store
from self_agent.turns.runner import Listener, Turns
from self_agent.turns.turn import Turn

Owned = TypeVar("Owned", Conversation, Project)


class EmptyContent(InvalidRequest):
    """Raised when a message has no text but white space."""


class Conversations:
    """The use cases, over one store, its turns and one provider."""

    def __init__(
        self, store: Store, turns: Turns, provider: Provider, *, system_prompt: str = "", context_tokens: int = 0
    ) -> None:
        self._store = store
        self._turns = turns
        self._provider = provider
        self._default_model = DefaultModel(provider)
        self._system_prompt = system_prompt
        self._context_tokens = context_tokens

    # --- finding

    def page(self, user_id: str, page: int, size: int) -> Page[Conversation]:
        """Return a page of a user's conversations, newest update first."""
        return self._store.conversations(user_id, offset=(page - 1) * size, limit=size)

    def all(self, user_id: str, project_id: int | None = None) -> list[Conversation]:
        """Return all conversations of a user, or those of one project, newest update first."""
        self._check_project(user_id, project_id)
        return self._store.conversations(user_id, project_id=project_id).items

    def find(self, user_id: str, conversation_id: str) -> Conversation:
        """Return a conversation."""
        return _owned(user_id, self._store.get(check_id(conversation_id)), f"conversation {conversation_id}")

    def find_number(self, user_id: str, number: int) -> Conversation:
        """Return the conversation with this number."""
        return _owned(user_id, self._store.by_number(number), f"conversation #{number}")

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

    def message(self, user_id: str, message_id: int) -> tuple[Conversation, Message]:
        """Return a message and its conversation."""
        conversation = _owned(user_id, self._store.by_number(number_of(message_id)), f"message {message_id}")
        return conversation, self._store.message(message_id)

    # --- changing

    def create(self, user_id: str, conversation_id: str | None = None, **fields: Any) -> Conversation:
        """Create a conversation, with an id of its own unless one is given. Raises Conflict if that is taken.

        `fields`: what `update` can set.
        """
        self._check_fields(user_id, fields)
        made_id = check_id(conversation_id) if conversation_id else str(uuid.uuid4())
        return self._store.create(made_id, user_id, **fields)

    def update(
        self, user_id: str, conversation_id: str, changes: Mapping[str, Any], *, create: bool = False
    ) -> Conversation:
        """Set any of `title`, `system_prompt`, `model`, `project_id`.

        With `create` an unknown conversation is made, which no list shows before its first message.
        """
        if create and self._store.get(check_id(conversation_id)) is None:
            with contextlib.suppress(Conflict):  # somebody else was faster
                return self.create(user_id, conversation_id, is_draft=True, **changes)
        conversation = self.find(user_id, conversation_id)
        self._check_fields(user_id, changes)
        return self._store.update(conversation_id, **changes) if changes else conversation

    def delete(self, user_id: str, conversation_id: str, *, keep: bool = False) -> int:
        """Delete a conversation, stopping its reply; return how many messages it had. `keep`: see Store.delete."""
        self.stop(user_id, conversation_id)
        return self._store.delete(conversation_id, keep=keep)

    def edit_message(self, user_id: str, message_id: int, content: str) -> Message:
        """Replace the content of a user's message. Raises InvalidRequest for a message of another role."""
        _owned(user_id, self._store.by_number(number_of(message_id)), f"message {message_id}")
        _checked(content)

        def change(message: Message) -> Message:
            if message.role != "user":
                raise InvalidRequest("only messages of role user can be edited")
            return replace(message, content=content, edited_at=clock.now())

        return self._store.edit(message_id, change)

    def delete_messages(self, user_id: str, message_ids: list[int]) -> int:
        """Delete messages of one's own; return how many there were. Unknown ids count for nothing."""
        for number in {number_of(message_id) for message_id in message_ids}:
            if conversation := self._store.by_number(number):
                _owned(user_id, conversation, "the message")
        return self._store.hide(message_ids)

    # --- talking

    def add(self, user_id: str, conversation_id: str, role: str, content: str, **fields: Any) -> Message:
        """Append a message that is not answered; `fields` are further ones of `Message`."""
        if role not in ROLES:
            raise InvalidRequest(f"role must be one of {', '.join(sorted(ROLES))}")
        self.find(user_id, conversation_id)
        [message] = self._store.append(conversation_id, Message(role, _checked(content), **fields))
        return message

    def send(
        self,
        user_id: str,
        conversation_id: str,
        content: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        new: Mapping[str, Any] | None = None,
        attend: bool = True,
        **fields: Any,
    ) -> Turn:
        """Begin a turn: store the user's message, ask the model, store the reply.

        Raises before anything is stored when the content is empty or no model can answer now. With `new` an unknown
        conversation is made, with these fields. `api_key` goes to the model's server for this turn only. `attend`: see
        `Turns.submit`. `fields` are further ones of the user's `Message`.
        """
        question = Message("user", _checked(content), **fields)
        self._provider.check()
        found = self._store.get(check_id(conversation_id))
        if found is not None or new is None:
            _owned(user_id, found, f"conversation {conversation_id}")

        def ask(conversation: Conversation, cancel: Cancellation) -> Iterable[Chunk]:
            return self._provider.stream(
                self._prompt(conversation), model=model or conversation.model, api_key=api_key, cancel=cancel
            )

        return self._turns.submit(user_id, conversation_id, question, ask, new=new, model=model, attend=attend)

    def running(self, user_id: str, conversation_id: str) -> Turn | None:
        """Return the turn that is answering in this conversation now, or None."""
        return self._turns.current(self.find(user_id, conversation_id).id)

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

    def listen(self, user_id: str, conversation_id: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with a user's turns of a conversation, which need not exist yet; see Turns.listen."""
        owner = self.owner(conversation_id)
        if owner not in (None, user_id):
            raise NotYours(f"conversation {conversation_id} does not exist")
        return self._turns.listen(user_id, conversation_id, listener)

    def complete(self, body: bytes, *, api_key: str | None = None, cancel: Cancellation | None = None) -> Completion:
        """Pass a chat completion request on to the model; nothing of it is stored."""
        self._provider.check()
        return self._provider.complete(body, api_key=api_key, cancel=cancel)

    def model_of(self, conversation: Conversation | None = None) -> str | None:
        """Return the model that will answer in a conversation, or in a new one; None while none is known."""
        return (conversation and conversation.model) or self._default_model.name()

    def models(self, *, api_key: str | None = None) -> list[str]:
        """Return the names of the models that can be asked for."""
        return self._provider.models(api_key=api_key)

    def _prompt(self, conversation: Conversation) -> list[dict[str, Any]]:
        """Return what the model is asked: the instructions, and as much of the history as there is room for.

        Passages of the user's own documents are not looked up yet; they will come in here. `ask` in `send` then
        yields them as `Sources` before the model's chunks: from there on they are streamed, stored and shown.
        """
        instructions = conversation.system_prompt or self._system_prompt or self._provider.system_prompt
        room = self._context_tokens or self._provider.context_tokens
        return history.fit(instructions, history.newest_first(partial(self._store.latest, conversation.id)), room)

    # --- projects

    def projects(self, user_id: str) -> list[Project]:
        """Return a user's projects, oldest first."""
        return self._store.projects(user_id)

    def project(self, user_id: str, project_id: int) -> Project:
        """Return a project."""
        return _owned(user_id, self._store.project(project_id), f"project {project_id}")

    def create_project(self, user_id: str, name: str) -> Project:
        """Create a project."""
        return self._store.create_project(user_id, _project_name(name))

    def rename_project(self, user_id: str, project_id: int, name: str) -> Project:
        """Rename a project."""
        return self._store.rename_project(self.project(user_id, project_id).id, _project_name(name))

    def delete_project(self, user_id: str, project_id: int) -> None:
        """Delete a project; its conversations stay."""
        self._store.delete_project(self.project(user_id, project_id).id)

    def _check_fields(self, user_id: str, fields: Mapping[str, Any]) -> None:
        check_title(fields.get("title") or "")
        self._check_project(user_id, fields.get("project_id"))

    def _check_project(self, user_id: str, project_id: int | None) -> None:
        if project_id:
            self.project(user_id, project_id)


def _owned(user_id: str, found: Owned | None, what: str) -> Owned:
    """Return what was found if it is the user's; `what` it is said not to exist otherwise."""
    if found is None:
        raise NotFound(f"{what} does not exist")
    if found.user_id != user_id:
        raise NotYours(f"{what} does not exist")
    return found


def _checked(content: str) -> str:
    if not content.strip():
        raise EmptyContent("content must not be empty")
    return content


def _project_name(name: str) -> str:
    if not name.strip():
        raise InvalidRequest("name must not be empty")
    return check_title(name.strip())
