"""Metadata of a conversation, in its file and out of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from self_agent.models import Metadata
from self_agent.storage.json_files import JsonFileStore

Open = Callable[[], JsonFileStore]


def test_metadata_is_an_object_in_the_file(open_store: Open, folder: Path) -> None:
    """A person reads it as what it is; it is there again after a start, and none is none."""
    store = open_store()
    store.create("c", "u", metadata=Metadata({"topic": "你好"}))
    store.create("d", "u")
    assert json.loads((folder / "conversations" / "c.json").read_bytes())["metadata"] == {"topic": "你好"}
    store.close()
    again = open_store()
    found = [again.get(name) for name in "cd"]
    assert [each and each.metadata for each in found] == [{"topic": "你好"}, None]


@pytest.mark.parametrize("value", [{"a": 1}, {"a": None}, ["a"], "a", 1, True])
def test_edited_metadata_is_no_trouble(open_store: Open, folder: Path, value: Any) -> None:
    """What a person wrote there that is no metadata is none; the file as it was lies in quarantine."""
    store = open_store()
    store.create("c", "u", title="t")
    store.close()
    path = folder / "conversations" / "c.json"
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, "metadata": value}))
    found = open_store().get("c")
    assert found is not None
    assert (found.title, found.metadata) == ("t", None)
    assert [json.loads(kept.read_bytes())["metadata"] for kept in (folder / "quarantine").iterdir()] == [value]
