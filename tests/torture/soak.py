"""Honest clients beside hostile ones: nobody of the first waits or loses anything, and the worker is never replaced.

python -m tests.torture.soak --seconds 120
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from websocket import create_connection

from tests.serving import CONVERSATIONS, Server
from tests.torture.belief import Belief
from tests.torture.checks import check
from tests.torture.clients import CLIENTS, Client
from tests.torture.crash import Parrot, start
from tests.upstream import Answer, Reply

SLOW = 1.0  # seconds in which /healthz must answer
HALVES = 300  # connections with half a request, all the time
STALLED = 40  # streams that nobody reads
HEAD = f"POST {CONVERSATIONS}/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


class Flooding(Parrot):
    """A model that answers `flood` with far more than a reply may have."""

    def next_answer(self, body: Any) -> Reply | Answer:
        if body["messages"][-1]["content"].endswith("flood"):
            return Reply(["x" * 10_000] * 2_000, delay=0)
        return super().next_answer(body)


class Hostile:
    """What each hostile client does, again and again until the end."""

    def __init__(self, server: Server, stop: threading.Event) -> None:
        parts = urlsplit(server.url)
        self.address = (parts.hostname, parts.port)
        self.server = server
        self.stop = stop

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=30)

    def half_requests(self) -> None:
        """Keep many connections open on which half a head or half a body came."""
        with ExitStack() as stack:
            for n in range(HALVES):
                half = stack.enter_context(self.connect())
                text = "GET /healthz HTTP/1.1\r\nHos" if n % 2 else HEAD % "x/messages" + "Content-Length: 99\r\n\r\n{"
                half.sendall(text.encode())
            self.stop.wait(5)

    def stalled_readers(self) -> None:
        """Ask for streams and read nothing of them."""
        body = b'{"content": "hostile"}'
        with ExitStack() as stack:
            for n in range(STALLED):
                reader = stack.enter_context(self.connect())
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                head = HEAD % f"stalled-{n}/messages/stream" + f"Content-Length: {len(body)}\r\n\r\n"
                reader.sendall(head.encode() + body)
            self.stop.wait(5)

    def queues(self) -> None:
        """Queue more messages in one conversation than it takes, over a socket that nobody reads."""
        connection = create_connection(f"ws://{self.address[0]}:{self.address[1]}/ws/queue", timeout=5)
        with suppress(OSError):
            for n in range(500):
                connection.send(json.dumps({"type": "user", "content": str(n)}))
            self.stop.wait(2)
        connection.shutdown()

    def floods(self) -> None:
        """Have the model flood, several conversations at once."""
        senders = [threading.Thread(target=self.server.send, args=(f"flood-{n}", "flood")) for n in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        self.stop.wait(5)

    def strangers(self) -> None:
        """Send large bodies, wrong hosts, broken frames, and the signals of another server's operator."""
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Content-Type": "text/plain"}):
            requests.post(f"{self.server.url}{CONVERSATIONS}/y/messages", b"x" * 3_900_000, headers=headers, timeout=30)
        with self.connect() as broken:
            broken.sendall(os.urandom(2000))
        for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2, signal.SIGWINCH):
            os.killpg(self.server.process.pid, number)
        self.stop.wait(0.5)

    def run(self, act: Callable[[], None]) -> None:
        while not self.stop.is_set():
            with suppress(OSError, requests.RequestException):
                act()


def watch_health(url: str, stop: threading.Event, times: list[float]) -> None:
    """Ask for /healthz ten times a second; note how long each answer took."""
    while not stop.wait(0.1):
        began = time.monotonic()
        with suppress(requests.RequestException):
            requests.get(f"{url}/healthz", timeout=30)
        times.append(time.monotonic() - began)


def soak(folder: Path, seconds: float, seed: int) -> tuple[list[float], int, int, list[str]]:
    """Return the times of /healthz, the writes acknowledged, the restarts of the worker, and what was lost."""
    belief, stop, times = Belief(), threading.Event(), list[float]()
    chance = random.Random(seed)
    with Flooding() as upstream:
        server = start(folder, upstream)
        try:
            hostile = Hostile(server, stop)
            acts = [hostile.half_requests, hostile.stalled_readers, hostile.queues, hostile.floods, hostile.strangers]
            documents = folder / "data" / "conversations"
            clients: list[threading.Thread] = [
                Client(f"c{n}", server.url, belief, chance.getrandbits(32), stop, documents) for n in range(CLIENTS)
            ]
            clients += [threading.Thread(target=hostile.run, args=(act,)) for act in acts]
            clients += [threading.Thread(target=watch_health, args=(server.url, stop, times))]
            for client in clients:
                client.start()
            time.sleep(seconds)
            stop.set()
            for client in clients:
                client.join(60)
            os.killpg(server.process.pid, signal.SIGHUP)  # the terminal is closed
            assert server.wait(60) == 0, server.output
            restarts = (folder / "logs" / "self_agent.log").read_text().count("sent SIG")
            server = start(folder, upstream)
            problems = check(server.url, folder / "data", belief)
            lost = [problem.what for problem in problems if problem.kind != "wrong"]
            return times, belief.acknowledged, restarts, lost
        finally:
            server.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description="serve honest clients beside hostile ones")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        times, acknowledged, restarts, lost = soak(Path(folder), options.seconds, options.seed)
    slow = [spent for spent in times if spent > SLOW]
    for what in lost:
        print(what)
    print(f"acknowledged {acknowledged}; /healthz slower than {SLOW:g} s: {len(slow)}", end=" ")
    print(f"(slowest {max(times, default=0):.2f} s); lost: {len(lost)}; restarts of the worker: {restarts}")
    return 1 if slow or lost or restarts else 0


if __name__ == "__main__":
    sys.exit(main())
