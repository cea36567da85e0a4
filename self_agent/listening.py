"""How the feed leaves: through the hub, so that a client that listens for hours holds no thread.

With a server that does not lend its connections the request's thread serves a listener, for a while: it comes back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from flask import Request

from self_agent.encoders.changes import CHANGES, RETRY
from self_agent.events import Event
from self_agent.feed import Feed, Ring
from self_agent.outlet import PING, Body, Follower, Lent
from self_agent.streams import HandedOver, Stream, lender
from self_agent.turns.hub import Handler, Hub
from self_agent.turns.turn import Reader

LONGEST = 60.0  # seconds that a thread serves a listener; it comes back by itself, to where it was


class Listening(Body):
    """A listener's connection. It ends with the server, and when who opened it is nobody any more."""

    def __init__(self, hub: Hub, lent: Lent, expires: float) -> None:
        """`expires` is in seconds since the epoch."""
        super().__init__(hub, lent, CHANGES.ping)
        self._expires = expires
        self._feed: Feed | None = None

    def follow(self, feed: Feed, ring: Ring, position: int) -> None:
        """Send what happens from a position on; the ring was opened for this connection."""
        self._feed, self._ring = feed, ring
        self._follower = Follower(ring, CHANGES, self, position=position, ends=False)
        self.deadline = self.next_deadline()
        self.start()
        self._follower.start()
        if self.hub.is_closed:
            self.stop()

    def send(self, data: bytes, *, ends: bool | None = None) -> None:
        with self.lock:
            if self._ends is None:  # behind the end comes nothing
                super().send(data, ends=ends)

    def stop(self) -> None:
        self._follower.catch_up()
        self.send(b"", ends=True)

    def late(self) -> None:
        if time.time() >= self._expires and not self.rest:
            self.send(b"", ends=True)
        else:
            super().late()

    def next_deadline(self) -> float:
        return min(super().next_deadline(), time.monotonic() + self._expires - time.time())

    def leave(self, *, is_usable: bool = False) -> None:
        if not self.is_gone:
            self.hub.run(self._leave_ring)  # not here: a ring's lock is never taken under an outlet's
        super().leave(is_usable=is_usable)

    def _leave_ring(self) -> None:
        with self.lock:
            feed, self._feed = self._feed, None
        if feed is not None:
            feed.leave(self._ring, self._follower)


class Waiting(Reader, Handler):
    """A thread that waits for the next change."""

    def __init__(self) -> None:
        self.is_over = False
        self.woken = threading.Event()

    def take(self, events: Sequence[Event]) -> bool:
        self.woken.set()
        return not self.is_over

    def stop(self) -> None:
        self.is_over = True
        self.woken.set()

    def broken(self, error: Exception) -> None:
        self.stop()

    def ready(self) -> None:
        """Do nothing: the hub watches no descriptor for it."""

    def late(self) -> None:
        """Do nothing: it has no deadline."""


def listened(hub: Hub, request: Request, feed: Feed, user_id: str, after: str, expires: float) -> Stream:
    """Answer with what happens to a user's chats, behind the event `after`, until `expires` (since the epoch)."""
    lend = lender(request)

    def pieces() -> Iterator[bytes]:
        ring = feed.open(user_id)
        if lend is None:
            yield from _by_thread(hub, feed, ring, after, expires)
        else:
            yield from _by_hub(hub, feed, ring, after, expires, lend)

    return pieces(), 200, CHANGES.headers


def _by_hub(hub: Hub, feed: Feed, ring: Ring, after: str, expires: float, lend: Callable[[], Lent]) -> Iterator[bytes]:
    try:
        position, first = ring.start(after)
        yield RETRY + b"".join(map(CHANGES.encode, first))
        connection = Listening(hub, lend(), expires)
    except BaseException:  # the client has gone before
        feed.leave(ring)
        raise
    connection.follow(feed, ring, position)
    raise HandedOver


def _by_thread(hub: Hub, feed: Feed, ring: Ring, after: str, expires: float) -> Iterator[bytes]:
    waiting = Waiting()
    until = time.monotonic() + min(LONGEST, expires - time.time())
    try:
        position, first = ring.start(after)
        hub.add(waiting)
        ring.attach(waiting, position)
        yield RETRY + b"".join(map(CHANGES.encode, first))
        while True:
            waiting.woken.clear()
            with ring.lock:
                changes, position = ring.since(position), ring.length
            if changes:
                yield b"".join(map(CHANGES.encode, changes))
            left = until - time.monotonic()
            if waiting.is_over or hub.is_closed or left <= 0:
                return
            if not waiting.woken.wait(min(PING, left)):
                yield CHANGES.ping
    finally:
        hub.remove(waiting)
        feed.leave(ring, waiting)
