"""Measure what a send costs: until the first token, sends a second, processor time and switches of threads a send.

    python -m benchmarks.bench_sends [--beside DIR] [--rounds 5] [--seconds 1]

The upstream answers at once with 8 tokens in one write. The clients send without streaming, each in a conversation of
its own that is new in every round and whose first message does not count. Beside it stands a client that asks the
upstream itself, or with `--beside` the server of another checkout, in the same interleaved rounds. Takes a minute and
a half. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks import servers
from benchmarks.answers import FIRST, SEND, upstream
from benchmarks.load import Clients, Rate
from benchmarks.route import COMPLETIONS, NATIVE, Route, completion, first_tokens, native, request, rotated
from benchmarks.servers import Running
from benchmarks.table import Point, Row, show

CLIENTS = (1, 2, 4, 8, 16, 32)
ROUNDS = 5
SECONDS = 1.0  # of one round of one side
FIRST_ROUNDS = 60
SENDING = "/api/v1/conversations/{}/messages"


def rows(beside: Path | None = None, rounds: int = ROUNDS, seconds: float = SECONDS) -> Iterator[Row]:
    """Yield the rows of the first token, then those of every number of clients."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(upstream())
        running = {}
        for name, root in servers.sides(beside).items():
            folder = stack.enter_context(servers.scratch())
            running[name] = stack.enter_context(servers.self_agent(folder, root, **servers.relaying(port)))
        yield from first_rows(port, running)
        for count in CLIENTS:
            yield from client_rows(port, running, count, rounds, seconds)


def first_rows(port: int, running: dict[str, Running]) -> Iterator[Row]:
    """Yield what is added to the first token of a client that asks the upstream itself."""
    routes = {"direct": Route(port, None, COMPLETIONS)}
    for name, server in running.items():
        for kind in ("new", "next"):
            routes[f"{name} {kind}"] = Route(*server, NATIVE, native)
    times = {name: spent * 1e3 for name, spent in first_tokens(routes, FIRST, FIRST_ROUNDS).items()}
    direct = times["direct"]
    for kind, what in {"new": "a new conversation", "next": "a conversation that goes on"}.items():
        added = {name: times[f"{name} {kind}"] - direct for name in running}
        ours, *others = added.items()
        what = f"added time to first token, {what}"
        if not others:
            yield Row(what, f"{ours[1]:.2f} ms", f"{direct:.2f} ms, a client that asks the upstream itself")
        for name, theirs in others:
            yield Row(what, f"{ours[1]:.2f} ms", f"{theirs:.2f} ms, {name}", f"{ours[1] / theirs:.2f}")


def client_rows(port: int, running: dict[str, Running], count: int, rounds: int, seconds: float) -> Iterator[Row]:
    """Yield the sends a second of so many clients, and what one costs the server."""
    seen: dict[str, list[Rate]] = {name: [] for name in (*running, "direct")}
    for number in range(rounds):
        for name in rotated(list(seen), number):
            seen[name].append(one_round(port, running.get(name), f"n{count}-{number}", count, seconds))
    median = {name: Rate(*map(statistics.median, zip(*rates, strict=True))) for name, rates in seen.items()}
    ours, direct = median.pop("ours"), median.pop("direct")
    yield Row(
        f"sends a second, {count} client{'s'[: count > 1]}",
        f"{ours.a_second:,.0f}/s",
        f"{direct.a_second:,.0f}/s, asking the upstream itself",
        points=(
            Point("sends", 0, "self_agent", count, ours.a_second),
            Point("sends", 1, "self_agent", count, ours.cpu * 1e3),
        ),
    )
    for name, theirs in median.items():
        yield Row("…", f"{ours.a_second:,.0f}/s", f"{theirs.a_second:,.0f}/s, {name}", ratio(ours, theirs, 0))
    yield from cost_rows("… server's processor time a send", 1, 1e3, "{:.2f} ms", ours, median)
    yield from cost_rows("… server's switches of threads a send", 2, 1, "{:.1f}", ours, median)


def one_round(port: int, server: Running | None, round_: str, count: int, seconds: float) -> Rate:
    """Have so many clients send for a while: to a server, or without one to the upstream itself."""
    if server is None:
        asks = [functools.partial(request, COMPLETIONS, completion(SEND.word))] * count
        with Clients(port, asks) as clients:
            clients.once()
            return clients.run(seconds / 2)
    data = [request(SENDING.format(f"{round_}-{number}"), native(SEND.word)) for number in range(count)]
    with Clients(server.port, [lambda each=each: each for each in data]) as clients:
        clients.once()  # the message that makes the conversation
        return clients.run(seconds, server.pid)


def cost_rows(what: str, field: int, factor: float, form: str, ours: Rate, others: dict[str, Rate]) -> Iterator[Row]:
    """Yield a row of one field beside every other checkout, or alone."""
    mine = form.format(ours[field] * factor)
    if not others:
        yield Row(what, mine)
    for name, theirs in others.items():
        yield Row(what, mine, f"{form.format(theirs[field] * factor)}, {name}", ratio(ours, theirs, field))


def ratio(ours: Rate, theirs: Rate, field: int) -> str:
    """Return how many times theirs ours is."""
    return f"{ours[field] / theirs[field]:.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    servers.add_beside(parser)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one round of one side (1)")
    show(rows(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
