"""Which turn of a conversation runs, which wait behind it, and who wants to know of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.errors import Conflict, ModelUnavailable, TooManyRequests
from self_agent import keys
from self_agent.turns.turn import Turn

Begin = Callable[..., None]
Listener = Callable[[Turn], None]

WAITING = 100  # turns of one conversation that may wait for the one that is running


def stopping() -> ModelUnavailable:
    """Return the refusal of a turn that comes too late."""
    return ModelUnavailable("the server is stopping; send the message again when it is back", retry_after=5)


class Queues:
    """The turns of each conversation in the order in which they were submitted; the first is running."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)  # with every conversation that is held no more
        self._held: set[str] = set()
        self._queues: dict[str, deque[tuple[Turn, Begin]]] = {}
        self._listeners: dict[str, list[tuple[str, Listener]]] = {}
        self._is_closed = False

    # --- coming and going

    def enter(self, turn: Turn, begin: Begin, *, alone: bool = False) -> tuple[Turn, bool]:
        """Queue a turn, which `begin` begins, unless the user's turn with the same key is there already.

        Return the one that is there now, and whether it is new and the first, whom nobody else will begin. Raises
        TooManyRequests when too many are waiting, ModelUnavailable when the server is stopping, KeyReused, and with
        `alone` Conflict when there is another.
        """
        with self._lock:
            if self._is_closed:
                raise stopping()
            self._freed.wait_for(lambda: turn.conversation_id not in self._held)
            if same := self._with_key(turn.user_id, turn.conversation_id, turn.key):
                return same, False
            if alone:
                self._check_idle(turn.conversation_id)
            queue = self._queues.setdefault(turn.conversation_id, deque())
            if len(queue) > WAITING:
                raise TooManyRequests(f"{WAITING} messages are waiting in this conversation; try again", retry_after=5)
            queue.append((turn, begin))
            for user_id, listener in self._listeners.get(turn.conversation_id, ()):
                if user_id == turn.user_id:
                    listener(turn)
            return turn, len(queue) == 1

    def leave(self, turn: Turn) -> tuple[Turn, Begin] | None:
        """Take a turn out; return the one to begin now, if it was in the way of one."""
        with self._lock:
            queue = self._queues[turn.conversation_id]
            was_first = queue[0][0] is turn
            queue.remove(next(waiting for waiting in queue if waiting[0] is turn))
            if not queue:
                del self._queues[turn.conversation_id]
            return queue[0] if queue and was_first else None

    @contextmanager
    def held(self, conversation_id: str) -> Iterator[None]:
        """Let no turn of a conversation begin meanwhile. Raises Conflict when it is answering."""
        with self._lock:
            self._freed.wait_for(lambda: conversation_id not in self._held)
            self._check_idle(conversation_id)
            self._held.add(conversation_id)
        try:
            yield
        finally:
            with self._lock:
                self._held.remove(conversation_id)
                self._freed.notify_all()

    def _check_idle(self, conversation_id: str) -> None:
        if conversation_id in self._queues:
            raise Conflict("a reply is being generated in this conversation: wait for its end, or stop it")

    def close(self) -> None:
        """Let no more turn in."""
        with self._lock:
            self._is_closed = True

    # --- looking

    def current(self, conversation_id: str) -> Turn | None:
        """Return the turn of a conversation that is running now, or None."""
        with self._lock:
            queue = self._queues.get(conversation_id)
            return queue[0][0] if queue else None

    def with_key(self, user_id: str, conversation_id: str, key: str) -> Turn | None:
        """Return the user's turn with this key, running or waiting, or None. Raises KeyReused."""
        with self._lock:
            return self._with_key(user_id, conversation_id, key)

    def _with_key(self, user_id: str, conversation_id: str, key: str | None) -> Turn | None:
        for turn, _ in self._queues.get(conversation_id, ()) if key else ():
            if key and turn.key and turn.user_id == user_id and keys.is_same(turn.key, key):
                return turn
        return None

    def answering(self) -> set[str]:
        """Return the ids of the conversations that have a turn."""
        with self._lock:
            return set(self._queues)

    def running(self) -> list[Turn]:
        """Return the turn of each conversation that is running."""
        with self._lock:
            return [queue[0][0] for queue in self._queues.values()]

    def all(self) -> list[Turn]:
        """Return all turns."""
        with self._lock:
            return [turn for queue in self._queues.values() for turn, _ in queue]

    def listen(self, user_id: str, conversation_id: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with a user's turns, in order: those running or waiting now, then each that enters.

        The returned function ends that. The listener is called under a lock, so it must only pass the turn on.
        """
        entry = (user_id, listener)
        with self._lock:
            for turn, _ in self._queues.get(conversation_id, ()):
                if turn.user_id == user_id:
                    listener(turn)
            self._listeners.setdefault(conversation_id, []).append(entry)

        def unlisten() -> None:
            with self._lock:
                listeners = self._listeners[conversation_id]
                listeners.remove(entry)
                if not listeners:
                    del self._listeners[conversation_id]

        return unlisten
