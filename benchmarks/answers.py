"""An OpenAI-compatible upstream that answers as fast as it can: prepared bytes, by the newest message's word.

Each event is an HTTP chunk. A question without `"stream": true` gets a whole completion. Connections are kept alive.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import re
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

from tests.upstream import DONE, MODEL, chunk_of, completion_of, event

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
STREAM = re.compile(rb'"stream": ?true')
Writes = list[tuple[bytes, float]]  # each with the seconds to wait after it


class Kind(NamedTuple):
    """How the upstream writes an answer: the first `alone` events are writes of their own, the rest is one."""

    word: str  # by which a question asks for it; in nothing else that a server sends
    what: str
    tokens: int
    alone: int = 0
    pause: float = 0.0  # seconds after each event that is alone
    rounds: int = 10


FIRST = Kind("answer-first", "", 3, alone=1, pause=0.003)
SEND = Kind("answer-eight", "8 tokens in one write", 8)
STEADY = Kind("answer-steady", "50 tokens a second", 500, alone=500, pause=0.02)
BURSTS = (
    Kind("answer-burst", "burst of 2,000 in one write", 2000),
    Kind("answer-single", "burst of 2,000, each a write of its own", 2000, alone=2000),
    Kind("answer-paced", "1,000 that come 1 ms apart", 1000, alone=1000, pause=0.001, rounds=6),
)
_LIST = json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in ("m", MODEL)]}).encode()
MODELS = WHOLE % (len(_LIST), _LIST)  # what answers a GET
KINDS = (FIRST, SEND, STEADY, *BURSTS)


def token(number: int) -> str:
    """Return one of the tokens that every answer begins with."""
    return f" t{number:04}"


def writes(kind: Kind) -> Writes:
    """Return the writes of a streamed answer."""
    events = [*(event(token(n)) for n in range(kind.tokens)), event(chunk_of({}, finish_reason="stop")), DONE]
    chunks = [b"%x\r\n%b\r\n" % (len(each), each) for each in events]
    chunks[0] = HEAD + chunks[0]
    rest = b"".join(chunks[kind.alone :]) + b"0\r\n\r\n"
    return [*((chunk, kind.pause) for chunk in chunks[: kind.alone]), (rest, 0.0)]


def whole(kind: Kind) -> Writes:
    """Return the one write of an answer that is no stream."""
    body = json.dumps(completion_of("".join(map(token, range(kind.tokens))), usage={"total_tokens": 3})).encode()
    return [(WHOLE % (len(body), body), 0.0)]


def answer(connection: socket.socket, answers: dict[bytes, tuple[Writes, Writes]]) -> None:
    """Answer every question on a connection; the newest message in it says how."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = connection.makefile("rb")
    with contextlib.suppress(OSError):  # who left needs no more
        while request := lines.readline():
            size = 0
            while (header := lines.readline()).strip():
                name, _, value = header.partition(b":")
                size = int(value) if name.lower() == b"content-length" else size
            body = lines.read(size)
            if request.startswith(b"GET "):
                connection.sendall(MODELS)
                continue
            streamed, at_once = answers[max(answers, key=body.rfind)]
            for part, pause in streamed if STREAM.search(body) else at_once:
                connection.sendall(part)
                if pause:
                    time.sleep(pause)


def serve(pipe: Connection) -> None:
    """Answer on a port that is told through the pipe, until killed."""
    answers = {kind.word.encode(): (writes(kind), whole(kind)) for kind in KINDS}
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    pipe.send(listener.getsockname()[1])
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0], answers), daemon=True).start()


@contextlib.contextmanager
def upstream() -> Iterator[int]:
    """Run the upstream in a process of its own and yield its port."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        if not ours.poll(30):
            raise RuntimeError("the upstream did not start")
        yield int(ours.recv())
    finally:
        process.kill()
        process.join()
