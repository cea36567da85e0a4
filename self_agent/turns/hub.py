"""One thread waits for all sockets, those of models and those of clients; what it calls never waits.

A thread of its own would have to wake for every token of every reply, and what wakes fights for the interpreter's lock.
"""

from __future__ import annotations

import logging
import math
import selectors
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

CAN_WAIT_FOR_MANY = sys.platform != "win32"  # which waits for 512 sockets at most
LOOK = 1.0  # seconds between two looks at whose time is up
THREADS = 32  # for work that may have to wait, for the disk mostly
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Handler(ABC):
    """Somebody for whom the hub waits, and whose methods it calls in its thread."""

    deadline = math.inf  # in `time.monotonic`

    @abstractmethod
    def ready(self) -> None:
        """Go on: the descriptor can be read or written, as was asked for."""

    @abstractmethod
    def late(self) -> None:
        """Do what is due, for the deadline has passed; and set the next."""

    def stop(self) -> None:
        """Begin to end, for the server does; called in any thread."""

    @abstractmethod
    def broken(self, error: Exception) -> None:
        """End, because one of the above raised: a bug, and nobody else's trouble."""


class Hub:
    """Waits for the descriptors and the deadlines of its handlers."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._handlers: set[Handler] = set()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._threads = ThreadPoolExecutor(THREADS, "hub")

    def add(self, handler: Handler) -> None:
        """Look after a handler's deadline from now on."""
        with self._lock:
            self._handlers.add(handler)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
                self._thread.start()

    def watch(self, fd: int, handler: Handler | None, events: int) -> None:
        """Call the handler when `fd` can be read or written, as `events` says, until it is changed."""
        with self._lock:
            if self._selector.get_map() is None:  # the hub has ended
                return
            if fd not in self._selector.get_map():
                if events:
                    self._selector.register(fd, events, handler)
            elif events:
                self._selector.modify(fd, events, handler)
            else:
                self._selector.unregister(fd)

    def unwatch(self, fd: int) -> None:
        """Wait for `fd` no more, before it is closed. Doing it twice is harmless."""
        self.watch(fd, None, 0)

    def remove(self, handler: Handler) -> None:
        """Look after a handler no more. Doing it twice is harmless."""
        with self._lock:
            self._handlers.discard(handler)

    def run(self, work: Callable[[], object]) -> None:
        """Do what may have to wait, in another thread."""
        try:
            self._threads.submit(work)
        except RuntimeError as error:  # no new thread: what was submitted waits for one of those there are
            log.warning("the hub gets no more threads: %s", error)

    def count(self) -> int:
        """Return how many handlers there are."""
        return len(self._handlers)

    @property
    def is_closed(self) -> bool:
        """Whether it has been told to end: a handler that is added now is not told so any more."""
        return self._is_closed

    def close(self, seconds: float = 0.0) -> None:
        """End when the last handler has; wait for that for some seconds at most."""
        self._is_closed = True
        with self._lock:
            handlers = list(self._handlers)
        for handler in handlers:
            handler.stop()
        until = time.monotonic() + seconds
        while self._handlers and time.monotonic() < until:
            time.sleep(0.01)

    def _run(self) -> None:
        look = time.monotonic() + LOOK
        while not self._is_closed or self._handlers:
            for key, _ in self._selector.select(LOOK):
                self._call(key.data, key.data.ready)
            now = time.monotonic()
            if now >= look:
                look = now + LOOK
                with self._lock:
                    due = [handler for handler in self._handlers if handler.deadline < now]
                for handler in due:
                    self._call(handler, handler.late)
        self._selector.close()

    def _call(self, handler: Handler, method: Callable[[], None]) -> None:
        try:
            method()
        except Exception as error:
            log.exception("a connection failed in the hub")
            handler.broken(error)
