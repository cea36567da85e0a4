"""Measure self_agent beside LiteLLM's proxy and Open WebUI: all on one upstream, in rounds that take turns.

Run with `make bench-peers`, which installs both into virtual environments of their own; takes about fifteen minutes.
Every answer is checked: each token must have come, in order, in an event of its own. LiteLLM stores nothing, nor does
our `/v1/chat/completions`; our native dialect stores question and reply durably, and so does Open WebUI, without
waiting for the disk (SQLite's `synchronous=NORMAL`). A server that is not installed or does not start has a row that
says so. Figures are medians. Linux only.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks import process, servers
from benchmarks.answers import BURSTS, FIRST, Kind, upstream
from benchmarks.load import Clients, Rate
from benchmarks.peers import PEERS, Peer
from benchmarks.peers.alone import kill_rows, stream_rows
from benchmarks.peers.base import NEW, NEXT, RELAY, version
from benchmarks.peers.litellm import THROUGH
from benchmarks.peers.ours import LENGTHS, SelfAgent
from benchmarks.route import COMPLETIONS, Asking, Route, cpu_a_token, first_tokens, rotated
from benchmarks.table import Point, Row, show

CLIENTS = (1, 2, 4, 8, 16, 32)
ROUNDS, SECONDS = 3, 1.5  # of the sends
FIRST_ROUNDS = 40
BURST_ROUNDS = 4
LONG_ROUNDS = 7
FASTER, CHEAPER = 5, 10  # the goals beside LiteLLM: times the added time, times the processor time
WAYS = {RELAY: "a completion relayed, nothing stored", NEW: "a new conversation, stored", NEXT: "its next turn, stored"}
OURS = SelfAgent.name
Problems = dict[str, str]  # by the name of a server: why it is not measured


class Better(NamedTuple):
    """How a figure is shown, and whether the greater one is better; ratios say how many times better ours is."""

    form: str
    greater: bool = False

    def ratio(self, ours: float, theirs: float) -> str:
        """Return it, with more digits where it is small."""
        times = ours / theirs if self.greater else theirs / ours
        return f"{times:.1f}" if times >= 1 else f"{times:.2g}"


def rows() -> Iterator[Row]:
    """Measure, and yield each line of the table."""
    installed = {peer.name: version(peer.package) for peer in PEERS if peer.package}
    yield Row("versions", "", ", ".join(f"{name} {number}" for name, number in installed.items()))
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(upstream())
        peers, problems = start(stack, port)
        yield from (Row(f"{name} is not measured", "", problem) for name, problem in problems.items())
        members = {name: process.family(peer.running.pid) for name, peer in peers.items()}
        memory = {name: process.memory_of(each) for name, each in members.items()}
        yield from compare("memory after the start", memory, Better("{:,.0f} MiB"))
        yield from first_rows(peers, port)
        for kind in BURSTS:
            yield from burst_rows(peers, kind._replace(rounds=BURST_ROUNDS))
        for peer in peers.values():
            peer.quiet()
        for count in CLIENTS:
            yield from send_rows(peers, count)
        for length in LENGTHS:
            yield from long_rows(peers, length)
    yield from stream_rows()
    yield from kill_rows()


def start(stack: contextlib.ExitStack, port: int) -> tuple[dict[str, Peer], Problems]:
    """Start every server that can be; return them, and what stands in the way of the others."""
    peers: dict[str, Peer] = {}
    problems: Problems = {}
    for kind in PEERS:
        try:
            peers[kind.name] = stack.enter_context(kind.started(stack.enter_context(servers.scratch()), port))
        except Exception as problem:
            problems[kind.name] = f"{type(problem).__name__}: {problem}"
    return peers, problems


def compare(what: str, figures: dict[str, float], better: Better, goal: float | None = None) -> Iterator[Row]:
    """Yield ours beside each of the others; the goal is LiteLLM's."""
    ours = figures.get(OURS, float("nan"))
    if list(figures) == [OURS]:
        yield Row(what, better.form.format(ours))
    for name, theirs in figures.items():
        if name != OURS:
            ratio = better.ratio(ours, theirs)
            mark = (f"≥ {goal:g}", float(ratio) >= goal) if goal and name == "LiteLLM" else ("", None)
            yield Row(what, better.form.format(ours), f"{better.form.format(theirs)}, {name}", ratio, *mark)
            what = "…"


def failures(problems: Problems) -> Iterator[Row]:
    """Yield what could not be measured above, and why."""
    for name, problem in problems.items():
        yield Row("…", "", f"failed, {name}: {problem}".replace("|", "/").replace("\n", " "))


# --- one answer at a time


def routes_of(peers: dict[str, Peer], ways: tuple[str, ...]) -> tuple[dict[str, Asking], Problems]:
    """Return a route for each server and way that works, by the names of both, and why others do not."""
    routes: dict[str, Asking] = {}
    problems: Problems = {}
    for peer in peers.values():
        for way in ways:
            if route := peer.route(way):
                try:
                    route.ask(FIRST, f"probe {way}".replace(" ", "-"))
                    routes[f"{peer.name} {way}"] = route
                except Exception as problem:
                    problems[f"{peer.name} {way}"] = f"{type(problem).__name__}: {problem}"[:200]
    return routes, problems


