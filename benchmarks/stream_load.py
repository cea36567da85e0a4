"""Many event streams at once, each given so many tokens a second: how late does a token come, in which memory.

The model is `benchmarks.paced_upstream`, whose tokens say when they were sent. The client only notes what came when,
and reads it afterwards. It can also ask the upstream itself, to show its own share of the lag.
"""

from __future__ import annotations

import bisect
import contextlib
import gc
import itertools
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks import process, servers
from benchmarks.paced_upstream import TOKEN, WARM_UP
from benchmarks.route import COMPLETIONS, NATIVE, completion, request
from benchmarks.servers import CONVERSATIONS, ROOT

OPENING = 16  # streams that are asked for at once before tokens flow
PATIENCE = 90.0  # seconds from the first token to the last end; what has not come by then counts as lost
SAMPLE = 0.25  # seconds between two looks at the server's processor time and memory
QUESTION = "how late are you?"


class Load(NamedTuple):
    """What the upstream does."""

    streams: int
    rate: float = 20
    seconds: float = 4

    @property
    def tokens(self) -> int:
        """Tokens of each stream."""
        return round(self.rate * (WARM_UP + self.seconds))


class Target(NamedTuple):
    """Who is asked for the streams: `pid` is the server's, `body` one for each, `{}` in the path its number."""

    port: int
    pid: int
    path: str = COMPLETIONS
    body: object = completion(QUESTION)
    headers: Mapping[str, str] = {"Connection": "close"}


class Result(NamedTuple):
    """What a client saw; lags in milliseconds, processor time in microseconds a token."""

    whole: int  # streams that came with every token once and in order
    stored: int | None  # replies; None when some had not even ended, or it was not asked
    lags: list[float]  # sorted; what never came is infinitely late
    server_cpu: float
    memory: float  # MiB of all its processes together while tokens came, at most
    peaks: float  # MiB of each of its processes at most, added
    upstream_late: float  # milliseconds behind its own schedule, at most
    upstream_cpu: float
    client_cpu: float

    def lag(self, share: float) -> float:
        """Return the lag that so many of the tokens do not exceed."""
        return self.lags[min(int(len(self.lags) * share), len(self.lags) - 1)] if self.lags else float("inf")


# --- the client


