"""What either store brings back after a deletion, and what it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from core import clock
from core.errors import Conflict, NotFound
from self_agent.models import Folder, Message, Shelf, Tag
from self_agent.storage import Store
from tests.storage.samples import full_message

Reopen = Callable[[], Store]


def filled(store: Store, name: str = "c", user_id: str = "u") -> None:
    """Make a conversation of which everything could be lost."""
    store.create(name, user_id, title="标题", model="m", system_prompt="s", pinned=True, archived=True)
    store.append(name, Message("user", "你好"), Message("assistant", "hidden"), Message("user", "again"))
    store.hide([store.messages(name)[1].id])
    question = store.messages(name)[0]
    store.append(name, Message("user", "edited", parent=question.id))  # another branch
    reply = replace(full_message(0, question.id), id=store.reserve(name), is_deleted=False)
    store.append(name, replace(reply, timestamp=clock.now()))


def shelve(store: Store, *names: str) -> None:
    """Put conversations into a folder, and give each a tag."""
    numbers = {name: found.number for name in names if (found := store.get(name))}
    tags = tuple(Tag(f"t{name}", name, number, "标签", "2025", "2025") for name, number in numbers.items())
    store.change_shelf("u", lambda _: Shelf((Folder("f", "名", numbers, "2025", "2025"),), tags))


def rest(store: Store) -> None:
    """Change the shelf, as somebody does while a conversation is deleted."""
    store.change_shelf("u", lambda s: Shelf((*s.folders, Folder("g", "g", {}, "2025", "2025")), s.tags))


def everything(store: Store) -> Any:
    shelf = store.shelf("u")
    marks = [(f.id, list(f.conversations.items())) for f in shelf.folders if f.id != "g"]
    messages = store.messages("c") + store.everything("c")
    return store.get("c"), messages, marks, shelf.tags, store.conversations("u", archived=None)


def test_restored_is_as_it_was(store: Store) -> None:
    """Its number, messages, ids, times, title, folders and tags, though the shelf was changed meanwhile."""
    for name in "abc":
        filled(store, name)
    shelve(store, "a", "c", "b")
    before = everything(store)
    store.delete("c", keep=True)
    with pytest.raises(NotFound):
        store.messages("c")
    rest(store)
    assert [list(f.conversations) for f in store.shelf("u").folders] == [["a", "b"], []]
    assert store.restore("u", "c") == before[0]
    assert everything(store) == before
    [message] = store.append("c", Message("user", "goes on"))
    assert message.id > max(each.id for each in before[1])
    with pytest.raises(NotFound):
        store.restore("u", "c")


def test_restored_after_a_start(reopen: Reopen) -> None:
    """What was deleted before a start is restored after it, and what was restored stays."""
    store = reopen()
    for name in "abc":
        filled(store, name)
    shelve(store, "a", "c", "b")
    before = everything(store)
    store.delete("c", keep=True)
    store = reopen()
    rest(store)
    store = reopen()
    assert store.restore("u", "c") == before[0]
    assert everything(store) == before
    store = reopen()
    assert everything(store) == before
    with pytest.raises(NotFound):
        store.restore("u", "c")


def test_newest_of_an_id_is_restored(store: Store) -> None:
    """Of several that had the id the newest comes, then, when that is gone for good, the one before it."""
    for title in ("one", "two", "three"):
        store.create("c", "u", title=title)
        store.delete("c", keep=True)
    assert store.restore("u", "c").title == "three"
    store.delete("c")
    assert store.restore("u", "c").title == "two"
    with pytest.raises(Conflict):
        store.restore("u", "c")
    assert store.get("c").title == "two"


def test_nothing_to_restore(store: Store) -> None:
    """What was never there, is there, was deleted for good, is another user's or was deleted too long ago is not."""
    filled(store)
    for name in ("c", "nobody"):
        with pytest.raises(NotFound):
            store.restore("u", name)
    store.delete("c", keep=True)
    deleted = clock.now()
    with pytest.raises(NotFound):
        store.restore("v", "c")
    with pytest.raises(NotFound):
        store.restore("u", "c", since=clock.now())
    assert store.restore("u", "c", since="2025-04-30T10:00:00.000000Z").updated_at < deleted
    store.delete("c")
    with pytest.raises(NotFound):
        store.restore("u", "c")


def test_own_is_found_behind_anothers(store: Store) -> None:
    """Another user's newer one with the same id is neither restored nor in the way."""
    store.create("c", "u", title="u's")
    store.delete("c", keep=True)
    store.create("c", "v", title="v's")
    with pytest.raises(Conflict):
        store.restore("u", "c")
    store.delete("c", keep=True)
    assert store.restore("u", "c").title == "u's"
    store.delete("c", keep=True)
    assert store.restore("v", "c").title == "v's"


def test_restored_leaves_a_project_that_went(reopen: Reopen) -> None:
    """A project that was deleted meanwhile is none; one that is there has it again."""
    store = reopen()
    gone, kept = (store.create_project("u", name).id for name in "ab")
    store.create("c", "u", project_id=gone)
    store.create("d", "u", project_id=kept)
    for name in "cd":
        store.delete(name, keep=True)
    store.delete_project(gone)
    assert [store.restore("u", name).project_id for name in "cd"] == [0, kept]
    store = reopen()
    assert [store.get(name).project_id for name in "cd"] == [0, kept]


def test_restored_at_once_is_restored_once(store: Store) -> None:
    """Of many who restore the same one does; the others are told why not."""
    filled(store)
    store.delete("c", keep=True)
    answers: list[Any] = []

    def use() -> None:
        try:
            answers.append(store.restore("u", "c").number)
        except (Conflict, NotFound) as error:
            answers.append(type(error))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(1) == 1
    assert set(answers) <= {1, Conflict, NotFound}
    assert store.conversations("u", archived=None).total == 1


def test_swept_is_gone(store: Store) -> None:
    """What was deleted before a time is gone for good, what was deleted later is not; its number stays spent."""
    for name in "ab":
        filled(store, name)
    store.delete("b", keep=True)
    assert store.sweep("2025-04-30T10:00:00.000000Z") == 0
    assert store.sweep(clock.now()) == 1
    with pytest.raises(NotFound):
        store.restore("u", "b")
    assert store.sweep(clock.now()) == 0
    assert store.create("b", "u").number == 3


def test_swept_numbers_are_spent(reopen: Reopen) -> None:
    """A start after a sweep gives no number again, though no file has it."""
    for number in (1, 2, 3):
        store = reopen()
        assert store.create("c", "u").number == number
        store.delete("c", keep=True)
        assert store.sweep(clock.now()) == 1
    assert reopen().create("c", "u").number == 4


def test_marks_are_made_once(store: Store) -> None:
    """The folders and tags of each number; the same object until the shelf changes."""
    for name in "ab":
        filled(store, name)
    assert store.marks("u") == {}
    shelve(store, "a", "b")
    marks = store.marks("u")
    assert {number: (each.folders, [tag.id for tag in each.tags]) for number, each in marks.items()} == {
        1: (("f",), ["ta"]),
        2: (("f",), ["tb"]),
    }
    assert store.marks("u") is marks
    assert store.marks("v") == {}
    rest(store)
    assert store.marks("u") == marks
    store.change_shelf("u", lambda _: Shelf())
    assert store.marks("u") == {}
