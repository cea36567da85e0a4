"""Listeners: through the hub without threads, through a thread of their own where nothing else goes."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from flask import Request

from self_agent import feed as feed_module
from self_agent import listening
from self_agent.events import Change
from self_agent.feed import KEPT, Feed
from self_agent.listening import Listening, listened
from self_agent.outlet import MOST
from self_agent.streams import LEND, HandedOver
from self_agent.turns import hub as hub_module
from self_agent.turns.hub import Hub
from tests.test_feed import names, told, until
from tests.test_outlet import Client, content, small

WAIT = 10.0
FOREVER = float("inf")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(hub_module, "LOOK", 0.01)
    hub = Hub()
    yield hub
    hub.close(WAIT)
    assert not hub._handlers


@pytest.fixture(autouse=True)
def connections() -> Iterator[None]:
    yield
    for listener in Listener.made:
        listener.ours.close()
        listener.sock.close()
    Listener.made.clear()


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    monkeypatch.setattr(feed_module, "PAUSE", 0.001)
    feed = Feed()
    yield feed
    feed.close()


class Listener(Client):
    """A client that listens."""

    made: ClassVar[list[Listener]] = []

    def __init__(self, hub: Hub, feed: Feed, user: str = "ada", after: str = "", expires: float = FOREVER) -> None:
        super().__init__()
        self.made.append(self)
        environ = {"SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "GET", LEND: lambda: self.lent}
        pieces = listened(hub, Request(environ), feed, user, after, expires)[0]
        self.head = next(pieces)  # which the server writes
        with pytest.raises(HandedOver):
            next(pieces)

    def heard(self, pattern: bytes) -> bytes:
        """Read until what came matches."""
        data = b""
        while not re.search(pattern, data):
            piece = self.sock.recv(1 << 16)
            assert piece, data
            data += piece
        return data

    def hang_up(self) -> None:
        self.sock.close()


def seen(data: bytes) -> list[str]:
    return re.findall(r'"conversation_id":"([^"]*)"', data.decode())


def test_changes_reach_a_listener_and_it_resumes(hub: Hub, feed: Feed) -> None:
    """A stream begins with a reset, goes on with each change, and again from any id."""
    one = Listener(hub, feed)
    assert re.fullmatch(rb'retry: \d+\n\nid: [0-9a-f]{16}-0\ndata: {"type":"reset"}\n\n', one.head)
    told(feed, 50)
    data = one.heard(b'"c49".*\n\n')
    assert seen(data) == names(0, 50)
    for place, position in enumerate(re.findall(rb"id: (\S+)", data), 1):
        again = Listener(hub, feed, after=position.decode())
        assert again.head == listening.RETRY
        if place < 50:
            assert seen(again.heard(b'"c49".*\n\n')) == names(place, 50)
        again.hang_up()


def test_thousand_listeners_take_no_thread_each(hub: Hub, feed: Feed) -> None:
    """All are told, by the threads that are there; gone clients leave nothing behind."""
    resource = pytest.importorskip("resource")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    before = threading.active_count()
    listeners = [Listener(hub, feed, f"user{number % 10}") for number in range(1000)]
    for number in range(10):
        told(feed, 3, f"user{number}")
    for listener in listeners:
        assert seen(listener.heard(b'"c2".*\n\n')) == names(0, 3)
    assert threading.active_count() <= before + 2 + hub_module.THREADS
    for listener in listeners:
        listener.hang_up()
    for number in range(10):
        told(feed, 1, f"user{number}")
    until(lambda: not hub._handlers)
    until(lambda: all(ring.listeners == 0 and not ring._readers for ring in feed._rings.values()))


def test_who_never_reads_is_dropped(hub: Hub, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing piles up for it, nobody waits for it, and its ring is let go."""
    monkeypatch.setattr("self_agent.outlet.STALL", 0.2)
    lazy, well = Listener(hub, feed), Listener(hub, feed)
    small(lazy)
    most = 0
    for number in range(200):
        told(feed, 10, first=10 * number)
        well.heard(f'"c{10 * number + 9}"'.encode())
        most = max([most, *(len(handler.rest) for handler in hub._handlers if isinstance(handler, Listening))])
    assert 0 < most < MOST / 8
    assert lazy.ended.wait(WAIT)
    assert lazy.is_usable is False
    until(lambda: feed._rings["ada"].listeners == 1)


