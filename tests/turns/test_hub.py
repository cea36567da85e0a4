"""Many sockets, one thread that waits for them: each handler is called when it is due, and hurts nobody else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from self_agent.turns import hub as hub_module
from self_agent.turns.hub import READ, Handler, Hub

WAIT = 10.0


class Pipe(Handler):
    """Reads a byte at a time from a pipe."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.fd, self.writer = os.pipe()
        self.seen = b""
        self.lates = 0
        self.threads: set[threading.Thread] = set()  # that called
        self.error: Exception | None = None
        self.changed = threading.Semaphore(0)
        hub.add(self)
        hub.watch(self.fd, self, READ)

    def ready(self) -> None:
        self.threads.add(threading.current_thread())
        data = os.read(self.fd, 1)
        if data == b"!":
            raise ValueError("a bug")
        self.seen += data
        self.changed.release()

    def late(self) -> None:
        self.lates += 1
        self.deadline = time.monotonic() + WAIT
        self.changed.release()

    def broken(self, error: Exception) -> None:
        self.error = error
        self.end()
        self.changed.release()

    def stop(self) -> None:
        self.end()

    def end(self) -> None:
        self.hub.unwatch(self.fd)
        self.hub.remove(self)

    def say(self, text: str) -> None:
        os.write(self.writer, text.encode())

    def wait(self) -> None:
        assert self.changed.acquire(timeout=WAIT)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(hub_module, "LOOK", 0.01)
    hub = Hub()
    yield hub
    hub.close(WAIT)


@pytest.fixture
def pipes(hub: Hub) -> Iterator[list[Pipe]]:
    made = [Pipe(hub) for _ in range(20)]
    yield made
    for pipe in made:
        pipe.end()
        os.close(pipe.fd)
        os.close(pipe.writer)


def test_each_gets_its_own(pipes: list[Pipe]) -> None:
    """Whoever can read is called, in the one thread, with what is his."""
    for letter in "abc":
        for pipe in pipes:
            pipe.say(letter)
    for pipe in pipes:
        for _ in "abc":
            pipe.wait()
    assert [pipe.seen for pipe in pipes] == [b"abc"] * len(pipes)
    assert {thread for pipe in pipes for thread in pipe.threads} == {pipes[0].hub._thread}


def test_bug_ends_its_own_handler_only(pipes: list[Pipe], caplog: pytest.LogCaptureFixture) -> None:
    """A handler that fails is told, and logged; the others go on."""
    pipes[0].say("!")
    pipes[0].wait()
    assert isinstance(pipes[0].error, ValueError)
    assert "a bug" in caplog.text
    pipes[1].say("x")
    pipes[1].wait()
    assert pipes[1].seen == b"x"


def test_deadline_is_looked_after(pipes: list[Pipe]) -> None:
    """Whose time is up is told once."""
    pipes[0].deadline = time.monotonic()
    pipes[0].wait()
    time.sleep(0.05)
    assert [pipe.lates for pipe in pipes[:2]] == [1, 0]


def test_unwatched_descriptor_is_left_alone(hub: Hub, pipes: list[Pipe]) -> None:
    """What is no longer waited for is not read; waiting can begin again."""
    hub.unwatch(pipes[0].fd)
    hub.unwatch(pipes[0].fd)
    pipes[0].say("x")
    time.sleep(0.05)
    assert pipes[0].seen == b""
    hub.watch(pipes[0].fd, pipes[0], READ)
    pipes[0].wait()
    assert pipes[0].seen == b"x"


def test_work_is_done_elsewhere(hub: Hub) -> None:
    """What may have to wait is done in a thread of its own."""
    names: list[str] = []
    done = threading.Event()
    hub.run(lambda: names.append(threading.current_thread().name))
    hub.run(done.set)
    assert done.wait(WAIT)
    assert names
    assert names[0] != "hub"


def test_closing_ends_handlers(hub: Hub, pipes: list[Pipe]) -> None:
    """Closing tells everybody to end, and then ends the thread."""
    hub.close(WAIT)
    assert not hub._handlers
    assert hub._thread
    hub._thread.join(WAIT)
    assert not hub._thread.is_alive()
