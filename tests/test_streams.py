"""Events that go to a client's socket without its thread: each once, in order, and never a wait for a slow client."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from core.errors import UpstreamError
from self_agent import streams as outlet
from self_agent.encoders import sse
from self_agent.events import Delta, Done, Event, Failed
from self_agent.models import Message
from self_agent.turns.turn import Turn

PIECES = [f"piece {n} " for n in range(200)]
END = Done(Message("assistant", "".join(PIECES), 2))


@pytest.fixture
def turn() -> Turn:
    turn = Turn("c", Message("user", "q", 1))
    turn.started()
    return turn


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        yield ours, theirs


class Server(threading.Thread):
    """Sends what `follow` yields, as gunicorn does."""

    def __init__(self, turn: Turn, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.pieces = outlet.follow(turn, sse.typed, sock)
        self.sock = sock
        self.error: OSError | None = None
        self.start()

    def run(self) -> None:
        try:
            for piece in self.pieces:
                self.sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.sock.sendall(b"0\r\n\r\n")
        except OSError as error:
            self.error = error


def received(sock: socket.socket, size: int = 1 << 16) -> bytes:
    data = b""
    while not data.endswith(b"0\r\n\r\n"):
        data += sock.recv(size)
    return data


def content(data: bytes) -> bytes:
    """Take the chunked coding off."""
    found = b""
    while data != b"0\r\n\r\n":
        size, _, rest = data.partition(b"\r\n")
        found += rest[: int(size, 16)]
        data = rest[int(size, 16) + 2 :]
    return found


def expected(turn: Turn) -> bytes:
    return b"".join(sse.typed(event) for batch in turn.follow() for event in batch)


def publish(turn: Turn, last: Done | Failed = END) -> None:
    for piece in PIECES:
        turn.take(Delta(piece))
    turn.close()
    turn.end(last)


@pytest.mark.parametrize("last", [END, Failed(UpstreamError("gone"))], ids=["done", "failed"])
def test_every_event_comes_once(turn: Turn, pair: tuple[socket.socket, socket.socket], last: Done | Failed) -> None:
    """Whichever thread sends it, an event is one chunk, in its place."""
    server = Server(turn, pair[0])
    publisher = threading.Thread(target=publish, args=(turn, last))
    publisher.start()
    data = received(pair[1])
    publisher.join()
    server.join()
    assert content(data) == expected(turn)
    assert server.error is None


def test_slow_client_delays_nobody(turn: Turn, pair: tuple[socket.socket, socket.socket]) -> None:
    """A client that does not read holds its own thread up, not the reply; later it finds everything."""
    for sock in pair:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    server = Server(turn, pair[0])
    publish(turn)  # returns, although nobody reads
    assert content(received(pair[1], 100)) == expected(turn)
    server.join()


def test_client_that_left_ends_its_own_answer(turn: Turn, pair: tuple[socket.socket, socket.socket]) -> None:
    """The reply goes on without it."""
    server = Server(turn, pair[0])
    pair[1].recv(1)
    pair[1].close()
    publish(turn)
    server.join()
    assert isinstance(server.error, OSError)
    assert turn.wait() == END


def test_silence_gives_a_ping(
    turn: Turn, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent reply pings, and goes on."""
    monkeypatch.setattr(outlet, "FIRST_PING", 0.01)
    monkeypatch.setattr(outlet, "PING", 0.01)
    server = Server(turn, pair[0])
    data = b""
    while data.count(sse.PING) < 3:
        data += pair[1].recv(1 << 16)
    publish(turn)
    data += received(pair[1])
    server.join()
    assert content(data).replace(sse.PING, b"") == expected(turn)


def test_events_between_batches_are_kept(turn: Turn, pair: tuple[socket.socket, socket.socket]) -> None:
    """What is published while the server sends a batch comes after it."""
    pieces = outlet.follow(turn, sse.typed, pair[0])
    first = next(pieces)
    turn.take(Delta("meanwhile"))
    assert b"start" in first
    assert b"meanwhile" in next(pieces)


def test_detached_reader_gets_no_more(turn: Turn) -> None:
    """Attaching fails where there is something to read first, and ends with detaching."""
    seen: list[Event] = []

    def take(event: Event) -> bool:
        seen.append(event)
        return True

    assert not turn.attach(take, 0)
    assert turn.attach(take, 1)
    turn.take(Delta("a"))
    turn.detach(take)
    turn.detach(take)
    turn.take(Delta("b"))
    assert seen == [Delta("a")]