def first_rows(peers: dict[str, Peer], port: int) -> Iterator[Row]:
    """Yield what each adds to the time until the first token."""
    routes, problems = routes_of(peers, (RELAY, THROUGH, NEW, NEXT))
    times = first_tokens({"direct": Route(port, None, COMPLETIONS), **routes}, FIRST, FIRST_ROUNDS, problems)
    direct = times.pop("direct")
    yield Row("time to first token of a direct client", "", f"{direct * 1e3:.2f} ms")
    added = {name: (spent - direct) * 1e3 for name, spent in times.items()}
    yield from by_way("added time to first token", added, Better("{:,.2f} ms"), FASTER)
    yield from failures(problems)


def burst_rows(peers: dict[str, Peer], kind: Kind) -> Iterator[Row]:
    """Yield what a token costs the server."""
    routes, problems = routes_of(peers, (RELAY, THROUGH, NEW))
    spent = {name: each * 1e6 for name, each in cpu_a_token(routes, kind, problems).items()}
    goal = CHEAPER if kind.word != BURSTS[-1].word else None
    yield from by_way(f"server's processor time a token, {kind.what}", spent, Better("{:,.1f} µs"), goal)
    yield from failures(problems)


def by_way(what: str, figures: dict[str, float], better: Better, goal: float | None) -> Iterator[Row]:
    """Yield the rows of each way; LiteLLM's pass-through stands beside our relay, for which no goal was set."""
    for way, words in WAYS.items():
        mine = {name.removesuffix(f" {way}"): each for name, each in figures.items() if name.endswith(f" {way}")}
        if way == RELAY and (through := figures.get(f"LiteLLM {THROUGH}")):
            mine["LiteLLM's pass-through"] = through
        yield from compare(f"{what}, {words}", mine, better, goal)


# --- sends


def send_rows(peers: dict[str, Peer], count: int) -> Iterator[Row]:
    """Yield the sends a second of so many clients, each in a conversation of its own, and what one costs."""
    seen: dict[str, list[Rate]] = {name: [] for name in peers}
    failed: Problems = {}
    for number in range(ROUNDS):
        for name in rotated(list(peers), number):
            if name not in failed:
                try:
                    asks = [peers[name].sends(f"c{count}-{number}-{each}") for each in range(count)]
                    with Clients(peers[name].running.port, asks) as clients:
                        clients.once()  # the message that begins the conversation
                        seen[name].append(clients.run(SECONDS, peers[name].running.pid))
                except Exception as problem:
                    failed[name] = f"{type(problem).__name__}: {problem}"[:200]
    median = {
        name: Rate(*map(statistics.median, zip(*rates, strict=True)))
        for name, rates in seen.items()
        if name not in failed
    }
    what = f"sends a second, {count} client{'s'[: count > 1]}"
    rates = {name: rate.a_second for name, rate in median.items()}
    yield from pictured(count, compare(what, rates, Better("{:,.1f}/s", greater=True)), median)
    costs = {name: rate.cpu * 1e3 for name, rate in median.items()}
    yield from compare("… server's processor time a send", costs, Better("{:,.2f} ms"))
    yield from failures(failed)


def pictured(count: int, shown: Iterator[Row], median: dict[str, Rate]) -> Iterator[Row]:
    """Yield the rows, the first with the points of all servers for the picture."""
    points = tuple(
        Point("peers", panel, name if peer_stores(name) else f"{name}, nothing stored", count, figure)
        for name, rate in median.items()
        for panel, figure in enumerate((rate.a_second, rate.cpu * 1e3))
    )
    for row in shown:
        yield row._replace(points=points)
        points = ()


def peer_stores(name: str) -> bool:
    """Return whether a server stores what is sent."""
    return next(peer.stores for peer in PEERS if peer.name == name)


def long_rows(peers: dict[str, Peer], length: int) -> Iterator[Row]:
    """Yield the time of a send, until its whole answer, in a conversation of so many messages, all sent on."""
    times: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {}
    failed: Problems = {}
    with contextlib.ExitStack() as stack:
        clients = {}
        for name, peer in peers.items():
            try:
                clients[name] = stack.enter_context(Clients(peer.running.port, [peer.long(length)]))
                clients[name].once()
            except Exception as problem:
                failed[name] = f"{type(problem).__name__}: {problem}"[:200]
        for number in range(LONG_ROUNDS):
            for name in rotated([name for name in clients if name not in failed], number):
                rate = clients[name].run(0.0, peers[name].running.pid)
                times.setdefault(name, []).append(1e3 / rate.a_second)
                spent.setdefault(name, []).append(rate.cpu * 1e3)
    what = f"a send at {length:,} messages of history, all of them sent on"
    for title, figures in ((what, times), ("… server's processor time", spent)):
        median = {name: statistics.median(each) for name, each in figures.items()}
        yield from compare(title, median, Better("{:,.1f} ms"))
    yield from failures(failed)


def main() -> None:
    """Print the table."""
    show(rows())


if __name__ == "__main__":
    main()
