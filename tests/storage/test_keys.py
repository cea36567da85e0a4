"""Keys: a question that was stored is found by its key for a day, whatever happened to its store meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core import clock
from core.errors import KeyReused, NotYours, StorageFull
from self_agent.keys import KEPT, stored_key
from self_agent.models import Message
from self_agent.storage.base import Store
from self_agent.storage.json_files import JsonFileStore, keys
from tests.storage.conftest import Refusing, age

Open = Callable[[], JsonFileStore]


def key(name: str, body: str = "b") -> str:
    return stored_key("/r", name, body.encode())


def asked(name: str, body: str = "b", **fields: object) -> Message:
    return Message("user", f"{name} {body}", key=key(name, body), **fields)  # type: ignore[arg-type]


def turn(store: Store, name: str, conversation_id: str = "c") -> tuple[Message, Message]:
    """Store a question and its reply."""
    begun = store.begin("u", conversation_id, asked(name), new={})
    reply = store.finish(conversation_id, Message("assistant", f"to {name}", id=begun.reply_id))
    assert reply
    return begun.question, reply


def test_repeat_is_not_stored(store: Store) -> None:
    """The same key gets the question and the reply that are there, as often as it comes."""
    first = store.begin("u", "c", asked("k"), new={})
    assert (first.is_repeat, first.reply) == (False, None)
    again = store.begin("u", "c", asked("k"), new={})
    assert (again.is_repeat, again.question, again.reply_id) == (True, first.question, first.question.id + 1)
    assert again.reply is None
    reply = store.finish("c", Message("assistant", "a", id=first.reply_id))
    again = store.begin("u", "c", asked("k"), new={})
    assert (again.question, again.reply, again.conversation.count) == (first.question, reply, 2)
    assert store.sent("c", key("k")) == (first.question, reply)
    assert store.messages("c") == [first.question, reply]


def test_keys_are_independent(store: Store) -> None:
    """Another key, another conversation and none at all are no repeats; nor is a text that looks like a key."""
    turn(store, "k")
    looks = f'"key":"{key("j")}"'
    store.append("c", Message("user", looks), Message("assistant", "x", sources=[{"key": key("j")}]))
    assert not store.begin("u", "c", asked("j")).is_repeat
    assert not store.begin("u", "d", asked("k"), new={}).is_repeat
    assert not store.begin("u", "c", replace(asked("k"), key=None)).is_repeat
    assert store.sent("nowhere", key("k")) is None
    with pytest.raises(NotYours):
        store.begin("v", "c", asked("k"))


def test_other_body_is_refused(store: Store) -> None:
    """A key that comes with another body is refused, and nothing has changed."""
    turn(store, "k")
    before = store.messages("c")
    for use in (lambda: store.begin("u", "c", asked("k", "other")), lambda: store.sent("c", key("k", "other"))):
        with pytest.raises(KeyReused, match="key of its own"):
            use()
    assert store.messages("c") == before


def test_key_is_free_after_a_day(store: Store) -> None:
    """A key that is older than 24 hours is free for any body; one that is younger is not."""
    now = clock.wall() // 1000
    store.create("c", "u")
    store.append("c", asked("old", timestamp=clock.from_microseconds(now - KEPT - 1_000_000)))
    store.append("c", asked("new", timestamp=clock.from_microseconds(now - KEPT + 60_000_000)))
    assert store.sent("c", key("old", "other")) is None
    assert store.sent("c", key("new")) is not None
    begun = store.begin("u", "c", asked("old", "other"))
    assert not begun.is_repeat
    assert store.sent("c", key("old", "other")) == (begun.question, None)


def test_hidden_ones_are_known(store: Store) -> None:
    """A question or a reply that was deleted is not stored again; what it was is said."""
    question, reply = turn(store, "k")
    store.hide([reply.id])
    sent = store.sent("c", key("k"))
    assert sent
    assert sent.reply
    assert (sent.question.is_deleted, sent.reply.is_deleted) == (False, True)
    store.hide([question.id])
    begun = store.begin("u", "c", asked("k"))
    assert begun.is_repeat
    assert begun.question.is_deleted


def test_deleted_conversation_has_no_keys(store: Store) -> None:
    """A new conversation with the id of a deleted one knows nothing of it."""
    turn(store, "k")
    store.delete("c")
    assert not store.begin("u", "c", asked("k"), new={}).is_repeat
    assert len(store.messages("c")) == 1


@pytest.mark.parametrize("new", [None, {}], ids=["there", "new"])
def test_one_of_many_at_once_is_stored(store: Store, new: dict[str, object] | None) -> None:
    """The same key from many threads at once is stored once, and all get the same question."""
    if new is None:
        store.create("c", "u")
    together = threading.Barrier(8)
    found: list[int] = []

    def send() -> None:
        together.wait()
        found.append(store.begin("u", "c", asked("k"), new=new).question.id)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {store.messages("c")[0].id}
    assert len(store.messages("c")) == 1


def test_thousands_of_keys_cost_no_more(store: Store) -> None:
    """Each of 2,000 different keys is stored and found again."""
    store.create("c", "u")
    began = time.perf_counter()
    store.append("c", *(asked(f"k{number}") for number in range(2000)))
    for number in range(2000):
        assert store.sent("c", key(f"k{number}")) is not None
        assert store.sent("c", key(f"other{number}")) is None
    assert time.perf_counter() - began < 30  # an accident, not a measurement


def test_keys_survive(reopen: Callable[[], Store]) -> None:
    """After a restart or a kill the key is known, with its reply or without one; the reply's id is still free."""
    store = reopen()
    question, reply = turn(store, "k")
    begun = store.begin("u", "c", asked("cut"))
    store = reopen()
    assert store.begin("u", "c", asked("k"))[1:] == (question, question.id + 1, True, reply)
    again = store.begin("u", "c", asked("cut"))
    assert again[1:] == (begun.question, begun.reply_id, True, None)
    stored = store.finish("c", Message("assistant", "late", id=again.reply_id))
    assert store.messages("c") == [question, reply, begun.question, stored]


