"""gunicorn with one worker of many threads: the worker owns the data folder and ends its turns in order."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from core.config import Settings
from core.errors import StartupError
from self_agent import close, conversations_of, create_app

Announce = Callable[[Settings, Flask, int], None]
KEEP_ALIVE = 30  # seconds an idle connection stays open between two requests
COLLECTOR = (100_000, 50, 1000)  # new objects, and younger searches, after which Python searches for cycles
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
        conversations_of(self.flask_app).provider.start()
        self.announce(self.settings, self.flask_app, self.port)
        return self.flask_app

    def end_turns(self, grace: float) -> None:
        """End the worker's turns, in a thread: this is called from signal handlers."""
        if self.flask_app is not None:
            turns = conversations_of(self.flask_app).turns
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

    def handle(self, conn: Any) -> Any:
        """Close in the request's thread: gunicorn waits up to 2 s for the client in the thread that accepts."""
        result = super().handle(conn)
        if not result:  # neither kept alive nor put off until its first bytes come
            conn.close(graceful=True)
        return result

    def finish_request(self, conn: Any, fs: Any) -> None:
        if conn.sock.fileno() < 0:  # closed above
            self.nr_conns -= 1
        else:
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


class FileLogger(Logger):  # type: ignore[misc]
    """Leaves gunicorn's messages to our own log file and the terminal in peace."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.setLevel(logging.INFO)
        self.access_log.setLevel(logging.CRITICAL)
