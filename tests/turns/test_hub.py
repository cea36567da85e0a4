"""Many replies, one thread that waits for them: each goes on when something came, and ends as it would alone."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator

import pytest

from self_agent.events import Chunk, Delta, Pause
from self_agent.turns import hub as hub_module
from self_agent.turns.hub import Hub, Outcome


class Upstream:
    """Pieces that come through a pipe: a byte each."""

    def __init__(self) -> None:
        self.fd, self.writer = os.pipe()
        os.set_blocking(self.fd, False)

    def chunks(self, seconds: float = 10.0) -> Iterator[Chunk]:
        while True:
            try:
                data = os.read(self.fd, 1)
            except BlockingIOError:
                yield Pause(self.fd, seconds)
                continue
            if data == b"!":
                raise ValueError("broken")
            if not data:
                yield Pause(None)
                yield Delta("end")
                return
            yield Delta(data.decode())

    def say(self, text: str) -> None:
        os.write(self.writer, text.encode())

    def end(self) -> None:
        os.close(self.writer)


@pytest.fixture
def upstreams() -> Iterator[list[Upstream]]:
    made = [Upstream() for _ in range(20)]
    yield made
    for upstream in made:
        os.close(upstream.fd)


def drained(hub: Hub, upstream: Upstream, taken: list[Chunk], *, limit: int = 100, seconds: float = 10.0) -> Outcome:
    """Do as a turn does: take chunks until there are no more."""
    ends: queue.Queue[Outcome] = queue.Queue()

    def take(chunk: Chunk) -> bool:
        taken.append(chunk)
        return len(taken) < limit

    chunks = upstream.chunks(seconds)
    for chunk in chunks:
        if isinstance(chunk, Pause) and chunk.fd is not None:
            hub.add(chunks, take, chunk, ends.put)
            outcome = ends.get(timeout=30)
            if outcome == Outcome():
                taken.extend(chunks)
            return outcome
        if not isinstance(chunk, Pause):  # came before the first pause, as to a turn that asked late
            taken.append(chunk)
    return Outcome()


def test_replies_go_on_side_by_side(upstreams: list[Upstream]) -> None:
    """Each reply gets its own pieces, in order, whatever the others do; what follows the last pause is left."""
    hub = Hub()
    taken: list[list[Chunk]] = [[] for _ in upstreams]
    threads = [threading.Thread(target=drained, args=(hub, *pair)) for pair in zip(upstreams, taken, strict=True)]
    for thread in threads:
        thread.start()
    for letter in "abc":
        for upstream in upstreams:
            upstream.say(letter)
    for upstream in upstreams:
        upstream.end()
    for thread in threads:
        thread.join(10)
    assert taken == [[Delta("a"), Delta("b"), Delta("c"), Delta("end")]] * len(upstreams)


def test_refused_chunk_ends_the_wait(upstreams: list[Upstream]) -> None:
    """A turn that was stopped takes no more; its thread goes on at once."""
    taken: list[Chunk] = []
    threading.Timer(0.05, upstreams[0].say, ["ab"]).start()
    assert drained(Hub(), upstreams[0], taken, limit=1) == Outcome(is_wanted=False)
    assert taken == [Delta("a")]


def test_error_reaches_the_turn(upstreams: list[Upstream]) -> None:
    """What breaks in a reply breaks that reply only, in its own thread."""
    hub = Hub()
    threading.Timer(0.05, upstreams[0].say, ["!"]).start()
    assert isinstance(drained(hub, upstreams[0], []).error, ValueError)
    threading.Timer(0.05, upstreams[1].end).start()
    assert drained(hub, upstreams[1], []) == Outcome()


def test_silence_is_thrown_in(upstreams: list[Upstream], monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that pauses for longer than it said gets a TimeoutError; its descriptor is free again."""
    monkeypatch.setattr(hub_module, "LOOK", 0.01)
    hub = Hub()
    assert isinstance(drained(hub, upstreams[0], [], seconds=0.02).error, TimeoutError)
    threading.Timer(0.05, upstreams[0].end).start()
    assert drained(hub, upstreams[0], []) == Outcome()


def test_closed_hub_ends_with_its_last_reply(upstreams: list[Upstream], monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits for nobody, and cuts nobody off."""
    monkeypatch.setattr(hub_module, "LOOK", 0.01)
    hub = Hub()
    threading.Timer(0.05, hub.close).start()
    threading.Timer(0.1, upstreams[0].end).start()
    assert drained(hub, upstreams[0], []) == Outcome()
    assert hub._thread
    hub._thread.join(10)
    assert not hub._thread.is_alive()
