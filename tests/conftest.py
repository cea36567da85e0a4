"""What every test may use: an app over a store in memory and a model that does what the test says.

With TEST_STORE=postgres (`make test-postgres`) the apps keep things there instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from core.config import Settings
from self_agent import close, create_app, listening
from self_agent.providers.echo import Echo
from self_agent.storage import Store, open_store
from self_agent.storage.memory import MemoryStore
from tests.postgres import empty_url

MakeApp = Callable[..., Flask]


@pytest.fixture(scope="session", autouse=True)
def lists_that_end() -> Iterator[None]:
    """A test client reads an answer to its end: the live list, which has none, ends with what there is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening, "LONGEST", 0.0)
        yield


@pytest.fixture
def new_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Store]]:
    """Open empty stores of the kind that the parameter names, else TEST_STORE, else in memory."""
    name = getattr(request, "param", os.environ.get("TEST_STORE", "memory"))
    made: list[Store] = []

    def open_another() -> Store:
        if name == "memory":
            return MemoryStore()
        folder, url = tmp_path / f"store{len(made)}", empty_url(name, len(made))
        if url:
            monkeypatch.setattr("self_agent.storage.postgres.opened.BLOCK", 1)
        made.append(open_store(Settings(store=name, data_dir=folder, log_dir=folder / "logs", database_url=url)))
        return made[-1]

    yield open_another
    for store in made:
        store.close()


@pytest.fixture
def make_app(tmp_path: Path, new_store: Callable[[], Store]) -> Iterator[MakeApp]:
    """Build apps with any settings, `script` (the model's steps), `store` or `provider`; closed at the end."""
    apps: list[Flask] = []

    def build(*, script: Any = None, store: Any = None, provider: Any = None, **settings: Any) -> Flask:
        settings = {"data_dir": tmp_path / "data", "log_dir": tmp_path / "logs", **settings}
        app = create_app(Settings(**settings), store=store or new_store(), provider=provider or Echo(script=script))
        apps.append(app)
        return app

    yield build
    for app in apps:
        close(app)


@pytest.fixture
def client(make_app: MakeApp) -> FlaskClient:
    """A client of an app whose model echoes."""
    return make_app().test_client()
