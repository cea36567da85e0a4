"""One conversation is one JSON document that a person can read, appended to in place, durably, at any length."""

from core.config import Settings
from self_agent.storage.json_files.store import JsonFileStore

__all__ = ["JsonFileStore", "open_store"]


def open_store(settings: Settings) -> JsonFileStore:
    """Open the store of the settings' data folder."""
    return JsonFileStore(settings.data_dir, keep_days=settings.keep_deleted_days)
