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

from self_agent.events import CallDelta, Chunk, Delta, Done, Event, Failed, Info, Sources, Started
from self_agent.models import Message
from self_agent.providers.base import Cancellation

log = logging.getLogger(__name__)

CHECK = 1.0  # seconds between two checks of who waits
CUT_SHORT = ("length", "content_filter")  # why a model ends that has not said all

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
        self.user_id = user_id
        self.conversation_id = conversation_id
        self.question = question  # with its id and time once it is stored
        self.reply = Message("assistant", "")  # without its text, which is in the events
        self.cancellation = Cancellation()
        self.checkpointing = threading.Lock()
        self.is_kept = True  # in the store
        self.checkpointed = 0  # how many events the checkpoint on disk covers
        self.room = most  # bytes that the reply may still have
        self.thread: threading.Thread | None = None  # that works for it alone, if there is one
        self.is_claimed = False  # no further chunk is taken
        self.is_announced = False  # others were told that it answers
        self.is_over = False  # the last event is out
        self._events: list[Event] = []
        self._readers: list[Reader] = []
        self._work: Work | None = None  # for a thread that waits for this turn anyway
        self._helpers = 0  # how many do
        self.lock = threading.RLock()  # of all that changes; whoever takes events may detach itself
        self._changed = threading.Condition(self.lock)  # with every event
        self._advanced = threading.Condition(self.lock)  # with every step from question to end, and new work

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

    def _give(self, readers: Iterable[Reader], events: Sequence[Event]) -> None:
        """Give events to readers; one that fails loses its place, and nobody else notices."""
        for reader in list(readers) if events else ():
            try:
                wants_more = reader.take(events)
            except Exception:
                log.exception("a reader of turn %s failed", self.id)
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
                    self._note(chunk)
                elif isinstance(chunk, CallDelta):
                    events.append(chunk)
                    self.room -= _size(chunk.arguments)
                elif isinstance(chunk, Sources):
                    self.reply = replace(self.reply, sources=chunk.sources)
                    events.append(chunk)
            if events:
                self._publish(events)
            return self.room >= 0

    def _note(self, info: Info) -> None:
        reply = self.reply
        extra = {"finish_reason": info.finish_reason} if info.finish_reason in CUT_SHORT else reply.extra
        self.reply = replace(reply, model=info.model or reply.model, usage=info.usage or reply.usage, extra=extra)

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


def calls_in(pieces: Iterable[CallDelta]) -> list[dict[str, str]]:
    """Put calls together from their pieces; one without an id gets one."""
    calls: dict[int, dict[str, str]] = {}
    for piece in pieces:
        call = calls.setdefault(piece.index, {"call_id": "", "name": "", "arguments": ""})
        call["call_id"] = call["call_id"] or piece.call_id
        call["name"] = call["name"] or piece.name
        call["arguments"] += piece.arguments
    return [{**call, "call_id": call["call_id"] or f"call_{place}"} for place, call in enumerate(calls.values())]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
