"""Rows of `bench_peers` that need servers of their own: many paced streams, and what `kill -9` leaves.

The streams of Open WebUI that are stored are chats of one user over one socket: a socket for each would cost it more.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator

from benchmarks import servers, stream_load
from benchmarks.answers import STEADY, token, upstream
from benchmarks.peers import PEERS, Peer
from benchmarks.peers.base import NEW, RELAY
from benchmarks.stream_load import Load, Result, measure
from benchmarks.table import Row

LOAD = Load(100)
ROUNDS = 2
KILLED_AT = 100  # tokens that have come to the client
WAYS = {RELAY: "nothing stored", NEW: "stored"}
TOKEN = re.compile(r" t(\d{4})")


# --- many streams


def stream_rows() -> Iterator[Row]:
    """Yield the lag, the cost and the memory of paced streams, by server and by whether they are stored."""
    for way, words in WAYS.items():
        results: dict[str, list[Result]] = {}
        failed: dict[str, str] = {}
        for _ in range(ROUNDS):
            for kind in PEERS:
                if kind.name not in failed and (kind.stores or way == RELAY):
                    try:
                        results.setdefault(kind.name, []).append(paced(kind, way))
                    except Exception as problem:
                        failed[kind.name] = f"{type(problem).__name__}: {problem}"[:200]
        what = f"{LOAD.streams} streams, {LOAD.rate:g} tokens/s each, {words}: "
        yield from lag_rows(what, {name: each for name, each in results.items() if name not in failed})
        yield from (Row("…", "", f"failed, {name}: {problem}") for name, problem in failed.items())


def paced(kind: type[Peer], way: str) -> Result:
    """Measure the streams of one server."""
    with (
        servers.scratch() as folder,
        stream_load.upstream(LOAD) as (port, said),
        kind.started(folder, port) as peer,
    ):
        client = peer.streams(way)
        assert client
        return measure(LOAD, client, said)


def lag_rows(what: str, results: dict[str, list[Result]]) -> Iterator[Row]:
    """Yield the medians of the rounds, ours beside each other's."""
    mine = results.pop("self_agent", [])
    for name, theirs in results.items() if mine else ():
        lag = "{:,.1f} / {:,.1f} ms"
        pairs = [
            [statistics.median(each.lag(share) for each in side) for share in (0.5, 0.99)] for side in (mine, theirs)
        ]
        whole = [f"{min(each.whole for each in side)} of {LOAD.streams}" for side in (mine, theirs)]
        yield Row(f"{what}lag at 50, 99 %", lag.format(*pairs[0]), f"{lag.format(*pairs[1])}, {name}")
        yield Row("… delivered whole and in order", whole[0], f"{whole[1]}, {name}")
        for title, form, field in (
            ("… server's processor time a token", "{:,.0f} µs", "server_cpu"),
            ("… memory while tokens come", "{:,.0f} MiB", "memory"),
        ):
            ours, other = (statistics.median(getattr(each, field) for each in side) for side in (mine, theirs))
            yield Row(title, form.format(ours), f"{form.format(other)}, {name}", f"{other / ours:.1f}")


# --- kill -9


def kill_rows() -> Iterator[Row]:
    """Yield what is there after a server was killed in the middle of a reply and started again."""
    left = {}
    for kind in PEERS:
        try:
            left[kind.name] = killed(kind)
        except Exception as problem:
            left[kind.name] = f"failed: {type(problem).__name__}: {problem}"[:200]
    ours = left.pop("self_agent")
    what = f"left after `kill -9` when {KILLED_AT} tokens, 20 ms apart, have come, and a new start"
    for name, theirs in left.items():
        yield Row(what, ours, f"{theirs}, {name}")
        what = "…"


def killed(kind: type[Peer]) -> str:
    """Kill one server in the middle of a reply, start it again, and say what it has of question and reply."""
    with servers.scratch() as folder, upstream() as port:
        with kind.started(folder, port) as peer:
            came: list[str] = []
            for piece in peer.begin(STEADY):
                came += TOKEN.findall(piece.decode())
                if len(set(came)) >= KILLED_AT:
                    peer.running.kill()
                    break
        if not kind.stores:
            return "nothing: it stores none"
        with kind.started(folder, port) as peer:
            kept = peer.kept()
    question = "the question" if kept and kept[0] == STEADY.word else "no question"
    tokens = len(TOKEN.findall(kept[1])) if len(kept) > 1 else 0
    whole = len(kept) > 1 and kept[1] == "".join(map(token, range(tokens)))
    return f"{question} and {tokens} tokens of the reply{'' if whole or not tokens else ', not in order'}"
