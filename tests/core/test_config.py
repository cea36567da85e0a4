"""Settings."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from core import config
from core.config import Settings
from core.errors import StartupError

ROOT = Path(__file__).parent.parent.parent
NAMES = {item.name.upper() for item in fields(Settings)}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES & set(os.environ):
        monkeypatch.delenv(name)


def test_defaults_are_safe(tmp_path: Path) -> None:
    """Without a setting the server listens to this computer only."""
    settings = config.load(env_file=tmp_path / "none")
    assert (settings.host, settings.port, settings.auth_enabled) == ("127.0.0.1", 5000, False)


def test_nearer_source_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option beats the environment, which beats the .env file, which beats the default."""
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=1001\nHOST=localhost\nLOG_LEVEL=DEBUG\nDATA_DIR=~/chats\nRETRIES=\n")
    monkeypatch.setenv("PORT", "1002")
    monkeypatch.setenv("HOST", "127.0.0.2")
    settings = config.load({"port": 1003, "host": None}, env_file=env_file)
    assert (settings.port, settings.host, settings.log_level) == (1003, "127.0.0.2", "DEBUG")
    assert settings.data_dir == Path.home() / "chats"
    assert settings.retries == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("DEBUG", "maybe"),
        ("READ_TIMEOUT", "0"),
        ("JWT_ALGORITHM", "none"),
        ("PROVIDER", "oracle"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_wrong_value_names_setting(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that makes no sense stops the start and says which setting it is."""
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=name):
        config.load(env_file=None)


def test_short_secret_refuses_start() -> None:
    """Auth with a key that can be guessed is worse than none."""
    with pytest.raises(StartupError, match="32 bytes"):
        Settings(auth_enabled=True, jwt_secret="x" * 31)
    assert Settings(auth_enabled=True, jwt_secret="x" * 32).auth_enabled


def test_secrets_are_not_shown() -> None:
    """A log line or traceback that holds the settings holds no key."""
    shown = repr(Settings(openai_api_key="sk-secret", jwt_secret="hush"))
    assert "sk-secret" not in shown
    assert "hush" not in shown


def test_true_and_false_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches take the usual words."""
    monkeypatch.setenv("DEBUG", "Yes")
    assert config.load(env_file=None).debug
    monkeypatch.setenv("DEBUG", "off")
    assert not config.load(env_file=None).debug


def test_documents_list_same_names() -> None:
    """README's tables, .env.example and the dataclass name the same settings."""
    example = {
        line.lstrip("# ").partition("=")[0]
        for line in (ROOT / ".env.example").read_text().splitlines()
        if "=" in line and line.lstrip("# ").partition("=")[0].isupper()
    }
    assert example == NAMES
    for readme in ("README.md", "README.zh.md"):
        rows = {
            line.split("`")[1]
            for line in (ROOT / readme).read_text().splitlines()
            if line.startswith("| `") and line.split("`")[1].isupper()
        }
        assert rows == NAMES, readme
