"""A fake upstream for each test, and providers that are closed after it."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from self_agent.events import Chunk, Pause
from self_agent.providers.openai.provider import OpenAICompatible
from tests.upstream import FakeUpstream

Connect = Callable[..., OpenAICompatible]


class Unpaused:
    """Chunks without their pauses, for which it waits as the hub does."""

    def __init__(self, chunks: Any) -> None:
        self._chunks = chunks

    def close(self) -> None:
        if isinstance(self._chunks, Generator):
            self._chunks.close()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        while isinstance(chunk := next(self._chunks), Pause):
            if chunk.fd is not None and not select.select([chunk.fd], [], [], chunk.seconds)[0]:
                assert self._chunks.throw(TimeoutError()) == Pause(None)
        return chunk


class Pausing(OpenAICompatible):
    """A provider that is asked for pauses."""

    def stream(self, *args: Any, **options: Any) -> Any:
        return Unpaused(super().stream(*args, **{"may_pause": True, **options}))  # type: ignore[arg-type]


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture(params=["waiting", "pausing"])
def connect(upstream: FakeUpstream, request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make providers: of the fake upstream, unless another URL is given. Whether they wait or pause is the same."""
    if request.param == "pausing" and sys.platform == "win32":
        pytest.skip("a reply never pauses on Windows")
    kind = OpenAICompatible if request.param == "waiting" else Pausing
    made: list[OpenAICompatible] = []

    def make(base_url: str = "", **options: Any) -> OpenAICompatible:
        made.append(kind(base_url or upstream.base_url, **{"model": "m", **options}))
        return made[-1]

    yield make
    for provider in made:
        provider.close()
