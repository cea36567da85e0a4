"""Many clients at once that each ask again as soon as they are answered: how many a second, at which cost.

One thread with prepared bytes plays all clients, so that it takes as little of the machine as it can.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks import process
from benchmarks.route import LIMIT, connect, left

LOOK = 0.05  # seconds between two looks at the server's threads
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
END = b"\r\n0\r\n\r\n"  # of an answer in chunks
Ask = Callable[[], bytes]  # makes the next request of a client


class Rate(NamedTuple):
    """What a load came to."""

    a_second: float
    cpu: float = 0.0  # seconds of the server's processors for one
    switches: float = 0.0  # of the server's threads for one, each to wait


class Client:
    """One connection that is kept alive."""

    def __init__(self, port: int, ask: Ask) -> None:
        self.port = port
        self.socket = connect(port)
        self.ask = ask
        self.received = b""

    def revive(self) -> None:
        """Connect again where the server has closed a connection that waited too long."""
        if left(self.socket):
            self.socket.close()
            self.socket = connect(self.port)

    def send(self) -> None:
        """Ask."""
        self.received = b""
        self.socket.sendall(self.ask())

    def answered(self) -> bool:
        """Read on; whether the answer is whole. Raises RuntimeError when it is none."""
        piece = self.socket.recv(1 << 18)
        self.received += piece
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not piece or self.received[9:11] not in (b"", b"2", b"20"):
            raise RuntimeError(f"no answer: {self.received[:1000]!r}")
        length = LENGTH.search(head)
        return bool(end) and (len(body) >= int(length[1]) if length else self.received.endswith(END))


class Clients:
    """All of them; a context manager that closes their connections."""

    def __init__(self, port: int, asks: Sequence[Ask]) -> None:
        self.clients = [Client(port, ask) for ask in asks]

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for client in self.clients:
            client.socket.close()

    def once(self) -> None:
        """Have each ask once, and wait for all answers."""
        self._run(0.0)

    def run(self, seconds: float, server: int | None = None) -> Rate:
        """Have all ask for so long, and wait for the last answers; they count too, and so does their time."""
        if not server:
            begun = time.perf_counter()
            return Rate(self._run(seconds) / (time.perf_counter() - begun))
        cpu, switches = process.cpu(server), process.Switches(server)
        begun = time.perf_counter()
        count = self._run(seconds, switches.look)
        spent = time.perf_counter() - begun
        return Rate(count / spent, (process.cpu(server) - cpu) / count, switches.look() / count)

    def _run(self, seconds: float, look: Callable[[], object] = int) -> int:
        for client in self.clients:
            client.revive()
        with select.epoll() as poll:
            clients = {client.socket.fileno(): client for client in self.clients}
            for descriptor in clients:
                poll.register(descriptor, select.EPOLLIN)
            end = time.perf_counter() + seconds
            for client in self.clients:
                client.send()
            count, waiting, next_look = 0, len(clients), time.perf_counter() + LOOK
            while waiting:
                ready = poll.poll(LIMIT)
                if (now := time.perf_counter()) > next_look:
                    look()
                    next_look = now + LOOK
                if not ready:
                    raise RuntimeError(f"no answer within {LIMIT:g} s")
                for descriptor, _ in ready:
                    if clients[descriptor].answered():
                        count += 1
                        if time.perf_counter() < end:
                            clients[descriptor].send()
                        else:
                            waiting -= 1
        return count
