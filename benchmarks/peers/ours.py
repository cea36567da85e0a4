"""self_agent: the native dialect, which stores, and `/v1/chat/completions`, which does not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

from benchmarks import servers
from benchmarks.answers import SEND, Kind
from benchmarks.documents import write_document
from benchmarks.peers.base import LINE, RELAY, Peer
from benchmarks.route import COMPLETIONS, NATIVE, Asking, Route, native, request
from benchmarks.servers import CONVERSATIONS
from benchmarks.stream_load import QUESTION, Client, Target

LENGTHS = (10, 1000, 10_000)  # messages of the conversations that are there from the start


class SelfAgent(Peer):
    """The server of this checkout."""

    name = "self_agent"

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, port: int) -> Iterator[Peer]:
        """Run it as a user does; the whole history goes to the model, as it does with the others."""
        documents = folder / "data" / "conversations"
        if not documents.exists():
            documents.mkdir(parents=True)
            for number, length in enumerate(LENGTHS, 1):
                write_document(documents, f"long{length}", number, length, LINE)
        settings: dict[str, Any] = {**servers.relaying(port), "context_tokens": 10_000_000}
        with servers.self_agent(folder, **settings) as running:
            yield cls(running)

    def route(self, way: str) -> Asking | None:
        """Return a connection that is kept alive."""
        return Route(*self.running, COMPLETIONS) if way == RELAY else Route(*self.running, NATIVE, native)

    def sends(self, name: str) -> Callable[[], bytes]:
        """Return what makes a native send, always the same."""
        data = request(f"{CONVERSATIONS}/{name}/messages", native(SEND.word))
        return lambda: data

    def long(self, messages: int) -> Callable[[], bytes]:
        """Return a send to a conversation that was there at the start."""
        return self.sends(f"long{messages}")

    def streams(self, way: str) -> Client | None:
        """Return a client of event streams."""
        if way == RELAY:
            return Client(Target(*self.running))
        return Client(Target(*self.running, NATIVE.format("load{}"), {"content": QUESTION}))

    def begin(self, kind: Kind) -> Iterator[bytes]:
        """Ask through the native dialect."""
        url = f"http://127.0.0.1:{self.running.port}{NATIVE.format('killed')}"
        with requests.post(url, json=native(kind.word), stream=True, timeout=30) as answer:
            yield from answer.iter_lines(chunk_size=1)

    def kept(self) -> list[str]:
        """Return what is stored."""
        url = f"http://127.0.0.1:{self.running.port}{CONVERSATIONS}/killed"
        answer = requests.get(url, timeout=30)
        return [message["content"] for message in answer.json()["data"]["messages"]] if answer.ok else []
