"""Measure a read over HTTP with 1 and 16 clients, beside a bare view of the same server and a bare Flask app.

    python -m benchmarks.bench_http [--beside DIR] [--rounds 15] [--seconds 0.4]

With `--beside` the server of another checkout and its bare view take part in the same interleaved rounds. Takes a
minute. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import requests

from benchmarks import servers
from benchmarks.load import Clients, Rate
from benchmarks.route import request, rotated
from benchmarks.servers import Running
from benchmarks.table import Row, show

CLIENTS = (1, 16)
ROUNDS = 15
SECONDS = 0.4  # of one round of one side
DETAIL, HELLO = "/api/v1/conversations/c?size=20", "/hello"
# Any checkout's run.py with a view that does nothing: it knows nothing of the server but that it is a Flask app.
WITH_HELLO = """
import flask, os, runpy
make = flask.Flask.__init__
def with_hello(app, *args, **options):
    make(app, *args, **options)
    app.add_url_rule("/hello", "hello", lambda: "hello")
flask.Flask.__init__ = with_hello
runpy.run_path(os.path.join(os.environ["PYTHONPATH"], "run.py"), run_name="__main__")
"""
BARE = "import flask\napp = flask.Flask('bare')\napp.add_url_rule('/hello', 'hello', lambda: 'hello')\n"
Sides = dict[str, tuple[Running, str]]  # by name: a server and the path that is read


@contextlib.contextmanager
def bare_flask(folder: Path) -> Iterator[Running]:
    """Run a Flask app with one view on gunicorn's threads, as many as its default connections."""
    (folder / "bare.py").write_text(BARE)
    options = "--worker-class gthread --workers 1 --threads 64 --keep-alive 30 --bind 127.0.0.1:0 --no-control-socket"
    command: list[str | Path] = [sys.executable, "-m", "gunicorn", *options.split(), "bare:app"]
    with servers.started(command, folder, {}, says=r"(?s)Listening at: http://127.0.0.1:(\d+).*Booting") as server:
        yield server


def rows(beside: Path | None = None, rounds: int = ROUNDS, seconds: float = SECONDS) -> Iterator[Row]:
    """Yield the rows of each number of clients."""
    with contextlib.ExitStack() as stack:
        sides: Sides = {}
        for name, root in servers.sides(beside).items():
            folder = stack.enter_context(servers.scratch())
            server = stack.enter_context(servers.self_agent(folder, root, WITH_HELLO))
            fill(server)
            sides[name] = (server, DETAIL)
            sides[f"{name} bare"] = (server, HELLO)
        sides["flask"] = (stack.enter_context(bare_flask(stack.enter_context(servers.scratch()))), HELLO)
        for count in CLIENTS:
            yield from read_rows(sides, count, rounds, seconds)


def fill(server: Running) -> None:
    """Make the conversation that is read."""
    for number in range(10):
        url = f"http://127.0.0.1:{server.port}/api/v1/conversations/c/messages"
        requests.post(url, json={"content": f"message {number} " * 20}, timeout=10).raise_for_status()


def read_rows(sides: Sides, count: int, rounds: int, seconds: float) -> Iterator[Row]:
    """Yield the requests a second, and what one costs the server."""
    seen: dict[str, list[Rate]] = {name: [] for name in sides}
    with contextlib.ExitStack() as stack:
        clients = {}
        for name, (server, path) in sides.items():
            data = request(path, None, method="GET")
            clients[name] = stack.enter_context(Clients(server.port, [lambda data=data: data] * count))
            clients[name].once()
        for number in range(rounds):
            for name in rotated(list(sides), number):
                seen[name].append(clients[name].run(seconds, sides[name][0].pid))
    rate = {name: Rate(*map(statistics.median, zip(*rates, strict=True))) for name, rates in seen.items()}
    yield from rate_rows(rate, f"`GET` detail of 20 messages, {count} client{'s'[: count > 1]}", goal=count == 1)


def rate_rows(rate: dict[str, Rate], what: str, *, goal: bool) -> Iterator[Row]:
    """Yield one number of clients beside each other side, and the processor time beside the other checkout."""
    ours, bare = rate.pop("ours"), rate.pop("ours bare")
    mine, to_view = f"{ours.a_second:,.0f}/s", ours.a_second / bare.a_second
    mark = ("≥ 0.8", to_view >= 0.8) if goal else ("", None)
    yield Row(what, mine, f"{bare.a_second:,.0f}/s, a bare view of the same server", f"{to_view:.2f}", *mark)
    flask = rate.pop("flask")
    beside = f"{flask.a_second:,.0f}/s, a bare Flask app on gunicorn's threads"
    yield Row("…", mine, beside, f"{ours.a_second / flask.a_second:.2f}")
    for name in [name for name in rate if not name.endswith(" bare")]:
        theirs, their_view = rate[name], rate[f"{name} bare"]
        yield Row("…", mine, f"{theirs.a_second:,.0f}/s, {name}", f"{ours.a_second / theirs.a_second:.2f}")
        beside = f"{their_view.a_second:,.0f}/s, the bare view of {name}"
        yield Row("… the bare view", f"{bare.a_second:,.0f}/s", beside, f"{bare.a_second / their_view.a_second:.2f}")
    other, cpu = next(((name, theirs.cpu) for name, theirs in rate.items()), ("the bare view", bare.cpu))
    beside = f"{cpu * 1e6:,.0f} µs, {other}"
    yield Row("… server's processor time a request", f"{ours.cpu * 1e6:,.0f} µs", beside, f"{ours.cpu / cpu:.2f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    servers.add_beside(parser)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one round of one side (0.4)")
    show(rows(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
