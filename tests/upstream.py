"""A real OpenAI-compatible server on loopback that does what it is told: the test double of every model.

    with FakeUpstream() as upstream:
        upstream.enqueue(Reply(["Hel", "lo"]), Reply(["half", RESET]), Answer(429, {"error": "slow down"}))
        ... upstream.base_url ...; upstream.requests[0].body["messages"]

Without orders it answers `reply N: <the last user message>`, N being the number of user messages it was sent.
By hand: `python -m tests.upstream --port 8080 --delay 0.05`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Union

MODEL = "fake-model"
DONE = b"data: [DONE]\n\n"


class Order(Enum):
    """What a step can do besides sending: fall silent, close the connection in the middle, or reset it."""

    HANG = "hang"
    CUT = "cut"
    RESET = "reset"


HANG, CUT, RESET = Order.HANG, Order.CUT, Order.RESET
Step = Union[str, float, dict[str, Any], bytes, Order]  # a token, a sleep, a chunk object, raw bytes, an order


@dataclass
class Reply:
    """A streamed answer. `before` is done in place of the headers, or before them if it is a sleep."""

    steps: list[Step]
    before: Order | float | None = None
    delay: float = 0.0  # seconds before each step
    usage: dict[str, Any] | None = field(default_factory=lambda: {"total_tokens": 3})
    finish_reason: str | None = "stop"
    done: bool = True  # ends with [DONE]
    chunked: bool = True  # else it streams until it closes the connection
    content_type: str = "text/event-stream"


@dataclass
class Answer:
    """An answer that is no stream; a `body` that is no bytes is sent as JSON."""

    status: int
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: Any  # of JSON
    raw: bytes


class FakeUpstream:
    """The server; a context manager that leaves no thread and no connection behind."""

    def __init__(self, port: int = 0, *, delay: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []  # in the order they came, those for /models too
        self.models: list[str] = [MODEL]
        self.models_answer: Answer | None = None  # instead of the list
        self.models_delay = 0.0  # seconds until it comes
        self.disconnected = threading.Event()  # a client left before its answer was complete
        self.delay = delay
        self.stopping = threading.Event()
        self._orders: deque[Reply | Answer] = deque()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.upstream = self
        if tls:  # the handshake is left to the connection's own thread
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._scheme = "https" if tls else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def base_url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}/v1"

    @property
    def connections(self) -> int:
        """How many connections were opened so far."""
        return self._server.opened

    @property
    def asked(self) -> list[Request]:
        """The requests for a reply."""
        return [request for request in self.requests if request.method == "POST"]

    def enqueue(self, *orders: Reply | Answer) -> None:
        """Answer the next requests so, one each."""
        self._orders.extend(orders)

    def next_answer(self, body: Any) -> Reply | Answer:
        if self._orders:
            return self._orders.popleft()
        said = [message["content"] for message in body.get("messages", []) if message["role"] == "user"]
        tokens: list[Step] = list(re.findall(r"\s*\S+|\s+", f"reply {len(said)}: {said[-1] if said else ''}"))
        return Reply(tokens, delay=self.delay, usage={"total_tokens": len(tokens)})

    def start(self) -> FakeUpstream:
        self._thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    __enter__ = start

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def chunk_of(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Shape a chunk of a stream. Source: https://platform.openai.com/docs/api-reference/chat-streaming"""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": more.pop("finish_reason", None)}
    return {**_shell("chat.completion.chunk"), "choices": [choice], **more}


def completion_of(content: str, **more: Any) -> dict[str, Any]:
    """Shape a whole reply. Source: https://platform.openai.com/docs/api-reference/chat/object"""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {**_shell("chat.completion"), "choices": [choice], **more}


def event(value: str | dict[str, Any]) -> bytes:
    """Shape an event: of a chunk object, or of a token."""
    value = chunk_of({"content": value}) if isinstance(value, str) else value
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _shell(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1750000000, "model": MODEL, "system_fingerprint": "fp_1"}


class _Gone(Exception):
    """Raised when the connection must not be used any more."""


class _Server(ThreadingHTTPServer):
    upstream: FakeUpstream
    daemon_threads = False  # so that closing joins them
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self.opened = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self.opened += 1
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        with self._lock:  # threads that wait for a further request on a connection kept alive
            for connection in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (OSError, _Gone)):  # a client that leaves is no error here
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test output clean."""

    def do_GET(self) -> None:
        upstream = self.server.upstream
        self._record(b"")
        upstream.stopping.wait(upstream.models_delay)
        if upstream.models_answer is None:
            self._answer(Answer(200, {"object": "list", "data": [{"id": name} for name in upstream.models]}))
        else:
            self._answer(upstream.models_answer)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        raw = self.rfile.read(length)
        if len(raw) < length:  # whoever asked was killed
            raise _Gone
        upstream = self.server.upstream
        body = self._record(raw).body or {}
        answer = upstream.next_answer(body)
        try:
            if isinstance(answer, Answer):
                self._answer(answer)
            elif body.get("stream"):
                self._stream(answer)
            else:
                text = "".join(step for step in answer.steps if isinstance(step, str))
                self._answer(Answer(200, completion_of(text, usage=answer.usage)))
        except OSError:
            upstream.disconnected.set()
            raise

    def _record(self, raw: bytes) -> Request:
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body, raw)
        self.server.upstream.requests.append(request)
        return request

    def _answer(self, answer: Answer) -> None:
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, reply: Reply) -> None:
        if reply.before is not None:
            self._pause_or_end(reply.before)
        self.send_response(200)
        self.send_header("Content-Type", reply.content_type)
        self.send_header(*(("Transfer-Encoding", "chunked") if reply.chunked else ("Connection", "close")))
        self.end_headers()
        for step in self._steps(reply):
            if isinstance(step, (Order, float)):
                self._pause_or_end(step)
                continue
            if reply.delay:
                self._wait(reply.delay)
            data = step if isinstance(step, bytes) else event(step)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if reply.chunked else data)
        if reply.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _steps(self, reply: Reply) -> Iterator[Step]:
        yield from reply.steps
        if reply.finish_reason:
            yield chunk_of({}, finish_reason=reply.finish_reason)
        if reply.usage:
            yield {**_shell("chat.completion.chunk"), "choices": [], "usage": reply.usage}
        if reply.done:
            yield DONE

    def _pause_or_end(self, step: Order | float) -> None:
        if isinstance(step, float):
            return self._wait(step)
        if step is HANG:
            self._wait(3600)
        if step is RESET:  # lingering for no time makes the close an RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        raise _Gone

    def _wait(self, seconds: float) -> None:
        """Sleep, but notice when the client leaves or the server stops."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.server.upstream.stopping.wait(min(left, 0.01)):
                raise _Gone
            if select.select([self.connection], [], [], 0)[0]:  # nobody sends more before the answer
                self.server.upstream.disconnected.set()
                raise _Gone


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer as an OpenAI-compatible API does.")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each token")
    options = parser.parse_args()
    with FakeUpstream(options.port, delay=options.delay) as upstream:
        print(f"OPENAI_BASE_URL={upstream.base_url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
