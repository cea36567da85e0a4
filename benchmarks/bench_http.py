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


def bench_read(folder: Path) -> None:
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
    what = "`GET` detail of 20 messages, a second"
    print(f"| {what} | {detail:,.0f} | {hello:,.0f} (bare view of the same server) | {detail / hello:.2f} |")
    print(f"| {what} | {detail:,.0f} | {alone:,.0f} (bare Flask on the same gunicorn) | {detail / alone:.2f} |")


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


def bench_relay(folder: Path) -> None:
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

            first = interleaved(upstream, lambda: Reply(["a", "b", "c"]), through, past, 60)
            print(
                f"| time to first token, ms | {first[0] * 1e3:.2f} | {first[1] * 1e3:.2f} (direct client) "
                f"| +{(first[0] - first[1]) * 1e3:.2f} ms |"
            )
            before = cpu_of(pid)
            for n in range(10):
                upstream.enqueue(Reply(["word "] * TOKENS))
                through(1000 + n)
            spent = (cpu_of(pid) - before) / (10 * TOKENS)
            print(f"| server's CPU a token in a burst of {TOKENS}, µs | {spent * 1e6:.1f} | | |")


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


def main() -> None:
    print("| what | self_agent | beside it | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        bench_read(Path(folder))
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        bench_relay(Path(folder))


if __name__ == "__main__":
    main()