@pytest.mark.parametrize("more", [5, 2 * KEPT])
def test_slow_one_catches_up_or_is_reset(hub: Hub, feed: Feed, more: int) -> None:
    """One that reads again in time gets what it missed, or the word that this was too much; then all that follows."""
    slow = Listener(hub, feed)
    small(slow)
    [connection] = [handler for handler in hub._handlers if isinstance(handler, Listening)]
    count = 0

    def is_full() -> bool:
        nonlocal count
        told(feed, 10, first=count)
        count += 10
        time.sleep(0.005)
        return bool(connection.rest)

    until(is_full)
    told(feed, more, first=count)
    feed.tell("ada", Change("changed", "last"))
    data = slow.heard(b'"last".*\n\n|"reset".*\n\n')
    if more < KEPT:
        assert seen(data) == [*names(0, count + more), "last"]
    else:
        assert b"reset" in data
        feed.tell("ada", Change("changed", "more"))
        assert seen(slow.heard(b'"more".*\n\n')) == ["more"]


def test_server_stops_cleanly(hub: Hub, feed: Feed) -> None:
    """What was told before the stop arrives, and the body ends as it should: the connection can be used again."""
    listener = Listener(hub, feed)
    feed.tell("ada", Change("answered", "c"))
    hub.close(WAIT)
    data = listener.received()
    assert seen(content(data)) == ["c"]
    assert data.endswith(b"0\r\n\r\n")
    assert listener.is_usable
    late = Listener(hub, feed)
    assert content(late.received()) == b""


def test_token_that_expires_ends_stream(hub: Hub, feed: Feed) -> None:
    """Nothing is told to who is nobody any more."""
    listener = Listener(hub, feed, expires=time.time() + 0.05)
    assert content(listener.received()).replace(b": ping\n\n", b"") == b""
    assert listener.ended.wait(WAIT)
    assert listener.is_usable
    until(lambda: feed._rings["ada"].listeners == 0)


def test_quiet_listener_is_pinged(hub: Hub, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """So one that has left without a word is noticed."""
    monkeypatch.setattr("self_agent.outlet.FIRST_PING", 0.01)
    Listener(hub, feed).heard(rb": ping\n\n")


def test_client_that_leaves_at_once_holds_nothing(hub: Hub, feed: Feed) -> None:
    """It may be gone before its headers are out, or before it was asked what it wants."""
    environ: dict[str, Any] = {"SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "GET", LEND: lambda: None}
    for lends in (True, False):
        request = Request(environ if lends else {**environ, LEND: None})
        pieces: Any = listened(hub, request, feed, "ada", "", FOREVER)[0]
        pieces.close()
        pieces = listened(hub, request, feed, "ada", "", FOREVER)[0]
        next(pieces)
        pieces.close()
    assert feed._rings["ada"].listeners == 0
    assert not hub._handlers


def slow_road(hub: Hub, feed: Feed, expires: float = FOREVER) -> Iterator[bytes]:
    return listened(hub, Request({"SERVER_PROTOCOL": "HTTP/1.0"}), feed, "ada", "", expires)[0]


def test_a_thread_serves_where_nothing_is_lent(hub: Hub, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same events; for a while, until the token expires, or until the server stops."""
    monkeypatch.setattr(listening, "LONGEST", WAIT)
    pieces = slow_road(hub, feed)
    assert b"reset" in next(pieces)
    told(feed, 2)
    assert seen(next(pieces)) == names(0, 2)
    stopping = threading.Thread(target=hub.close, args=(WAIT,))
    stopping.start()
    assert list(pieces) == []
    stopping.join()
    assert len(list(slow_road(hub, feed))) == 1  # of a server that is stopping
    assert feed._rings["ada"].listeners == 0


def test_a_thread_serves_for_a_while(hub: Hub, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """It pings meanwhile, and ends with the token."""
    monkeypatch.setattr(listening, "LONGEST", WAIT)
    monkeypatch.setattr(listening, "PING", 0.01)
    pieces = list(slow_road(hub, feed, time.time() + 0.1))
    assert set(pieces[1:]) == {b": ping\n\n"}
