"""The worker: it lends its connections to the hub, and lets no client hold a thread that others need."""

from __future__ import annotations

import errno
import logging
import math
import signal
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from self_agent.gunicorn_connections import has_head, has_more, has_read_ahead
from self_agent.outlet import Lent
from self_agent.streams import LEND

log = logging.getLogger(__name__)

LENT = object()  # what became of a connection that somebody else has now
ALWAYS = ("/healthz", "/metrics")  # are answered even where all threads are busy
EXTRA_GRACE = 5  # seconds after the grace for storing replies and writing the last events
HEAD_SECONDS = 10.0  # for a request's line and headers, once the connection is open
BODY_SECONDS = 60.0  # for its body
WRITE_SECONDS = 60.0  # for a client to take an answer, or a piece of one
READING = 1.0  # seconds that a request may take to come even where threads are short
RESERVE = 4  # threads that answer when all others are busy
LOOK = 0.1  # seconds between two looks at who waits for a thread
BUSY = b'{"data":{"success":false,"error":"all threads of the server are busy; try again shortly"}}'


class Lane:
    """Some threads, and which connections they are reading a request from.

    Counted in the thread that accepts. Where all are busy, the one that has been reading for longest gives way.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)
        self.busy = 0
        self.reading: dict[Any, tuple[float, float]] = {}  # since when, and until when

    def has_room(self) -> bool:
        """Say whether a thread is free, or will be at once."""
        if self.busy < self.threads:
            return True
        oldest, (began, _) = next(iter(list(self.reading.items())), (None, (math.inf, 0.0)))
        if began > time.monotonic() - READING:
            return False
        self.cut(oldest)
        return True

    def cut(self, conn: Any) -> None:
        """End a connection that a thread reads from: the thread sees its end."""
        self.reading.pop(conn, None)
        with suppress(OSError):
            conn.sock.shutdown(socket.SHUT_RDWR)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Ends its turns as soon as it is told to stop, and waits for no client where others would wait with it."""

    interrupts = 0
    drained_at = math.inf  # in `time.monotonic`: when to go on with the end that SIGTERM asked for

    def init_process(self) -> None:
        self.thread = threading.local()  # `lent`: the request's connection was lent to the hub
        self.main, self.reserve = Lane(self.cfg.threads), Lane(RESERVE)
        for _ in range(RESERVE):  # now, as long as there are threads to be had
            self.reserve.pool.submit(time.sleep, LOOK)
        self.waiting: list[tuple[Any, float]] = []  # connections without a thread, and since when
        super().init_process()

    # --- from a connection to its answer

    def accept(self, listener: Any) -> None:
        """Accept a connection; one that the system has nothing left for waits in its queue, and ends nobody."""
        try:
            super().accept(listener)
        except OSError as error:
            log.error("no connection can be accepted now: %s", error.strerror)
            time.sleep(LOOK)

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread; if all are busy, to one that only says so, and that the server is alive.

        That one waits for nobody: a connection on which no whole head has come yet waits here.
        """
        lane = self.main
        if not lane.has_room():
            lane = self.reserve
            if not (has_read_ahead(conn) or has_head(conn)):
                self.waiting.append((conn, time.monotonic()))
                return
        lane.busy += 1
        try:
            lane.pool.submit(self.work, conn, lane)
        except RuntimeError:  # the system gives no more threads; what was submitted waits for one of those there are
            log.error("no more than %d threads can be had now", lane.busy)
            lane.threads = lane.busy - 1

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Look often after those that wait for a thread, and end those that sent no head in time."""
        super().wait_for_and_dispatch_events(LOOK if self.waiting else timeout)
        waiting, self.waiting = self.waiting, []
        for conn, since in waiting:
            if time.monotonic() - since < HEAD_SECONDS:
                self.retry(conn, since)
            else:
                self.nr_conns -= 1
                conn.close()

    def retry(self, conn: Any, since: float) -> None:
        """Try again to find a thread, without a new time limit."""
        before = len(self.waiting)
        self.enqueue_req(conn)
        if len(self.waiting) > before:
            self.waiting[-1] = conn, since

    def work(self, conn: Any, lane: Lane) -> None:
        """Handle a connection, in a thread of the lane, and say what became of it in the one that accepts."""
        done: Future[Any] = Future()
        try:
            done.set_result(self.handle(conn, lane))
        except Exception as error:
            done.set_exception(error)
        self.method_queue.defer(self.leave_lane, lane, conn, done)

    def leave_lane(self, lane: Lane, conn: Any, done: Any) -> None:
        lane.busy -= 1
        self.finish_request(conn, done)

    def handle(self, conn: Any, lane: Lane) -> Any:
        """Handle requests as long as they come one right behind the other, and close in this thread.

        gunicorn waits up to 2 s for a client to hang up, in the thread that accepts all others.
        """
        self.thread.lane = lane
        while True:
            self.thread.lent = False
            now = time.monotonic()
            lane.reading[conn] = now, now + HEAD_SECONDS
            try:
                result = super().handle(conn)
            finally:
                lane.reading.pop(conn, None)
            if self.thread.lent:
                return LENT
            if result is not True or not (self.alive and lane is self.main and has_more(conn)):
                break
        if not result:  # neither kept alive nor put off until its first bytes come
            conn.close(graceful=lane is self.main)
        return result

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Offer the connection to whoever answers, see `streams.LEND`."""
        self.thread.lane.reading.pop(conn, None)
        self.thread.req, self.thread.conn = req, conn
        conn.sock.settimeout(WRITE_SECONDS)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client takes nothing") from None

    def load_wsgi(self) -> None:
        super().load_wsgi()
        app: Any = self.wsgi  # type: ignore[has-type]

        def call(environ: dict[str, Any], start_response: Any) -> Any:
            thread = self.thread
            environ[LEND] = partial(self.lend, thread.req, thread.conn)
            environ["wsgi.input"] = Timed(environ["wsgi.input"], thread.lane.reading, thread.conn)
            if thread.lane is self.main or environ["PATH_INFO"].rstrip("/") in ALWAYS:
                return app(environ, start_response)
            self.app.refused()
            thread.req.must_close = True  # nor is a body waited for
            start_response("503 Service Unavailable", [("Content-Type", "application/json"), ("Retry-After", "2")])
            return [BUSY]

        self.wsgi = call

    def lend(self, req: Any, conn: Any) -> Lent:
        """Lend a connection whose headers are out."""
        self.thread.lent = True

        def give_back(is_usable: bool) -> None:
            done: Future[bool] = Future()
            done.set_result(is_usable and not req.should_close())
            self.method_queue.defer(self.finish_request, conn, done)

        return Lent(conn.sock, give_back)

    def finish_request(self, conn: Any, fs: Any) -> None:
        if not fs.cancelled() and not fs.exception():
            if fs.result() is LENT:
                return
            if not fs.result():  # closed already, or broken
                self.nr_conns -= 1
                conn.close()
                return
        super().finish_request(conn, fs)

    # --- looking after what takes too long

    def murder_pending(self) -> None:
        """Called every second: cut off who has not sent a whole request in time; end what was drained."""
        super().murder_pending()
        now = time.monotonic()
        if now >= self.drained_at and self.alive:
            self.leave()
        self.main.threads = self.cfg.threads  # there may be more again
        for lane in (self.main, self.reserve):
            for conn, (_, until) in list(lane.reading.items()):
                if until < now:
                    lane.cut(conn)

    # --- the end

    def is_parent_alive(self) -> bool:
        """Let go of everything at once when the master is gone: somebody may start another in its place."""
        if not super().is_parent_alive():
            self.app.end_worker(True)
        return True

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGINT, self.handle_interrupt)
        signal.signal(signal.SIGQUIT, self.handle_exit)
        for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # a terminal sends them to all of its processes: the master decides

    def handle_interrupt(self, sig: int, frame: Any) -> None:
        """Leave a first Ctrl-C to the master, which got it too and tells us to stop; a second wants no grace."""
        self.interrupts += 1
        if self.interrupts > 1:
            self.app.end_turns(0.0)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End; for SIGTERM after a while in which all is still served, and a balancer sees that it will not be.

        SIGQUIT is how the master tells of Ctrl-C. After SIGTERM it gives two seconds then: no grace is left.
        """
        if sig == signal.SIGTERM and self.alive and self.app.settings.drain_seconds:
            self.app.drain()
            self.drained_at = min(self.drained_at, time.monotonic() + self.app.settings.drain_seconds)
        elif self.alive and self.drained_at == math.inf:
            self.leave()
        elif sig == signal.SIGQUIT:
            self.app.end_turns(0.0)
            super().handle_exit(sig, frame)

    def leave(self) -> None:
        """Let the running turns end within the grace, and accept nothing more."""
        grace = self.app.settings.grace_seconds
        self.cfg.set("graceful_timeout", math.ceil(grace) + EXTRA_GRACE)  # of what is left of it after draining
        self.app.end_turns(grace)
        super().handle_exit(signal.SIGTERM, None)


class Timed:
    """The body of a request, whose reading must end in time."""

    def __init__(self, body: Any, reading: dict[Any, tuple[float, float]], conn: Any) -> None:
        self._body = body
        self._reading = reading
        self._conn = conn

    def read(self, size: int = -1) -> Any:
        """Read as the body would."""
        now = time.monotonic()
        self._reading[self._conn] = now, now + BODY_SECONDS
        try:
            return self._body.read(size)
        finally:
            self._reading.pop(self._conn, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)
