"""The process around the app: the socket, the signals, and an orderly end.

Where there is gunicorn, one worker with many threads: it keeps streams alive through a stop's grace and
connections between requests. On Windows and with `--debug`, werkzeug's threaded server, which cuts streams
at exit (their replies are stored all the same).
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import socket
import sys

from flask import Flask
from werkzeug.serving import is_running_from_reloader, run_simple

from core import logs
from core.config import Settings
from core.errors import StartupError
from self_agent import close, create_app, parts_of
from self_agent.providers import from_settings

BACKLOG = 2048  # connections that may wait to be accepted; gunicorn sets the same


def run(settings: Settings) -> int:
    """Serve until a signal; return the exit code. Raises StartupError when it must not start."""
    logs.setup(settings.log_dir, settings.log_level)
    if settings.debug or sys.platform == "win32":
        return _run_werkzeug(settings)
    from self_agent.gunicorn_server import Server

    _raise_open_files()
    return Server(settings, listen(settings.host, settings.port), announce).serve()


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket. Raises StartupError that says what to do when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another port with --port"
            + (" (on a Mac, AirPlay uses 5000)" if port == 5000 else "")
        ) from None
    return listener


def announce(settings: Settings, port: int) -> None:
    """Say where the server is, what it keeps where, who answers and who may ask, if there is somebody to read it."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    lines = [
        f"self_agent listens on http://{host}:{port} (requests: /docs)",
        f"  data:  {settings.data_dir.resolve()}",
        f"  model: {from_settings(settings).describe()}",
        f"  auth:  {'on (JWT)' if settings.auth_enabled else 'off: whoever reaches this address is the user'}",
    ]
    if not settings.auth_enabled and settings.host not in ("127.0.0.1", "::1", "localhost"):
        lines.append("  WARNING: other machines can reach this address; set AUTH_ENABLED=true or HOST=127.0.0.1")
    with contextlib.suppress(OSError):  # the terminal is gone, or the other end of a pipe
        print("\n".join(lines), flush=True)


def _run_werkzeug(settings: Settings) -> int:
    if settings.debug and not is_running_from_reloader():
        listen(settings.host, settings.port).close()
        run_simple(settings.host, settings.port, Flask("unused"), use_reloader=True)  # serves in a child process
        return 0
    app = create_app(settings)
    atexit.register(close, app, settings.grace_seconds)
    with contextlib.suppress(ValueError):  # the reloader serves in a thread, where signals can't be set
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    parts_of(app).provider.start()
    announce(settings, settings.port)
    run_simple(settings.host, settings.port, app, threaded=True, use_reloader=settings.debug)
    return 0


def _raise_open_files() -> None:
    """Allow as many open files as the system lets us: every stream is one, every checkpoint another."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
