"""What every test may use: an app over a store in memory and a model that does what the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from core.config import Settings
from self_agent import close, create_app, listening
from self_agent.providers.echo import Echo
from self_agent.storage.memory import MemoryStore

MakeApp = Callable[..., Flask]


@pytest.fixture(scope="session", autouse=True)
def lists_that_end() -> Iterator[None]:
    """A test client reads an answer to its end: the live list, which has none, ends with what there is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening, "LONGEST", 0.0)
        yield


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Build apps with any settings, `script` (the model's steps), `store` or `provider`; closed at the end."""
    apps: list[Flask] = []

    def build(*, script: Any = None, store: Any = None, provider: Any = None, **settings: Any) -> Flask:
        settings = {"data_dir": tmp_path / "data", "log_dir": tmp_path / "logs", **settings}
        app = create_app(Settings(**settings), store=store or MemoryStore(), provider=provider or Echo(script=script))
        apps.append(app)
        return app

    yield build
    for app in apps:
        close(app)


@pytest.fixture
def client(make_app: MakeApp) -> FlaskClient:
    """A client of an app whose model echoes."""
    return make_app().test_client()
