"""Logs say what happened and never what was said: no content of a message, no key, no token.

The file gets every line, the terminal warnings and what is logged with `extra=SHOWN`. Neither a full disk nor a
terminal that is gone ever makes anything fail.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import sys
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

from core import clock
from core.errors import StartupError

MAX_BYTES = 10_000_000  # of one file; five are kept
ROTATE_AGAIN = 60.0  # seconds after a new file could not be begun
SHOWN = {"shown": True}  # `log.info(…, extra=SHOWN)` is shown on the terminal too
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
FIELDS = ("request_id", "turn_id", "method", "path", "status", "milliseconds")  # of `extra`, that JSON lines show

request_id: ContextVar[str] = ContextVar("request_id", default="")  # of the request that this thread works for
node_id = ""  # this server's, where there are several


class RotatingFile(logging.handlers.RotatingFileHandler):
    """A rotating file that asks how large it is in the cheapest way: this is done for every request."""

    _rotates_from = 0.0  # in `time.monotonic`

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """Say whether the file is full; the line that fills it still goes into it."""
        if not self.stream or os.fstat(self.stream.fileno()).st_size < self.maxBytes:
            return False
        return time.monotonic() >= self._rotates_from

    def doRollover(self) -> None:
        """Begin a new file; where that cannot be, go on in the old one and try again after a while."""
        try:
            super().doRollover()
        except OSError as error:
            self._rotates_from = time.monotonic() + ROTATE_AGAIN
            self.stream = None  # should opening it fail too, the next line tries again
            self.stream = self._open()
            words = f"the log cannot be rotated ({error.strerror}) and grows; look after LOG_DIR and its disk"
            super().emit(logging.LogRecord(__name__, logging.WARNING, "", 0, words, None, None))


class Terminal(logging.Handler):
    """The terminal's lines, and a bar that no line lands on."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._drawing = threading.Lock()
        self._has_bar = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # a mistake in a log line is no reason for what it tells of to fail
            self.handleError(record)
            return
        with self._drawing:
            end, self._has_bar = "\n" if self._has_bar else "", False
            write(sys.stderr, f"{end}{text}\n")

    def has_room(self) -> bool:
        """Say whether there is a terminal that can redraw a line."""
        try:
            return sys.stderr.isatty()
        except (AttributeError, ValueError):  # there is no stderr, or it is closed
            return False

    def draw_bar(self, text: str) -> None:
        """Draw the bar, in the place of the one that was drawn last."""
        with self._drawing:
            self._has_bar = True
            write(sys.stderr, "\r" + text)

    def end_bar(self) -> None:
        """Go to the next line, if there is a bar on this one."""
        with self._drawing:
            if self._has_bar:
                self._has_bar = False
                write(sys.stderr, "\n")


terminal = Terminal()


def write(stream: TextIO, text: str) -> None:
    """Write to a terminal or pipe at whose other end there may be nobody any more."""
    try:
        stream.write(text)
        stream.flush()
    except (AttributeError, ValueError):  # there is no such stream, or it is closed
        pass
    except OSError:
        with contextlib.suppress(OSError):  # or Python would fail again when it flushes this at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Formatter(logging.Formatter):
    """Times in UTC, as everywhere else."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the time of a record."""
        return clock.from_microseconds(int(record.created * 1e6))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record: one, whatever is in the message."""
        record.message = escaped(record.message)
        return super().formatMessage(record)


class JsonFormatter(Formatter):
    """A JSON object for each record, on one line of ASCII; a field that has no value is left out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `time`, `level`, `logger`, `message`, the `FIELDS`, `node_id` and `exception`."""
        found = {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        found["request_id"] = found.get("request_id") or request_id.get()
        found["node_id"] = node_id
        if record.exc_info and record.exc_info[0]:
            found["exception"] = self.formatException(record.exc_info)
        head = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps({**head, **{name: value for name, value in found.items() if value != ""}}, default=str)


class TerminalFormatter(Formatter):
    """What somebody who looks on needs: the message, and whether it is a warning."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        level = f"{record.levelname}: " if record.levelno > logging.INFO else ""
        return level + super().format(record)


def escaped(text: str) -> str:
    """Keep what is in a message from forging lines, and from moving a terminal's cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def is_shown(record: logging.LogRecord) -> bool:
    """Say whether a record is for the terminal too."""
    # gunicorn prints what the user must know by itself; its other lines are for the file
    return (record.levelno >= logging.WARNING or hasattr(record, "shown")) and not record.name.startswith("gunicorn")


def setup(log_dir: Path, level: str, log_format: str = "text") -> None:
    """Send all logging to a rotating file in `log_dir`, some of it to the terminal too. Raises StartupError.

    With the format `json` both get objects, and the terminal all of them: whoever collects logs reads them there.
    """
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        to_file = RotatingFile(log_dir / "self_agent.log", maxBytes=MAX_BYTES, backupCount=4, encoding="utf-8")
    except OSError as error:
        raise StartupError(f"cannot write logs to {log_dir}: {error.strerror}; choose another LOG_DIR") from None
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    is_json = log_format == "json"
    to_file.setFormatter(JsonFormatter() if is_json else Formatter(FORMAT))
    terminal.setFormatter(JsonFormatter() if is_json else TerminalFormatter())
    terminal.setLevel(logging.NOTSET if is_json else logging.INFO)
    terminal.filters = [] if is_json else [is_shown]
    root.addHandler(to_file)
    root.addHandler(terminal)
    root.setLevel(level)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # its line for each request shows the query
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # its debug lines show URLs with their queries
    # What no line shows need not be found out; so advises the standard library's logging HOWTO, "Optimization".
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False  # a full disk must not turn a log line into a failed request
