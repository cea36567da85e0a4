"""A turn is a job of the server, not of the request: it ends in the store whoever is still listening.

It stores the user's message, asks the model, and stores the reply. Turns of one conversation run one after
the other, in the order in which they were submitted. The model, a failure or a stop ends a turn: whichever
comes first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from core.errors import AppError, ModelUnavailable, UpstreamError
from self_agent.events import Chunk, Done, Failed, Pause
from self_agent.models import Message
from self_agent.providers.base import Cancellation
from self_agent.storage.base import Store
from self_agent.turns.hub import Hub, Outcome
from self_agent.turns.turn import Turn

log = logging.getLogger(__name__)

Ask = Callable[[Cancellation], Iterator[Chunk]]
Listener = Callable[[Turn], None]

CHECKPOINTS_AT_ONCE = 8
STOPPED_BY_SERVER = "the server was stopped before the reply was finished"


class Turns:
    """All turns that are running or waiting to run."""

    def __init__(self, store: Store, *, checkpoint_seconds: float = 1.0) -> None:
        self._store = store
        self._checkpoint_seconds = checkpoint_seconds
        self._lock = threading.Lock()
        self._queues: dict[str, deque[Turn]] = {}
        self._listeners: dict[str, list[Listener]] = {}
        self._closing = threading.Event()
        self._checkpointer: threading.Thread | None = None
        self._hub = Hub()

    def submit(self, conversation_id: str, question: Message, ask: Ask, *, model: str | None = None) -> Turn:
        """Queue a turn and return at once; `ask` is called after the question is on disk.

        Raises ModelUnavailable when the server is stopping.
        """
        turn = Turn(conversation_id, question)
        turn.reply = replace(turn.reply, model=model)
        with self._lock:
            if self._closing.is_set():
                raise _stopping()
            queue = self._queues.setdefault(conversation_id, deque())
            previous = queue[-1] if queue else None
            queue.append(turn)
            for listener in self._listeners.get(conversation_id, ()):
                listener(turn)
            if self._checkpointer is None:
                self._checkpointer = threading.Thread(target=self._checkpoint_loop, name="checkpoints", daemon=True)
                self._checkpointer.start()
        thread = threading.Thread(target=self._run, args=(turn, previous, ask), name=f"turn-{turn.id}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads; the turns behind this one must not wait for it
            self._fail(turn, ModelUnavailable("the server is too busy; try again shortly", retry_after=5))
        return turn

    def current(self, conversation_id: str) -> Turn | None:
        """Return the turn that is running now, or None."""
        with self._lock:
            queue = self._queues.get(conversation_id)
            return queue[0] if queue else None

    def find(self, turn_id: str) -> Turn | None:
        """Return the running or waiting turn with this id, or None."""
        with self._lock:
            return next((turn for queue in self._queues.values() for turn in queue if turn.id == turn_id), None)

    def stop(self, turn: Turn, reason: str | None = None) -> bool:
        """End a turn now, keeping what was generated; False if it had ended already."""
        turn.stored.wait()
        if not turn.close():
            turn.finished.wait()
            return False
        try:
            self._end(turn, stopped=True, error_text=reason)
        finally:
            turn.cancellation.cancel()
        return True

    def listen(self, conversation_id: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every turn, in order: those running or waiting now, then each that is submitted.

        The returned function ends that. The listener is called under a lock, so it must only pass the turn on.
        """
        with self._lock:
            for turn in self._queues.get(conversation_id, ()):
                listener(turn)
            self._listeners.setdefault(conversation_id, []).append(listener)

        def unlisten() -> None:
            with self._lock:
                listeners = self._listeners[conversation_id]
                listeners.remove(listener)
                if not listeners:
                    del self._listeners[conversation_id]

        return unlisten

    def close(self, grace: float = 0.0) -> None:
        """Take no new turn, let the running ones go on for `grace` seconds, then stop and store them."""
        with self._lock:
            self._closing.set()
            turns = [turn for queue in self._queues.values() for turn in queue]
        deadline = time.monotonic() + grace
        for turn in turns:
            turn.finished.wait(max(0.0, deadline - time.monotonic()))
        for turn in turns:
            self.stop(turn, STOPPED_BY_SERVER)
        self._hub.close()
        if self._checkpointer is not None:
            self._checkpointer.join()

    @property
    def closing(self) -> bool:
        """Whether the server is stopping: no new turn is taken."""
        return self._closing.is_set()

    def running(self) -> int:
        """Return how many turns are running or waiting."""
        with self._lock:
            return sum(len(queue) for queue in self._queues.values())

    # --- in the turn's own thread; once the hub went on with the reply, in one of the hub's

    def _run(self, turn: Turn, previous: Turn | None, ask: Ask) -> None:
        if previous is not None:
            previous.finished.wait()
        chunks: Iterator[Chunk] = iter(())
        try:
            if self._closing.is_set():
                raise _stopping()
            [question] = self._store.append(turn.conversation_id, turn.question)
            turn.begin(question, self._store.reserve(turn.conversation_id))
            chunks = ask(turn.cancellation)
            turn.started()
        except Exception as error:
            self._finish(turn, chunks, error)
        else:
            self._go_on(turn, chunks, Outcome())

    def _go_on(self, turn: Turn, chunks: Iterator[Chunk], outcome: Outcome) -> None:
        """Take chunks to the last; where they pause, leave them to the hub, which calls this again."""
        error = outcome.error
        try:
            for chunk in chunks if outcome.is_wanted and error is None else ():
                if isinstance(chunk, Pause) and chunk.fd is not None:
                    self._hub.add(chunks, turn.take, chunk, partial(self._go_on, turn, chunks))
                    return
                if not turn.take(chunk):
                    break
        except Exception as caught:
            error = caught
        self._finish(turn, chunks, error)

    def _finish(self, turn: Turn, chunks: Iterator[Chunk], error: BaseException | None) -> None:
        """Let go of the upstream and end the turn, unless that was done."""
        try:
            _close(chunks)
        except Exception as caught:
            error = error or caught
        if error is None and not turn.text()[0].strip():
            error = UpstreamError("the model answered with an empty reply; ask again or choose another model")
        try:
            if turn.close():
                self._end(turn, error=_presentable(error, turn))
        finally:
            turn.cancellation.cancel()
        log.info("turn %s of %s ended after %.3f s", turn.id, turn.conversation_id, time.monotonic() - turn.began)

    def _fail(self, turn: Turn, error: AppError) -> None:
        if turn.close():
            self._end(turn, error=error)

    # --- the end, in whichever thread closed the turn

    def _end(
        self, turn: Turn, *, stopped: bool = False, error: AppError | None = None, error_text: str | None = None
    ) -> None:
        stored: Message | None = None
        try:
            stored = self._store_reply(turn, stopped or error is not None, error.message if error else error_text)
        except AppError as failure:
            log.error("the reply of turn %s could not be stored: %s", turn.id, failure.message)
            error = failure
        except Exception:
            log.exception("the reply of turn %s could not be stored", turn.id)
            error = AppError("the reply could not be stored; the log says why")
        with self._lock:
            queue = self._queues[turn.conversation_id]
            queue.remove(turn)
            if not queue:
                del self._queues[turn.conversation_id]
        turn.end(Failed(error) if error else Done(stored))

    def _store_reply(self, turn: Turn, incomplete: bool, error: str | None) -> Message | None:
        text, reasoning = turn.text()
        with turn.checkpointing:
            if not text.strip():
                stored = None
            else:
                reply = replace(
                    turn.reply, content=text, reasoning=reasoning or None, incomplete=incomplete, error=error
                )
                [stored] = self._store.append(turn.conversation_id, reply)
            if turn.checkpointed:
                self._store.discard_checkpoint(turn.conversation_id)
        return stored

    # --- checkpoints, in a thread of their own so that writing them never delays a token

    def _checkpoint_loop(self) -> None:
        while not self._closing.wait(self._checkpoint_seconds / 2) or self.running():
            with self._lock:
                turns = [queue[0] for queue in self._queues.values()]
            self._checkpoint_all(turns)
            if self._closing.is_set():
                time.sleep(0.05)

    def _checkpoint_all(self, turns: list[Turn]) -> None:
        """Write some at a time, evenly over half the time there is: a burst of them would hold tokens up."""
        starts = range(0, len(turns), CHECKPOINTS_AT_ONCE)
        for start in starts:
            for turn in turns[start : start + CHECKPOINTS_AT_ONCE]:
                self._checkpoint(turn)
            self._closing.wait(self._checkpoint_seconds / 2 / len(starts))

    def _checkpoint(self, turn: Turn) -> None:
        with turn.checkpointing:
            if turn.closed:
                return
            try:
                if text := turn.since_checkpoint():
                    self._store.checkpoint(turn.conversation_id, turn.reply, text)
            except AppError as error:
                log.warning("turn %s is not checkpointed: %s", turn.id, error.message)


def _stopping() -> ModelUnavailable:
    return ModelUnavailable("the server is stopping; send the message again when it is back", retry_after=5)


def _presentable(error: BaseException | None, turn: Turn) -> AppError | None:
    """Return the error that readers may see; what nobody foresaw goes to the log."""
    if error is None or isinstance(error, AppError):
        return error
    log.error("turn %s failed", turn.id, exc_info=error)
    return AppError("the server failed while the reply was generated; the log says why")


def _close(chunks: Iterator[Chunk]) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        close()
