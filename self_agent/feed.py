"""The feed: what happens to each user's chats, kept for a while so that a client that was away can go on.

Whoever changes something only notes it here; one thread tells those who listen, all that has come since it last did.
Nobody who listens, nothing noted: a user's ring begins with the first listener.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from queue import Empty, SimpleQueue

from self_agent.events import Change
from self_agent.turns.turn import Reader

log = logging.getLogger(__name__)

KEPT = 256  # changes of a user; who has missed more loads the list anew
IDLE = 600.0  # seconds that a ring is kept after the last of its listeners has left
MOST_IDLE = 1000  # rings without listeners
PAUSE = 0.02  # seconds between two rounds: a burst reaches a listener in few pieces

_POSITION = re.compile(r"([0-9a-f]{16})-([0-9]{1,15})", re.ASCII)


class Ring:
    """The last changes of one user's chats, and who follows them; a `Source` for `outlet.Follower`."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.lock = threading.RLock()
        self.length = 0  # changes since the beginning
        self.listeners = 0  # who have it open; counted by the feed
        self.left = 0.0  # when the last of them went, in `time.monotonic`
        self._name = os.urandom(8).hex()  # no other ring has it, in this process or the next
        self._changes: deque[Change] = deque(maxlen=KEPT)
        self._readers: list[Reader] = []
        self._is_due = False  # there is something to be told

    def note(self, change: Change) -> bool:
        """Keep a change; True if nobody has been asked to tell it yet."""
        with self.lock:
            self.length += 1
            self._changes.append(replace(change, id=self._here()))
            was_due, self._is_due = self._is_due, True
            return not was_due

    def start(self, after: str) -> tuple[int, Sequence[Change]]:
        """Return the position behind the event `after`, and what a listener is told first: `reset` where it is unknown.

        That is so for "", for one of another ring (so of another run of the server), and for one that is gone.
        """
        found = _POSITION.fullmatch(after)
        with self.lock:
            if found and found[1] == self._name and int(found[2]) <= self.length:
                return int(found[2]), ()
            return self.length, [self._reset()]

    def since(self, start: int) -> Sequence[Change]:
        """Return the changes from the `start`-th on, or a `reset` where they are gone; the caller holds the lock."""
        first = self._first()
        return [self._reset()] if start < first else list(islice(self._changes, start - first, None))

    def attach(self, reader: Reader, start: int) -> None:
        """Give a reader what there is from the `start`-th on, and then what comes."""
        with self.lock:
            self._readers.append(reader)
            self._give(reader)

    def detach(self, reader: Reader) -> None:
        """Give a reader nothing more. Doing it twice is harmless."""
        with self.lock:
            if reader in self._readers:
                self._readers.remove(reader)

    def deliver(self) -> None:
        """Tell the readers what has come; the lock is let go in between, for those who note."""
        with self.lock:
            self._is_due = False
            readers = list(self._readers)
        for reader in readers:
            with self.lock:
                self._give(reader)

    def _give(self, reader: Reader) -> None:
        try:
            wants_more = reader.take(())
        except Exception:
            log.exception("a listener failed")
            wants_more = False
        if not wants_more:
            self.detach(reader)

    def _first(self) -> int:
        return self.length - len(self._changes)

    def _here(self) -> str:
        return f"{self._name}-{self.length}"

    def _reset(self) -> Change:
        return Change("reset", id=self._here())


class Feed:
    """The rings of all users who listen, or did so lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rings: dict[str, Ring] = {}
        self._due: SimpleQueue[Ring | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def tell(self, user_id: str, change: Change) -> None:
        """Note a change of a user's chats, to be told soon."""
        ring = self._rings.get(user_id)
        if ring is not None and ring.note(change):
            self._due.put(ring)

    def open(self, user_id: str) -> Ring:
        """Return the ring of a user for one who listens, and who says `leave` in the end."""
        with self._lock:
            self._forget()
            ring = self._rings.setdefault(user_id, Ring(user_id))
            ring.listeners += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
                self._thread.start()
            return ring

    def leave(self, ring: Ring, reader: Reader | None = None) -> None:
        """Let go of a ring that was opened."""
        if reader is not None:
            ring.detach(reader)
        with self._lock:
            ring.listeners -= 1
            ring.left = time.monotonic()
            self._forget()

    def close(self) -> None:
        """End the thread. Doing it twice is harmless."""
        self._due.put(None)

    def _forget(self) -> None:
        """Drop the rings that nobody has asked for in a while, and the longest idle of too many."""
        idle = sorted((ring for ring in self._rings.values() if not ring.listeners), key=lambda ring: ring.left)
        for number, ring in enumerate(idle, 1):
            if ring.left < time.monotonic() - IDLE or number <= len(idle) - MOST_IDLE:
                del self._rings[ring.user_id]

    def _run(self) -> None:
        while True:
            due = [self._due.get()]
            with suppress(Empty):
                while True:
                    due.append(self._due.get_nowait())
            for ring in due:
                if ring is None:
                    return
                ring.deliver()
            time.sleep(PAUSE)
