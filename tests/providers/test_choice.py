"""Which provider the settings choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.config import Settings
from core.errors import ModelUnavailable
from self_agent.providers import from_settings


@pytest.mark.parametrize(
    ("settings", "name", "described"),
    [
        ({}, "local", "qwen2.5-coder-1.5b"),
        ({"local_model": "smollm2-135m"}, "local", "smollm2-135m"),
        ({"openai_api_key": "sk-x"}, "openai", "api.openai.com"),
        ({"openai_base_url": "http://127.0.0.1:11434", "openai_model": "llama3"}, "openai", "llama3"),
        ({"provider": "echo", "openai_api_key": "sk-x"}, "echo", "echo (says back what it is told)"),
        ({"local_model": "none"}, "none", "none"),
        ({"provider": "none"}, "none", "none"),
    ],
    ids=str,
)
def test_settings_choose_provider(tmp_path: Path, settings: dict[str, Any], name: str, described: str) -> None:
    """An upstream if one is set, else the embedded model, else none; nothing is started by choosing."""
    provider = from_settings(Settings(data_dir=tmp_path / "data", log_dir=tmp_path / "logs", **settings))
    assert (provider.name, provider.describe()) == (name, described)
    provider.close()
    assert not (tmp_path / "data").exists()


def test_no_model_says_what_to_set() -> None:
    """Without a model every question is refused with the remedy."""
    provider = from_settings(Settings(provider="none"))
    assert provider.models() == []
    assert provider.status()["state"] == "none"
    for ask in (lambda: provider.stream([]), lambda: provider.complete(b"{}"), provider.check):
        with pytest.raises(ModelUnavailable, match="OPENAI_BASE_URL"):
            ask()
