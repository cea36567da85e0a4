"""Each store, and the use cases over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config import Settings
from self_agent import close, create_app, parts_of
from self_agent.models import LOCAL_USER
from self_agent.providers.echo import Echo
from self_agent.storage import Store, choices, open_store
from self_agent.transfer import Outcome, Transfer

Make = Callable[[], "Place"]


class Place:
    """A store and what takes chats in and out of it."""

    def __init__(self, store: Store, transfer: Transfer) -> None:
        self.store, self.transfer = store, transfer

    def take_in(self, document: Any, user: str = LOCAL_USER, size: int = 1 << 16) -> list[Outcome]:
        """Import a document, or the bytes of one, in pieces of a size."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        chunks = (data[start : start + size] for start in range(0, len(data), size))
        return list(self.transfer.take_in(user, chunks))

    def export(self, form: str = "json", user: str = LOCAL_USER) -> bytes:
        """Return an export of everything."""
        return b"".join(self.transfer.export(user, form).pieces)

    def chats(self) -> Any:
        """Return an export of everything, parsed."""
        return json.loads(self.export())

    def only(self) -> Any:
        """Return the one chat there is."""
        [chat] = self.chats()
        return chat


@pytest.fixture(params=choices())
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make places over empty stores of each kind."""
    apps: list[Any] = []

    def build() -> Place:
        settings = Settings(data_dir=tmp_path / f"data{len(apps)}", log_dir=tmp_path / "logs", store=request.param)
        apps.append(create_app(settings, store=open_store(settings), provider=Echo()))
        parts = parts_of(apps[-1])
        return Place(parts.store, parts.transfer)

    yield build
    for app in apps:
        close(app)


@pytest.fixture
def place(make: Make) -> Place:
    return make()
