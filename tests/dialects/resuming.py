"""What the tests of cut connections share: a model that stops where the test wants, and a client that puts together."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flask.testing import FlaskClient

from self_agent.events import Chunk, Delta, Sources
from self_agent.providers.echo import Echo

ROOT = "/api/v1/conversations"
SOURCES = [{"type": "url", "url": "https://a.example"}]
CHUNKS = [
    Delta(reasoning="因"), Delta(reasoning="為."), Sources(SOURCES), Delta("你"), Delta("好😀"), Delta(" é\n\ndata: x"),
    Delta("id: 7\n"),
]  # fmt: skip
TEXT, THOUGHT = "你好😀 é\n\ndata: xid: 7\n", "因為."


class Held(Echo):
    """Says its chunks, and stops behind `hold` of them until it may go on."""

    def __init__(self, chunks: Iterable[Any] = CHUNKS) -> None:
        super().__init__()
        self.chunks = list(chunks)
        self.hold: int | None = None
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def stream(self, *_: Any, **__: Any) -> Iterator[Chunk]:
        for place, chunk in enumerate([*self.chunks, None]):
            if place == self.hold:
                self.reached.set()
                assert self.go_on.wait(10)
            if isinstance(chunk, Exception):
                raise chunk
            if chunk is not None:
                yield chunk


@dataclass
class Reader:
    """What a client makes of what it reads, over several connections."""

    last: int = 0
    text: str = ""
    thought: str = ""
    sources: Any = None
    kinds: list[str] = field(default_factory=list)
    message_id: int = 0
    end: dict[str, Any] = field(default_factory=dict)

    def read(self, data: bytes) -> None:
        """Read a connection as far as it came: half an event, or half a character, is lost."""
        for block in data.split(b"\n\n")[:-1]:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
            self.last = int(fields.get(b"id", self.last))
            if b"data" in fields:
                self.take(json.loads(fields[b"data"]))

    def take(self, event: dict[str, Any]) -> None:
        self.kinds.append(event["type"])
        self.message_id = event.get("message_id", self.message_id)
        self.text += event["delta"] if event["type"] == "content" else ""
        self.thought += event["delta"] if event["type"] == "thinking" else ""
        self.sources = event.get("sources", self.sources)
        self.end = event if event["type"] in ("done", "error") else self.end

    def is_whole(self) -> bool:
        once = self.kinds.count("start") == self.kinds.count("done") == 1
        known = (self.text, self.thought, self.sources) == (TEXT, THOUGHT, SOURCES)
        return once and known and self.end["full_content"] == TEXT


def get(client: FlaskClient, cid: str, after: int | None = None, **more: Any) -> Any:
    query = {name: value for name, value in {"after": after, **more}.items() if value is not None}
    return client.get(f"{ROOT}/{cid}/stream", query_string=query)
