"""Logs say what happened and never what was said: no content of a message, no key, no token."""

from __future__ import annotations

import logging
import logging.handlers
import os
from pathlib import Path

from core import clock
from core.errors import StartupError

MAX_BYTES = 10_000_000  # of one file; five are kept
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class RotatingFile(logging.handlers.RotatingFileHandler):
    """A rotating file that asks how large it is in the cheapest way: this is done for every request."""

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """Say whether the file is full; the line that fills it still goes into it."""
        assert self.stream
        return os.fstat(self.stream.fileno()).st_size >= self.maxBytes


class Formatter(logging.Formatter):
    """Times in UTC, as everywhere else."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the time of a record."""
        return clock.from_microseconds(int(record.created * 1e6))


def setup(log_dir: Path, level: str) -> None:
    """Send all logging to a rotating file in `log_dir`, warnings to the terminal too. Raises StartupError."""
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        to_file = RotatingFile(log_dir / "self_agent.log", maxBytes=MAX_BYTES, backupCount=4, encoding="utf-8")
    except OSError as error:
        raise StartupError(f"cannot write logs to {log_dir}: {error.strerror}; choose another LOG_DIR") from None
    to_terminal = logging.StreamHandler()
    to_terminal.setLevel(logging.WARNING)
    # gunicorn prints what the user must know by itself; its other lines are for the file
    to_terminal.addFilter(lambda record: not record.name.startswith("gunicorn"))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in (to_file, to_terminal):
        handler.setFormatter(Formatter(FORMAT))
        root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # its line for each request shows the query
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # its debug lines show URLs with their queries
    # What no line shows need not be found out; so advises the standard library's logging HOWTO, "Optimization".
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False  # a full disk must not turn a log line into a failed request
