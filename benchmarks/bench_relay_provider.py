"""Measure what a token and a request cost in the provider, beside merely reading bytes and asking with requests.

CPU time of the reading thread; for tokens that come one by one, the time from there being something to its chunks.

Run: `python -m benchmarks.bench_relay_provider [--tokens 20000] [--rounds 7]`
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import requests

from benchmarks.table import Row, show
from self_agent.providers.base import is_readable
from self_agent.providers.openai.provider import OpenAICompatible
from tests.upstream import DONE, FakeUpstream, Reply, chunk_of, event

QUESTION = [{"role": "user", "content": "hi"}]
TOKEN = event(chunk_of({"content": " token"}))
END = event(chunk_of({}, finish_reason="stop")) + DONE


class _Burst(FakeUpstream):
    """Answers every question with the same burst, `per_write` events in each HTTP chunk."""

    tokens = 0
    per_write = 1

    def next_answer(self, body: object) -> Reply:
        writes = [TOKEN * self.per_write] * (self.tokens // self.per_write)
        return Reply([*writes, END], finish_reason=None, usage=None, done=False)


def _serve(pipe: Connection, tokens: int, per_write: int) -> None:
    # In a process of its own: its threads would take the interpreter lock from the one that is measured.
    burst = _Burst()
    burst.tokens, burst.per_write = tokens, per_write
    with burst:
        pipe.send(burst.base_url)
        pipe.recv()


def _poked(pipe: Connection) -> None:
    """Answer one question with a token for each byte that comes after it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        connection, _ = listener.accept()
        asked = b""
        while not asked.endswith(b"}"):
            asked += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while pipe.recv():
            connection.sendall(b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN))


def _bare(base_url: str) -> None:
    with requests.post(f"{base_url}/chat/completions", json={"stream": True}, stream=True, timeout=60) as response:
        for _ in response.iter_content(chunk_size=None):
            pass


def _cpu_per_token(action: Callable[[], object], tokens: int) -> float:
    begun = time.thread_time()
    action()
    return (time.thread_time() - begun) / tokens * 1e6


@contextlib.contextmanager
def _process(target: Callable[..., None], *args: int) -> Iterator[tuple[Connection, str]]:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, *args))
    server.start()
    yield ours, ours.recv()
    ours.send("")
    server.join()


def _measure(tokens: int, per_write: int, rounds: int) -> Row:
    """Return the row of one size of network chunk: microseconds a token, medians."""
    with _process(_serve, tokens, per_write) as (_, base_url):
        provider = OpenAICompatible(base_url, model="m")
        bare, relayed = [], []
        for _ in range(rounds + 1):  # interleaved, so that a busy moment hits both; the first warms up
            bare.append(_cpu_per_token(lambda: _bare(base_url), tokens))
            relayed.append(_cpu_per_token(lambda: sum(1 for _ in provider.stream(QUESTION)), tokens))
        provider.close()
    what = f"processor time a token, {per_write} event{'s' * (per_write > 1)} in a network chunk"
    return _row(what, relayed[1:], bare[1:], "reading the bytes")


def _row(what: str, ours: list[float], theirs: list[float], beside: str) -> Row:
    high, low = statistics.median(ours), statistics.median(theirs)
    return Row(what, f"{high:.1f} µs", f"{low:.1f} µs, {beside}", f"{high - low:+.1f} µs")


def _alone(tokens: int) -> Row:
    """Return the row of tokens that come one by one, read as the hub reads them."""
    with _process(_poked) as (pipe, base_url):
        provider = OpenAICompatible(base_url, model="m")
        reply: Any = provider.stream(QUESTION)
        reply.receive()
        bare, relayed = [], []
        for number in range(2 * tokens):
            pipe.send("token")
            is_readable(reply.fileno(), 10)
            sock = socket.socket(fileno=reply.fileno())
            begun = time.perf_counter()
            if number % 2:
                reply.receive()
            else:
                sock.recv(65536)
            (relayed if number % 2 else bare).append((time.perf_counter() - begun) * 1e6)
            sock.detach()
        reply.close()
        provider.close()
    return _row("time of a token that comes alone, to its chunk", relayed, bare, "reading its bytes")


def _request(rounds: int, times: int = 200) -> Row:
    """Return the row of a question with an answer of one token, on a connection that is there already."""
    with _process(_serve, 1, 1) as (_, base_url), requests.Session() as session:
        provider = OpenAICompatible(base_url, model="m")

        def ask() -> None:
            for _ in range(times):
                list(provider.stream(QUESTION))

        def ask_with_requests() -> None:
            for _ in range(times):
                session.post(f"{base_url}/chat/completions", json={"stream": True}, timeout=60)

        bare = [_cpu_per_token(ask_with_requests, times) for _ in range(rounds + 1)]
        ours = [_cpu_per_token(ask, times) for _ in range(rounds + 1)]
        provider.close()
    return _row("processor time a request and its answer of one token", ours[1:], bare[1:], "a session of requests")


def rows(tokens: int = 20_000, rounds: int = 7) -> Iterator[Row]:
    """Yield a row for each size of network chunk, for tokens that come alone, and for a request."""
    for per_write in (1, 10, 100):
        yield _measure(tokens, per_write, rounds)
    yield _alone(tokens // 4)
    yield _request(rounds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    show(rows(options.tokens, options.rounds))


if __name__ == "__main__":
    main()
