"""The whole contract in a few dicts: for tests, and for a server that is to forget everything at its end."""

from __future__ import annotations

from core.config import Settings
from self_agent.storage.memory.store import MemoryStore

__all__ = ["MemoryStore", "open_store"]


def open_store(settings: Settings) -> MemoryStore:
    """Open an empty store."""
    return MemoryStore(keep_days=settings.keep_deleted_days)
