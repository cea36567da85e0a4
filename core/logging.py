"""Logs say what happened and never what was said: no content of a message, no key, no token."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

from core.errors import StartupError

MAX_BYTES = 10_000_000  # of one file; five are kept
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def setup(log_dir: Path, level: str) -> None:
    """Send all logging to a rotating file in `log_dir`, warnings to the terminal too. Raises StartupError."""
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        to_file = logging.handlers.RotatingFileHandler(
            log_dir / "self_agent.log", maxBytes=MAX_BYTES, backupCount=4, encoding="utf-8"
        )
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
        handler.setFormatter(logging.Formatter(FORMAT))
        root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # its line for each request shows the query
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # its debug lines show URLs with their queries
    logging.raiseExceptions = False  # a full disk must not turn a log line into a failed request
