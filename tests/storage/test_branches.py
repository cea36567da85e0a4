"""Branches: what follows what, which one is shown, and what is read of the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import Conflict, NotFound
from self_agent.models import Message, id_at
from self_agent.storage.base import Store
from self_agent.storage.json_files import JsonFileStore
from tests.storage.conftest import age

Open = Callable[[], JsonFileStore]


def texts(messages: list[Message]) -> str:
    return " ".join(message.content for message in messages)


def talk(store: Store, *contents: str, parent: int | None = None, conversation_id: str = "c") -> list[int]:
    """Append questions and replies in turn, the first behind `parent`; return their ids."""
    if store.get(conversation_id) is None:
        store.create(conversation_id, "u")
    roles = {"q": "user", "a": "assistant"}
    messages = [Message(roles[content[0]], content) for content in contents]
    stored = store.append(conversation_id, replace(messages[0], parent=parent), *messages[1:])
    return [message.id for message in stored]


def shown(store: Store, conversation_id: str = "c") -> str:
    """Return what is shown, having seen that every way to read it agrees."""
    found = store.get(conversation_id)
    assert found
    messages = store.messages(conversation_id)
    paged = [m for offset in range(found.count) for m in store.messages(conversation_id, offset=offset, limit=1)]
    assert messages == paged == store.latest(conversation_id, 100)
    assert found.count == len(messages) == len(store.messages(conversation_id, limit=50))
    for limit in range(found.count + 1):
        assert store.latest(conversation_id, limit) == messages[found.count - limit :]
    assert found.summary == (messages[-1].content if messages else "")
    assert found.first == next((m.content for m in messages if m.role == "user"), "")
    return texts(messages)


def test_message_behind_another_begins_branch(store: Store) -> None:
    """A message with a parent is shown behind it, and what followed before is kept."""
    q1, a1, q2, a2 = talk(store, "q1", "a1", "q2", "a2")
    [a3] = talk(store, "a3", parent=q2)
    assert shown(store) == "q1 a1 q2 a3"
    talk(store, "q4", "a4")
    assert shown(store) == "q1 a1 q2 a3 q4 a4"
    assert store.message(a2).content == "a2"
    assert texts(store.latest("c", 9, until=a2)) == "q1 a1 q2 a2"
    assert texts(store.latest("c", 2, until=a2)) == "q2 a2"
    assert store.siblings("c") == {a2: [a2, a3], a3: [a2, a3]}
    talk(store, "q5", parent=0)
    assert shown(store) == "q5"
    assert store.siblings("c")[q1][0] == q1
    assert texts(store.latest("c", 9, until=a1)) == "q1 a1"


def test_parent_that_is_last_is_no_branch(store: Store, folder: Path) -> None:
    """A message behind the last one, or the first of all, begins no branch."""
    [q1] = talk(store, "q1", parent=0)
    talk(store, "a1", parent=q1)
    assert (shown(store), store.siblings("c")) == ("q1 a1", {})
    if path := next(folder.glob("conversations/c.json"), None):
        assert "parent" not in path.read_text()


def test_unknown_parent_changes_nothing(store: Store) -> None:
    """A parent that is another conversation's, or was never given, is refused, and nothing is stored."""
    talk(store, "q1", "a1")
    [other] = talk(store, "q1", conversation_id="d")
    for parent in (other, 5, 1 << 52, 1 << 70):
        with pytest.raises(NotFound):
            talk(store, "q2", parent=parent)
        with pytest.raises(NotFound):
            store.choose("c", parent)
        with pytest.raises(NotFound):
            store.latest("c", 1, until=parent)
    assert shown(store) == "q1 a1"


def test_chosen_branch_is_shown_to_its_newest_end(store: Store) -> None:
    """Choosing a message shows the branch through it; the next message follows its end; nothing is as new as it was."""
    q1, _, q2, _ = talk(store, "q1", "a1", "q2", "a2")
    talk(store, "q3", "a3", parent=0)
    before = store.get("c")
    assert before
    chosen = store.choose("c", q1)
    assert (shown(store), chosen) == ("q1 a1 q2 a2", store.get("c"))
    assert chosen.updated_at == before.updated_at
    assert store.choose("c", q2) == chosen
    talk(store, "q4", "a4")
    assert shown(store) == "q1 a1 q2 a2 q4 a4"
    [other] = talk(store, "a5", parent=q1)
    assert shown(store) == "q1 a5"
    store.choose("c", q2)
    assert shown(store) == "q1 a1 q2 a2 q4 a4"
    store.choose("c", other)
    assert shown(store) == "q1 a5"
    store.choose("c", q1)  # its newest continuation
    assert shown(store) == "q1 a5"


