"""One thread waits for all upstreams that are silent now, and goes on with a reply as soon as more of it has come.

A thread of its own would have to wake for every token of every reply, and what wakes fights for the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from self_agent.events import Chunk, Pause

log = logging.getLogger(__name__)

LOOK = 1.0  # seconds between two looks at who has waited for too long
THREADS = 32  # that go on with replies which may have to wait, for the disk mostly

Take = Callable[[Chunk], bool]


@dataclass(frozen=True)
class Outcome:
    """Why the hub does not go on with a reply: an error, it is not wanted any more, or neither: there is no more."""

    is_wanted: bool = True
    error: BaseException | None = None


@dataclass(eq=False)
class _Job:
    chunks: Iterator[Chunk]
    take: Take
    then: Callable[[Outcome], None]
    until: float

    def go_on(self) -> Outcome | None:
        """Take what has come; None to be called again when there is more."""
        for chunk in self.chunks:
            if isinstance(chunk, Pause):
                self.until = time.monotonic() + chunk.seconds
                return Outcome() if chunk.fd is None else None
            if not self.take(chunk):
                return Outcome(is_wanted=False)
        return Outcome()

    def give_up(self) -> Outcome:
        """Tell the reply that it was waited for too long."""
        assert isinstance(self.chunks, Generator)
        with contextlib.suppress(StopIteration):
            self.chunks.throw(TimeoutError())
        return Outcome()


class Hub:
    """Goes on with replies, each when its descriptor can be read."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._threads = ThreadPoolExecutor(THREADS, "hub")

    def add(self, chunks: Iterator[Chunk], take: Take, pause: Pause, then: Callable[[Outcome], None]) -> None:
        """Give `take` the chunks of a reply that pauses now, until it stops pausing; call `then` in another thread.

        That is at its end, at a pause without a descriptor, when `take` says no, or at an error; after too long a
        pause TimeoutError is thrown into the chunks. These, a generator, must neither wait nor close the descriptor.
        """
        assert pause.fd is not None
        job = _Job(chunks, take, then, time.monotonic() + pause.seconds)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
                self._thread.start()
            self._selector.register(pause.fd, selectors.EVENT_READ, job)

    def close(self) -> None:
        """End, soon, when the last reply has."""
        self._is_closed = True

    def _run(self) -> None:
        look = time.monotonic() + LOOK
        while not self._is_closed or self._selector.get_map():
            for key, _ in self._selector.select(LOOK):
                self._step(key.fd, key.data, key.data.go_on)
            now = time.monotonic()
            if now >= look:
                look = now + LOOK
                self._end_late(now)
        self._selector.close()

    def _end_late(self, now: float) -> None:
        with self._lock:
            keys = list(self._selector.get_map().values())
        for key in keys:
            if key.data.until < now:
                self._step(key.fd, key.data, key.data.give_up)

    def _step(self, fd: int, job: _Job, step: Callable[[], Outcome | None]) -> None:
        try:
            outcome = step()
        except BaseException as error:
            outcome = Outcome(error=error)
        if outcome is not None:
            with self._lock:
                self._selector.unregister(fd)
            try:
                self._threads.submit(job.then, outcome)
            except RuntimeError as error:  # no new thread: what was submitted waits for one of those there are
                log.warning("the hub gets no more threads: %s", error)
