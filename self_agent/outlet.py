"""What goes out to a client is sent in whichever thread has it, and never waited for: what the socket does not take is
kept until it does, and a client that takes nothing for too long is let go.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from self_agent.encoders.base import Framing
from self_agent.events import Done, Event, Failed
from self_agent.providers.base import Live, is_readable
from self_agent.turns.hub import READ, WRITE, Handler, Hub
from self_agent.turns.turn import Reader

log = logging.getLogger(__name__)

FIRST_PING = 1.0  # seconds of silence; that a client has left is noticed only when something is written
PING = 10.0
STALL = 10.0  # seconds in which a client must take something of what is sent
MOST = 1 << 20  # bytes kept for a client beside a reply's own, which wait in their turn
END = b"0\r\n\r\n"  # of a body in chunks


class Lent(NamedTuple):
    """A connection that the server has lent; `give_back` says whether it can take another request."""

    sock: socket.socket
    give_back: Callable[[bool], None]


def has_hung_up(sock: socket.socket) -> bool:
    """Say whether a client has hung up, as far as can be seen without writing to it or waiting for it."""
    try:
        return is_readable(sock.fileno(), 0) and not sock.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):  # closed already
        return True


class Outlet(Handler):
    """Writes to one connection. Its lock may be taken under a turn's, never the other way round."""

    def __init__(self, hub: Hub, lent: Lent) -> None:
        self.hub = hub
        self.sock = lent.sock
        self.lock = threading.RLock()
        self.rest = b""  # not taken yet
        self.behind: list[Follower] = []  # who has more to send than what is left
        self.is_gone = False
        self.reads = 0  # READ where somebody wants to know what comes in
        self.deadline = time.monotonic() + FIRST_PING
        self._give_back = lent.give_back
        self._ends: bool | None = None  # behind the rest there is nothing more; whether that is as it should be

    def start(self) -> None:
        """Let the hub look after the connection."""
        self.sock.setblocking(False)
        self.hub.add(self)
        self.hub.watch(self.sock.fileno(), self, self.reads)

    @abstractmethod
    def send(self, data: bytes, *, ends: bool | None = None) -> None:
        """Send a piece, the last one with `ends`: True after a whole answer, False after one that was cut off."""

    @abstractmethod
    def next_deadline(self) -> float:
        """Return when a client that takes everything is to be looked after again."""

    def write(self, data: bytes, *, ends: bool | None = None) -> None:
        """Write bytes without ever waiting."""
        with self.lock:
            if self.is_gone:
                return
            self._ends = ends
            if not self.rest:
                self._write(data)
            elif len(self.rest) + len(data) > max(MOST, len(data)):
                self.leave()
            else:
                self.rest += data

    def leave(self, *, is_usable: bool = False) -> None:
        """Give the connection back. Doing it twice is harmless."""
        with self.lock:
            if self.is_gone:
                return
            self.is_gone = True
            self.hub.unwatch(self.sock.fileno())
            self.hub.remove(self)
            self._give_back(is_usable)

    def broken(self, error: Exception) -> None:
        self.leave()

    def flush(self) -> None:
        """Write what is left, if the descriptor can be written."""
        with self.lock:
            if not self.rest or self.is_gone:
                return
            data, self.rest = self.rest, b""
            self._write(data)
            if self.rest or self.is_gone:
                return
            self.hub.watch(self.sock.fileno(), self, self.reads)
            behind, self.behind = self.behind, []
        for follower in behind:
            follower.catch_up()

    def _write(self, data: bytes) -> None:
        try:
            sent = self.sock.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:  # the client is gone
            self.leave()
            return
        if sent < len(data):
            self.rest = data[sent:]
            self.deadline = time.monotonic() + STALL
            self.hub.watch(self.sock.fileno(), self, self.reads | WRITE)
        elif self._ends is not None:
            self.leave(is_usable=self._ends)
        else:
            self.deadline = self.next_deadline()