# --- in files


def test_edited_by_hand(open_store: Open, folder: Path) -> None:
    """An editor's document counts: a key taken out is free, one that is put in is known."""
    store = open_store()
    turn(store, "k")
    path = folder / "conversations" / "c.json"
    document = json.loads(path.read_bytes())
    document["messages"][0]["key"] = key("mine")
    path.write_text(json.dumps(document, indent=2))
    age(path)
    assert store.sent("c", key("k")) is None
    assert store.sent("c", key("mine")) is not None
    document["messages"][0]["key"] = 5
    path.write_text(json.dumps(document))
    age(path)
    assert store.sent("c", key("mine")) is None


@pytest.mark.parametrize("edit", ["rename", "edit", "hide"])
def test_written_anew(open_store: Open, edit: str) -> None:
    """What moves the lines of a document costs no key, and finds what comes behind."""
    store = open_store()
    question, _ = turn(store, "k")
    other, _ = turn(store, "j")
    assert store.sent("c", key("k"))
    if edit == "rename":
        store.update("c", title="a title that is longer than what was there")
    elif edit == "edit":
        store.edit(other.id, lambda message: replace(message, content="x" * 1000))
    else:
        store.hide([other.id])
    turn(store, "l")
    for name in "kjl":
        assert store.sent("c", key(name)), name
    assert store.sent("c", key("k"))[0] == question  # type: ignore[index]


def test_only_the_day_is_read(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look reads a long document from its end as far as a day back, the next ones what came since."""
    store = open_store()
    store.create("c", "u")
    then = clock.from_microseconds(clock.wall() // 1000 - 2 * KEPT)
    filler = "x" * 5000
    store.append("c", asked("old", timestamp=then), *(Message("user", filler, timestamp=then) for _ in range(600)))
    store.append("c", asked("k0"), *(Message("user", filler) for _ in range(30)), Message("user", "y" * 200_000))
    read: list[int] = []
    real = keys.read_at

    def counting(fd: int, length: int, offset: int) -> bytes:
        read.append(length)
        return real(fd, length, offset)

    monkeypatch.setattr(keys, "read_at", counting)
    assert store.sent("c", key("k0")) is not None
    assert 350_000 < sum(read) < 1_500_000
    read.clear()
    for number in range(1, 20):
        assert not store.begin("u", "c", asked(f"k{number}")).is_repeat
        assert store.begin("u", "c", asked(f"k{number}")).is_repeat
    assert sum(read) < 20 * 400
    assert store.sent("c", key("old")) is None


def test_memory_is_bounded(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of the conversations that were used least are forgotten, and read again when they are asked for."""
    store = open_store()
    store._documents.outlines.keys = known = keys.Keys(most=100)
    for number in range(20):
        store.create(f"c{number}", "u")
        store.append(f"c{number}", *(asked(f"k{each}") for each in range(30)))
        assert store.sent(f"c{number}", key("k7"))
        assert known.count <= 100
    assert store.sent("c0", key("k29"))
    store.delete("c0")
    assert known.count == sum(len(each.ids) for each in known._known.values())


def test_old_keys_are_left_out(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation that is used for years keeps no more keys in memory than its last days have."""
    monkeypatch.setattr(keys, "_SPARE", 5)
    store = open_store()
    store.create("c", "u")
    for number in range(30):
        old = clock.from_microseconds(clock.wall() // 1000 - KEPT - 10_000_000 + number)
        store.append("c", asked(f"old{number}", timestamp=old))
        store.sent("c", key("none"))
        assert len(store._documents.outlines.keys._known[1].ids) <= 8


def test_failed_write_leaves_the_key_free(open_store: Open, disk: Refusing) -> None:
    """A question that the disk refused was not sent: its key finds nothing, and can be used for it again."""
    store = open_store()
    turn(store, "j")
    disk.refused = {"sync": 28}
    with pytest.raises(StorageFull):
        store.begin("u", "c", asked("k"))
    disk.refused = {}
    assert store.sent("c", key("k")) is None
    assert not store.begin("u", "c", asked("k")).is_repeat
    assert len(store.messages("c")) == 3
