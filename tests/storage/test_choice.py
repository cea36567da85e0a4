"""Which store is opened: the setting names a module, and a new one is one new file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config import Settings
from core.errors import StartupError
from self_agent import close, create_app, parts_of, storage
from self_agent.providers.echo import Echo
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.memory import MemoryStore

THIRD = """
from self_agent.storage.memory import MemoryStore

class Third(MemoryStore):
    persistent = True

def open_store(settings) -> Third:
    return Third()
"""


def settings(tmp_path: Path, **chosen: str) -> Settings:
    return Settings(data_dir=tmp_path / "data", log_dir=tmp_path / "logs", **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize(("chosen", "kind"), [({}, JsonFileStore), ({"store": "memory"}, MemoryStore)])
def test_setting_chooses_the_store(tmp_path: Path, chosen: dict[str, str], kind: type) -> None:
    """The app is built on the store that STORE names, on JSON files when nothing is set."""
    app = create_app(settings(tmp_path, **chosen), provider=Echo())
    assert type(parts_of(app).store) is kind
    assert (tmp_path / "data").exists() == kind.persistent
    close(app)


@pytest.mark.parametrize("name", ["oracle", "base", "rows", "json_files.store", "..cli", ""])
def test_wrong_name_lists_the_choices(tmp_path: Path, name: str) -> None:
    """A name of no store, though there may be such a module, stops the start and says which there are."""
    with pytest.raises(StartupError, match="STORE must be one of") as refused:
        create_app(settings(tmp_path, store=name), provider=Echo())
    assert {"json_files", "memory"} <= set(storage.choices())
    assert f" {', '.join(storage.choices())}," in str(refused.value)


def test_forgetful_store_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever chooses a store that keeps nothing finds that in the log."""
    with caplog.at_level(logging.WARNING):
        storage.open_store(settings(tmp_path, store="memory")).close()
    assert "forgotten" in caplog.text


@pytest.fixture
def third(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "third.py").write_text(THIRD)
    storage.__path__.append(str(tmp_path))
    yield
    storage.__path__.remove(str(tmp_path))


@pytest.mark.usefixtures("third")
def test_new_store_is_one_file(tmp_path: Path) -> None:
    """A module with a function `open_store` is a choice."""
    assert "third" in storage.choices()
    assert type(storage.open_store(settings(tmp_path, store="third"))).__name__ == "Third"
