"""Measure what self_agent and LiteLLM's proxy add to a streamed answer: until its first token, and in CPU per token.

Run with `make bench-litellm`, which installs LiteLLM into a virtual environment of its own; takes about a minute and
a half. All ask the same loopback upstream in one interleaved run, in an order that rotates. Every answer is checked:
each token must have come, in order, in an event of its own. LiteLLM stores nothing, nor does our
`/v1/chat/completions`; our native dialect stores question and reply durably, and its rows show what that costs.
Figures are medians. Linux only, for the clocks of other processes.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from benchmarks.table import Row, show
from tests.serving import ROOT, Server
from tests.upstream import DONE, chunk_of, event

LITELLM = ROOT / ".venv-litellm" / "bin" / "litellm"
COMPLETIONS = "/v1/chat/completions"
NATIVE = "/api/v1/conversations/{}/messages/stream"
PASS_THROUGH = "/raw"  # of LiteLLM: it relays bytes and counts nothing
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = re.compile(rb'^data: .*?"content":"( t\d{4})".*$', re.MULTILINE)  # one of a token, in either dialect
LAST = b"\r\n0\r\n\r\n"
WARM_UP = 8  # rounds that do not count
ROUNDS = 60
FASTER, CHEAPER = 5, 10  # the goals: times the added time, times the CPU
OURS = {
    "relay": "`/v1/chat/completions`",
    "new": "native, new conversation, stored",
    "second": "native, second turn, stored",
}
THEIRS = {"litellm": "LiteLLM", "through": "LiteLLM's pass-through"}


class Kind(NamedTuple):
    """How the upstream writes an answer: each event is an HTTP chunk, the first `alone` are writes of their own."""

    word: str  # by which a question asks for it
    what: str
    tokens: int
    alone: int = 0
    pause: float = 0.0  # seconds after each event that is alone
    rounds: int = 10
    goal: int | None = CHEAPER


FIRST = Kind("first", "", 3, alone=1, pause=0.003)
KINDS = (
    Kind("burst", "burst of 2,000 in one write", 2000),
    Kind("single", "burst of 2,000, each a write of its own", 2000, alone=2000),
    Kind("paced", "1,000 that come 1 ms apart", 1000, alone=1000, pause=0.001, rounds=6, goal=None),
)


def token(number: int) -> str:
    return f" t{number:04}"


def writes(kind: Kind) -> list[tuple[bytes, float]]:
    """Return the writes of an answer, prepared, each with the pause after it."""
    events = [*(event(token(n)) for n in range(kind.tokens)), event(chunk_of({}, finish_reason="stop")), DONE]
    chunks = [b"%x\r\n%b\r\n" % (len(each), each) for each in events]
    chunks[0] = HEAD + chunks[0]
    rest = b"".join(chunks[kind.alone :]) + b"0\r\n\r\n"
    return [*((chunk, kind.pause) for chunk in chunks[: kind.alone]), (rest, 0.0)]


def answer(connection: socket.socket, answers: dict[bytes, list[tuple[bytes, float]]]) -> None:
    """Answer every question on a connection; the newest message in it says how."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = connection.makefile("rb")
    while lines.readline():
        size = 0
        while (header := lines.readline()).strip():
            name, _, value = header.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        body = lines.read(size)
        for part, pause in answers[max(answers, key=body.rfind)]:
            connection.sendall(part)
            if pause:
                time.sleep(pause)


def serve(pipe: Connection) -> None:
    answers = {kind.word.encode(): writes(kind) for kind in (FIRST, *KINDS)}
    listener = socket.create_server(("127.0.0.1", 0))
    pipe.send(listener.getsockname()[1])
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0], answers), daemon=True).start()


@contextlib.contextmanager
def upstream() -> Iterator[int]:
    """Run the upstream and yield its port."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def settings_of(port: int) -> dict[str, Any]:
    """Return LiteLLM's settings: one model, no retries, no callbacks, and its pass-through to the same upstream."""
    base = f"http://127.0.0.1:{port}"
    model = {"model": "openai/m", "api_base": f"{base}/v1", "api_key": "none"}
    through = {"path": PASS_THROUGH, "target": base + COMPLETIONS, "headers": {"content-type": "application/json"}}
    return {
        "model_list": [{"model_name": "m", "litellm_params": model}],
        "litellm_settings": {"num_retries": 0, "callbacks": []},
        "general_settings": {"pass_through_endpoints": [through]},
    }


def environment(folder: Path) -> dict[str, str]:
    """Return what keeps LiteLLM from the network, from logging, and from asking for keys, as self_agent does not."""
    local = ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "BLOG_POSTS", "POLICY_TEMPLATES", "AUTOROUTER_PRESETS")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        **{f"LITELLM_LOCAL_{name}": "True" for name in local},
    }


@contextlib.contextmanager
def litellm(folder: Path, upstream_port: int) -> Iterator[tuple[int, int]]:
    """Run LiteLLM's proxy, one worker without a database; yield its port and its process."""
    settings, log_settings, log = folder / "settings.yaml", folder / "logging.json", folder / "log"
    settings.write_text(json.dumps(settings_of(upstream_port)))  # JSON is YAML
    log_settings.write_text(json.dumps({"version": 1, "loggers": {"uvicorn.access": {"level": "CRITICAL"}}}))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = f"--host 127.0.0.1 --port {port} --num_workers 1 --keepalive_timeout 75".split()
    command: list[str | Path] = [LITELLM, *options, "--config", settings, "--log_config", log_settings]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break  # it listens only when it is ready
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"LiteLLM's proxy did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.kill()  # it has nothing to store
        process.wait()


