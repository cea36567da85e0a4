"""One turn: a question and its reply, as a buffer of events that any number of readers follow.

A turn knows nothing of stores and starts no threads; whoever claims its end first decides how it ends.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce

from core import logs
from self_agent.events import CallDelta, Chunk, Delta, Done, Event, Failed, Info, Sources, Started, reached
from self_agent.models import Message, calls_of
from self_agent.providers.base import Cancellation
from self_agent.turns.calls import calls_in, noted, pieces_of

log = logging.getLogger(__name__)

PIECE = 2000  # characters of a stored reply that are one event: some clients take no event that a network splits
CHECK = 1.0  # seconds between two checks of who waits

Work = Callable[[], None]


class Reader(ABC):
    """Somebody who is given the events of a turn, in the thread that has them, under the turn's lock."""

    @abstractmethod
    def take(self, events: Sequence[Event]) -> bool:
        """Take the next events, without ever waiting; False to get no more."""


class Turn:
    """One question and its reply."""

    def __init__(self, user_id: str, conversation_id: str, question: Message, most: float = math.inf) -> None:
        """`most` is how many bytes of text and reasoning the reply may have."""
        self.id = uuid.uuid4().hex
        self.began = time.monotonic()
        self.first = 0.0  # when the first piece of the reply came
        self.log_fields = {"turn_id": self.id, "request_id": logs.request_id.get()}  # `extra` of its lines in the log
        self.user_id = user_id
        self.conversation_id = conversation_id
        self.question = question  # with its id and time once it is stored
        self.key = question.key  # see `keys`: who sends with the same one gets this turn
        self.reply = Message("assistant", "")  # without its text, which is in the events
        self.cancellation = Cancellation()
        self.checkpointing = threading.Lock()
        self.is_kept = True  # in the store
        self.checkpointed = 0  # how many events the checkpoint on disk covers
        self.room = most  # bytes that the reply may still have
        self.thread: threading.Thread | None = None  # that works for it alone, if there is one
        self.is_stored = False  # from the beginning: it only shows again what is in the store, and no listener knows it
        self.is_claimed = False  # no further chunk is taken
        self.is_announced = False  # others were told that it answers
        self.is_over = False  # the last event is out
        self._events: list[Event] = []
        self._numbered = (0, 0)  # how many events have been counted, and the number of the last of them
        self._readers: list[Reader] = []
        self._work: Work | None = None  # for a thread that waits for this turn anyway
        self._helpers = 0  # how many do
        self.lock = threading.RLock()  # of all that changes; whoever takes events may detach itself
        self._changed = threading.Condition(self.lock)  # with every event
        self._advanced = threading.Condition(self.lock)  # with every step from question to end, and new work

    @classmethod
    def finished(cls, user_id: str, conversation_id: str, question: Message, reply: Message) -> Turn:
        """Return a turn that has ended, made of what is stored of it."""
        turn = cls(user_id, conversation_id, question)
        turn.is_claimed = turn.is_stored = True
        turn.replay(question, reply)
        turn.end(Done(reply))
        return turn

    # --- following

    def follow(
        self, start: int = 0, *, first_silence: float | None = None, silence: float | None = None
    ) -> Iterator[list[Event]]:
        """Yield the events from the `start`-th on, to the last, as many at once as there are.

        An empty list says that nothing came for `first_silence`, later for `silence` seconds (None: wait).
        """
        patience = first_silence
        while True:
            with self.lock:
                if start >= len(self._events) and not self.is_over:
                    self._changed.wait(patience)
                batch = self._events[start:]
                is_over = self.is_over
            if not batch:
                if is_over:
                    return
                patience = silence
            yield batch
            start += len(batch)

    def attach(self, reader: Reader, start: int) -> None:
        """Give a reader the events from the `start`-th on: those there are now, then each as it comes."""
        with self.lock:
            self._readers.append(reader)
            self._give([reader], self._events[start:])

    def detach(self, reader: Reader) -> None:
        """Give a reader no more events."""
        with self.lock:
            if reader in self._readers:
                self._readers.remove(reader)

    @property
    def length(self) -> int:
        """How many events there are."""
        return len(self._events)

    def since(self, start: int) -> Sequence[Event]:
        """Return the events from the `start`-th on; the caller holds the lock."""
        return self._events[start:]

    def number(self) -> int:
        """Return the number of the last event that there is, see `events.reached`."""
        with self.lock:
            counted, number = self._numbered
            number = reduce(reached, self._events[counted:], number)
            self._numbered = (len(self._events), number)
            return number

    def _give(self, readers: Iterable[Reader], events: Sequence[Event]) -> None:
        """Give events to readers; one that fails loses its place, and nobody else notices."""
        for reader in list(readers) if events else ():
            try:
                wants_more = reader.take(events)
            except Exception:
                log.exception("a reader of turn %s failed", self.id, extra=self.log_fields)
                wants_more = False
            if not wants_more:
                self.detach(reader)

    # --- waiting, in a thread that may do the turn's work meanwhile

    def wait_started(self) -> None:
        """Wait until the model has accepted the question. Raises the AppError if it did not."""
        self._help_until(lambda: self._events)
        first = self._events[0]
        if isinstance(first, Failed):
            raise first.error

    def wait_stored(self) -> Message:
        """Wait until the question is on disk and return it. Raises the AppError that prevented it."""
        self.wait_until(lambda: self.question.id or self.is_over)
        if not self.question.id:
            self.wait()
        return self.question

    def wait(self, check: Callable[[], None] | None = None) -> Done:
        """Wait for the end and return it. Raises the AppError that the turn failed with.

        `check` is called every second meanwhile; what it raises ends the waiting, and nothing else.
        """
        self._help_until(lambda: self.is_over, check)
        last = self._events[-1]
        if isinstance(last, Failed):
            raise last.error
        assert isinstance(last, Done)
        return last

    def wait_until(self, is_there: Callable[[], object], seconds: float | None = None) -> bool:
        """Wait without doing the turn's work, which may take long; False if the time was up first."""
        with self.lock:
            return bool(self._advanced.wait_for(is_there, seconds))

    def wait_over(self, seconds: float | None = None) -> bool:
        """Wait for the end, as `wait_until` does."""
        return self.wait_until(lambda: self.is_over, seconds)

    def offer(self, work: Work) -> bool:
        """Leave work to a thread that waits for this turn; False if there is none."""
        with self.lock:
            if not self._helpers:
                return False
            assert self._work is None
            self._work = work
            self._advanced.notify_all()
            return True

    def _help_until(self, is_there: Callable[[], object], check: Callable[[], None] | None = None) -> None:
        while True:
            with self.lock:
                self._helpers += 1
                is_due = self._advanced.wait_for(lambda: is_there() or self._work, CHECK if check else None)
                self._helpers -= 1
                work, self._work = self._work, None
            if work is not None:
                work()
            elif is_due:
                return
            elif check is not None:
                check()

    # --- from question to end, in whichever thread works for the turn

    def begin(self, question: Message, reply_id: int) -> None:
        """Note that the question is stored."""
        with self.lock:
            self.question = question
            self.reply = replace(self.reply, id=reply_id)
            self._advanced.notify_all()

    def replay(self, question: Message, reply: Message) -> None:
        """Publish all but the end of a reply that is stored; what was thought between its pieces comes before them."""
        with self.lock:
            self.begin(question, reply.id)
            self.reply = replace(reply, content="", reasoning=None)
            thoughts = [Delta(reasoning=piece) for piece in _pieces(reply.reasoning or "")]
            sources = [Sources(reply.sources)] if reply.sources else []
            words: list[Event] = [*map(Delta, _pieces(reply.content)), *pieces_of(calls_of(reply))]
            self._publish([self._started(), *thoughts, *sources, *words])

    def started(self) -> None:
        """Tell readers that the model has accepted the question."""
        with self.lock:
            if not self.is_claimed:
                self._publish([self._started()])
                self._advanced.notify_all()

    def take(self, chunks: Iterable[Chunk]) -> bool:
        """Take chunks from the model; False when the turn ends, or its reply is too long, and it wants no more."""
        with self.lock:
            if self.is_claimed or self.room < 0:
                return False
            events: list[Event] = []
            for chunk in chunks:
                if type(chunk) is Delta:
                    if chunk.text or chunk.reasoning:
                        events.append(chunk)
                        self.room -= _size(chunk.text) + _size(chunk.reasoning)
                elif isinstance(chunk, Info):
                    self.reply = noted(self.reply, chunk)
                elif isinstance(chunk, CallDelta):
                    events.append(chunk)
                    self.room -= _size(chunk.arguments)
                elif isinstance(chunk, Sources):
                    self.reply = replace(self.reply, sources=chunk.sources)
                    events.append(chunk)
            if events:
                self.first = self.first or time.monotonic()
                self._publish(events)
            return self.room >= 0

    def claim(self) -> bool:
        """Take no further chunk; True for the one caller who was first and now has to end the turn."""
        with self.lock:
            is_first, self.is_claimed = not self.is_claimed, True
            return is_first

    def end(self, last: Done | Failed) -> None:
        """Publish the last event."""
        with self.lock:
            self.is_over = True
            is_unstarted = isinstance(last, Done) and not self._events
            self._publish([self._started(), last] if is_unstarted else [last])
            self._advanced.notify_all()

    def text(self) -> tuple[str, str]:
        """Return the text and the reasoning so far."""
        deltas = [event for event in self._events if isinstance(event, Delta)]
        return "".join(delta.text for delta in deltas), "".join(delta.reasoning for delta in deltas)

    def calls(self) -> list[dict[str, str]]:
        """Return the functions that are to be called, as far as the model has said; see `Message.extra`."""
        return calls_in(event for event in self._events if isinstance(event, CallDelta))

    def since_checkpoint(self) -> str:
        """Return the text that the last checkpoint does not cover, and count it as covered."""
        events = self._events[self.checkpointed :]
        self.checkpointed += len(events)
        return "".join(event.text for event in events if isinstance(event, Delta))

    def _started(self) -> Started:
        return Started(self.id, self.conversation_id, self.question.id, self.reply.id)

    def _publish(self, events: Sequence[Event]) -> None:
        self._events += events
        if self._readers:
            self._give(self._readers, events)
        self._changed.notify_all()


def _pieces(text: str) -> list[str]:
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
