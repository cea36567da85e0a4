"""One conversation is one JSON document that a person can read, appended to in place, durably, at any length."""

from self_agent.storage.json_files.store import JsonFileStore

__all__ = ["JsonFileStore"]
