"""Half WebSockets, half event streams, whose replies all begin at one instant and come as fast as they can."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.servers import CONVERSATIONS
from tests.upstream import MODEL

TOKENS = 200  # of a reply
MESSAGE = " ".join(f"w{number}" for number in range(TOKENS - 2))  # "reply 1:" or "echo:" comes before it
MASK = b"\0\0\0\0"  # as good as any for bytes that nobody guesses


class Clients:
    """The client side: `sockets` that are open and wait, and streams that are asked for."""

    def __init__(self, port: int, each: int) -> None:
        self.host, self.port = "127.0.0.1", port
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
        """Close the sockets."""
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
