"""gunicorn with one worker of many threads: the master holds the socket, and starts the worker again should it die."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import AppImportError, HaltServer
from gunicorn.glogging import Logger

from core.config import Settings
from core.errors import StartupError
from self_agent import close, create_app, parts_of, start
from self_agent.gunicorn_worker import EXTRA_GRACE, Worker

Announce = Callable[[Settings, int], None]
KEEP_ALIVE = 30  # seconds an idle connection stays open between two requests
COLLECTOR = (100_000, 50, 1000)  # new objects, and younger searches, after which Python searches for cycles
ANNOUNCING = 0.2  # seconds that the master has to announce the server before the model is begun with
UNREADABLE = "Invalid request from ip="  # how gunicorn's warning begins
STARTS, STARTS_WINDOW = 5, 60.0  # so many starts of the worker within so many seconds: something is wrong for good


class Server(BaseApplication):  # type: ignore[misc]
    """What the master and its worker serve."""

    def __init__(self, settings: Settings, listener: socket.socket, announce: Announce) -> None:
        """`announce` is told, in the master and once, that there is a worker that serves: the settings and the port."""
        self.settings = settings
        self.announce = announce
        self.port = listener.getsockname()[1]
        self.listener = listener.detach()  # gunicorn makes a socket of its own from the descriptor
        self.flask_app: Flask | None = None  # in the worker only
        super().__init__()

    def serve(self) -> int:
        """Serve until a signal; return the exit code."""
        try:
            Master(self).run()
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
            "graceful_timeout": math.ceil(self.settings.drain_seconds + self.settings.grace_seconds) + EXTRA_GRACE,
            "logger_class": FileLogger,
            "control_socket_disable": True,
            "forwarder_headers": "",  # no client may say what our path is
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
        os.kill(os.getppid(), signal.SIGUSR1)  # see `Master.handle_usr1`
        timer = threading.Timer(ANNOUNCING, start, (self.flask_app,))  # which has something to say too
        timer.daemon = True
        timer.start()
        return self.flask_app

    def drain(self) -> None:
        """Have `/readyz` say from now on that the server is stopping."""
        if self.flask_app is not None:
            parts_of(self.flask_app).draining.set()

    def refused(self) -> None:
        """Count a request that no thread was left for."""
        if self.flask_app is not None:
            parts_of(self.flask_app).metrics.refused()

    def end_turns(self, grace: float) -> None:
        """End the worker's turns, in a thread: this is called from signal handlers."""
        self.drain()
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


class Master(Arbiter):  # type: ignore[misc]
    """Starts the worker, and starts it again; a signal other than those that end it changes nothing."""

    is_announced = False

    def init_signals(self) -> None:
        was_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as under nohup
        super().init_signals()
        if was_ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def spawn_worker(self) -> Any:
        now = time.monotonic()
        self.starts = [start for start in getattr(self, "starts", []) if now - start < STARTS_WINDOW] + [now]
        if len(self.starts) > STARTS:
            reason = f"the server ended by itself {STARTS} times within a minute; the log says why"
            logging.getLogger(__name__).error("%s (%s)", reason, self.app.settings.log_dir)
            raise HaltServer(reason, 1)
        return super().spawn_worker()

    def handle_usr1(self) -> None:
        """Announce the server: the worker says so that it serves."""
        if not self.is_announced:
            self.is_announced = True
            self.app.announce(self.app.settings, self.app.port)

    def handle_hup(self) -> None:
        """Stop, as for SIGTERM: the terminal is gone."""
        self.handle_term()

    def handle_ttin(self) -> None:
        """Do nothing: there is one worker, which owns the data folder."""

    handle_ttou = handle_usr2 = handle_winch = handle_ttin


class FileLogger(Logger):  # type: ignore[misc]
    """Leaves gunicorn's messages to our own log file and the terminal in peace."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.setLevel(logging.INFO)
        self.access_log.setLevel(logging.CRITICAL)

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log a warning; of a request that gunicorn cannot read the reason only, for the rest may be a key."""
        if msg.startswith(UNREADABLE):
            address, _, reason = msg.removeprefix(UNREADABLE).partition(": ")
            msg, args = "%s%s: %s", (UNREADABLE, address, reason.partition(": ")[0].partition(", got ")[0])
        super().warning(msg, *args, **kwargs)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log an exception; of the request that it broke without the query."""
        super().exception(msg, *(str(arg).partition("?")[0] for arg in args), **kwargs)
