"""A fake upstream for each test, and providers that are closed after it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import pytest

from self_agent.providers.base import Live
from self_agent.providers.openai.provider import OpenAICompatible
from tests.upstream import FakeUpstream

T = TypeVar("T")
Connect = Callable[..., OpenAICompatible]


def live(answer: Iterable[T]) -> Live[T]:
    """Return an answer that can be waited for with others."""
    assert isinstance(answer, Live)
    return answer


@contextlib.contextmanager
def raw_server(*answers: bytes | list[bytes]) -> Iterator[str]:
    """Answer requests, all on one connection, with these very bytes, and close it after the last.

    The pieces of a list come one after the other.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    asked = b""
                    while not asked.endswith(b"}"):
                        asked += connection.recv(65536)
                    for piece in [answer] if isinstance(answer, bytes) else answer:
                        connection.sendall(piece)
                        time.sleep(0.05)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def connect(upstream: FakeUpstream) -> Iterator[Connect]:
    """Make providers: of the fake upstream, unless another URL is given."""
    made: list[OpenAICompatible] = []

    def make(base_url: str = "", **options: Any) -> OpenAICompatible:
        made.append(OpenAICompatible(base_url or upstream.base_url, **{"model": "m", **options}))
        return made[-1]

    yield make
    for provider in made:
        provider.close()
