"""Many replies at once on one server: is every token delivered, how late, in which memory, at which cost.

    python -m benchmarks.bench_streams [--each 500] [--provider openai|echo] [--streams 2000] [--rate 20] [--seconds 4]
    python -m benchmarks.bench_streams --beside DIR [--rounds 3]

First half WebSockets, half event streams, whose replies come as fast as they can; the model is `tests.upstream` in a
process of its own, or `echo`. Then event streams only, each given so many tokens a second: more and more of them, and
in the end as many as the goal names; see `benchmarks.stream_load`. Last, what a token costs. The server is `run.py` as
a user starts it. With `--beside` another checkout's server and ours take turns with paced streams, and the rest is
left out. Ends with 1 when a token is lost, doubled or minutes late, a reply is not stored, or the server of the first
part takes 300 MiB or more. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import process, servers
from benchmarks.answers import BURSTS, upstream
from benchmarks.burst_load import MESSAGE, TOKENS, Clients, model
from benchmarks.route import COMPLETIONS, NATIVE, Route, cpu_a_token, native, rotated
from benchmarks.servers import Running
from benchmarks.stream_load import PATIENCE, Load, Result, direct, served
from benchmarks.table import Point, Row, show

LIMIT = 300  # MiB that master and worker may take together
LAG = 50  # milliseconds that 99 of 100 tokens may take from the upstream through the server to the client
LAG_LIMIT = 250  # MiB for as many streams as the goal names
LADDER = (125, 250, 500, 1000)  # streams before that
FEW = 100  # streams whose cost is compared with that of another checkout
CHEAP = 20  # µs a token of a burst
WHOLE, STORED, PEAKS = "delivered whole and in order", "stored whole", "master and worker, peaks"
ROUTES = {"native": "native, stored", "relay": f"`{COMPLETIONS}`"}
BOUND = 110  # seconds


# --- all at one instant


async def measure(server: Running, provider: str, each: int) -> list[Row]:
    """Have all replies begin at one instant."""
    members = process.family(server.pid)
    clients = Clients(server.port, each)
    before = process.memory_of(members[-1:])
    await clients.open_sockets()
    idle = process.memory_of(members[-1:])
    began = time.monotonic()
    replies = await clients.talk()
    seconds = time.monotonic() - began
    stored = await clients.stored()
    peaks = process.memory_of(members, "VmHWM")
    clients.close()
    wanted = ("echo: " if provider == "echo" else "reply 1: ") + MESSAGE
    whole = sum(reply == wanted for reply in replies)
    kept = sum([message["content"] for message in messages] == [MESSAGE, wanted] for messages in stored)
    first = sorted(clients.first_tokens)
    what = f"{each} WebSockets + {each} event streams at one instant, {TOKENS} tokens each, {provider}"
    return [
        Row(f"{what}: {WHOLE}", *_all(whole, 2 * each)),
        Row(f"… {STORED}", *_all(kept, 2 * each)),
        Row("… took", f"{seconds:.1f} s ({2 * each * TOKENS / seconds:,.0f} tokens/s)"),
        Row("… first token, median and 99 %", f"{_at(first, 0.5):.2f} s, {_at(first, 0.99):.2f} s"),
        Row(f"… worker with nothing open, with {each} idle sockets", f"{before:.0f} MiB, {idle:.0f} MiB"),
        Row(f"… {PEAKS}", f"{peaks:.0f} MiB", goal=f"< {LIMIT} MiB", reached=peaks < LIMIT),
    ]


def _all(count: int, wanted: int) -> tuple[str, str, str, str, bool]:
    return f"{count:,} of {wanted:,}", "", "", "all", count == wanted


def _at(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]


def burst_rows(provider: str, each: int) -> Iterator[Row]:
    """Measure replies that all begin at one instant."""
    with (
        servers.scratch() as folder,
        model(provider) as settings,
        servers.self_agent(folder, dialects="self_agent,aichat", **settings) as server,
    ):
        yield from asyncio.run(asyncio.wait_for(measure(server, provider, each), BOUND))


# --- so many tokens a second


def paced_rows(goal: Load) -> Iterator[Row]:
    """Measure streams that each get so many tokens a second, fewer than `goal` names and then as many."""
    most = 0
    for streams in (*filter(goal.streams.__gt__, LADDER), goal.streams):
        load = goal._replace(streams=streams)
        result = served(load)
        yield from _lag_rows(load, result, direct(load) if load == goal else None)
        most = streams if result.lag(0.99) <= LAG else most
    reached = result.peaks <= LAG_LIMIT
    yield Row(f"… {PEAKS}", f"{result.peaks:.0f} MiB", goal=f"≤ {LAG_LIMIT} MiB", reached=reached)
    yield Row(f"most streams with a lag of ≤ {LAG} ms at 99 %", f"{most:,} of {goal.streams:,}")


def _lag_rows(load: Load, result: Result, straight: Result | None = None) -> Iterator[Row]:
    """Show a result; beside it a client that asks the upstream itself, where it was measured."""
    shares = {"median": 0.5, "99 %": 0.99}
    yield Row(
        _title(load, ": lag at 50, 99, 100 %"),
        _lags(result),
        f"{_lags(straight)}, a client that asks the upstream itself" if straight else "",
        goal=f"≤ {LAG} ms at 99 %" if straight else "",
        reached=result.lag(0.99) <= LAG if straight else None,
        points=tuple(Point("streams", 0, name, load.streams, result.lag(share)) for name, share in shares.items()),
    )
    yield Row(
        "… server's processor time a token, while tokens come",
        f"{result.server_cpu:.0f} µs",
        f"{result.upstream_cpu:.0f} µs, the upstream; {result.client_cpu:.0f} µs, the client",
        points=(Point("streams", 1, "self_agent", load.streams, result.server_cpu),),
    )
    yield Row(f"… {WHOLE}", *_all(result.whole, load.streams))
    if result.stored is None:
        yield Row(f"… {STORED}", f"not asked: after {PATIENCE:g} s not all had ended", goal="all", reached=False)
    else:
        yield Row(f"… {STORED}", *_all(result.stored, load.streams))


def _title(load: Load, more: str) -> str:
    return f"{load.streams:,} event streams, {load.rate:g} tokens/s each for {load.seconds:g} s{more}"


def _lags(result: Result) -> str:
    return " / ".join(f"{result.lag(share):,.1f}" for share in (0.5, 0.99, 1)) + " ms"


# --- the cost of a token


def burst_cost_rows() -> Iterator[Row]:
    """Measure the processor time a token of replies that come one after another, each as fast as it can."""
    with (
        servers.scratch() as folder,
        upstream() as port,
        servers.self_agent(folder, **servers.relaying(port)) as server,
    ):
        routes = {"native": Route(*server, NATIVE, native), "relay": Route(*server, COMPLETIONS)}
        for kind in BURSTS:
            for name, spent in cpu_a_token(routes, kind).items():
                mark = (f"≤ {CHEAP} µs", spent <= CHEAP / 1e6) if kind is BURSTS[0] else ("", None)
                what = f"server's processor time a token, {kind.what}, {ROUTES[name]}"
                yield Row(what, f"{spent * 1e6:.1f} µs", "", "", *mark)


# --- beside another checkout


def beside_rows(beside: Path, goal: Load, rounds: int) -> Iterator[Row]:
    """Measure few streams through both dialects, then as many as the goal names, in turn with another checkout."""
    for load, dialects in ((goal._replace(streams=FEW), ROUTES), (goal, {"native": ROUTES["native"]})):
        for dialect, title in dialects.items():
            results: dict[str, list[Result]] = {name: [] for name in servers.sides(beside)}
            for number in range(rounds):
                for name in rotated(list(results), number):
                    root = servers.sides(beside)[name]
                    results[name].append(served(load, root, native=dialect == "native"))
            yield from _beside(_title(load, f", {title}"), *results.items())


def _beside(what: str, ours: tuple[str, list[Result]], theirs: tuple[str, list[Result]]) -> Iterator[Row]:
    figures = {
        ": processor time a token": (lambda result: result.server_cpu, "{:.1f} µs"),
        ": lag, median": (lambda result: result.lag(0.5), "{:,.2f} ms"),
        ": lag, 99 %": (lambda result: result.lag(0.99), "{:,.2f} ms"),
        ": memory while tokens come": (lambda result: result.memory, "{:.0f} MiB"),
        ": streams delivered whole": (lambda result: result.whole, "{:,.0f}"),
    }
    for name, (figure, form) in figures.items():
        mine, other = (statistics.median(map(figure, results)) for _, results in (ours, theirs))
        ratio = f"{mine / other:.2f}" if other else ""
        yield Row(f"{what}{name}", form.format(mine), f"{form.format(other)}, {theirs[0]}", ratio)
        what = "…"


def rows(
    provider: str = "openai",
    each: int = 500,
    goal: Load = Load(2000),  # noqa: B008 - frozen
    beside: Path | None = None,
    rounds: int = 3,
) -> Iterator[Row]:
    """Measure all; takes about three minutes, the longer the worse the server keeps up."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if beside:
        yield from beside_rows(beside, goal, rounds)
        return
    yield from burst_rows(provider, each)
    yield from paced_rows(goal)
    yield from burst_cost_rows()


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    servers.add_beside(parser)
    parser.add_argument("--rounds", type=int, default=3, help="of each side, with --beside (3)")
    parser.add_argument("--each", type=int, default=500, help="WebSockets, and as many event streams (500)")
    parser.add_argument("--provider", choices=("openai", "echo"), default="openai", help="of the first part")
    parser.add_argument("--streams", type=int, default=2000, help="with so many tokens a second (2000)")
    parser.add_argument("--rate", type=float, default=20, help="tokens a second for each of them (20)")
    parser.add_argument("--seconds", type=float, default=4, help="of tokens, after a second to warm up (4)")
    options = parser.parse_args()
    load = Load(options.streams, options.rate, options.seconds)
    shown = show(rows(options.provider, options.each, load, options.beside, options.rounds))
    kept = (row.reached for row in shown if row.what.endswith((WHOLE, STORED)) or row.goal == f"< {LIMIT} MiB")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
