"""Titles by the model, for chats that nobody has named: asked for in the background, after the first whole reply.

One is asked for at a time, with the conversation's model and the server's own key. Where the model has no room beside
the users' questions (the embedded one), a title waits until nothing is answered, and gives way when something is.
What goes wrong is for the log: a chat without a title has its first words.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from typing import NamedTuple

from core.errors import AppError
from self_agent.events import Change, Delta, Tell
from self_agent.models import Message
from self_agent.providers.base import Cancellation, ChatMessage, Provider
from self_agent.storage.base import Store

log = logging.getLogger(__name__)

LONGEST = 80  # characters of a title
EXCERPT = 1000  # characters of the question, and of the reply, that the model is shown
EARLY = 10  # messages in which the first whole reply is looked for
WAITING = 100  # chats that may wait for a title; of more the oldest go without
SECONDS = 60.0  # for an answer
TOO_MUCH = 20_000  # characters of an answer, reasoning included: what says so much is not going to be a title
INSTRUCTIONS = (
    "You name conversations. Reply with nothing but a short title of at most eight words, in the language of the "
    "conversation: no quotes, no formatting, no explanation."
)

_REASONING = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_LABEL = re.compile(r"(?:title|titel|titre|título|标题|題名|タイトル)\s*[:：]\s*", re.IGNORECASE)
_LEADING = re.compile(r"(?:[#>*+-]+|\d+[.)])\s+")
_QUOTES = "\"'`*_~“”„‘’‚«»‹›「」『』《》〈〉【】"


class Wanted(NamedTuple):
    """A chat that may want a title; the number tells it from a later one with its id."""

    user_id: str
    conversation_id: str
    number: int


class Titles:
    """Hears what turns tell, passes it on, and names what they answered."""

    def __init__(self, store: Store, provider: Provider, tell: Tell, *, is_on: bool) -> None:
        """`tell` is told of every title, too."""
        self._store = store
        self._provider = provider
        self._told = tell
        self._is_on = is_on and provider.follows_instructions
        self._changed = threading.Condition()
        self._wanted: deque[Wanted] = deque(maxlen=WAITING)
        self._answering = 0  # turns that run now
        self._asking: Cancellation | None = None
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def tell(self, user_id: str, change: Change) -> None:
        """Pass a change on; a chat that was answered is looked at soon."""
        self._told(user_id, change)
        if not self._is_on or change.kind not in ("answering", "answered"):
            return
        asking = None
        with self._changed:
            if change.kind == "answering":
                self._answering += 1
                asking = None if self._provider.has_room else self._asking
            else:
                self._answering = max(0, self._answering - 1)
                self._wanted.append(Wanted(user_id, change.conversation_id, change.number))
                self._start()
            self._changed.notify_all()
        if asking is not None:
            asking.cancel()

    def close(self) -> None:
        """Ask for no more titles, and drop the one that is asked for. Doing it twice is harmless."""
        with self._changed:
            self._is_closed = True
            asking = self._asking
            self._changed.notify_all()
        if asking is not None:
            asking.cancel()

    def _start(self) -> None:
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(target=self._run, name="titles", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads now; the next answer tries again
                self._thread = None

    # --- in a thread of its own

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or (self._wanted and self._may_ask()))
                if self._is_closed:
                    return
                wanted = self._wanted.popleft()
                self._asking = cancel = Cancellation()
            try:
                self._name(wanted, cancel)
            except AppError as error:
                log.warning("chat %s got no title: %s", wanted.conversation_id, error.message)
            except Exception:
                log.exception("chat %s got no title", wanted.conversation_id)
            with self._changed:
                self._asking = None
                if cancel.cancelled and not self._may_ask():  # it gave way
                    self._wanted.appendleft(wanted)

    def _may_ask(self) -> bool:
        return self._provider.has_room or not self._answering

    def _name(self, wanted: Wanted, cancel: Cancellation) -> None:
        """Give a chat its title, if it has none and its first whole reply is there."""
        found = self._store.get(wanted.conversation_id)
        if found is None or found.number != wanted.number or found.title is not None or found.count > EARLY:
            return
        excerpt = excerpt_of(self._store.messages(found.id, limit=EARLY))
        if excerpt is None:
            return
        title = title_in(self._answer(excerpt, found.model, cancel))
        if title is None or cancel.cancelled:
            if not cancel.cancelled:
                log.warning("chat %s got no title: the model's answer has none in it", found.id)
            return
        expected = {"title": None, "number": found.number}
        named = self._store.update(found.id, title=title, moves=False, expect=expected)
        if named.title == title:
            self._told(wanted.user_id, Change("changed", found.id, found.number))

    def _answer(self, messages: list[ChatMessage], model: str | None, cancel: Cancellation) -> str:
        """Ask the model, for so long and so much at most; return the text of its answer."""
        self._provider.check()
        too_late = threading.Timer(SECONDS, cancel.cancel)
        too_late.daemon = True
        too_late.start()
        text, size = "", 0
        try:
            for chunk in self._provider.stream(messages, model=model, cancel=cancel):
                if isinstance(chunk, Delta):
                    text += chunk.text
                    size += len(chunk.text) + len(chunk.reasoning)
                if size > TOO_MUCH:
                    cancel.cancel()
                    break
        finally:
            too_late.cancel()
        return text


def excerpt_of(messages: list[Message]) -> list[ChatMessage] | None:
    """Return what a model is asked for the title of a chat that begins so; None if it has not one whole reply yet.

    None too if it has more: then the title was asked for before.
    """
    replies = [message for message in messages if message.role == "assistant" and not message.incomplete]
    questions = [message for message in messages if message.role == "user" and message.content.strip()]
    if len(replies) != 1 or not questions:
        return None
    question, reply = questions[0].content.strip()[:EXCERPT], replies[0].content.strip()[:EXCERPT]
    text = f"A conversation begins like this.\n\nUser:\n{question}\n\nAssistant:\n{reply}\n\nIts title:"
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": text}]


def title_in(answer: str) -> str | None:
    """Return the title that a model's answer gives: one line without what surrounds it, or None."""
    for line in _REASONING.sub("", answer).splitlines():
        words = "".join(char if char.isprintable() else " " for char in line)
        title = " ".join(words.split())
        before = None
        while title != before:  # **Title:** "…" has one thing around the other
            before = title
            title = _LEADING.sub("", title, count=1) if _LEADING.match(title) else title
            title = title.rstrip(".。 ").strip(_QUOTES + " ")
            title = title[label.end() :] if (label := _LABEL.match(title)) else title
        if any(char.isalnum() for char in title):
            return title if len(title) <= LONGEST else _cut(title)
    return None


def _cut(title: str) -> str:
    """Cut a title, at the last space where there is one near."""
    cut = title[: LONGEST - 1]
    space = cut.rfind(" ")
    return (cut[:space] if space > LONGEST // 2 else cut).rstrip() + "…"