class Client:
    """Opens streams and notes every piece that comes, with its time."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.open: dict[int, socket.socket] = {}
        self.pieces: list[tuple[int, float, bytes]] = []  # descriptor, time, bytes
        self.order: list[int] = []  # descriptors, in the order of the streams
        self.poll = select.epoll()

    def ask(self, number: int) -> None:
        """Ask for a stream."""
        target = self.target
        connection = socket.create_connection(("127.0.0.1", target.port))
        connection.sendall(request(target.path.format(number), target.body, target.headers))
        fd = connection.fileno()
        self.open[fd] = connection
        self.order.append(fd)
        self.poll.register(fd, select.EPOLLIN)

    def open_all(self, count: int) -> None:
        """Open streams, few at a time; each is open when the first piece of its body has come."""
        asked, begun = 0, set()
        while len(begun) < count:
            while asked < count and asked - len(begun) < OPENING:
                self.ask(asked)
                asked += 1
            seen = len(self.pieces)
            if not self.receive(PATIENCE):
                raise RuntimeError(f"only {len(begun)} of {count} streams opened")
            begun.update(fd for fd, _, data in self.pieces[seen:] if b"data: " in data)

    def receive(self, timeout: float) -> bool:
        """Note what has come; False when nothing did."""
        ready = self.poll.poll(timeout)
        note, clock = self.pieces.append, time.monotonic
        for fd, _ in ready:
            try:
                data = os.read(fd, 1 << 14)
            except OSError:
                data = b""
            note((fd, clock(), data))
            if not data:
                self.open.pop(fd).close()  # all are open by now, so its number is not used again
        return bool(ready)

    def receive_all(self) -> list[Sample]:
        """Receive until all streams ended, or patience does; return what the server had used by when."""
        members = process.family(self.target.pid)
        samples = [Sample.now(members)]
        end = time.monotonic() + PATIENCE
        while self.open and (now := time.monotonic()) < end:
            self.receive(SAMPLE)
            if now - samples[-1].time > SAMPLE:
                samples.append(Sample.now(members))
        return samples

    def received(self) -> list[Received]:
        """Find the tokens of every stream in what came, each with the time of the piece that completed it."""
        streams: dict[int, list[tuple[float, bytes]]] = {fd: [] for fd in self.order}
        for fd, moment, data in self.pieces:
            streams[fd].append((moment, data))
        return [read(pieces) for pieces in streams.values()]


class Sample(NamedTuple):
    """What a server had used at a time."""

    time: float
    cpu: float
    memory: float

    @classmethod
    def now(cls, members: list[int]) -> Sample:
        """Look at its processes."""
        return cls(time.monotonic(), process.cpu_of(members), process.memory_of(members))


class Received(NamedTuple):
    """The tokens of one stream."""

    text: bytes
    sent: list[float]  # seconds on the machine's clock
    came: list[float]
    numbers: list[int]


def read(pieces: list[tuple[float, bytes]], pattern: re.Pattern[bytes] = TOKEN) -> Received:
    """Find the tokens of one stream in what came when."""
    times = [moment for moment, _ in pieces]
    ends = list(itertools.accumulate(len(data) for _, data in pieces))
    found = list(pattern.finditer(b"".join(data for _, data in pieces)))
    came = [times[bisect.bisect_left(ends, token.end())] for token in found]
    sent = [int(token[2]) / 1e6 for token in found]
    text = b"".join(b"%b:%b " % token.groups() for token in found)
    return Received(text, sent, came, [int(token[1]) for token in found])


def stored(port: int, received: list[Received]) -> int:
    """Return how many conversations of the native dialect have their question and what came of the reply."""
    count = 0
    for number, stream in enumerate(received):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            path = f"{CONVERSATIONS}/load{number}"
            connection.sendall(request(path, None, {"Connection": "close"}, "GET"))
            answer = b"".join(iter(lambda connection=connection: connection.recv(1 << 16), b""))
        messages = json.loads(answer.partition(b"\r\n\r\n")[2])["data"]["messages"]
        count += [message["content"] for message in messages] == [QUESTION, stream.text.decode()]
    return count


# --- the measurement


@contextlib.contextmanager
def upstream(load: Load) -> Iterator[tuple[int, Callable[[], tuple[float, float]]]]:
    """Run the upstream; yield its port and what tells at the end how late it was and its processor seconds."""
    command = [sys.executable, "-m", "benchmarks.paced_upstream"]
    for name, value in load._asdict().items():
        command += [f"--{name}", str(value)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        output = running.stdout
        assert output

        def said() -> tuple[float, float]:
            late, busy = map(float, output.readline().split())
            return late, busy

        try:
            yield int(output.readline()), said
        finally:
            running.kill()


def direct(load: Load) -> Result:
    """Measure a client that asks the upstream itself."""
    with upstream(load) as (port, said):
        return measure(load, Client(Target(port, os.getpid())), said)


def served(load: Load, root: Path = ROOT, *, native: bool = True) -> Result:
    """Measure a client of a checkout's server: through the native dialect, which stores, or /v1/chat/completions."""
    with (
        servers.scratch() as folder,
        upstream(load) as (port, said),
        servers.self_agent(folder, root, **servers.relaying(port)) as server,
    ):
        if not native:
            return measure(load, Client(Target(*server)), said)
        target = Target(*server, NATIVE.format("load{}"), {"content": QUESTION})
        return measure(load, Client(target), said, stored)


def measure(
    load: Load,
    client: Client,
    said: Callable[[], tuple[float, float]],
    count_stored: Callable[[int, list[Received]], int] | None = None,
) -> Result:
    """Open all streams, receive them to the end, and look at what came and what it took."""
    client.open_all(load.streams)
    gc.collect()
    gc.disable()  # a collection would be a pause for all
    own = time.process_time()
    try:
        samples = client.receive_all()
        own = time.process_time() - own
    finally:
        gc.enable()
    received = client.received()
    whole = sum(stream.numbers == list(range(load.tokens)) for stream in received)
    ended = count_stored and not client.open
    kept = count_stored(client.target.port, received) if count_stored and ended else None
    lags, cpu = _window(load, received, samples)
    late, busy = said()
    per_token = 1e6 / (load.streams * load.tokens)
    memory = max(sample.memory for sample in samples)
    peaks = process.memory_of(process.family(client.target.pid), "VmHWM")
    return Result(whole, kept, lags, cpu, memory, peaks, late * 1e3, busy * per_token, own * per_token)


def _window(load: Load, received: list[Received], samples: list[Sample]) -> tuple[list[float], float]:
    """Return the lags of the tokens sent after the warming up, and the processor time for one of them."""
    begin = min((sent for stream in received for sent in stream.sent), default=0.0) + WARM_UP
    lags = sorted(
        (came - sent) * 1e3
        for stream in received
        for sent, came in zip(stream.sent, stream.came, strict=True)
        if sent >= begin
    )
    lags += [float("inf")] * (load.streams * load.tokens - sum(len(stream.sent) for stream in received))
    inside = [sample for sample in samples if begin <= sample.time <= begin + load.seconds]
    if len(inside) < 2:
        return lags, float("nan")
    first, last = inside[0], inside[-1]
    count = sum(first.time < came <= last.time for stream in received for came in stream.came)
    return lags, (last.cpu - first.cpu) / max(count, 1) * 1e6
