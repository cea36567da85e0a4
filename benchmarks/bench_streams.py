"""Many replies at once on one server: is every token delivered, how late, in which memory.

    python -m benchmarks.bench_streams [--each 500] [--provider openai|echo] [--streams 2000] [--rate 20] [--seconds 4]

First half WebSockets, half event streams, whose replies come as fast as they can; the model is `tests.upstream` in a
process of its own, or `echo`. Then event streams only, each given so many tokens a second: more and more of them until
a token in a hundred is late, and in the end as many as the goal names; see `benchmarks.stream_load`. The server is
`run.py` as a user starts it. Ends with 1 when a token is lost, doubled or minutes late, a reply is not stored, or the
server of the first part takes 300 MiB or more.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.stream_load import PATIENCE, Load, Result, direct, memory, processes, served
from benchmarks.table import Row, show
from tests.serving import CONVERSATIONS, Server
from tests.upstream import MODEL

TOKENS = 200  # of a reply
LIMIT = 300  # MiB that master and worker may take together
LAG = 50  # milliseconds that 99 of 100 tokens may take from the upstream through the server to the client
LAG_LIMIT = 250  # MiB for as many streams as the goal names
LADDER = (125, 250, 500, 1000)  # streams before that
WHOLE, STORED, PEAKS = "delivered whole and in order", "stored whole", "master and worker, peaks"
BOUND = 110  # seconds
MESSAGE = " ".join(f"w{number}" for number in range(TOKENS - 2))  # "reply 1:" or "echo:" comes before it
MASK = b"\0\0\0\0"  # as good as any for bytes that nobody guesses


# --- the clients


class Clients:
    """The client side: `sockets` that are open and wait, and streams that are asked for."""

    def __init__(self, url: str, each: int) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self.each = each
        self.sockets: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.first_tokens: list[float] = []

    async def open_sockets(self) -> None:
        """Open all WebSockets, fifty at a time."""
        for begin in range(0, self.each, 50):
            numbers = range(begin, min(begin + 50, self.each))
            self.sockets += await asyncio.gather(*(self._open_socket(number) for number in numbers))

    async def talk(self) -> list[str]:
        """Ask on every socket and for every stream at once; return the replies."""
        asks = [self._ask_socket(*pair) for pair in self.sockets]
        return await asyncio.gather(*asks, *(self._ask_stream(number) for number in range(self.each)))

    async def stored(self) -> list[list[dict[str, Any]]]:
        """Return the messages of every conversation."""
        names = [f"{kind}{number}" for kind in ("socket", "stream") for number in range(self.each)]
        return [await self._messages(name) for name in names]

    def close(self) -> None:
        for _, writer in self.sockets:
            writer.close()

    async def _open_socket(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._request(
            f"GET /ws/socket{number}",
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Version="13",
            Sec_WebSocket_Key=base64.b64encode(os.urandom(16)).decode(),
            Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits",  # as every browser asks for
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        return reader, writer

    async def _ask_socket(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        data = json.dumps({"type": "user", "content": MESSAGE}).encode()
        began = time.monotonic()
        writer.write(b"\x81\xfe" + len(data).to_bytes(2, "big") + MASK + data)
        text = ""
        while (frame := json.loads(await _next_frame(reader)))["type"] != "stream_end":
            if frame["type"] == "stream_chunk":
                if not text:
                    self.first_tokens.append(time.monotonic() - began)
                text += frame["content"]
        return text

    async def _ask_stream(self, number: int) -> str:
        body = json.dumps({"content": MESSAGE}).encode()
        began = time.monotonic()
        reader, writer = await self._request(
            f"POST {CONVERSATIONS}/stream{number}/messages/stream", body, Content_Type="application/json"
        )
        text = ""
        async for line in reader:  # chunk sizes are lines without "data:", and no event spans two chunks
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                if event["type"] == "content":
                    if not text:
                        self.first_tokens.append(time.monotonic() - began)
                    text += event["content"]
        writer.close()
        return text

    async def _messages(self, name: str) -> list[dict[str, Any]]:
        reader, writer = await self._request(f"GET {CONVERSATIONS}/{name}")
        answer = await reader.read()
        writer.close()
        messages: list[dict[str, Any]] = json.loads(answer.partition(b"\r\n\r\n")[2])["data"]["messages"]
        return messages

    async def _request(
        self, line: str, body: bytes = b"", **headers: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        headers = {"Host": f"{self.host}:{self.port}", "Connection": "close", **headers}
        if body:
            headers["Content-Length"] = str(len(body))
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        writer.write(f"{line} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return reader, writer


async def _next_frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(2)
    assert head[0] == 0x81, head
    length = head[1]
    if length >= 126:
        length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
    return await reader.readexactly(length)


# --- the server


@contextlib.contextmanager
def model(provider: str) -> Iterator[dict[str, str]]:
    """Run the upstream that a provider needs, and give the settings for it."""
    if provider == "echo":
        yield {"provider": "echo"}
        return
    command = [sys.executable, "-m", "tests.upstream", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        base_url = process.stdout.readline().strip().partition("=")[2]
        try:
            yield {"provider": "openai", "openai_base_url": base_url, "openai_model": MODEL}
        finally:
            process.kill()


# --- the measurement


async def measure(server: Server, provider: str, each: int) -> list[Row]:
    """Have all replies begin at one instant."""
    pids = processes(server.process.pid)
    clients = Clients(server.url, each)
    worker = pids[-1]
    before = memory(worker, "VmRSS")
    await clients.open_sockets()
    idle = memory(worker, "VmRSS")
    began = time.monotonic()
    replies = await clients.talk()
    seconds = time.monotonic() - began
    stored = await clients.stored()
    peaks = sum(memory(pid, "VmHWM") for pid in pids)
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
        tempfile.TemporaryDirectory() as folder,
        model(provider) as settings,
        Server(Path(folder), dialects="self_agent,aichat", **settings) as server,
    ):
        yield from asyncio.run(asyncio.wait_for(measure(server, provider, each), BOUND))


def paced_rows(goal: Load) -> Iterator[Row]:
    """Measure streams that each get so many tokens a second, fewer than `goal` names and then as many."""
    most = 0
    for streams in filter(goal.streams.__gt__, LADDER):
        load = goal._replace(streams=streams)
        result = served(load)
        yield from _lag_rows(load, result)
        if result.lag(0.99) > LAG:
            break
        most = streams
    result = served(goal)
    yield from _lag_rows(goal, result, direct(goal))
    if result.lag(0.99) <= LAG:
        most = goal.streams
    yield Row(f"… {PEAKS}", f"{result.memory:.0f} MiB", goal=f"≤ {LAG_LIMIT} MiB", reached=result.memory <= LAG_LIMIT)
    yield Row(f"most streams with a lag of ≤ {LAG} ms at 99 %", f"{most:,} of {goal.streams:,}")


def _lag_rows(load: Load, result: Result, straight: Result | None = None) -> Iterator[Row]:
    """Show a result; beside it a client that asks the upstream itself, where it was measured."""
    yield Row(
        f"{load.streams:,} event streams, {load.rate:g} tokens/s each for {load.seconds:g} s: lag at 50, 99, 100 %",
        _lags(result),
        f"{_lags(straight)}, a client that asks the upstream itself" if straight else "",
        goal=f"≤ {LAG} ms at 99 %" if straight else "",
        reached=result.lag(0.99) <= LAG if straight else None,
    )
    yield Row(
        "… server's processor time a token, while tokens come",
        f"{result.server_cpu:.0f} µs",
        f"{result.upstream_cpu:.0f} µs, the upstream; {result.client_cpu:.0f} µs, the client",
    )
    yield Row(f"… {WHOLE}", *_all(result.whole, load.streams))
    if result.stored is None:
        yield Row(f"… {STORED}", f"not asked: after {PATIENCE:g} s not all had ended", goal="all", reached=False)
    else:
        yield Row(f"… {STORED}", *_all(result.stored, load.streams))


def _lags(result: Result) -> str:
    return " / ".join(f"{result.lag(share):,.1f}" for share in (0.5, 0.99, 1)) + " ms"


def rows(provider: str = "openai", each: int = 500, goal: Load = Load(2000)) -> Iterator[Row]:  # noqa: B008 - frozen
    """Measure both; takes about three minutes, the longer the worse the server keeps up."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield from burst_rows(provider, each)
    yield from paced_rows(goal)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=500, help="WebSockets, and as many event streams (500)")
    parser.add_argument("--provider", choices=("openai", "echo"), default="openai", help="of the first part")
    parser.add_argument("--streams", type=int, default=2000, help="with so many tokens a second (2000)")
    parser.add_argument("--rate", type=float, default=20, help="tokens a second for each of them (20)")
    parser.add_argument("--seconds", type=float, default=4, help="of tokens, after a second to warm up (4)")
    options = parser.parse_args()
    kept: list[bool] = []

    def noted() -> Iterator[Row]:
        for row in rows(options.provider, options.each, Load(options.streams, options.rate, options.seconds)):
            if row.what.endswith((WHOLE, STORED)) or row.goal == f"< {LIMIT} MiB":
                kept.append(bool(row.reached))
            yield row

    show(noted())
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
