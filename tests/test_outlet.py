"""What goes out to a client: each event once, in order, and never a wait for a slow client."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from core.errors import UpstreamError
from self_agent import outlet
from self_agent.encoders import sse
from self_agent.encoders.base import Framing
from self_agent.encoders.text import TEXT
from self_agent.events import Delta, Done, Event, Failed
from self_agent.models import Message
from self_agent.outlet import Body, Follower, Lent, Relay
from self_agent.providers.base import Live
from self_agent.turns import hub as hub_module
from self_agent.turns.hub import Hub
from self_agent.turns.turn import Turn

PIECES = [f"piece {n} " for n in range(200)]
END = Done(Message("assistant", "".join(PIECES), 2))
WAIT = 10.0


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(hub_module, "LOOK", 0.01)
    hub = Hub()
    yield hub
    for handler in list(hub._handlers):
        hub.remove(handler)
    hub.close()


@pytest.fixture
def turn() -> Turn:
    turn = Turn("local", "c", Message("user", "q", 1))
    turn.started()
    return turn


class Client:
    """A client at one end of a connection, and what became of the other end."""

    def __init__(self) -> None:
        self.ours, self.sock = socket.socketpair()
        self.sock.settimeout(WAIT)
        self.ended = threading.Event()
        self.is_usable: bool | None = None
        self.lent = Lent(self.ours, self.give_back)

    def give_back(self, is_usable: bool) -> None:
        self.is_usable = is_usable
        if not is_usable:
            with contextlib.suppress(OSError):
                self.ours.shutdown(socket.SHUT_RDWR)
        self.ended.set()

    def received(self, size: int = 1 << 16) -> bytes:
        """Read to the end of the body, or of the connection."""
        data = b""
        while not data.endswith(b"0\r\n\r\n") and (piece := self.sock.recv(size)):
            data += piece
        return data


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.ours.close()
    client.sock.close()


def content(data: bytes) -> bytes:
    """Take the chunked coding off, of a whole body or of one that was cut off."""
    found = b""
    while data and data != b"0\r\n\r\n":
        size, _, rest = data.partition(b"\r\n")
        assert int(size, 16) > 0, "an empty chunk ends the body"
        found += rest[: int(size, 16)]
        data = rest[int(size, 16) + 2 :]
    return found


def expected(turn: Turn, framing: Framing = sse.TYPED) -> bytes:
    return b"".join(framing.encode(event) for batch in turn.follow() for event in batch)


def publish(turn: Turn, last: Done | Failed = END) -> None:
    for piece in PIECES:
        turn.take([Delta(piece)])
    turn.claim()
    turn.end(last)


def follow(hub: Hub, turn: Turn, client: Client, framing: Framing = sse.TYPED) -> Body:
    body = Body(hub, client.lent, framing.ping)
    body.start()
    Follower(turn, framing, body).start()
    return body


@pytest.mark.parametrize("last", [END, Failed(UpstreamError("gone"))], ids=["done", "failed"])
def test_every_event_comes_once(hub: Hub, turn: Turn, client: Client, last: Done | Failed) -> None:
    """Whichever thread sends it, an event is in its place; afterwards the connection can be used again."""
    follow(hub, turn, client)
    publisher = threading.Thread(target=publish, args=(turn, last))
    publisher.start()
    data = client.received()
    publisher.join()
    assert content(data) == expected(turn)
    assert client.ended.wait(WAIT)
    assert client.is_usable
    assert not hub._handlers


def test_event_without_bytes_ends_nothing(hub: Hub, turn: Turn, client: Client) -> None:
    """An event that a framing does not show is not written: an empty chunk would end the body."""
    follow(hub, turn, client, TEXT)
    turn.take([Delta(reasoning="hm")])
    turn.take([Delta("a")])
    turn.take([Delta(reasoning="hm")])
    turn.take([Delta("b")])
    turn.claim()
    turn.end(END)
    assert client.received() == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"


def test_failure_without_bytes_breaks_connection(hub: Hub, turn: Turn, client: Client) -> None:
    """Bare text has no word for it: there is no closing chunk."""
    follow(hub, turn, client, TEXT)
    publish(turn, Failed(UpstreamError("gone")))
    data = client.received()
    assert content(data).decode() == "".join(PIECES)
    assert client.ended.wait(WAIT)
    assert client.is_usable is False


def small(client: Client) -> None:
    for sock in (client.ours, client.sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)


@pytest.mark.parametrize("framing", [sse.TYPED, TEXT], ids=["sse", "text"])
def test_slow_client_delays_nobody(hub: Hub, turn: Turn, client: Client, framing: Framing) -> None:
    """A client that does not read holds nobody up; later it finds everything."""
    small(client)
    follow(hub, turn, client, framing)
    publish(turn)  # returns, although nobody reads
    assert content(client.received(100)) == expected(turn, framing)


def test_client_that_takes_nothing_is_let_go(
    hub: Hub, turn: Turn, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while in which nothing was taken; the reply goes on."""
    monkeypatch.setattr(outlet, "STALL", 0.05)
    small(client)
    follow(hub, turn, client)
    publish(turn)
    assert client.ended.wait(WAIT)
    assert client.is_usable is False
    assert turn.wait() == END


