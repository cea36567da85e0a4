"""Measure how soon somebody who joins one of many running replies has its text, from the beginning or from the middle.

Run with `python -m benchmarks.bench_joins [streams]`.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from collections.abc import Iterator

from benchmarks import process, servers
from benchmarks.route import NATIVE, connect, request
from benchmarks.servers import CONVERSATIONS
from benchmarks.stream_load import QUESTION, Client, Load, Target, upstream
from benchmarks.table import Row, show

STREAMS = 1000
RATE, SECONDS = 5, 40  # tokens a second of each stream, and for how long
TEXT = b'"type":"content"'


def join(port: int, number: int, after: int) -> tuple[socket.socket, float]:
    """Join a reply; return the connection, and the seconds until its first text was there."""
    began = time.perf_counter()
    connection = connect(port)
    connection.sendall(request(f"{CONVERSATIONS}/load{number}/stream?after={after}", None, method="GET"))
    data = b""
    while TEXT not in data:
        piece = connection.recv(1 << 16)
        if not piece:
            raise RuntimeError(f"the stream ended before its first text: {data[:200]!r}")
        data += piece
    return connection, time.perf_counter() - began


def rows(streams: int = STREAMS) -> Iterator[Row]:
    """Yield a row for joining at the beginning, and one for joining behind an event."""
    load = Load(streams, RATE, SECONDS)
    with (
        servers.scratch() as folder,
        upstream(load) as (upstream_port, _),
        servers.self_agent(folder, **servers.relaying(upstream_port)) as server,
    ):
        client = Client(Target(*server, NATIVE.format("load{}"), {"content": QUESTION}))
        client.open_all(streams)
        time.sleep(4)  # some text is there
        members = process.family(server.pid)
        for what, after in (("from the beginning", 0), ("behind an event", 21)):  # a token has 18 characters
            before = process.cpu_of(members)
            began = time.monotonic()
            found = [join(server.port, number, after) for number in range(streams)]
            busy = (process.cpu_of(members) - before) / (time.monotonic() - began)
            times = sorted(seconds * 1e3 for _, seconds in found)
            middle, late = statistics.median(times), times[int(len(times) * 0.99)]
            name = f"joined {what}, {streams:,} replies running at {RATE} tokens/s each: first text"
            yield Row(name, f"{middle:.1f} ms, 99 % {late:.1f} ms", f"server {100 * busy:.0f} % of a core meanwhile")
            for connection, _ in found:
                connection.close()


if __name__ == "__main__":
    show(rows(*map(int, sys.argv[1:2])))
