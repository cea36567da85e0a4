"""Measure a read over HTTP beside a bare view, and a relayed reply beside a client that asks the upstream itself.

Run with `python -m benchmarks.bench_http`; takes about a minute. Medians of interleaved rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import requests

from benchmarks.table import Row, show
from tests.serving import ROOT, Server
from tests.upstream import FakeUpstream, Reply

ROUNDS = 15
SECONDS = 0.4  # of one round
TOKENS = 2000  # of a burst
BARE = """
from flask import Flask
from core import config
from self_agent import gunicorn_server, server
settings = config.load(env_file=None)
class Bare(gunicorn_server.Server):
    def load(self):
        app = Flask("bare")
        app.add_url_rule("/hello", "hello", lambda: "hello")
        print("listens on", self.port, flush=True)
        return app
class WithHello(gunicorn_server.Server):
    def load(self):
        app = super().load()
        app.add_url_rule("/hello", "hello", lambda: "hello")
        print("listens on", self.port, flush=True)
        return app
{kind}(settings, server.listen("127.0.0.1", 0), server.announce).serve()
"""


@contextlib.contextmanager
def serving(kind: str, folder: Path) -> Iterator[int]:
    """Run one of the servers above and yield its port."""
    settings = {"DATA_DIR": str(folder / "data"), "LOG_DIR": str(folder / "logs"), "PROVIDER": "echo"}
    with subprocess.Popen(
        [sys.executable, "-c", BARE.format(kind=kind)],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        line = next(line for line in process.stdout if line.startswith("listens on "))
        try:
            yield int(line.split()[-1])
        finally:
            process.terminate()


class Connection:
    """A kept-alive HTTP/1.1 connection that costs its process as little as possible."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()

    def get(self) -> None:
        self.socket.sendall(self.request)
        answer = self.socket.recv(1 << 16)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        missing = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(body)
        while missing > 0:
            missing -= len(self.socket.recv(1 << 16))


def rate(connection: Connection) -> float:
    """Return requests per second over one round."""
    count, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < SECONDS:
        connection.get()
        count += 1
    return count / spent


def read_rows(folder: Path) -> Iterator[Row]:
    """Yield the requests a second of one client, beside those to views that do nothing."""
    with serving("WithHello", folder) as ours, serving("Bare", folder) as bare:
        send = f"http://127.0.0.1:{ours}/api/v1/conversations/c/messages"
        for n in range(10):
            requests.post(send, json={"content": f"message {n} " * 20}, timeout=10).raise_for_status()
        connections = (
            Connection(ours, "/api/v1/conversations/c?size=20"),
            Connection(ours, "/hello"),
            Connection(bare, "/hello"),
        )
        rates = [[rate(connection) for connection in connections] for _ in range(ROUNDS)]
        detail, hello, alone = (statistics.median(column) for column in zip(*rates, strict=True))
    what, rate_of_ours = "`GET` detail of 20 messages, one client", f"{detail:,.0f}/s"
    to_view, to_flask = detail / hello, detail / alone
    beside = f"{hello:,.0f}/s, a bare view of the same server"
    yield Row(what, rate_of_ours, beside, f"{to_view:.2f}", "≥ 0.8", to_view >= 0.8)
    yield Row("…", rate_of_ours, f"{alone:,.0f}/s, a bare Flask app on the same gunicorn", f"{to_flask:.2f}")


def cpu_of(pid: int) -> float:
    """Return the processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(port: int, path: str, body: object) -> tuple[float, float]:
    """Send a request for a stream; return the seconds to its first piece of content and to its end."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.perf_counter()
        connection.sendall(f"{head}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        first, seen = 0.0, b""
        while piece := connection.recv(1 << 18):
            if not first:
                seen += piece
                if b'"content"' in seen:
                    first = time.perf_counter() - began
        return first, time.perf_counter() - began


def relay(folder: Path) -> tuple[float, float, float]:
    """Return the seconds to the first token through the server and past it, and its processor seconds a token."""
    with FakeUpstream() as upstream:
        settings = {"provider": "openai", "openai_base_url": upstream.base_url, "openai_model": "m"}
        with Server(folder, **settings) as server:
            pid = int((folder / "data" / ".lock.pid").read_text().split()[0])
            ours, theirs = urlsplit(server.url).port or 0, urlsplit(upstream.base_url).port or 0
            native = "/api/v1/conversations/r{}/messages/stream"
            direct = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}

            def through(n: int) -> tuple[float, float]:
                return ask(ours, native.format(n), {"content": "hi"})

            def past(n: int) -> tuple[float, float]:
                return ask(theirs, "/v1/chat/completions", direct)

            ours_first, theirs_first = interleaved(upstream, lambda: Reply(["a", "b", "c"]), through, past, 60)
            before = cpu_of(pid)
            for n in range(10):
                upstream.enqueue(Reply(["word "] * TOKENS))
                through(1000 + n)
            return ours_first, theirs_first, (cpu_of(pid) - before) / (10 * TOKENS)


def interleaved(
    upstream: FakeUpstream, reply: Callable[[], Reply], *calls: Callable[[int], tuple[float, float]] | int
) -> list[float]:
    """Return the median time to the first piece of each call; the last argument is the number of rounds."""
    *functions, rounds = calls
    times: list[list[float]] = [[] for _ in functions]
    for n in range(int(rounds)):  # type: ignore[arg-type]
        for function, spent in zip(functions, times, strict=True):
            upstream.enqueue(reply())
            spent.append(function(n)[0])  # type: ignore[operator]
    return [statistics.median(spent) for spent in times]


def relay_rows(folder: Path) -> Iterator[Row]:
    """Yield the time to the first token, beside that of a client without us, and the processor time a token."""
    ours, theirs, spent = relay(folder)  # the servers have ended by the first row, whatever becomes of who prints it
    yield Row(
        "time to first token, new conversation",
        f"{ours * 1e3:.2f} ms",
        f"{theirs * 1e3:.2f} ms, a client that asks the upstream itself",
        f"+{(ours - theirs) * 1e3:.2f} ms",
    )
    what = f"server's processor time a token, in a burst of {TOKENS:,}, checkpoints and store included"
    yield Row(what, f"{spent * 1e6:.1f} µs", goal="≤ 20 µs", reached=spent <= 20e-6)


def rows() -> Iterator[Row]:
    """Yield the rows of a read and of a relayed reply."""
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        yield from read_rows(Path(folder))
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        yield from relay_rows(Path(folder))


def main() -> None:
    """Print the table."""
    show(rows())


if __name__ == "__main__":
    main()
