"""One turn: a question and its reply, as a buffer of events that any number of readers follow.

A turn knows nothing of threads or stores; whoever closes it first decides how it ends.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

from self_agent.events import Chunk, Delta, Done, Event, Failed, Info, Sources, Started
from self_agent.models import Message
from self_agent.providers.base import Cancellation


class Turn:
    """One question and its reply, as a buffer of events that readers follow."""

    def __init__(self, conversation_id: str, question: Message) -> None:
        self.id = uuid.uuid4().hex
        self.began = time.monotonic()
        self.conversation_id = conversation_id
        self.question = question  # with its id and time once `stored` is set
        self.reply = Message("assistant", "")  # without its text, which is in the events
        self.cancellation = Cancellation()
        self.stored = threading.Event()  # the question is on disk, or never will be
        self.finished = threading.Event()  # the last event is out
        self.checkpointing = threading.Lock()
        self.checkpointed = 0  # how many events the checkpoint on disk covers
        self._events: list[Event] = []
        self._takers: list[Callable[[Event], bool]] = []
        self._changed = threading.Condition()
        self._closed = False  # no further chunk is taken
        self._ended = False  # no further event will come

    def follow(
        self, start: int = 0, *, first_silence: float | None = None, silence: float | None = None
    ) -> Iterator[list[Event]]:
        """Yield the events from the `start`-th on, to the last, as many at once as there are.

        An empty list says that nothing came for `first_silence`, later for `silence` seconds (None: wait).
        """
        patience = first_silence
        while True:
            with self._changed:
                if start >= len(self._events) and not self._ended:
                    self._changed.wait(patience)
                batch = self._events[start:]
                ended = self._ended
            if not batch:
                if ended:
                    return
                patience = silence
            yield batch
            start += len(batch)

    def attach(self, take: Callable[[Event], bool], start: int) -> bool:
        """Call `take` with each event from the `start`-th on; False if there are some already, or none will come.

        It is called under a lock, in the thread that has the event, until it returns False.
        """
        with self._changed:
            if self._ended or start != len(self._events):
                return False
            self._takers.append(take)
            return True

    def detach(self, take: Callable[[Event], bool]) -> None:
        """Call `take` no more."""
        with self._changed:
            if take in self._takers:
                self._takers.remove(take)

    def wait_started(self) -> None:
        """Wait until the model has accepted the question. Raises the AppError if it did not."""
        [first, *_] = next(self.follow())
        if isinstance(first, Failed):
            raise first.error

    def wait(self) -> Done:
        """Wait for the end and return it. Raises the AppError that the turn failed with."""
        self.finished.wait()
        last = self._events[-1]
        if isinstance(last, Failed):
            raise last.error
        assert isinstance(last, Done)
        return last

    def wait_stored(self) -> Message:
        """Wait until the question is on disk and return it. Raises the AppError that prevented it."""
        self.stored.wait()
        if self.question.id == 0:
            self.wait()
        return self.question

    def begin(self, question: Message, reply_id: int) -> None:
        """Note that the question is stored."""
        self.question = question
        self.reply = replace(self.reply, id=reply_id)
        self.stored.set()

    def started(self) -> None:
        """Tell readers that the model has accepted the question."""
        with self._changed:
            if not self._closed:
                self._publish(self._started())

    def take(self, chunk: Chunk) -> bool:
        """Take a chunk from the model; False when the turn has been ended and wants no more."""
        with self._changed:
            if self._closed:
                return False
            if isinstance(chunk, Delta):
                if chunk.text or chunk.reasoning:
                    self._publish(chunk)
            elif isinstance(chunk, Info):
                self.reply = replace(
                    self.reply, model=chunk.model or self.reply.model, usage=chunk.usage or self.reply.usage
                )
            elif isinstance(chunk, Sources):
                self.reply = replace(self.reply, sources=chunk.sources)
                self._publish(chunk)
            return True

    def close(self) -> bool:
        """Take no further chunk; True for the one caller who was first and now has to end the turn."""
        with self._changed:
            first, self._closed = not self._closed, True
            return first

    def end(self, last: Done | Failed) -> None:
        """Publish the last event."""
        with self._changed:
            if isinstance(last, Done) and not self._events:
                self._events.append(self._started())
            self._ended = True
            self._publish(last)
        self.stored.set()
        self.finished.set()

    def text(self) -> tuple[str, str]:
        """Return the text and the reasoning so far."""
        deltas = [event for event in self._events if isinstance(event, Delta)]
        return "".join(delta.text for delta in deltas), "".join(delta.reasoning for delta in deltas)

    def since_checkpoint(self) -> str:
        """Return the text that the last checkpoint does not cover, and count it as covered."""
        events = self._events[self.checkpointed :]
        self.checkpointed += len(events)
        return "".join(event.text for event in events if isinstance(event, Delta))

    @property
    def closed(self) -> bool:
        return self._closed

    def _started(self) -> Started:
        return Started(self.id, self.conversation_id, self.question.id, self.reply.id)

    def _publish(self, event: Event) -> None:
        self._events.append(event)
        if self._takers:
            self._takers = [take for take in self._takers if take(event)]
        self._changed.notify_all()
