"""The live list: how late, and at which cost, a change reaches a thousand who listen.

    python -m benchmarks.bench_feed [--listeners 1000] [--changes 100]

One user, as many connections to `/api/v1/events`, all read by this process; a chat is renamed, and the next time when
all have heard of it. The lag is counted from the renaming's request, so what it takes to store that is in it, and this
client's own share. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import resource
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import process, servers
from benchmarks.servers import CONVERSATIONS, Running
from benchmarks.table import Row, show

PATIENCE = 30.0  # seconds for all to hear
REQUEST = b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Listeners:
    """Many connections on which the changes come."""

    def __init__(self, port: int, count: int) -> None:
        self.poll = select.epoll()
        self.socks: dict[int, socket.socket] = {}
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            sock.sendall(REQUEST)
            self.socks[sock.fileno()] = sock
            self.poll.register(sock, select.EPOLLIN)
        self.hear(b'"reset"')

    def hear(self, mark: bytes) -> list[float]:
        """Wait until each has read the mark; return when."""
        waiting, heard = set(self.socks), []
        deadline = time.monotonic() + PATIENCE
        while waiting:
            for fd, _ in self.poll.poll(1):
                if mark in self.socks[fd].recv(1 << 16):
                    heard.append(time.perf_counter())
                    waiting.discard(fd)
            assert time.monotonic() < deadline, f"{len(waiting)} never heard of it"
        return heard

    def close(self) -> None:
        for sock in self.socks.values():
            sock.close()


def ask(client: http.client.HTTPConnection, method: str, path: str, body: dict[str, str]) -> None:
    """Send a request and read its answer."""
    client.request(method, CONVERSATIONS + path, json.dumps(body), {"Content-Type": "application/json"})
    answer = client.getresponse()
    text = answer.read()
    assert answer.status == 200, text


def renamings(server: Running, client: http.client.HTTPConnection, changes: int, listeners: Listeners | None) -> float:
    """Rename a chat so often; return the server's processor seconds, and have all listeners hear it in between."""
    lags.clear()
    before = process.cpu(server.pid)
    for number in range(changes):
        began = time.perf_counter()
        ask(client, "PATCH", "/c", {"name": f"n{number}"})
        if listeners:
            lags.extend((at - began) * 1000 for at in listeners.hear(b'"changed"'))
    return process.cpu(server.pid) - before


lags: list[float] = []  # of the last renamings, in milliseconds


def measure(server: Running, count: int, changes: int) -> Iterator[Row]:
    """Measure without listeners, then with so many."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    ask(client, "POST", "/c/messages", {"content": "hi"})
    worker = process.family(server.pid)[-1:]
    renamings(server, client, 10, None)
    alone = renamings(server, client, changes, None)
    memory = process.memory_of(worker)
    listeners = Listeners(server.port, count)
    per = (process.memory_of(worker) - memory) * 1024 / count
    threads = len(list(Path(f"/proc/{worker[0]}/task").iterdir()))
    renamings(server, client, 10, listeners)
    spent = renamings(server, client, changes, listeners)
    lag = sorted(lags)
    at = [lag[min(int(len(lag) * share), len(lag) - 1)] for share in (0.5, 0.99, 1)]
    yield Row(
        f"{count:,} listeners, {changes} changes one after the other: lag at 50, 99, 100 %",
        " / ".join(f"{value:.1f}" for value in at) + " ms",
    )
    cost = (spent - alone) / changes
    yield Row("… server's processor time a change, and a listener", f"{cost * 1e3:.1f} ms, {cost / count * 1e6:.1f} µs")
    yield Row("… threads of the worker; memory a listener", f"{threads}; {per:.1f} KiB")
    listeners.close()


def rows(count: int = 1000, changes: int = 100) -> Iterator[Row]:
    """Measure all; takes about ten seconds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(servers.scratch())
        server = stack.enter_context(servers.self_agent(folder, dialects="self_agent"))
        yield from measure(server, count, changes)


def main() -> int:
    """Print the table; return the exit code, which is 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=100)
    options = parser.parse_args()
    show(rows(options.listeners, options.changes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
