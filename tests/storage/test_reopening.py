"""What every persistent store keeps when it is opened again, after it was closed or killed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from core import clock
from self_agent.models import Folder, Message, Shelf, Tag
from self_agent.storage.base import CUT_OFF, Store
from tests.storage.samples import full_message, said, settable

Open = Callable[[], Store]


def user(text: str) -> Message:
    return Message("user", text)


def reply_to(store: Store, conversation_id: str = "c", text: str = "question") -> Message:
    """Begin a turn, and return its reply, which is still empty."""
    begun = store.begin("u", conversation_id, user(text), new={})
    return Message("assistant", "", id=begun.reply_id, model="m")


def test_everything_is_there_again(reopen: Open) -> None:
    """Conversations with all their fields, messages with all of theirs, edits, deletions and projects are kept."""
    store = reopen()
    project = store.create_project("u", "p")
    store.create("a", "u", **{**settable(), "project_id": project.id})
    parent, _ = store.append("a", user("x"), user("y"))
    whole = replace(full_message(store.reserve("a"), parent.id), is_deleted=False)
    stored = store.append("a", whole, user("z"), user("hidden"))
    store.edit(parent.id, said("new"))
    store.hide([stored[2].id])
    store.create("b", "v", title="t")
    store.update("b", **settable() | {"project_id": 0})
    store.delete_project(store.create_project("v", "gone").id)
    store.rename_project(project.id, "renamed")
    before = (store.conversations("u"), store.conversations("v"), store.messages("a"), store.projects("u"))
    for _ in range(2):
        store = reopen()
        assert (store.conversations("u"), store.conversations("v"), store.messages("a"), store.projects("u")) == before
        assert store.message(whole.id) == whole
        assert store.projects("v") == []


def test_draft_is_one_again(reopen: Open) -> None:
    """What was set before the first message is there again, and still in no list."""
    store = reopen()
    store.create("c", "u", is_draft=True, model="m")
    for _ in range(2):
        store = reopen()
        found = store.get("c")
        assert found
        assert (found.model, found.is_draft, store.conversations("u").total) == ("m", True, 0)
    store.append("c", user("x"))
    assert reopen().conversations("u").total == 1


@pytest.mark.parametrize("end", [None, "appended", "finished", "nothing"])
def test_left_checkpoint_is_the_reply(reopen: Open, end: str | None) -> None:
    """What was checkpointed of a reply is stored as cut off, once, unless the reply was stored or given up."""
    store = reopen()
    reply = reply_to(store)
    store.checkpoint("c", reply, "par")
    store.checkpoint("c", reply, "tial \n你好")
    whole = replace(reply, content="the whole")
    if end == "appended":
        store.append("c", whole)
    elif end is not None:
        store.finish("c", whole if end == "finished" else None)
    for _ in range(2):
        store = reopen()
        found = [replace(message, timestamp="") for message in store.messages("c")[1:]]
        cut_off = replace(reply, content="partial \n你好", incomplete=True, error=CUT_OFF)
        assert found == {None: [cut_off], "nothing": []}.get(end, [whole])
        assert all(message.timestamp for message in store.messages("c"))


def test_empty_checkpoint_is_dropped(reopen: Open) -> None:
    """A reply of which there was no text yet is not stored."""
    store = reopen()
    store.checkpoint("c", reply_to(store), "")
    assert [message.content for message in reopen().messages("c")] == ["question"]


def test_checkpoint_goes_with_its_conversation(reopen: Open) -> None:
    """Of a conversation that is gone nothing comes back, not even in another one with its id."""
    store = reopen()
    store.checkpoint("c", reply_to(store), "lost")
    store.checkpoint("d", reply_to(store, "d"), "lost")
    store.delete("c")
    store.delete("d")
    store.create("d", "u")
    store = reopen()
    assert store.get("c") is None
    assert store.messages("d") == []
    store.create("c", "u")
    assert reopen().messages("c") == []


def test_announced_id_is_not_given_again(reopen: Open) -> None:
    """The id of a reply that was announced is no other message's, in whatever order others were stored."""
    store = reopen()
    first, second = reply_to(store), reply_to(store)
    store.append("c", replace(first, content="late"))
    store = reopen()
    assert store.append("c", user("next"))[0].id > second.id
    announced = reply_to(store)
    assert reopen().reserve("c") > announced.id


def test_numbers_are_not_given_again(reopen: Open) -> None:
    """A number of a conversation and an id of a project are spent, though nothing has them any more."""
    spent = []
    for keep in (True, False, True):
        store = reopen()
        spent.append((store.begin("u", "c", user("x"), new={}).conversation.number, store.create_project("u", "p").id))
        store.delete("c", keep=keep)
        store.delete_project(spent[-1][1])
    numbers, projects = zip(*spent, strict=True)
    assert list(numbers) == sorted(set(numbers))
    assert list(projects) == sorted(set(projects))


def test_shelves_are_there_again(reopen: Open) -> None:
    """Folders and tags are kept, with what is in them in its order, and without what was deleted."""
    store = reopen()
    numbers = {name: store.create(name, "u").number for name in "cab"}
    tags = tuple(Tag(f"t{name}", name, number, "标签", "2025", "2026") for name, number in numbers.items())
    store.change_shelf("u", lambda _: Shelf((Folder("f", "名", numbers, "2025", "2026"),), tags))
    store.change_shelf("v", lambda _: Shelf((Folder("g", "other", {}, "2025", "2026"),)))
    before = (store.shelf("u"), store.shelf("v"))
    store = reopen()
    assert (store.shelf("u"), store.shelf("v")) == before
    assert list(store.shelf("u").folders[0].conversations) == ["c", "a", "b"]
    store.delete("a")
    store.create("a", "u")
    for _ in range(2):
        store = reopen()
        assert list(store.shelf("u").folders[0].conversations) == ["c", "b"]
        assert [tag.conversation_id for tag in store.shelf("u").tags] == ["c", "b"]


def test_clock_stays_behind_nothing(reopen: Open) -> None:
    """What comes is later than all that is stored, though the computer's clock was set back."""
    future = clock.from_microseconds(time.time_ns() // 1000 + 72_000_000_000)  # 20 hours ahead
    store = reopen()
    store.create("c", "u")
    store.append("c", Message("user", "x", timestamp=future))
    store = reopen()
    assert store.append("c", user("y"))[0].timestamp > future
    assert store.create("d", "u").created_at > future


def test_far_future_stays_alone(reopen: Open) -> None:
    """A time far ahead keeps its own conversation at the head of the list, and no new message takes after it."""
    store = reopen()
    far = "9998-01-01T00:00:00.000000Z"
    for name in "ab":
        store.create(name, "u")
    store.append("a", Message("user", "x", timestamp=far))
    for _ in range(3):
        assert store.append("a", Message("user", "next"))[0].timestamp < "9"
        assert store.append("b", Message("user", "next"))[0].timestamp < "9"
        assert store.update("a", title="t").updated_at == far
        assert [found.id for found in store.conversations("u").items] == ["a", "b"]
        store = reopen()
        assert [found.id for found in store.conversations("u").items] == ["a", "b"]


def test_unset_clock_goes_on(reopen: Open) -> None:
    """A machine whose clock starts at 1970 gives later times than those that are stored, again and again."""
    store = reopen()
    store.create("a", "u")
    [before] = store.append("a", Message("user", "x"))
    clock.wall = lambda: 5_000_000_000
    try:
        for _ in range(3):
            store = reopen()
            [after] = store.append("a", Message("user", "y"))
            assert after.timestamp > before.timestamp
            before = after
    finally:
        clock.wall = time.time_ns
