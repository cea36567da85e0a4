"""Many event streams at once, each given so many tokens a second: how late does a token come, in which memory.

The model is `benchmarks.paced_upstream`, whose tokens say when they were sent. The client only notes what came when,
and reads it afterwards. It can also ask the upstream itself, to show its own share of the lag.
"""

from __future__ import annotations

import bisect
import contextlib
import gc
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.paced_upstream import TOKEN, WARM_UP
from tests.serving import CONVERSATIONS, Server

OPENING = 16  # streams that are asked for at once before tokens flow
PATIENCE = 90.0  # seconds from the first token to the last end; what has not come by then counts as lost
SAMPLE = 0.25  # seconds between two looks at the server's processor time
QUESTION = json.dumps({"content": "how late are you?"}).encode()
DIRECT = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()


class Load(NamedTuple):
    """What the upstream does."""

    streams: int
    rate: float = 20
    seconds: float = 4

    @property
    def tokens(self) -> int:
        """Tokens of each stream."""
        return round(self.rate * (WARM_UP + self.seconds))


class Result(NamedTuple):
    """What a client saw; lags in milliseconds, processor time in microseconds a token."""

    whole: int  # streams that came with every token once and in order
    stored: int | None  # replies; None when some had not even ended
    lags: list[float]  # sorted; what never came is infinitely late
    server_cpu: float
    memory: float  # MiB of master and worker at their peaks
    upstream_late: float  # milliseconds behind its own schedule, at most
    upstream_cpu: float
    client_cpu: float

    def lag(self, share: float) -> float:
        return self.lags[min(int(len(self.lags) * share), len(self.lags) - 1)] if self.lags else float("inf")


# --- the client


class Client:
    """Opens streams and notes every piece that comes, with its time."""

    def __init__(self, url: str, body: bytes, path: str) -> None:
        parts = urlsplit(url)
        self.address = (str(parts.hostname), int(parts.port or 80))
        self.body, self.path = body, path  # `{}` in the path is the stream's number
        self.open: dict[int, socket.socket] = {}
        self.pieces: list[tuple[int, float, bytes]] = []  # descriptor, time, bytes
        self.order: list[int] = []  # descriptors, in the order of the streams
        self.poll = select.epoll()

    def ask(self, number: int) -> None:
        connection = socket.create_connection(self.address)
        head = f"POST {self.path.format(number)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Connection: close\r\nContent-Length: {len(self.body)}\r\n\r\n".encode() + self.body)
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

    def receive_all(self, pid: int) -> list[tuple[float, float]]:
        """Receive until all streams ended, or patience does; return times and what a process had used by then."""
        samples = [(time.monotonic(), cpu_of(pid))]
        end = time.monotonic() + PATIENCE
        while self.open and (now := time.monotonic()) < end:
            self.receive(SAMPLE)
            if now - samples[-1][0] > SAMPLE:
                samples.append((now, cpu_of(pid)))
        return samples


def cpu_of(pid: int) -> float:
    """Return the processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Received(NamedTuple):
    """The tokens of one stream."""

    text: bytes
    sent: list[float]  # seconds on the machine's clock
    came: list[float]
    numbers: list[int]


def read(client: Client) -> list[Received]:
    """Find the tokens in what came, each with the time of the piece that completed it."""
    streams: dict[int, tuple[list[bytes], list[int], list[float]]] = {fd: ([], [], []) for fd in client.order}
    for fd, moment, data in client.pieces:
        pieces, ends, times = streams[fd]
        pieces.append(data)
        ends.append((ends[-1] if ends else 0) + len(data))
        times.append(moment)
    result = []
    for pieces, ends, times in streams.values():
        found = list(TOKEN.finditer(b"".join(pieces)))
        came = [times[bisect.bisect_left(ends, token.end())] for token in found]
        sent = [int(token[2]) / 1e6 for token in found]
        text = b"".join(b"%b:%b " % token.groups() for token in found)
        result.append(Received(text, sent, came, [int(token[1]) for token in found]))
    return result


def messages(url: str, number: int) -> list[str]:
    """Return what is stored of a conversation."""
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 80))) as connection:
        line = f"GET {CONVERSATIONS}/load{number} HTTP/1.1"
        connection.sendall(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return [message["content"] for message in json.loads(answer.partition(b"\r\n\r\n")[2])["data"]["messages"]]


# --- the measurement


@contextlib.contextmanager
def upstream(load: Load) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the upstream; yield its base URL and the process, which says at the end how it kept pace."""
    command = [sys.executable, "-m", "benchmarks.paced_upstream"]
    for name, value in load._asdict().items():
        command += [f"--{name}", str(value)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def direct(load: Load) -> Result:
    """Measure a client that asks the upstream itself."""
    with upstream(load) as (base_url, process):
        client = Client(base_url, DIRECT, "/v1/chat/completions")
        return _measure(load, client, process)


def served(load: Load) -> Result:
    """Measure a client that asks the server, `run.py` as a user starts it."""
    with tempfile.TemporaryDirectory() as folder, upstream(load) as (base_url, process):
        settings = {"provider": "openai", "openai_base_url": base_url, "openai_model": "m"}
        with Server(Path(folder), **settings) as server:
            client = Client(server.url, QUESTION, CONVERSATIONS + "/load{}/messages/stream")
            return _measure(load, client, process, server)


def _measure(load: Load, client: Client, upstream_: subprocess.Popen[str], server: Server | None = None) -> Result:
    pids = processes(server.process.pid) if server else [os.getpid()]
    client.open_all(load.streams)
    gc.collect()
    gc.disable()  # a collection would be a pause for all
    own = time.process_time()
    try:
        samples = client.receive_all(pids[-1])
        own = time.process_time() - own
    finally:
        gc.enable()
    received = read(client)
    question = json.loads(QUESTION)["content"]
    whole = sum(stream.numbers == list(range(load.tokens)) for stream in received)
    stored, peak = None, 0.0
    if server:
        if not client.open:
            texts = [[question, stream.text.decode()] for stream in received]
            stored = sum(messages(server.url, number) == text for number, text in enumerate(texts))
        peak = sum(memory(pid, "VmHWM") for pid in pids)
    lags, cpu = _window(load, received, samples)
    assert upstream_.stdout
    late, busy = map(float, upstream_.stdout.readline().split())
    per_token = 1e6 / (load.streams * load.tokens)
    return Result(whole, stored, lags, cpu, peak, late * 1e3, busy * per_token, own * per_token)


def _window(load: Load, received: list[Received], samples: list[tuple[float, float]]) -> tuple[list[float], float]:
    """Return the lags of the tokens sent after the warming up, and the processor time for one of them."""
    begin = min((sent for stream in received for sent in stream.sent), default=0.0) + WARM_UP
    lags = sorted(
        (came - sent) * 1e3
        for stream in received
        for sent, came in zip(stream.sent, stream.came, strict=True)
        if sent >= begin
    )
    lags += [float("inf")] * (load.streams * load.tokens - sum(len(stream.sent) for stream in received))
    inside = [sample for sample in samples if begin <= sample[0] <= begin + load.seconds]
    if len(inside) < 2:
        return lags, float("nan")
    (first, before), (last, after) = inside[0], inside[-1]
    count = sum(first < came <= last for stream in received for came in stream.came)
    return lags, (after - before) / max(count, 1) * 1e6


def processes(pid: int) -> list[int]:
    """Return a process and its children: the master and the worker."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def memory(pid: int, field: str) -> float:
    """Return `VmRSS`, or `VmHWM` for its peak, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
