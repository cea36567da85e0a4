"""Chats on their way out, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import NotFound, NotYours, StorageBusy
from self_agent.models import LOCAL_USER, Message, Metadata
from tests.transfer.conftest import Make, Place

text = st.text(max_size=20).filter(lambda value: max(value, default="") < "\ud800" or max(value) > "\udfff")
moves = st.lists(
    st.tuples(
        st.sampled_from(["user", "assistant", "system"]),
        st.text(alphabet='ab \n"\\é中\0', min_size=1, max_size=10),
        st.integers(0, 30),  # of the message that it follows, from the end; beyond them all: it begins anew
        st.sampled_from(
            [{}, {"model": "m"}, {"incomplete": True, "error": "e"}, {"usage": {"a": [1]}}, {"sources": [1]}]
        ),
    ),
    max_size=12,
)


def filled(place: Place) -> None:
    """Two chats with all there is: branches, a project, folders, tags, instructions, and what a reply can have."""
    project = place.store.create_project(LOCAL_USER, "Work").id
    place.store.create("b", LOCAL_USER, title="B", system_prompt="Be kind", model="m", project_id=project)
    question, first = place.store.append("b", Message("user", "?"), Message("assistant", "one", model="m"))
    second = Message("assistant", "two", reasoning="hm", sources=[{"a": 1}], usage={"b": 2}, incomplete=True, error="e")
    [last] = place.store.append("b", Message(**{**vars(second), "parent": question.id}))
    place.store.append("b", Message("user", "gone"))
    place.store.hide([place.store.latest("b", 1)[0].id])
    place.store.choose("b", first.id)
    place.store.create("a", LOCAL_USER, metadata=Metadata({"topic": "你好"}))
    calls = [{"call_id": "1", "name": "f", "arguments": "{}"}]
    place.store.append("a", Message("user", "你好"), Message("assistant", "so", extra={"calls": calls}))
    own = {"format": "self_agent", "version": 1, "conversation_id": "c", "folders": ["F", "G"], "tags": ["t"]}
    place.take_in({**own, "messages": [{"role": "user", "content": "x"}]})
    assert last.id


def test_round_trip_is_lossless(make: Make) -> None:
    """Exported, imported into an empty store and exported again, it is the same to the letter."""
    here, there = make(), make()
    filled(here)
    exported = here.export()
    [branched] = [chat for chat in json.loads(exported) if chat["conversation_id"] == "b"]
    contents = [row["content"] for row in branched["messages"]]
    assert (contents, branched["shown"]) == (["?", "one", "two"], 2)  # those that stand for one another, in their order
    outcomes = there.take_in(exported, size=11)
    assert [outcome.state for outcome in outcomes] == ["imported"] * 3
    assert there.chats() == sorted(json.loads(exported), key=lambda chat: chat["updated_at"], reverse=True)
    assert [m.content for m in there.store.messages("b")] == [m.content for m in here.store.messages("b")]
    assert {m.content for m in there.store.messages("b")} == {"?", "one"}


@pytest.fixture
def pair(make: Make) -> tuple[Place, Place]:
    return make(), make()


@given(moves, st.integers(0, 11))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_branches_come_back(pair: tuple[Place, Place], steps: Any, choice: int) -> None:
    """Whatever was said, regenerated and edited, and whichever branch is shown."""
    here, there = pair
    here.store.create("c", LOCAL_USER)
    ids: list[int] = []
    for role, content, back, more in steps:
        parent = ids[-1 - back] if back < len(ids) else 0
        [stored] = here.store.append("c", Message(role, content, parent=parent, **more))
        ids.append(stored.id)
    if choice < len(ids):
        here.store.choose("c", ids[choice])
    exported = here.export()
    there.take_in(exported)
    assert there.export() == exported
    assert [m.content for m in there.store.messages("c")] == [m.content for m in here.store.messages("c")]
    for place in (here, there):
        place.store.delete("c")


def test_one_chat_is_a_file_too(place: Place) -> None:
    """With its name, its type, and what can be imported again."""
    filled(place)
    found = place.transfer.export(LOCAL_USER, "json", "b")
    assert (found.name, found.content_type) == ("b.json", "application/json")
    [chat] = json.loads(b"".join(found.pieces))
    assert (chat["conversation_id"], chat["project"], chat["title"]) == ("b", "Work", "B")
    assert [row["id"] for row in chat["messages"]] == [1, 2, 3]
    assert "key" not in chat["messages"][0]


def test_nothing_of_others_leaves(place: Place) -> None:
    """Another user's chat is not found, and in no export of all."""
    place.store.create("mine", LOCAL_USER)
    place.store.create("theirs", "ada")
    with pytest.raises(NotYours):
        place.transfer.export(LOCAL_USER, "json", "theirs")
    with pytest.raises(NotFound):
        place.transfer.export(LOCAL_USER, "json", "none")
    assert place.only()["conversation_id"] == "mine"


def test_empty_store_is_an_empty_list(place: Place) -> None:
    """Which is JSON, and Markdown without a word."""
    assert json.loads(place.export()) == []
    assert place.export("markdown") == b""


def test_chat_that_goes_meanwhile_is_left_out(place: Place) -> None:
    """The rest of the file is whole."""
    for name in "abc":
        place.store.create(name, LOCAL_USER)
    pieces = place.transfer.export(LOCAL_USER, "json").pieces
    first = next(pieces)
    place.store.delete("b")
    chats = json.loads(first + b"".join(pieces))
    assert [chat["conversation_id"] for chat in chats] == ["c", "a"]


def test_busy_chat_is_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an editor has its file open it is tried again; for ever it is not."""
    place.store.create("a", LOCAL_USER)
    everything, tries = place.store.everything, 0

    def busy(conversation_id: str) -> list[Message]:
        nonlocal tries
        tries += 1
        if tries % 3:
            raise StorageBusy("busy", retry_after=0.001)
        return everything(conversation_id)

    def refuse(conversation_id: str) -> list[Message]:
        raise StorageBusy("busy", retry_after=0.001)

    monkeypatch.setattr(place.store, "everything", busy)
    assert place.only()["conversation_id"] == "a"
    monkeypatch.setattr(place.store, "everything", refuse)
    with pytest.raises(StorageBusy):
        place.export()


def test_markdown_is_for_reading(place: Place) -> None:
    """The branch that is shown, under headings, with what belongs to it."""
    filled(place)
    [page] = [part for part in place.export("markdown").decode().split("\n\n\n") if part.startswith("# B")]
    assert "project: Work" in page
    assert "> Be kind" in page
    assert "## User, " in page
    assert "## Assistant (m), " in page
    assert "one" in page
    assert "two" not in page
    second = max(place.store.everything("b"), key=lambda message: message.id)
    place.store.choose("b", second.id)
    page = b"".join(place.transfer.export(LOCAL_USER, "markdown", "b").pieces).decode()
    assert "<details><summary>Reasoning</summary>\n\nhm\n\n</details>\n\ntwo\n\n*(incomplete: e)*" in page
