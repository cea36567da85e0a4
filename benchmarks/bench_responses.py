"""Measure what OpenAI's responses cost beside the native dialect: both store, both stream, from the same upstream.

Run with `python -m benchmarks.bench_responses [streams]`.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import servers
from benchmarks.route import NATIVE, connect, request
from benchmarks.stream_load import QUESTION, Client, Load, Received, Target, measure, read, upstream
from benchmarks.table import Row, show

STREAMS = 250
ROUNDS = 150
MOST = 1.2  # times what the native dialect takes
RESPONSES = "/v1/responses"
PIECE = re.compile(rb'"delta":"(\d{4}):(\d{12}) "')  # a token in an event of a response
KINDS: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "native": (NATIVE.format("load{}"), {"content": QUESTION}, b'"type":"content"'),
    "responses": (RESPONSES, {"input": QUESTION, "stream": True}, b".delta"),
}


class ResponsesClient(Client):
    """Reads tokens from the events of responses."""

    def received(self) -> list[Received]:
        pieces: dict[int, list[tuple[float, bytes]]] = {fd: [] for fd in self.order}
        for fd, came, data in self.pieces:
            pieces[fd].append((came, data))
        return [read(pieces[fd], PIECE) for fd in self.order]


def first_token(port: int, kind: str, number: int) -> float:
    """Ask once; return the seconds until the first piece of the reply was there."""
    path, body, mark = KINDS[kind]
    with connect(port) as connection:
        began = time.perf_counter()
        connection.sendall(request(path.format(f"-first-{number}"), body, {"Connection": "close"}))
        data = b""
        while mark not in data:
            data += connection.recv(1 << 16)
        return time.perf_counter() - began


def rows(streams: int = STREAMS) -> Iterator[Row]:
    """Yield a row for the first token, and one for what a token costs the server."""
    with servers.scratch() as folder, servers.self_agent(folder, provider="echo") as server:
        times: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for number in range(ROUNDS):
            for kind, found in times.items():
                found.append(first_token(server.port, kind, number) * 1e3)
    native, own = (statistics.median(found[20:]) for found in times.values())
    yield beside("a question asked and stored, until its first piece", own, native, "ms", 1)
    load = Load(streams)
    cpu: dict[str, float] = {}
    for kind, (path, body, _) in KINDS.items():
        with (
            servers.scratch() as folder,
            upstream(load) as (port, said),
            servers.self_agent(folder, **servers.relaying(port)) as server,
        ):
            client = (Client if kind == "native" else ResponsesClient)(Target(*server, path, body))
            result = measure(load, client, said)
        assert result.whole == streams, f"{streams - result.whole} streams were not whole"
        cpu[kind] = result.server_cpu
    name = f"processor time of the server for a token, {streams} streams of {load.rate:g} tokens/s"
    yield beside(name, cpu["responses"], cpu["native"], "µs", 0)


def beside(what: str, own: float, native: float, unit: str, digits: int) -> Row:
    """Return the row of a figure beside that of the native dialect."""
    ratio = own / native
    ours, theirs = (f"{value:.{digits}f} {unit}" for value in (own, native))
    return Row(what, ours, f"native {theirs}", f"{ratio:.2f} ×", f"≤ {MOST} ×", ratio <= MOST)


if __name__ == "__main__":
    show(rows(*map(int, sys.argv[1:2])))