def check(received: bytes, kind: Kind) -> None:
    """Raise unless every token came, in order, in an event of its own."""
    head, _, rest = received.partition(b"\r\n\r\n")
    body = bytearray()
    while size := int(rest[: rest.index(b"\r\n")], 16):
        begin = rest.index(b"\r\n") + 2
        body += rest[begin : begin + size]
        rest = rest[begin + size + 2 :]
    found = [match.decode() for match in EVENT.findall(body)]
    if found != [token(n) for n in range(kind.tokens)]:
        raise RuntimeError(f"{len(found)} of {kind.tokens} tokens came after {head!r}: {bytes(body[-500:])!r}")


class Route:
    """A way to the upstream, over a connection that is kept alive; `server` is the process to watch."""

    def __init__(self, port: int, server: int | None, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server, self.path = server, path

    def ask(self, kind: Kind, conversation: str) -> float:
        """Ask for an answer and check it; return the seconds to its first token."""
        message = {"role": "user", "content": kind.word}
        body = message if self.path is NATIVE else {"model": "m", "stream": True, "messages": [message]}
        data = json.dumps(body).encode()
        path = self.path.format(conversation)
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        first, received, wanted = 0.0, bytearray(), token(0).encode()
        begun = time.perf_counter()
        self.socket.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        while not received.endswith(LAST):
            received += (piece := self.socket.recv(1 << 18))
            if not first and wanted in received:
                first = time.perf_counter() - begun
            if not piece or not received.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{self.path} failed: {bytes(received[-2000:])!r}")
        check(bytes(received), kind)
        return first

    def settled(self) -> float:
        """Wait until the server does nothing more for an answer; return the CPU seconds it has used so far."""
        used = cpu_of(self.server) if self.server else 0.0
        while self.server:
            time.sleep(0.02)
            before, used = used, cpu_of(self.server)
            if used - before < 0.001:
                break
        return used


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process and its children, with the threads that have ended, to the nanosecond."""
    # Both servers fork from their main thread, if at all. The clock is the one of clock_getcpuclockid(3), since
    # /proc counts in ticks of 10 ms.
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return time.clock_gettime((~pid << 3) | 2) + sum(cpu_of(int(child)) for child in children)


def compare(what: str, figures: dict[str, float], unit: str, goal: int | None) -> Iterator[Row]:
    """Yield ours beside LiteLLM's, then what both relay as bytes, for which no goal was set."""
    pairs = [(name, "litellm", goal) for name in OURS if name in figures]
    for name, other, at_least in (*pairs, ("relay", "through", None)):
        beside = f"{figures[other]:.2f} {unit} ({THEIRS[other]})"
        ratio = figures[other] / figures[name]
        mark = (f"≥ {at_least}", ratio >= at_least) if at_least else ("", None)
        yield Row(f"{what}, {OURS[name]}", f"{figures[name]:.2f} {unit}", beside, f"{ratio:.1f}", *mark)


def rotated(routes: dict[str, Route], number: int) -> list[tuple[str, Route]]:
    items = list(routes.items())
    return items[number % len(items) :] + items[: number % len(items)]


def first_tokens(routes: dict[str, Route]) -> Iterator[Row]:
    times: dict[str, list[float]] = {name: [] for name in routes}
    routes["new"].ask(FIRST, "0")
    for number in range(1, WARM_UP + ROUNDS + 1):
        for name, route in rotated(routes, number):
            # A second turn goes to the conversation that the round before has begun.
            times[name].append(route.ask(FIRST, str(number - (name == "second"))))
            route.settled()
    median = {name: statistics.median(spent[WARM_UP:]) * 1e3 for name, spent in times.items()}
    added = {name: spent - median["direct"] for name, spent in median.items()}
    yield Row("time to first token of a direct client", "", f"{median['direct']:.2f} ms")
    yield from compare("added time to first token", added, "ms", FASTER)


def cpu_per_token(routes: dict[str, Route], kind: Kind) -> Iterator[Row]:
    routes = {name: routes[name] for name in ("relay", "new", "litellm", "through")}
    spent: dict[str, list[float]] = {name: [] for name in routes}
    for number in range(kind.rounds + 1):  # the first warms up
        for name, route in rotated(routes, number):
            before = route.settled()
            route.ask(kind, f"{kind.word}{number}")
            spent[name].append((route.settled() - before) / kind.tokens)
    median = {name: statistics.median(each[1:]) * 1e6 for name, each in spent.items()}
    yield from compare(f"server's CPU a token, {kind.what}", median, "µs", kind.goal)


def rows() -> Iterator[Row]:
    """Measure, and yield each line of the table."""
    with tempfile.TemporaryDirectory(dir=ROOT / "data") as name, upstream() as port:
        folder = Path(name)
        settings = {"provider": "openai", "openai_base_url": f"http://127.0.0.1:{port}/v1", "openai_model": "m"}
        with Server(folder, **settings) as server, litellm(folder, port) as theirs:
            ours = urlsplit(server.url).port or 0, server.process.pid
            routes = {
                "direct": Route(port, None, COMPLETIONS),
                "relay": Route(*ours, COMPLETIONS),
                "new": Route(*ours, NATIVE),
                "second": Route(*ours, NATIVE),
                "litellm": Route(*theirs, COMPLETIONS),
                "through": Route(*theirs, PASS_THROUGH),
            }
            yield from first_tokens(routes)
            for kind in KINDS:
                yield from cpu_per_token(routes, kind)


def main() -> None:
    if not LITELLM.exists():
        raise SystemExit("LiteLLM is not installed; run: make bench-litellm")
    show(rows())


if __name__ == "__main__":
    main()
