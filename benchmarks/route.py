"""A way to the upstream: one question at a time over a connection that is kept alive, every answer checked."""

from __future__ import annotations

import json
import re
import select
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from benchmarks import process
from benchmarks.answers import Kind, token

COMPLETIONS = "/v1/chat/completions"
NATIVE = "/api/v1/conversations/{}/messages/stream"  # `{}` is the conversation
EVENT = re.compile(rb'^data: .*?"content":"( t\d{4})".*$', re.MULTILINE)  # one of a token, in either dialect
LAST = b"\r\n0\r\n\r\n"
LIMIT = 60.0  # seconds that an answer may take


def request(path: str, body: object, headers: Mapping[str, str] | None = None, method: str = "POST") -> bytes:
    """Return a whole HTTP request."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": len(data), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data


def completion(question: str, *, stream: bool = True, model: str = "m") -> dict[str, Any]:
    """Return the body of a chat completion request."""
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": question}]}


def native(question: str) -> dict[str, Any]:
    """Return the body of a send in the native dialect."""
    return {"role": "user", "content": question}


def connect(port: int) -> socket.socket:
    """Open a connection whose every step is bounded."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def left(connection: socket.socket) -> bool:
    """Return whether a server has closed a connection that waited too long for the next question."""
    return bool(select.select([connection], [], [], 0)[0])


class Asking(Protocol):
    """Asks one question at a time."""

    def ask(self, kind: Kind, conversation: str) -> float:
        """Ask for an answer and check it; return the seconds to its first token."""
        ...

    def settled(self) -> float:
        """Wait until the server rests; return the processor seconds it has used so far."""
        ...


class Route:
    """Asks over HTTP; `server` is the process whose work is watched, `body` makes one from a question."""

    def __init__(
        self,
        port: int,
        server: int | None,
        path: str,
        body: Callable[[str], dict[str, Any]] = completion,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self.socket = connect(port)
        self.server, self.path, self.body, self.headers = server, path, body, headers

    def ask(self, kind: Kind, conversation: str) -> float:
        """Ask for an answer and check it; return the seconds to its first token."""
        data = request(self.path.format(conversation), self.body(kind.word), self.headers)
        first, received, wanted = 0.0, bytearray(), token(0).encode()
        if left(self.socket):
            self.socket = connect(self.port)
        begun = time.perf_counter()
        self.socket.sendall(data)
        while not received.endswith(LAST):
            received += (piece := self.socket.recv(1 << 18))
            if not first and wanted in received:
                first = time.perf_counter() - begun
            if not piece or not received.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{self.path} failed: {bytes(received[-2000:])!r}")
        check([match.decode() for match in EVENT.findall(unchunked(received))], kind)
        return first

    def settled(self) -> float:
        """Wait until the server does nothing more for an answer; return the processor seconds it has used so far."""
        return settled(self.server) if self.server else 0.0


def settled(server: int, limit: float = 5.0) -> float:
    """Wait until a server rests, but not longer than the limit; return the processor seconds it has used so far."""
    used, end = process.cpu(server), time.monotonic() + limit
    while time.monotonic() < end:
        time.sleep(0.02)
        before, used = used, process.cpu(server)
        if used - before < 0.001:
            break
    return used


def unchunked(received: bytes | bytearray) -> bytes:
    """Return the body of an answer in chunks."""
    rest = received.partition(b"\r\n\r\n")[2]
    body = bytearray()
    while size := int(rest[: rest.index(b"\r\n")], 16):
        begin = rest.index(b"\r\n") + 2
        body += rest[begin : begin + size]
        rest = rest[begin + size + 2 :]
    return bytes(body)


def check(found: list[str], kind: Kind) -> None:
    """Raise unless every token came, in order, in an event of its own."""
    if found != [token(n) for n in range(kind.tokens)]:
        raise RuntimeError(f"{len(found)} of {kind.tokens} tokens came, the last is {found[-1:]}")


def rotated(names: list[str], number: int) -> list[str]:
    """Return the names in another order each round, so that none always follows the same other."""
    return names[number % len(names) :] + names[: number % len(names)]


def first_tokens(
    routes: Mapping[str, Asking], kind: Kind, rounds: int, failed: dict[str, str] | None = None, warm_up: int = 8
) -> dict[str, float]:
    """Return the median seconds to the first token by route; one named `… next` goes on where `… new` began.

    That is in the round before: both ask in the conversation of a round, so the first round must be one that warms up.
    """

    def ask(name: str, number: int) -> float:
        spent = routes[name].ask(kind, f"first{number - name.endswith(' next')}")
        routes[name].settled()
        return spent

    for name in (name for name in routes if name.endswith(" new")):
        routes[name].ask(kind, "first0")
    return taking_turns(list(routes), ask, warm_up, rounds, failed)


def cpu_a_token(routes: Mapping[str, Asking], kind: Kind, failed: dict[str, str] | None = None) -> dict[str, float]:
    """Return the median processor seconds of the server a token by route."""

    def ask(name: str, number: int) -> float:
        before = routes[name].settled()
        routes[name].ask(kind, f"{kind.word}{number}")
        return (routes[name].settled() - before) / kind.tokens

    return taking_turns(list(routes), ask, 1, kind.rounds, failed)


def taking_turns(
    names: list[str], measure: Callable[[str, int], float], warm_up: int, rounds: int, failed: dict[str, str] | None
) -> dict[str, float]:
    """Return the median of each name's figures; `failed` takes those that cannot be measured, else the error is raised.

    `measure` gets a name and the number of the round, which counts from 1.
    """
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1, warm_up + rounds + 1):
        for name in rotated(list(figures), number):
            try:
                figures[name].append(measure(name, number))
            except Exception as problem:
                if failed is None:
                    raise
                failed[name] = f"{type(problem).__name__}: {problem}"[:200]
                del figures[name]
    return {name: statistics.median(each[warm_up:]) for name, each in figures.items()}