def test_hidden_messages_in_branches(store: Store) -> None:
    """What is deleted is left out of every branch, and can be neither chosen nor an end; its branch goes on."""
    q1, a1, q2, a2 = talk(store, "q1", "a1", "q2", "a2")
    [a3] = talk(store, "a3", parent=q2)
    assert store.hide([a1, a2]) == 2
    assert shown(store) == "q1 q2 a3"
    assert store.siblings("c") == {}
    for use in (lambda: store.choose("c", a2), lambda: store.latest("c", 1, until=a2)):
        with pytest.raises(NotFound):
            use()
    talk(store, "q4", parent=a1)
    assert shown(store) == "q1 q4"
    store.hide([store.latest("c", 1)[0].id])
    assert shown(store) == "q1"
    store.choose("c", a3)
    assert shown(store) == "q1 q2 a3"
    assert [(m.content, m.parent) for m in store.everything("c")] == [("q1", 0), ("q2", q1), ("a3", q2)]


def test_edits_leave_branches(store: Store) -> None:
    """Replacing a text changes nothing of what is shown else, in whichever branch it is."""
    q1, a1 = talk(store, "q1", "a1")
    talk(store, "a2", parent=q1)
    for message_id in (q1, a1):
        store.edit(message_id, lambda m: replace(m, content=m.content + "!"))
    assert shown(store) == "q1! a2"
    store.choose("c", a1)
    store.edit(a1, lambda m: replace(m, content="a1!!"))
    assert shown(store) == "q1! a1!!"
    store.update("c", title="t")
    assert shown(store) == "q1! a1!!"


def test_conversation_begins_with_messages(store: Store) -> None:
    """A conversation can be made of all that another had, with its branches; the ids are its own."""
    _, a1, *_ = talk(store, "q1", "a1", "q2", "a2")
    talk(store, "q3", "a3", parent=a1)
    talk(store, "q4", "a4", parent=0)
    store.choose("c", a1)
    assert shown(store) == "q1 a1 q3 a3"
    made = store.create("d", "u", messages=store.everything("c"), title="t")
    assert (made, made.count, shown(store, "d")) == (store.get("d"), 4, "q1 a1 q3 a3")
    assert {m.id for m in store.everything("d")} == {id_at(made.number, n) for n in range(1, 9)}
    pairs = [[(m.content, m.timestamp) for m in store.everything(name)] for name in "cd"]
    assert pairs[0] == pairs[1]
    for message in store.everything("c"):
        twin = next(m for m in store.everything("d") if m.content == message.content)
        expected = texts(store.latest("c", 9, until=message.id))
        assert texts(store.latest("d", 9, until=twin.id)) == expected
    with pytest.raises(Conflict):
        store.create("d", "u", messages=store.everything("c"))
    with pytest.raises(ValueError, match="parent"):
        store.create("e", "u", messages=[Message("user", "x", parent=7)])
    assert store.get("e") is None
    assert store.append("d", Message("user", "q5"))[0].id == id_at(made.number, 9)


def test_long_branched_conversation(store: Store) -> None:
    """Pages and tails are right where branches lie far behind the end of a long document."""
    store.create("c", "u")
    padding = "x" * 200
    main = [m.id for m in store.append("c", *(Message("user", f"{n} {padding}") for n in range(1000)))]
    for n in range(0, 1000, 50):
        store.append("c", Message("user", f"side {n}", parent=main[n]))
    store.choose("c", main[-1])
    messages = store.messages("c")
    assert [m.id for m in messages] == main
    assert store.messages("c", offset=490, limit=30) == messages[490:520]
    assert store.latest("c", 20) == messages[-20:]
    assert len(store.siblings("c")) == 2 * 20
    store.append("c", Message("user", "more"))
    assert store.latest("c", 2)[0].id == main[-1]
    assert store.messages("c", offset=999, limit=5)[1].content == "more"


def test_branches_are_there_again(reopen: Open) -> None:
    """What is shown, what was chosen and what else there is are the same after the next open, and can be continued."""
    store = reopen()
    q1, *_ = talk(store, "q1", "a1", "q2", "a2")
    talk(store, "q3", "a3", parent=0)
    talk(store, "q1", "a1", conversation_id="d")
    talk(store, "q2", "a2", parent=0, conversation_id="d")
    store.choose("c", q1)
    before = (store.get("c"), store.get("d"), store.siblings("c"), store.everything("c"), store.everything("d"))
    for _ in range(2):
        store = reopen()
        after = (store.get("c"), store.get("d"), store.siblings("c"), store.everything("c"), store.everything("d"))
        assert after == before
        assert (shown(store), shown(store, "d")) == ("q1 a1 q2 a2", "q2 a2")
    talk(store, "q4")
    assert shown(reopen()) == "q1 a1 q2 a2 q4"