def test_client_that_left_ends_its_own_answer(hub: Hub, turn: Turn, client: Client) -> None:
    """The reply goes on without it."""
    follow(hub, turn, client)
    client.sock.close()
    publish(turn)
    assert client.ended.wait(WAIT)
    assert client.is_usable is False
    assert turn.wait() == END


@pytest.mark.parametrize(("framing", "pings"), [(sse.TYPED, 3), (TEXT, 0)], ids=["sse", "text"])
def test_silence_gives_a_ping(
    hub: Hub, turn: Turn, client: Client, monkeypatch: pytest.MonkeyPatch, framing: Framing, pings: int
) -> None:
    """A silent reply pings, where its framing has a place for it, and goes on."""
    monkeypatch.setattr(outlet, "FIRST_PING", 0.01)
    monkeypatch.setattr(outlet, "PING", 0.01)
    follow(hub, turn, client, framing)
    data = b""
    while data.count(sse.PING) < pings:
        data += client.sock.recv(1 << 16)
    time.sleep(0.1)
    publish(turn)
    data += client.received()
    assert content(data).replace(sse.PING, b"") == expected(turn, framing)


def test_deserted_text_is_noticed(hub: Hub, turn: Turn, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of bare text that hangs up is noticed without a ping."""
    monkeypatch.setattr(outlet, "FIRST_PING", 0.01)
    follow(hub, turn, client, TEXT)
    client.sock.close()
    assert client.ended.wait(WAIT)


def test_encoder_with_bug_breaks_its_own_answer(hub: Hub, turn: Turn, client: Client) -> None:
    """The client sees that its answer is not whole; the reply goes on."""

    def encode(event: Event) -> bytes:
        raise ZeroDivisionError

    follow(hub, turn, client, Framing("x", encode))
    publish(turn)
    assert client.ended.wait(WAIT)
    assert client.is_usable is False
    assert turn.wait() == END


class Upstream(Live[bytes]):
    """Bytes that come through a pipe."""

    silence = WAIT

    def __init__(self) -> None:
        self.fd, self.writer = os.pipe()
        os.set_blocking(self.fd, False)
        self.closed = threading.Event()

    def fileno(self) -> int:
        return self.fd

    def receive(self) -> list[bytes]:
        pieces = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, 1000):
                if b"!" in data:
                    self.failure = UpstreamError("cut off")
                    break
                pieces.append(data)
                if len(pieces) > 50:
                    return pieces
            self.is_over = True
        return pieces

    def give_up(self) -> None:
        self.is_over = True

    def close(self) -> None:
        self.closed.set()


def test_relay_passes_bytes_on(hub: Hub, client: Client) -> None:
    """What comes is passed on piece by piece, and the end with it."""
    upstream = Upstream()
    Relay(hub, client.lent, upstream).start()
    for word in ("one ", "two ", "three"):
        os.write(upstream.writer, word.encode())
        time.sleep(0.02)
    os.close(upstream.writer)
    assert content(client.received()) == b"one two three"
    assert client.ended.wait(WAIT)
    assert client.is_usable
    assert upstream.closed.wait(WAIT)


def test_relay_waits_for_slow_client(hub: Hub, client: Client) -> None:
    """A slow client slows the upstream down, and gets everything."""
    small(client)
    upstream = Upstream()
    Relay(hub, client.lent, upstream).start()
    words = b"".join(b"%6d" % n for n in range(50_000))

    def say() -> None:
        os.write(upstream.writer, words)
        os.close(upstream.writer)

    threading.Thread(target=say).start()
    assert content(client.received(5000)) == words
    assert upstream.closed.wait(WAIT)


def test_relay_of_broken_answer_breaks(hub: Hub, client: Client) -> None:
    """An upstream that breaks off is not a whole answer for the client either."""
    upstream = Upstream()
    Relay(hub, client.lent, upstream).start()
    os.write(upstream.writer, b"half")
    time.sleep(0.05)
    os.write(upstream.writer, b"!")
    assert content(client.received()) == b"half"
    assert client.is_usable is False
    assert upstream.closed.wait(WAIT)


def test_relay_lets_go_with_its_client(hub: Hub, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that leaves lets the upstream go, also when that is silent."""
    monkeypatch.setattr(outlet, "FIRST_PING", 0.01)
    upstream = Upstream()
    Relay(hub, client.lent, upstream).start()
    client.sock.close()
    assert upstream.closed.wait(WAIT)
