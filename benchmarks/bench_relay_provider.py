"""Measure what a token costs in the provider, in CPU time of the reading thread, beside merely reading its bytes.

Run: `python -m benchmarks.bench_relay_provider [--tokens 20000] [--rounds 7]`
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import requests

from benchmarks.table import Row, show
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


def _bare(base_url: str) -> None:
    with requests.post(f"{base_url}/chat/completions", json={"stream": True}, stream=True, timeout=60) as response:
        for _ in response.iter_content(chunk_size=None):
            pass


def _cpu_per_token(action: Callable[[], object], tokens: int) -> float:
    begun = time.thread_time()
    action()
    return (time.thread_time() - begun) / tokens * 1e6


def _measure(tokens: int, per_write: int, rounds: int) -> Row:
    """Return the row of one size of network chunk: microseconds a token, medians."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, tokens, per_write))
    server.start()
    base_url = ours.recv()
    provider = OpenAICompatible(base_url, model="m")
    bare, relayed = [], []
    for _ in range(rounds + 1):  # interleaved, so that a busy moment hits both; the first warms up
        bare.append(_cpu_per_token(lambda: _bare(base_url), tokens))
        relayed.append(_cpu_per_token(lambda: sum(1 for _ in provider.stream(QUESTION)), tokens))
    provider.close()
    ours.send("stop")
    server.join()
    low, high = statistics.median(bare[1:]), statistics.median(relayed[1:])
    what = f"processor time a token, {per_write} event{'s' * (per_write > 1)} in a network chunk"
    return Row(what, f"{high:.1f} µs", f"{low:.1f} µs, reading the bytes", f"+{high - low:.1f} µs")


def rows(tokens: int = 20_000, rounds: int = 7) -> Iterator[Row]:
    """Yield a row for each size of network chunk."""
    for per_write in (1, 10, 100):
        yield _measure(tokens, per_write, rounds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    show(rows(options.tokens, options.rounds))


if __name__ == "__main__":
    main()
