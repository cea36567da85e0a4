"""The feed: what is told to whom, from which position, and what is forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from self_agent import feed as feed_module
from self_agent.events import Change, Event
from self_agent.feed import KEPT, Feed, Ring
from self_agent.turns.turn import Reader

WAIT = 10.0


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    monkeypatch.setattr(feed_module, "PAUSE", 0.0)
    feed = Feed()
    yield feed
    feed.close()


class Listener(Reader):
    """Reads as `outlet.Follower` does."""

    def __init__(self, ring: Ring, after: str = "") -> None:
        self.ring = ring
        self.position, first = ring.start(after)
        self.got: list[Change] = list(first)
        self.threads: set[int] = set()
        self.fails = self.is_gone = False
        ring.attach(self, self.position)

    def take(self, events: Sequence[Event]) -> bool:
        if self.fails:
            raise ValueError("a bug")
        if self.is_gone:
            return False
        self.got += self.ring.since(self.position)
        self.position = self.ring.length
        self.threads.add(threading.get_ident())
        return True

    @property
    def kinds(self) -> list[str]:
        return [change.kind for change in self.got]

    @property
    def names(self) -> list[str]:
        return [change.conversation_id for change in self.got]


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def told(feed: Feed, count: int, user: str = "ada", first: int = 0) -> None:
    for number in range(first, first + count):
        feed.tell(user, Change("changed", f"c{number}", number))


def names(first: int, last: int) -> list[str]:
    return [f"c{number}" for number in range(first, last)]


def test_changes_are_told_in_order_to_their_user(feed: Feed) -> None:
    """Each listener of a user hears every change once; another user hears none of it."""
    ada, also, bob = Listener(feed.open("ada")), Listener(feed.open("ada")), Listener(feed.open("bob"))
    told(feed, 100)
    feed.tell("bob", Change("deleted", "b"))
    until(lambda: len(ada.got) == len(also.got) == 101 and len(bob.got) == 2)
    assert ada.names[1:] == also.names[1:] == names(0, 100)
    assert bob.names[1:] == ["b"]
    assert len({change.id for change in ada.got[1:]} | {bob.got[1].id}) == 101


def test_resuming_at_every_position(feed: Feed) -> None:
    """Whoever names an event that is kept gets what came after it, no more and no less."""
    ring = feed.open("ada")
    first = Listener(ring)
    told(feed, 20)
    until(lambda: len(first.got) == 21)
    for place, change in enumerate(first.got):
        assert Listener(ring, change.id).got == first.got[place + 1 :]


def test_new_listener_is_told_where_it_begins(feed: Feed) -> None:
    """Without a position the first event is a reset; from its id on nothing is missing."""
    ring = feed.open("ada")
    told(feed, 3)
    new = Listener(ring)
    assert new.kinds == ["reset"]
    told(feed, 2, first=3)
    assert Listener(ring, new.got[0].id).names == ["c3", "c4"]


def test_unknown_positions_are_reset(feed: Feed) -> None:
    """What is gone, of another run, of another user, from the future or no position at all: load the list."""
    ring, other = feed.open("ada"), feed.open("bob")
    old = Listener(ring).got[0].id
    told(feed, KEPT)
    assert Listener(ring, old).names == names(0, KEPT)
    told(feed, 1)
    name = old.partition("-")[0]
    odd = ["x", "-", name, f"{name}-", f"{name}-{KEPT + 2}", f"{name}--1", f"{name}-1 ", f"{name}-²", "0" * 10**6]
    odd += [f"{name}-{'9' * 5000}", f"{name.upper()}-5".replace(name, "A" * 16), Listener(other).got[0].id]
    for after in ["", old, *odd, Listener(Feed().open("ada")).got[0].id]:
        found = Listener(ring, after)
        assert found.kinds == ["reset"], after[:50]
        assert found.got[0].id == f"{name}-{KEPT + 1}"


def test_who_fell_behind_is_reset(feed: Feed) -> None:
    """A listener that was slow while more came than is kept hears one reset, and goes on from there."""
    ring = feed.open("ada")
    told(feed, KEPT + 1)
    with ring.lock:
        assert [change.kind for change in ring.since(0)] == ["reset"]
        assert len(ring.since(1)) == KEPT
        assert ring.since(0)[0].id == ring.since(1)[-1].id


def test_burst_costs_the_teller_nothing(feed: Feed) -> None:
    """Whoever tells writes to nobody: a thread of the feed's own does, and sees a burst as few pieces."""
    listeners = [Listener(feed.open("ada")) for _ in range(10)]
    for listener in listeners:
        listener.threads.clear()
    told(feed, 10_000)
    until(lambda: all(listener.position == 10_000 for listener in listeners))
    [telling] = set().union(*(listener.threads for listener in listeners))
    assert telling != threading.get_ident()
    assert sum(thread.name == "feed" for thread in threading.enumerate()) >= 1


def test_a_bug_or_an_end_is_one_listeners_trouble(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    """One that fails or is gone loses its place, and nobody else notices."""
    ring = feed.open("ada")
    failing, gone, well = Listener(ring), Listener(ring), Listener(ring)
    failing.fails = gone.is_gone = True
    told(feed, 1)
    until(lambda: len(well.got) == 2)
    assert "a listener failed" in caplog.text
    assert ring._readers == [well]


def test_nobody_listens_nothing_is_kept(feed: Feed) -> None:
    """A user who never listened has no ring, and takes no memory."""
    told(feed, 100)
    assert not feed._rings


def test_rings_are_forgotten(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring outlives its listeners for a while, and of too many idle ones the longest idle goes first."""
    monkeypatch.setattr(feed_module, "MOST_IDLE", 2)
    kept = feed.open("kept")
    position = Listener(kept).got[0].id
    for user in ("a", "b", "c"):
        feed.leave(feed.open(user))
    assert set(feed._rings) == {"kept", "b", "c"}
    feed.leave(kept, Listener(kept))
    assert set(feed._rings) == {"kept", "c"}
    told(feed, 1, "kept")
    assert Listener(feed.open("kept"), position).names == ["c0"]
    monkeypatch.setattr(feed_module, "IDLE", 0.0)
    time.sleep(0.001)
    feed.open("d")
    assert set(feed._rings) == {"kept", "d"}
    feed.leave(kept)
    time.sleep(0.001)
    again = feed.open("kept")
    assert again is not kept
    assert Listener(again, position).kinds == ["reset"]
