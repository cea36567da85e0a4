"""gunicorn with one worker of many threads: the worker owns the data folder and ends its turns in order."""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from core.config import Settings
from core.errors import StartupError
from self_agent import close, create_app, parts_of
from self_agent.outlet import Lent
from self_agent.streams import LEND

Announce = Callable[[Settings, Flask, int], None]
KEEP_ALIVE = 30  # seconds an idle connection stays open between two requests
COLLECTOR = (100_000, 50, 1000)  # new objects, and younger searches, after which Python searches for cycles
AT_ONCE = 5  # milliseconds in which a client that has got its answer sends its next request, if it is in a hurry
LENT = object()  # what became of a connection that somebody else has now
EXTRA_GRACE = 5  # seconds after the grace for storing replies and writing the last events


class Server(BaseApplication):  # type: ignore[misc]
    """The master process: it holds the socket and starts the worker again should it die."""

    def __init__(self, settings: Settings, listener: socket.socket, announce: Announce) -> None:
        """`announce` is told when the worker serves: the settings, the app and the port."""
        self.settings = settings
        self.announce = announce
        self.port = listener.getsockname()[1]
        self.listener = listener.detach()  # gunicorn makes a socket of its own from the descriptor
        self.flask_app: Flask | None = None  # in the worker only
        super().__init__()

    def serve(self) -> int:
        """Serve until a signal; return the exit code."""
        try:
            self.run()
        except SystemExit as exit_:
            return exit_.code if isinstance(exit_.code, int) else 1
        return 0

    def load_config(self) -> None:
        options = {
            "bind": f"fd://{self.listener}",
            "workers": 1,  # one process owns the data folder
            "worker_class": Worker,
            "threads": self.settings.threads,
            "worker_connections": self.settings.threads + 1000,
            "keepalive": KEEP_ALIVE,
            "timeout": 0,  # a laptop that slept must not find its server killed
            "graceful_timeout": round(self.settings.grace_seconds) + EXTRA_GRACE,
            "logger_class": FileLogger,
            "control_socket_disable": True,
            "worker_exit": lambda _server, worker: worker.app.end_worker(worker.booted),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Build the app, in the worker."""
        try:
            self.flask_app = create_app(self.settings)
        except StartupError as error:
            raise AppImportError(f"self_agent: {error}") from None
        # The tokens of running replies are many objects and no cycles: to search them all is a pause for all replies.
        gc.freeze()
        gc.set_threshold(*COLLECTOR)
        parts_of(self.flask_app).provider.start()
        self.announce(self.settings, self.flask_app, self.port)
        return self.flask_app

    def end_turns(self, grace: float) -> None:
        """End the worker's turns, in a thread: this is called from signal handlers."""
        if self.flask_app is not None:
            turns = parts_of(self.flask_app).turns
            threading.Thread(target=turns.close, args=(grace,), daemon=True).start()

    def end_worker(self, booted: bool) -> None:
        """Close what the worker holds, and leave without waiting for clients that still read."""
        if self.flask_app is not None:
            close(self.flask_app)
            logging.shutdown()
        if booted:
            os._exit(0)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Ends its turns as soon as it is told to stop, and waits for no client where others would wait with it."""

    interrupts = 0

    def init_process(self) -> None:
        self.thread = threading.local()  # `lent`: the request's connection was lent to the hub
        super().init_process()

    def handle(self, conn: Any) -> Any:
        """Handle requests as long as they come one right behind the other, and close in this thread.

        gunicorn waits up to 2 s for a client to hang up, in the thread that accepts all others.
        """
        while True:
            self.thread.lent = False
            result = super().handle(conn)
            if self.thread.lent:
                return LENT
            if result is not True or not self.alive or not has_more(conn):
                break
        if not result:  # neither kept alive nor put off until its first bytes come
            conn.close(graceful=True)
        return result

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Offer the connection to whoever answers, see `streams.LEND`."""
        self.thread.lend = partial(self.lend, req, conn)
        return super().handle_request(req, conn)

    def load_wsgi(self) -> None:
        super().load_wsgi()
        app: Any = self.wsgi  # type: ignore[has-type]

        def with_lend(environ: dict[str, Any], start_response: Any) -> Any:
            environ[LEND] = self.thread.lend
            return app(environ, start_response)

        self.wsgi = with_lend

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
            if not fs.result():  # closed above, or broken
                self.nr_conns -= 1
                conn.close()
                return
        super().finish_request(conn, fs)

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGINT, self.handle_interrupt)
        signal.signal(signal.SIGQUIT, self.handle_exit)

    def handle_interrupt(self, sig: int, frame: Any) -> None:
        """Leave a first Ctrl-C to the master, which got it too and tells us to stop; a second wants no grace."""
        self.interrupts += 1
        if self.interrupts > 1:
            self.app.end_turns(0.0)

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.alive:
            self.app.end_turns(self.cfg.graceful_timeout - EXTRA_GRACE)
        super().handle_exit(sig, frame)


def has_more(conn: Any) -> bool:
    """Say whether the next request on a connection comes within a moment: handing it on would take as long.

    One client 1.5 times, 16 clients 1.3 times as many requests a second.
    """
    if conn.parser.unreader.buf.getvalue():
        return True
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(AT_ONCE))


class FileLogger(Logger):  # type: ignore[misc]
    """Leaves gunicorn's messages to our own log file and the terminal in peace."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.setLevel(logging.INFO)
        self.access_log.setLevel(logging.CRITICAL)
