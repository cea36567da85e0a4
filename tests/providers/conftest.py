"""A fake upstream for each test, and providers that are closed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from self_agent.providers.openai_compatible import OpenAICompatible
from tests.upstream import FakeUpstream

Connect = Callable[..., OpenAICompatible]


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
