"""Numbers, project ids and names at the edge of what there can be, made by hand or asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import InvalidRequest, NotFound
from self_agent.models import MAX_NUMBER, MAX_TITLE, Message, check_title
from self_agent.storage import Store
from self_agent.storage.json_files import JsonFileStore

Open = Callable[[], JsonFileStore]

HUGE = [1 << 33, (1 << 53) - 1, 1 << 53, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 10**400, -1, -(1 << 63)]


@pytest.mark.parametrize("number", [MAX_NUMBER, MAX_NUMBER - 1, 1 << 30, (1 << 20) + 100])
def test_handmade_number_ends_nothing(open_store: Open, folder: Path, number: int) -> None:
    """A number far above those that were given works, and the next one is the next after those that were given."""
    store = open_store()
    assert [store.create(name, "u").number for name in "ab"] == [1, 2]
    store.close()
    document = {"conversation_id": "far", "number": number, "messages": [{"role": "user", "content": "x"}]}
    (folder / "conversations" / "far.json").write_text(json.dumps(document))
    for given in (3, 4):
        store = open_store()
        assert store.append("far", Message("user", "y"))[0].id >> 20 == number
        assert store.create(f"n{given}", "u").number == given
    store.delete("n4")
    store.delete("far")
    assert open_store().create("n5", "u").number == 5


def test_taken_numbers_are_stepped_over(open_store: Open, folder: Path) -> None:
    """A number that a file has is not given, wherever it comes from."""
    far = 1 << 21
    for name, number in (("near", 2), ("far", far)):
        document = {"conversation_id": name, "number": number, "messages": []}
        (folder / "conversations").mkdir(parents=True, exist_ok=True)
        (folder / "conversations" / f"{name}.json").write_text(json.dumps(document))
    store = open_store()
    assert store.create("a", "u").number == 3
    store._catalog.raise_numbers(far - 1)
    assert store.create("b", "u").number == far + 1


def test_poisoned_last_number_is_not_believed(open_store: Open, folder: Path) -> None:
    """A `store.json` in which an older version counted a hand-made number ends nothing either."""
    store = open_store()
    store.create("a", "u")
    store.close()
    content = {"format": 1, "last_number": MAX_NUMBER, "last_project": 0, "projects": []}
    (folder / "store.json").write_text(json.dumps(content))
    store = open_store()
    assert store.create("b", "u").number == 2
    store.delete("b")
    assert open_store().create("b", "u").number == 3


def test_removed_by_hand_is_not_reused(open_store: Open, folder: Path) -> None:
    """The number of a file that a person removed while the server was stopped is remembered by the snapshot."""
    store = open_store()
    store.create("a", "u")
    store.close()
    (folder / "conversations" / "a.json").unlink()
    assert open_store().create("a", "u").number == 2


@pytest.mark.parametrize("project_id", HUGE, ids=range(len(HUGE)))
def test_impossible_project_is_not_found(store: Store, project_id: int) -> None:
    """A project's id that cannot be is one that is not there, for every method that takes one."""
    store.create("c", "u")
    for use in (
        lambda: store.create("d", "u", project_id=project_id),
        lambda: store.update("c", project_id=project_id),
        lambda: store.begin("u", "d", Message("user", "x"), new={"project_id": project_id}),
        lambda: store.rename_project(project_id, "x"),
        lambda: store.delete_project(project_id),
    ):
        with pytest.raises(NotFound):
            use()
    assert store.project(project_id) is None
    assert store.conversations("u", project_id=project_id).items == []
    assert store.get("d") is None
    store.update("c", title="t")


@pytest.mark.parametrize("project_id", HUGE, ids=range(len(HUGE)))
def test_impossible_project_in_files(open_store: Open, folder: Path, project_id: int) -> None:
    """In a document it is no project, in `store.json` it costs no later project and no conversation."""
    document = {"conversation_id": "c", "number": 1, "project_id": project_id, "messages": []}
    (folder / "conversations").mkdir(parents=True)
    (folder / "conversations" / "c.json").write_text(json.dumps(document))
    project = {"id": project_id, "name": "p", "user_id": "u", "created_at": "2025-04-30T10:00:01.000000Z"}
    for content in ({"last_project": project_id}, {"projects": [project]}):
        (folder / "store.json").write_text(json.dumps(content))
        store = open_store()
        assert store.get("c").project_id == 0  # type: ignore[union-attr]
        assert 0 < store.create_project("u", "q").id < 1 << 33
        store.update("c", title="t")
        store.delete_project(store.create_project("u", "\ud800").id)


def test_titles_have_a_length() -> None:
    """A title as long as may be is taken, a longer one refused."""
    assert check_title("你" * MAX_TITLE) == "你" * MAX_TITLE
    with pytest.raises(InvalidRequest, match="500"):
        check_title("x" * (MAX_TITLE + 1))
