"""Answering as OpenAI's API has it: after any message, with instructions and options of its own, kept or not."""

from __future__ import annotations

import hashlib
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from core.errors import NotFound
from self_agent import history, keys
from self_agent.conversations.finding import checked, owned
from self_agent.conversations.talking import Talking
from self_agent.events import Chunk
from self_agent.models import Conversation, Message, check_id, number_of, result_of
from self_agent.providers.base import Cancellation
from self_agent.turns.turn import Turn


class Answered(NamedTuple):
    """A question with what was said just before it, its reply if it is stored, and its turn if that is running."""

    conversation: Conversation
    asked: list[Message]
    reply: Message | None
    turn: Turn | None


class Responding(Talking):
    """What answers several messages at once, and finds out what was answered."""

    def respond(
        self,
        user_id: str,
        said: Sequence[Message],
        *,
        conversation_id: str | None = None,
        after: int | None = None,
        new: Mapping[str, Any] | None = None,
        keep: bool = True,
        instructions: str | None = None,
        options: Mapping[str, Any] | None = None,
        model: str | None = None,
        api_key: str | None = None,
        attend: bool = True,
    ) -> Turn:
        """Begin a turn: store what is said, of which the last is answered, ask the model, store the reply.

        It follows the message `after`, or whatever is shown last. `instructions`, even "", take the place of
        the conversation's; `options`: see `Provider.stream`. Without `keep` nothing is stored, and no conversation is
        needed. The rest, and what is raised, is as of `send`.
        """
        *before, question = said
        if question.role == "user" and result_of(question) is None:
            checked(question.content)
        base = self._store.get(check_id(conversation_id)) if conversation_id else None
        if conversation_id and (base is not None or new is None):
            base = owned(user_id, base, f"conversation {conversation_id}")
        is_keyed = keep and question.key and conversation_id
        if is_keyed and (turn := self._turns.repeated(user_id, str(conversation_id), str(question.key))):
            return turn
        self._provider.check()
        if keep and after is not None:
            [first, *rest] = (*before, question)
            *before, question = (replace(first, parent=after), *rest)

        def ask(conversation: Conversation, cancel: Cancellation) -> Iterable[Chunk]:
            if keep:
                messages = history.newest_first(partial(self._store.latest, conversation.id))
            else:
                conversation = base or conversation
                older = history.newest_first(partial(self._store.latest, conversation.id, until=after)) if base else ()
                messages = chain(reversed(said), older)
            given = {"options": options} if options else {}
            prompt = self._fitted(conversation, messages, instructions)
            name = model or conversation.model
            return self._provider.stream(prompt, model=name, api_key=api_key, cancel=cancel, **given)

        place = conversation_id if keep and conversation_id else uuid.uuid4().hex
        return self._turns.submit(
            user_id, place, question, ask, new=new, model=model, attend=attend, before=before, keep=keep
        )

    def place_of(self, user_id: str, prefix: str, key: str | None) -> str:
        """Return the id of a conversation for what is said without one: with a `key` that was sent before, the same."""
        if key:
            digest = hashlib.sha256(f"{user_id}\n{prefix}\n{keys.name_of(key)}".encode()).hexdigest()[:32]
            if self._store.get(prefix + digest) is None or self._store.sent(prefix + digest, key):
                return prefix + digest
        return prefix + uuid.uuid4().hex

    def _fitted(
        self, conversation: Conversation, newest_first: Iterable[Message], instructions: str | None
    ) -> list[dict[str, Any]]:
        """Return what the model is asked; see `_prompt`."""
        words = conversation.system_prompt or self._system_prompt or self._provider.system_prompt
        words = words if instructions is None else instructions
        return history.fit(words, newest_first, self._context_tokens or self._provider.context_tokens)

    def answered(self, user_id: str, reply_id: int) -> Answered:
        """Return what is known of a reply, running, stored, or failed before its first word."""
        what = f"message {reply_id}"
        conversation = owned(user_id, self._store.by_number(number_of(reply_id)), what)
        turn = self._turns.current(conversation.id)
        if turn is not None and turn.reply.id == reply_id:
            return Answered(conversation, self._asked(conversation, turn.question), None, turn)
        reply: Message | None = None
        with suppress(NotFound):
            reply = self._store.message(reply_id)
        if reply is None:
            question = self._store.message(reply_id - 1)
            if not (question.extra and "asked" in question.extra):
                raise NotFound(f"{what} does not exist")
            return Answered(conversation, self._asked(conversation, question), None, None)
        if reply.role != "assistant":
            raise NotFound(f"{what} is not a reply")
        *before, _ = self._store.latest(conversation.id, 2, until=reply_id)
        is_asked = before and before[0].role != "assistant"
        return Answered(conversation, self._asked(conversation, before[0]) if is_asked else [], reply, None)

    def _asked(self, conversation: Conversation, question: Message) -> list[Message]:
        """Return a question, and what was said with it."""
        asked = (question.extra or {}).get("asked")
        count = asked.get("said") if isinstance(asked, dict) else None
        if not isinstance(count, int) or count < 2:
            return [question]
        return self._store.latest(conversation.id, count, until=question.id)

    # --- a conversation, item by item

    def page_after(
        self, user_id: str, conversation_id: str, after: int | None, size: int, *, newest_first: bool
    ) -> list[Message]:
        """Return up to `size` messages in either order, from the message `after` on, which is the first of them."""
        conversation = self.find(user_id, conversation_id)
        if after is not None and number_of(after) != conversation.number:
            raise NotFound(f"message {after} does not exist")
        if newest_first:
            return self._store.latest(conversation_id, size, until=after)[::-1]
        start = self._place_of(conversation, after) if after is not None else 0
        return self._store.messages(conversation_id, offset=start, limit=size)

    def _place_of(self, conversation: Conversation, message_id: int) -> int:
        """Return how many messages of the shown branch are before one. Raises NotFound when it is not there."""

        def id_at(place: int) -> int:
            found = self._store.messages(conversation.id, offset=place, limit=1)
            return found[0].id if found else message_id

        place = bisect_left(range(conversation.count), message_id, key=id_at)
        if place < conversation.count and id_at(place) == message_id:
            return place
        for place, message in enumerate(self._store.messages(conversation.id)):  # replies overtake one another
            if message.id == message_id:
                return place
        raise NotFound(f"message {message_id} does not exist")

    def add_all(self, user_id: str, conversation_id: str, messages: Sequence[Message]) -> list[Message]:
        """Append messages that are not answered, all of them or none."""
        conversation = self.find(user_id, conversation_id)
        added = self._store.append(conversation_id, *messages)
        self._told("changed", conversation)
        return added

    def change_message(self, user_id: str, message_id: int, change: Callable[[Message], Message | None]) -> None:
        """Put what `change` makes of a message in its place; None: it is deleted."""
        conversation, _ = self.message(user_id, message_id)
        gone = False

        def changed(message: Message) -> Message:
            nonlocal gone
            after = change(message)
            gone = after is None
            return after or message

        self._store.edit(message_id, changed)
        if gone:
            self._store.hide([message_id])
        self._told("changed", conversation)
