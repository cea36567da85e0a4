"""Talking with a model: what it is asked, and how its reply is followed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from core.errors import Conflict, InvalidRequest, NotFound, NotYours
from self_agent import history
from self_agent.conversations.finding import Finding, checked, owned
from self_agent.events import Chunk, Tell, unheard
from self_agent.models import Conversation, Message, check_id, number_of
from self_agent.providers.base import Cancellation, Completion, Provider
from self_agent.providers.default import DefaultModel
from self_agent.storage.base import Store
from self_agent.turns.queues import Listener
from self_agent.turns.runner import Ask, Turns
from self_agent.turns.turn import Turn


class Talking(Finding):
    """What asks the model."""

    def __init__(
        self,
        store: Store,
        turns: Turns,
        provider: Provider,
        *,
        system_prompt: str = "",
        context_tokens: int = 0,
        keep_deleted_days: int = 30,
        tell: Tell = unheard,
    ) -> None:
        super().__init__(store, turns, keep_deleted_days=keep_deleted_days, tell=tell)
        self._provider = provider
        self._default_model = DefaultModel(provider)
        self._system_prompt = system_prompt
        self._context_tokens = context_tokens

    def send(
        self,
        user_id: str,
        conversation_id: str,
        content: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        new: Mapping[str, Any] | None = None,
        parent: int | None = None,
        attend: bool = True,
        **fields: Any,
    ) -> Turn:
        """Begin a turn: store the user's message, ask the model, store the reply.

        Raises before anything is stored when the content is empty or no model can answer now. With `parent` the message
        follows that one (0: none), whatever did so before: the branch that it begins is shown from then on; raises
        NotFound where there is no such message, Conflict while the conversation is answering. With `new` an unknown
        conversation is made, with these fields. `api_key` goes to the model's server for this turn only. `attend`: see
        `Turns.submit`. `fields` are further ones of the user's `Message`; with a `key` that was sent before, the turn
        is that of the message with it, whatever else is so now.
        """
        question = Message("user", checked(content), parent=parent, **fields)
        found = self._store.get(check_id(conversation_id))
        if found is not None or new is None:
            found = owned(user_id, found, f"conversation {conversation_id}")
        if question.key and (turn := self._turns.repeated(user_id, conversation_id, question.key)):
            return turn
        self._provider.check()
        if parent is not None:
            self._check_parent(found, parent)
        return self._turns.submit(
            user_id,
            conversation_id,
            question,
            self._asking(model, api_key),
            new=new,
            model=model,
            attend=attend,
            alone=parent is not None,
        )

    def regenerate(
        self,
        user_id: str,
        conversation_id: str,
        message_id: int,
        *,
        model: str | None = None,
        api_key: str | None = None,
        key: str | None = None,
    ) -> Turn:
        """Begin a turn that answers a question again; a reply stands for its question. `key`: as in `send`.

        The reply that there is stays, as another branch. Raises Conflict when the conversation is answering, NotFound
        for a message that is not in it, InvalidRequest for a reply to nothing.
        """
        self._member(user_id, conversation_id, message_id)
        if key and (turn := self._turns.repeated(user_id, conversation_id, key)):
            return turn
        self._provider.check()
        *before, message = self._store.latest(conversation_id, 2, until=message_id)
        question = message if message.role == "user" else next(iter(before), message)
        if question.role != "user":
            raise InvalidRequest("this message answers no question: name a reply, or the question itself")
        ask = self._asking(model, api_key, until=question.id)
        return self._turns.submit(
            user_id, conversation_id, question, ask, model=model, attend=True, alone=True, key=key
        )

    def _asking(self, model: str | None, api_key: str | None, until: int | None = None) -> Ask:
        def ask(conversation: Conversation, cancel: Cancellation) -> Iterable[Chunk]:
            return self._provider.stream(
                self._prompt(conversation, until), model=model or conversation.model, api_key=api_key, cancel=cancel
            )

        return ask

    def _check_parent(self, conversation: Conversation | None, parent: int) -> None:
        """Raise NotFound for what no message of a conversation, which need not exist, can follow."""
        if parent and (conversation is None or number_of(parent) != conversation.number):
            raise NotFound(f"parent: there is no message {parent} in this conversation")
        if parent:
            self._store.message(parent)

    def follow(self, user_id: str, conversation_id: str, after: int, message_id: int | None = None) -> Turn | None:
        """Return the turn of the reply that is running, or else is the last message, for who has its events to `after`.

        None: there are no more. Raises InvalidRequest where there are not so many, NotFound where there is no reply,
        Conflict where it is another than `message_id`.
        """
        turn = self.running(user_id, conversation_id)
        if turn is None:
            last = self._store.latest(conversation_id, 2)
            if [message.role for message in last] != ["user", "assistant"]:
                raise NotFound("this conversation does not end in a reply; its messages say what there is")
            turn = Turn.finished(user_id, conversation_id, *last)
        if message_id not in (None, turn.reply.id):
            raise Conflict(f"message_id: the reply to follow now is {turn.reply.id}; read the conversation for others")
        number = turn.number()
        if after > number:
            raise InvalidRequest(f"after: the last event there is has the number {number}; begin with after=0")
        return None if turn.is_over and after == number else turn

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

    def _prompt(self, conversation: Conversation, until: int | None = None) -> list[dict[str, Any]]:
        """Return what the model is asked: the instructions, and as much of the history as there is room for.

        Passages of the user's own documents are not looked up yet; they will come in here. `ask` in `send` then
        yields them as `Sources` before the model's chunks: from there on they are streamed, stored and shown.
        """
        instructions = conversation.system_prompt or self._system_prompt or self._provider.system_prompt
        room = self._context_tokens or self._provider.context_tokens
        return history.fit(
            instructions, history.newest_first(partial(self._store.latest, conversation.id, until=until)), room
        )