def test_checkpoint_of_another_reply(reopen: Open) -> None:
    """A second reply that a kill cut off is a branch behind its question; one without text leaves the first shown."""
    store = reopen()
    q1, _ = talk(store, "q1", "a1")
    reply = Message("assistant", "", id=store.reserve("c"), parent=q1)
    store.checkpoint("c", reply, "a2")
    talk(store, "q1", "a1", conversation_id="d")
    store.reserve("d")
    store = reopen()
    assert (shown(store), shown(store, "d")) == ("q1 a2", "q1 a1")
    assert store.latest("c", 1)[0].incomplete


# --- the document of the store of JSON files


def edit(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change a document as a person does, in an editor that indents it."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=2))
    age(path)


def test_document_says_which_branch(open_store: Open, folder: Path) -> None:
    """The file is JSON; a branch has a `parent`, and a choice counts until the next message."""
    store = open_store()
    q1, a1 = talk(store, "q1", "a1")
    [a2] = talk(store, "a2", parent=q1)
    path = folder / "conversations/c.json"
    assert [m.get("parent") for m in json.loads(path.read_text())["messages"]] == [None, None, q1]
    store.choose("c", a1)
    assert json.loads(path.read_text())["chosen"] == {"end": a1, "last": a2}
    talk(store, "q2")
    document = json.loads(path.read_text())
    assert (document["messages"][-1]["parent"], document["chosen"]["last"]) == (a1, a2)
    store.choose("c", a2)
    store.choose("c", a1)
    assert "chosen" not in json.loads(path.read_text())
    assert shown(store) == "q1 a1 q2"


@pytest.mark.parametrize("parent", [-5, 7, "x", 1.5, None, True, 1 << 80, [], "own"])
def test_odd_parent_in_document_counts_for_nothing(open_store: Open, folder: Path, parent: object) -> None:
    """A parent that is no message before it, which only an editor can write, is as if there were none."""
    store = open_store()
    _, a1 = talk(store, "q1", "a1")
    value = a1 if parent == "own" else parent

    def change(document: dict[str, object]) -> None:
        document["messages"][1]["parent"] = value  # type: ignore[index]
        document["chosen"] = {"end": value, "last": a1}

    edit(folder / "conversations/c.json", change)
    assert shown(store) == "q1 a1"
    assert shown(open_store()) == "q1 a1"


def test_copied_document_keeps_its_branches(open_store: Open, folder: Path) -> None:
    """A copy made by hand has ids of its own, and the same branches; one whose ids somebody removed is a plain one."""
    store = open_store()
    q1, a1 = talk(store, "q1", "a1")
    talk(store, "a2", parent=q1)
    store.choose("c", a1)
    store.close()
    path = folder / "conversations/c.json"
    (folder / "conversations/d.json").write_bytes(path.read_bytes())
    (folder / "conversations/e.json").write_bytes(path.read_bytes())
    edit(folder / "conversations/e.json", lambda document: [m.pop("id") for m in document["messages"]])  # type: ignore[attr-defined]
    store = open_store()
    assert [shown(store, name) for name in "cde"] == ["q1 a1", "q1 a1", "q1 a1 a2"]
    assert len(store.siblings("d")) == 2
    assert set(store.siblings("d")).isdisjoint(store.siblings("c"))


def test_torn_append_leaves_branch(open_store: Open, folder: Path) -> None:
    """Cut at every byte of the append of another reply, one of the two branches is shown, whole."""
    store = open_store()
    q1, _ = talk(store, "q1", "a1")
    path = folder / "conversations/c.json"
    before = path.read_bytes()
    talk(store, "a2]}", parent=q1)
    after = path.read_bytes()
    store.close()
    end = len(before) - len(b"\n]}\n")
    for cut in range(len(after) - end + 1):
        path.write_bytes(before[:end] + after[end : end + cut] + before[end + cut :])
        age(path)
        store = open_store()
        whole = cut >= len(after) - end - len(b"\n]}\n")
        assert shown(store) in (("q1 a2]}",) if whole else ("q1 a1", "q1 a2]}")), cut
        store.close()


def test_created_with_any_branch_shown(reopen: Open) -> None:
    """A conversation that is made of messages shows the branch that it is told to, from its first moment on."""
    store = reopen()
    rows = [
        Message("user", "q", id=1, parent=0),
        Message("assistant", "a", id=2),
        Message("assistant", "b", 3, parent=1),
    ]
    made = store.create("c", "u", messages=rows, shown=2)
    assert (made.summary, shown(store)) == ("a", "q a")
    assert next(iter(store.siblings("c").values())) == sorted(m.id for m in store.everything("c") if m.role != "user")
    with pytest.raises(ValueError, match="9"):
        store.create("d", "u", messages=rows, shown=9)
    assert store.get("d") is None
    assert shown(reopen()) == "q a"
