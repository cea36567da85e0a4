"""No model at all: the server keeps and shows conversations, and says what to set to have them answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.errors import ModelUnavailable
from self_agent.events import Chunk
from self_agent.providers.base import ChatMessage, Completion, Provider


class NoModel(Provider):
    """Refuses every question."""

    name = "none"
    context_tokens = 4096

    def stream(self, messages: list[ChatMessage], **options: Any) -> Iterator[Chunk]:
        self.check()
        return iter(())

    def complete(self, body: bytes, **options: Any) -> Completion:
        self.check()
        raise AssertionError("check() always raises")

    def check(self) -> None:
        raise ModelUnavailable(
            "no model is configured: set OPENAI_BASE_URL (and OPENAI_API_KEY) to use a server, "
            "or LOCAL_MODEL to use the embedded model"
        )

    def models(self, *, api_key: str | None = None) -> list[str]:
        return []

    def describe(self) -> str:
        return "none"

    def status(self) -> dict[str, Any]:
        return {"name": "none", "state": "none"}
