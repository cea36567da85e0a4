"""All turns: each stores the user's message, asks the model, and stores the reply, whoever is still listening.

Turns of one conversation run one after the other, in the order in which they were submitted. The model, a failure
or a stop ends a turn: whichever comes first.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from core import clock
from core.errors import AppError, ModelUnavailable, NotFound, UpstreamError
from self_agent.events import Change, Chunk, Done, Failed, Tell, unheard
from self_agent.models import Conversation, Message, number_of
from self_agent.providers.base import Cancellation, Live
from self_agent.storage.base import NO_CONVERSATION, Begun, Store
from self_agent.turns import repeats, unkept
from self_agent.turns.checkpoints import Checkpoints
from self_agent.turns.ends import let_go, log_end, presentable
from self_agent.turns.hub import CAN_WAIT_FOR_MANY, Hub
from self_agent.turns.queues import Queues, stopping
from self_agent.turns.reading import Reading
from self_agent.turns.turn import Turn, Work

log = logging.getLogger(__name__)

Ask = Callable[[Conversation, Cancellation], Iterable[Chunk]]
Ended = Callable[[Turn, str], None]

FAREWELL = 3.0  # seconds for clients to take their last events
TOO_LONG = "the reply was longer than MAX_REPLY_BYTES"
STOPPED_BY_SERVER = "the server was stopped before the reply was finished"


class Turns:
    """All turns that are running or waiting to run."""

    def __init__(
        self,
        store: Store,
        *,
        checkpoint_seconds: float = 1.0,
        most: float = math.inf,
        tell: Tell = unheard,
        ended: Ended | None = None,
    ) -> None:
        """`most` is how many bytes a reply may have; `tell` is called when one begins and when it has ended.

        `ended` is called with each turn and how it ended: `complete`, `stopped`, `cut` or `failed`.
        """
        self.hub = Hub()
        self._store = store
        self._most = most
        self._tell = tell
        self._ended = ended
        self.queues = Queues()
        self.current, self.answering = self.queues.current, self.queues.answering
        self.listen, self.held = self.queues.listen, self.queues.held
        self._closing = threading.Event()
        self._checkpoints = Checkpoints(store, self._running, self._closing, checkpoint_seconds)

    def submit(
        self,
        user_id: str,
        conversation_id: str,
        question: Message,
        ask: Ask,
        *,
        new: Mapping[str, Any] | None = None,
        model: str | None = None,
        attend: bool = False,
        alone: bool = False,
        before: Sequence[Message] = (),
        keep: bool = True,
        key: str | None = None,
    ) -> Turn:
        """Queue a turn; `ask` is called with the conversation after the question is on disk.

        A question that has an id is stored already, and is answered again, with this `key`. Where the queue has a turn
        with the same key, that is returned. `alone`: see `Queues.enter`. `new`: see `Store.begin`; what is said
        `before` the question is stored in front of it. Without `keep` nothing is stored.

        Returns at once, or with `attend`, for a caller who waits for the model anyway, works for the turn until the
        model has accepted the question. Raises ModelUnavailable when the server is stopping, TooManyRequests when too
        many turns are waiting, KeyReused.
        """
        turn = Turn(user_id, conversation_id, question, self._most)
        turn.key = key if question.id else question.key
        turn.reply = replace(turn.reply, model=model, key=key)
        turn.is_kept = keep
        begin = partial(self._begin, turn, ask, new, before)
        turn, is_first = self.queues.enter(turn, begin, alone=alone)
        self._checkpoints.start()
        if is_first:
            begin() if attend else self._in_a_thread(turn, partial(begin, is_own=True))
        return turn

    def repeated(self, user_id: str, conversation_id: str, key: str) -> Turn | None:
        """Return the turn with this key that is in the queue, or is stored with its reply, or None.

        Raises KeyReused, and Conflict where it was deleted.
        """
        same = self.queues.with_key(user_id, conversation_id, key)
        return same or repeats.ended(self._store, user_id, conversation_id, key)

    def find(self, turn_id: str) -> Turn | None:
        """Return the running or waiting turn with this id, or None."""
        return next((turn for turn in self.queues.all() if turn.id == turn_id), None)

    def stop(self, turn: Turn, reason: str | None = None) -> bool:
        """End a turn now, keeping what was generated; False if it had ended already."""
        turn.wait_until(lambda: turn.question.id or turn.is_over)
        if not turn.claim():
            turn.wait_over()
            return False
        try:
            self._end(turn, is_incomplete=True, reason=reason)
        finally:
            turn.cancellation.cancel()
        return True

    def close(self, grace: float = 0.0) -> None:
        """Take no new turn, let the running ones go on for `grace` seconds, then stop and store them."""
        self.queues.close()
        self._closing.set()
        turns = self.queues.all()
        deadline = time.monotonic() + grace
        for turn in turns:
            turn.wait_over(max(0.0, deadline - time.monotonic()))
        for turn in turns:
            self.stop(turn, STOPPED_BY_SERVER)
        self.hub.close(FAREWELL)
        self._checkpoints.join()

    def running(self) -> int:
        """Return how many turns are running or waiting."""
        return len(self.queues.all())

    def _running(self) -> list[Turn]:
        """Return the turns that run, and end those whose thread has died: nobody else would."""
        turns = self.queues.running()
        for turn in turns:
            if turn.thread is not None and turn.thread.ident and not turn.thread.is_alive() and not turn.is_claimed:
                self._finish(turn, (), AppError("the server failed while the reply was generated; send it again"))
        return turns

    # --- from question to end; by default in a thread of the turn's own

    def _in_a_thread(self, turn: Turn, work: Work) -> None:
        turn.thread = threading.Thread(target=work, name=f"turn-{turn.id}", daemon=True)
        try:
            turn.thread.start()
        except RuntimeError:  # the system gives no more threads; the turns behind this one must not wait for it
            self._finish(turn, (), ModelUnavailable("the server is too busy; try again shortly", retry_after=5))

    def _begin(
        self, turn: Turn, ask: Ask, new: Mapping[str, Any] | None, before: Sequence[Message], *, is_own: bool = False
    ) -> None:
        """Store the question, ask the model, and see that its answer is read, here if this thread is the turn's own."""
        answer: Iterable[Chunk] = ()
        try:
            if self._closing.is_set():
                raise stopping()
            there = self._store.get(turn.conversation_id)
            begun = self._begun(turn, new, before)
            if begun.is_repeat and (reply := repeats.reply_to(self._store, begun)):
                self._show_again(turn, begun.question, reply)
                return
            if turn.is_kept:
                self._announce(turn, begun, is_new=there is None or not there.is_listed)
            turn.begin(begun.question, begun.reply_id)
            answer = ask(begun.conversation, turn.cancellation)
            turn.started()
        except Exception as error:
            self._finish(turn, answer, error)
            return
        if isinstance(answer, Live) and CAN_WAIT_FOR_MANY:
            turn.thread = None
            Reading(self.hub, answer, turn, partial(self._finish, turn, answer)).start()
        elif is_own:
            self._read(turn, answer)
        else:
            self._in_a_thread(turn, partial(self._read, turn, answer))

    def _begun(self, turn: Turn, new: Mapping[str, Any] | None, before: Sequence[Message]) -> Begun:
        if not turn.is_kept:
            return unkept.begun(turn)
        if not turn.question.id:
            return self._store.begin(turn.user_id, turn.conversation_id, *before, turn.question, new=new)
        turn.reply = replace(turn.reply, parent=turn.question.id)
        conversation = self._store.get(turn.conversation_id)
        if conversation is None:
            raise NotFound(NO_CONVERSATION)
        if turn.key and (known := repeats.stored(self._store, conversation.id, turn.key)):
            return Begun(conversation, known[0], known[1].id, True, known[1])
        return Begun(conversation, turn.question, self._store.reserve(conversation.id))

    def _read(self, turn: Turn, answer: Iterable[Chunk]) -> None:
        """Take chunks to the last, waiting for them."""
        failure: Exception | None = None
        try:
            for chunk in answer:
                if not turn.take((chunk,)):
                    break
        except Exception as error:
            failure = error
        self._finish(turn, answer, failure)

    def _finish(self, turn: Turn, answer: Iterable[Chunk], failure: Exception | None) -> None:
        """End the turn, unless that was done, and let go of the upstream."""
        if turn.claim():
            is_long = turn.room < 0
            self._end(turn, presentable(failure, turn), is_incomplete=is_long, reason=TOO_LONG if is_long else None)
        let_go(answer)

    def _announce(self, turn: Turn, begun: Begun, *, is_new: bool) -> None:
        """Tell that a turn answers, unless it was stopped already: what is told has an end that is told."""
        with turn.lock:
            if is_new:
                self._told("created", turn, begun.question)
            if not turn.is_claimed:
                turn.is_announced = True
                self._told("answering", turn, begun.question)

    def _told(self, kind: str, turn: Turn, question: Message) -> None:
        self._tell(turn.user_id, Change(kind, turn.conversation_id, number_of(question.id)))

    # --- the end, in whichever thread claimed it

    def _end(
        self, turn: Turn, error: AppError | None = None, *, is_incomplete: bool = False, reason: str | None = None
    ) -> None:
        """Store the reply and publish the last event; `reason` is kept with an incomplete reply."""
        stored: Message | None = None
        (text, reasoning), calls = turn.text(), turn.calls()
        is_empty = not (text.strip() or calls)
        if is_empty and not (error or is_incomplete):
            error = UpstreamError("the model answered with an empty reply; ask again or choose another model")
        reply = replace(
            turn.reply,
            content=text,
            reasoning=reasoning or None,
            incomplete=is_incomplete or error is not None,
            error=error.message if error else reason,
            extra={**(turn.reply.extra or {}), "calls": calls} if calls else turn.reply.extra,
        )
        try:
            with turn.checkpointing:
                if not turn.is_kept:
                    stored = None if is_empty else replace(reply, timestamp=clock.now())
                elif turn.question.id:
                    stored = self._store.finish(turn.conversation_id, None if is_empty else reply)
        except AppError as failure:
            log.error("the reply of turn %s could not be stored: %s", turn.id, failure.message, extra=turn.log_fields)
            error = failure
        except Exception:
            log.exception("the reply of turn %s could not be stored", turn.id, extra=turn.log_fields)
            error = AppError("the reply could not be stored; the log says why")
        log_end(turn, error)
        if self._ended:
            self._ended(
                turn, "failed" if error else "complete" if not is_incomplete else "cut" if reason else "stopped"
            )
        self._leave_queue(turn, Failed(error) if error else Done(stored))

    def _show_again(self, turn: Turn, question: Message, reply: Message) -> None:
        """End a turn with a reply that is stored already."""
        if turn.claim():
            turn.replay(question, reply)
            self._leave_queue(turn, Done(reply))

    def _leave_queue(self, turn: Turn, last: Done | Failed) -> None:
        """Publish the last event of a turn, and let the next one of its conversation begin."""
        following = self.queues.leave(turn)
        if turn.is_announced:
            self._told("answered", turn, turn.question)
        turn.end(last)
        if following:
            turn, begin = following
            if not turn.offer(begin):
                self._in_a_thread(turn, partial(begin, is_own=True))
