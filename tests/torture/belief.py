"""What the clients of a server believe: what it acknowledged must be there, what was under way may be there."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from enum import Enum


class Fate(Enum):
    """Whether something happened; MAYBE is under way, or was when the server was killed."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


NO, MAYBE, YES = Fate.NO, Fate.MAYBE, Fate.YES


@dataclass(eq=False)
class Sent:
    """A user's message, and the reply to it; `token` is what its content starts with, edited or not."""

    token: str
    asked: str
    began: int
    ended: int | None = None  # the moment of its acknowledgement; None: not known
    there: Fate = MAYBE
    hidden: Fate = NO
    reply: Fate = MAYBE
    reply_seen: str | None = None  # once it was read, it must stay so
    reply_id: int = 0
    id: int = 0
    contents: list[str] = field(default_factory=list)  # what it may say


@dataclass(eq=False)
class Talk:
    """One conversation; without a `name` acknowledged, any will do."""

    id: str
    number: int = 0
    there: Fate = MAYBE
    deleted: Fate = NO
    is_kept: bool = False  # its deletion, if it happened, was a soft one
    names: set[str] = field(default_factory=set)
    sent: dict[str, Sent] = field(default_factory=dict)
    folders: dict[str, Fate] = field(default_factory=dict)  # that it is in, by their names
    tags: dict[str, Fate] = field(default_factory=dict)  # that it has, by what they say
    tag_ids: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Asked:
    """A send, with what it takes to repeat it; `kind` says what its answer looks like."""

    talk_id: str
    sent: Sent
    path: str
    body: dict[str, str]
    kind: str
    key: str


class Belief:
    """What all clients together believe; a client tells it before it asks for something and when it has the answer."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.talks: dict[str, Talk] = {}
        self.deleted: dict[str, Talk] = {}
        self.folders: dict[str, Fate] = {}  # by their names; the default one is always there
        self.folder_ids = {"default": "default"}
        self.creations = 0  # of conversations whose ids the server chose, under way or cut off
        self.unanswered: dict[str, list[Asked]] = {}  # by who asked: sends to be repeated with their keys
        self.repeated = 0  # of these, with an answer
        self.acknowledged = 0
        self.refused: list[str] = []  # answers that no kill explains
        self._moments = itertools.count()
        self._tokens = itertools.count()

    def talk(self, conversation_id: str) -> Talk:
        """Return what is believed of a conversation, which may be new."""
        with self.lock:
            return self.talks.setdefault(conversation_id, Talk(conversation_id))

    def begin(self, talk: Talk, words: str) -> Sent:
        """Note that a message is about to be sent."""
        token = f"q{next(self._tokens)}:"
        content = f"{token} {words}"
        with self.lock:
            sent = talk.sent[token] = Sent(token, content, next(self._moments), contents=[content])
        return sent

    def again(self, asked: Asked) -> Talk:
        """Note that a send is about to be repeated, after a check: what was not there may come now, and its reply."""
        sent, talk = asked.sent, self.talk(asked.talk_id)
        with self.lock:
            if talk.sent.get(sent.token) is not sent:
                sent.there = MAYBE
                sent.hidden = NO
                talk.sent[sent.token] = sent
            if sent.reply is NO:
                sent.reply = MAYBE
        return talk

    def stored(self, talk: Talk, sent: Sent) -> None:
        """Note that a message is acknowledged."""
        if sent.there is not YES:
            sent.ended = next(self._moments)
            sent.there = talk.there = YES
            self.done()

    def replied(self, talk: Talk, sent: Sent) -> None:
        """Note that a message and its whole reply are acknowledged."""
        self.stored(talk, sent)
        sent.reply = YES
        self.done()

    def done(self) -> None:
        """Count an acknowledged write."""
        with self.lock:
            self.acknowledged += 1

    def gone(self, talk: Talk) -> None:
        """Note that a deletion is acknowledged."""
        talk.deleted = YES
        with self.lock:
            self.deleted[talk.id] = self.talks.pop(talk.id)