class Body(Outlet):
    """The body of an HTTP answer, in chunks; `ping` is written after a silence."""

    def __init__(self, hub: Hub, lent: Lent, ping: bytes = b"") -> None:
        super().__init__(hub, lent)
        self._ping = ping
        self._patience = FIRST_PING

    def send(self, data: bytes, *, ends: bool | None = None) -> None:
        if data:  # an empty chunk would end the body
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.write(data + END if ends else data, ends=ends)

    def next_deadline(self) -> float:
        return time.monotonic() + self._patience

    def ready(self) -> None:
        self.flush()

    def late(self) -> None:
        with self.lock:
            if self.rest or (not self._ping and has_hung_up(self.sock)):
                log.info("a client is gone, or takes nothing any more")
                self.leave()
            else:
                self._patience = PING if self._ping else FIRST_PING
                self.send(self._ping)


class Source(Protocol):
    """What can be followed: a turn, or the feed of a user. Events are counted; what is below is called under `lock`."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """What protects the events; it may be taken again by who has it."""

    @property
    def length(self) -> int:
        """How many events there have been."""

    def attach(self, reader: Reader, start: int) -> None:
        """Give a reader the events from the `start`-th on, and then each that comes; takes the lock."""

    def since(self, start: int) -> Sequence[Any]:
        """Return the events from the `start`-th to the last."""


class Follower(Reader):
    """Sends the events of a turn, or of a feed, to an outlet; with `ends`, the end of a reply is that of the answer."""

    def __init__(self, turn: Source, framing: Framing, outlet: Outlet, *, position: int = 0, ends: bool = True) -> None:
        self._turn = turn
        self._framing = framing
        self._outlet = outlet
        self._position = position  # the next event to be sent
        self._ends = ends

    def start(self) -> None:
        """Send what there is, and then each event as it comes."""
        self._turn.attach(self, self._position)

    def take(self, events: Sequence[Event]) -> bool:
        outlet = self._outlet
        if outlet.rest:  # a slow client catches up when it can
            if self not in outlet.behind:
                outlet.behind.append(self)
            return True
        if outlet.is_gone:
            return False
        events = self._turn.since(self._position)
        if not events:  # they were sent already
            return True
        self._position = self._turn.length
        is_last = isinstance(events[-1], (Done, Failed))
        try:
            data = b"".join(map(self._framing.encode, events))
            outlet.send(data, ends=not self._framing.is_cut_off(events[-1]) if is_last and self._ends else None)
        except Exception:
            outlet.leave()
            raise
        return not is_last

    def catch_up(self) -> None:
        """Send what came while the client was slow."""
        with self._turn.lock:
            self.take(())


class Relay(Body):
    """Sends what an upstream answers, byte for byte; a client that is slow slows the upstream down."""

    def __init__(self, hub: Hub, lent: Lent, answer: Live[bytes]) -> None:
        super().__init__(hub, lent)
        self._answer = answer
        self._fd = answer.fileno()
        self._heard = 0.0  # of the upstream, in `time.monotonic`

    def start(self) -> None:
        super().start()
        self._pass_on()

    def ready(self) -> None:
        if self.rest:
            self.flush()
        if not (self.rest or self.is_gone):
            self._pass_on()

    def _pass_on(self) -> None:
        """Send what has come, and wait for more, or for the client to take it."""
        self._heard = time.monotonic()
        data = b"".join(self._answer.receive())
        is_over = self._answer.is_over
        if data or is_over:
            self.send(data, ends=self._answer.failure is None if is_over else None)
        if not self.is_gone:
            self.hub.watch(self._fd, self, 0 if self.rest or is_over else READ)

    def late(self) -> None:
        now = time.monotonic()
        if self.rest or has_hung_up(self.sock) or now - self._heard > self._answer.silence:
            self.leave()
        self.deadline = now + FIRST_PING

    def leave(self, *, is_usable: bool = False) -> None:
        if not self.is_gone:
            self.hub.unwatch(self._fd)
            self.hub.run(self._answer.close)
        super().leave(is_usable=is_usable)
