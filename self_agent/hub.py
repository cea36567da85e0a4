"""One thread waits for all upstreams that are silent now, and goes on with a reply as soon as more of it has come.

A thread of its own would have to wake for every token of every reply, and what wakes fights for the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import selectors
import threading
import time
from collections.abc import Callable, Generator, Iterator

from self_agent.events import Chunk, Pause

LOOK = 1.0  # seconds between two looks at who has waited for too long

Take = Callable[[Chunk], bool]


class _Job:
    """A reply that the hub goes on with, and the thread that waits for the end of that."""

    def __init__(self, chunks: Iterator[Chunk], take: Take, until: float) -> None:
        self._chunks = chunks
        self._take = take
        self.until = until
        self.is_wanted = True
        self.error: BaseException | None = None
        self.over = threading.Lock()
        self.over.acquire()

    def go_on(self) -> bool:
        """Take what has come; False when there is nothing more to wait for here."""
        for chunk in self._chunks:
            if isinstance(chunk, Pause):
                self.until = time.monotonic() + chunk.seconds
                return chunk.fd is not None
            if not self._take(chunk):
                self.is_wanted = False
                return False
        return False

    def give_up(self) -> None:
        """Tell the reply that it was waited for too long."""
        assert isinstance(self._chunks, Generator)
        with contextlib.suppress(StopIteration):
            self._chunks.throw(TimeoutError())


class Hub:
    """Goes on with replies, each when its descriptor can be read."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def drain(self, chunks: Iterator[Chunk], take: Take, fd: int, seconds: float) -> bool:
        """Give `take` the chunks of a reply that pauses now for `fd`, for `seconds` at most, until it stops pausing.

        That is at its end, at a pause without a descriptor, or when `take` wants no more: then this returns False.
        The chunks, a generator, must neither wait nor close `fd` meanwhile. Raises what they raise; after too long a
        pause TimeoutError is thrown into them.
        """
        job = _Job(chunks, take, time.monotonic() + seconds)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
                self._thread.start()
            self._selector.register(fd, selectors.EVENT_READ, job)
        job.over.acquire()
        if job.error is not None:
            raise job.error
        return job.is_wanted

    def _run(self) -> None:
        look = time.monotonic() + LOOK
        while True:
            for key, _ in self._selector.select(LOOK):
                self._step(key.fd, key.data, key.data.go_on)
            now = time.monotonic()
            if now >= look:
                look = now + LOOK
                self._end_late(now)

    def _end_late(self, now: float) -> None:
        with self._lock:
            keys = list(self._selector.get_map().values())
        for key in keys:
            if key.data.until < now:
                self._step(key.fd, key.data, key.data.give_up)

    def _step(self, fd: int, job: _Job, step: Callable[[], bool | None]) -> None:
        try:
            if step():
                return
        except BaseException as error:
            job.error = error
        with self._lock:
            self._selector.unregister(fd)
        job.over.release()
