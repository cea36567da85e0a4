"""The process around the app: the socket, the signals, and an orderly end.

Where there is gunicorn, one worker with many threads: it keeps streams alive through a stop's grace and
connections between requests. On Windows and with `--debug`, werkzeug's threaded server, which cuts streams
at exit (their replies are stored all the same).
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import signal
import socket
import sys

from flask import Flask
from werkzeug.serving import is_running_from_reloader, run_simple

from core import logs
from core.config import Settings
from core.errors import StartupError
from self_agent import close, create_app, start
from self_agent.providers import from_settings
from self_agent.storage import chosen, postgres

log = logging.getLogger(__name__)

BACKLOG = 2048  # connections that may wait to be accepted; gunicorn sets the same


def run(settings: Settings) -> int:
    """Serve until a signal; return the exit code. Raises StartupError when it must not start."""
    logs.setup(settings.log_dir, settings.log_level, settings.log_format)
    if settings.debug or sys.platform == "win32":
        return _run_werkzeug(settings)
    from self_agent.gunicorn_server import Server

    _raise_open_files()
    code = Server(settings, listen(settings.host, settings.port), announce).serve()
    if code == 0:
        say_goodbye(settings)
    return code


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket. Raises StartupError that says what to do about the host or the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
        listener.close()
        raise StartupError(_cannot_listen(host, port, error)) from None
    return listener


def _cannot_listen(host: str, port: int, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else "this is no host name"
    if isinstance(error, (socket.gaierror, UnicodeError)) or getattr(error, "errno", 0) == errno.EADDRNOTAVAIL:
        return (
            f"cannot listen on the host {host}: {reason}; set HOST (--host) to an address of this computer, "
            "such as 127.0.0.1, or to 0.0.0.0 for all of them"
        )
    airplay = " (on a Mac, AirPlay uses 5000)" if port == 5000 else ""
    return f"cannot listen on {host} port {port}: {reason}; choose another port with --port{airplay}"


def announce(settings: Settings, port: int) -> None:
    """Say where the server is, what it keeps where, who answers and who may ask, if there is somebody to read it."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    lines = [
        f"self_agent listens on http://{host}:{port} (requests: /docs)",
        f"  data:  {postgres.place(settings) if chosen(settings) == 'postgres' else settings.data_dir.resolve()}",
        f"  model: {from_settings(settings).describe()}",
        f"  auth:  {'on (JWT)' if settings.auth_enabled else 'off: whoever reaches this address is the user'}",
    ]
    if not settings.auth_enabled and settings.host not in ("127.0.0.1", "::1", "localhost"):
        lines.append("  WARNING: other machines can reach this address; set AUTH_ENABLED=true or HOST=127.0.0.1")
    _say(settings, lines)


def say_goodbye(settings: Settings) -> None:
    """Say that the end was an orderly one, in the process that the user started."""
    _say(settings, ["self_agent has stopped; everything is stored"])


def _say(settings: Settings, lines: list[str]) -> None:
    """Print lines for a person; who collects JSON gets them so."""
    if settings.log_format == "json":
        for line in lines:
            log.info("%s", line.strip())
    else:
        logs.write(sys.stdout, "\n".join(lines) + "\n")


def _run_werkzeug(settings: Settings) -> int:
    if settings.debug and not is_running_from_reloader():
        listen(settings.host, settings.port).close()
        run_simple(settings.host, settings.port, Flask("unused"), use_reloader=True)  # serves in a child process
        return 0
    app = create_app(settings)
    if not settings.debug:
        atexit.register(say_goodbye, settings)  # what was registered first is called last
    atexit.register(close, app, settings.grace_seconds)
    with contextlib.suppress(ValueError):  # the reloader serves in a thread, where signals can't be set
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    announce(settings, settings.port)
    start(app)
    run_simple(settings.host, settings.port, app, threaded=True, use_reloader=settings.debug)
    return 0


def _raise_open_files() -> None:
    """Allow as many open files as the system lets us: every stream is one, every checkpoint another."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
