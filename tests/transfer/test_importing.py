"""Taking chats in: this server's, ChatGPT's, Open WebUI's, an older backend's, and what only looks like them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from self_agent.models import LOCAL_USER, Message
from self_agent.transfer import Outcome
from tests.transfer.conftest import Place
from tests.transfer.samples import START, chatgpt, node, regenerated, webui


def states(outcomes: list[Outcome]) -> list[str]:
    return [outcome.state for outcome in outcomes]


def shown(place: Place) -> list[tuple[str, str]]:
    messages = place.store.messages(place.only()["conversation_id"])
    return [(message.role, message.content) for message in messages]


# --- ChatGPT


def test_chatgpt_chat_arrives(place: Place) -> None:
    """Words, times, models, thoughts and both replies; the one that was shown is; tools are left out and counted."""
    [outcome] = place.take_in([regenerated()])
    assert (outcome.state, outcome.chat) == ("imported", "On rivers")
    assert outcome.detail == "3 messages; 2 messages of tools left out"
    assert shown(place) == [("user", "How long is the Nile?"), ("assistant", "6650 km.")]
    chat = place.only()
    assert [(row["content"], row["parent"]) for row in chat["messages"]] == [
        ("How long is the Nile?", 0),
        ("6650 km.", 1),
        ("Very long.", 1),
    ]
    assert chat["messages"][1]["model"] == "o3"
    assert chat["messages"][1]["reasoning"] == "**Length**\n\nIt is long."
    assert "reasoning" not in chat["messages"][2]
    assert chat["messages"][0]["timestamp"] == "2023-11-14T22:13:21.000000Z"
    assert (chat["title"], chat["model"]) == ("On rivers", None)
    assert chat["created_at"] == "2023-11-14T22:13:20.000000Z"
    assert chat["updated_at"] == "2023-11-14T22:15:00.500000Z"


def test_siblings_keep_their_order(place: Place) -> None:
    """In the order in which their parent names them, whatever the order in the file."""
    chat = chatgpt(
        node("b", "q", "assistant", "second", at=2),
        node("a", "q", "assistant", "first", at=1),
        node("q", None, "user", "?", children=["a", "b"]),
        current="b",
    )
    place.take_in([chat])
    assert [row["content"] for row in place.only()["messages"]] == ["?", "first", "second"]


def test_pictures_are_left_out_and_counted(place: Place) -> None:
    """A message keeps its words; one that is only a picture goes, and its reply follows what was before."""
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    chat = chatgpt(
        node("q", None, "user", [picture, "What is it?"], kind="multimodal_text"),
        node("a", "q", "assistant", "A cat."),
        node("p", "a", "user", [picture], kind="multimodal_text"),
        node("e", "p", "assistant", "A dog."),
        current="e",
    )
    [outcome] = place.take_in([chat])
    assert outcome.detail == "3 messages; 2 pictures or files left out"
    assert [content for _, content in shown(place)] == ["What is it?", "A cat.", "A dog."]


@pytest.mark.parametrize(
    ("nodes", "expected", "note"),
    [
        ([node("a", "b", "user", "1"), node("b", "a", "assistant", "2")], [0, 1], "1 circles of messages were cut"),
        ([node("a", "a", "user", "1")], [0], ""),
        ([node("a", "gone", "user", "1"), node("b", "a", "user", "2")], [0, 1], "1 messages whose parent is missing"),
        ([node("a", None, "user", "1"), node("b", None, "user", "2")], [0, 0], ""),
    ],
)
def test_odd_trees_lose_nothing(place: Place, nodes: list[Any], expected: list[int], note: str) -> None:
    """Circles, missing parents and several beginnings: each message is there once."""
    [outcome] = place.take_in([chatgpt(*nodes)])
    assert outcome.state == "imported"
    assert note in outcome.detail
    assert [row["parent"] for row in place.only()["messages"]] == expected


def test_chat_of_tools_only_is_empty(place: Place) -> None:
    """It has a title and nothing else, and is here: a second import need not read it again."""
    chat = chatgpt(node("t", None, "tool", "x"))
    assert states(place.take_in([chat]) + place.take_in([chat])) == ["imported", "skipped"]


# --- Open WebUI


def test_open_webui_chat_arrives(place: Place) -> None:
    """Both replies, times, models, usage, sources; thoughts apart; pinned, archived, its folder and its tags."""
    [outcome] = place.take_in([webui()])
    assert (outcome.state, outcome.detail) == ("imported", "3 messages")
    chat = place.only()
    first, second = chat["messages"][1:]
    assert (first["content"], first["model"], first["usage"]) == ("Hello.", "qwen", {"total_tokens": 3})
    assert (second["content"], second["reasoning"]) == ("Hello there.", "It & I")
    assert second["sources"] == [{"source": {"name": "a"}}]
    assert [first["parent"], second["parent"], chat["shown"]] == [1, 1, 3]
    assert chat["updated_at"] == "2023-11-14T22:14:20.000000Z"
    assert chat["folders"] == ["Open WebUI f-123456"]
    assert chat["tags"] == ["polite", "short"]
    assert (chat.get("pinned", True), chat.get("archived", True)) == (True, True)


def test_older_open_webui_chat_arrives(place: Place) -> None:
    """A list of messages is one branch; a file that is attached is counted."""
    rows = [
        {"role": "user", "content": "Hi?", "files": [{"type": "image"}]},
        {"role": "assistant", "content": "Hello.", "model": "qwen"},
    ]
    [outcome] = place.take_in({"id": "x", "chat": {"title": "Old", "messages": rows, "timestamp": START * 1000}})
    assert outcome.detail == "2 messages; 1 pictures or files left out"
    assert shown(place) == [("user", "Hi?"), ("assistant", "Hello.")]
    assert place.only()["created_at"] == "2023-11-14T22:13:20.000000Z"


def test_folder_of_open_webui_is_one(place: Place) -> None:
    """Two chats of one folder are in one, also in a later import, and after it was renamed here."""
    place.take_in([webui(id="1"), webui(id="2")])
    shelf = place.store.shelf(LOCAL_USER)
    assert sorted(len(folder.conversations) for folder in shelf.folders) == [0, 2]
    place.take_in([webui(id="3")])
    assert sorted(len(folder.conversations) for folder in place.store.shelf(LOCAL_USER).folders) == [0, 3]


def test_unclosed_details_cost_no_time(place: Place) -> None:
    """A megabyte of beginnings without an end is read once."""
    text = '<details type="reasoning">' * 40_000
    row = {"id": "a", "role": "assistant", "content": text, "parentId": None}
    assert states(place.take_in([webui({"a": row}, "a")])) == ["imported"]
    assert shown(place) == [("assistant", text)]


# --- the older backend


def test_older_document_arrives(place: Place) -> None:
    """`conversation_id` and `messages` are enough; its id is kept where it can be."""
    rows = [{"role": "user", "content": "Hi", "timestamp": "2025-04-30T10:00:01Z"}]
    outcomes = place.take_in(
        [{"conversation_id": "c1", "messages": rows}, {"conversation_id": "../c", "messages": rows}]
    )
    assert states(outcomes) == ["imported", "imported"]
    assert outcomes[0].conversation_id == "c1"
    assert "/" not in (outcomes[1].conversation_id or "/")


# --- whatever the format


@pytest.mark.parametrize("chat", [regenerated(), webui(), {"messages": [{"role": "user", "content": "Hi"}]}])
def test_second_import_doubles_nothing(place: Place, chat: Any) -> None:
    """It finds what the first made, whichever format, also without an id."""
    [first] = place.take_in([chat])
    [second] = place.take_in([chat])
    assert (first.state, second.state, second.detail) == ("imported", "skipped", "it is here already")
    assert second.conversation_id == first.conversation_id
    assert len(place.chats()) == 1


def test_one_id_named_twice(place: Place) -> None:
    """The first chat is taken in; the report names the second."""
    outcomes = place.take_in([regenerated(), regenerated(title="Another")])
    assert [(outcome.state, outcome.detail) for outcome in outcomes][1] == (
        "skipped", "another chat of this file has the same id",
    )  # fmt: skip
    assert place.only()["title"] == "On rivers"


def test_users_do_not_meet(place: Place) -> None:
    """What another user has taken in is not in the way."""
    own = {"format": "self_agent", "version": 1, "conversation_id": "c", "messages": []}
    for document in (regenerated(), own):
        assert states(place.take_in([document], "ada") + place.take_in([document], "bob")) == ["imported"] * 2
        assert states(place.take_in([document], "bob")) == ["skipped"]


def test_bad_chat_stops_no_other(place: Place) -> None:
    """Each is reported with its reason, and the good ones are here."""
    deep: Any = "x"
    for _ in range(900):
        deep = {"a": deep}
    good = [regenerated(conversation_id=str(number)) for number in range(2)]
    bad = [5, "x", {}, {"mapping": {}}, [good[0]], {"format": "self_agent", "version": 99, "messages": []}]
    data = json.dumps([good[0], *bad[2:], {"mapping": deep}])
    data = data[:-1] + ', {"mapping": nonsense}, ' + "[" * 2000 + "]" * 2000 + ", " + json.dumps(good[1]) + "]"
    outcomes = place.take_in(data.encode())
    assert states(outcomes).count("imported") == 3  # with one whose mapping has nothing in it
    assert outcomes[0].state == outcomes[-1].state == "imported"
    assert all(outcome.detail for outcome in outcomes)


@pytest.mark.parametrize("data", [b"", b"[]", b"hello", b"5", b'{"a": 1}', b"[" * 100_000])
def test_no_chat_is_said(place: Place, data: bytes) -> None:
    """A file without a chat fails with one sentence."""
    [outcome] = place.take_in(data)
    assert (outcome.state, bool(outcome.detail)) == ("failed", True)


@pytest.mark.parametrize("size", [1, 1000])
def test_truncated_file_keeps_whole_chats(place: Place, size: int) -> None:
    """What was whole before the cut is here; the rest is said to be missing, and nothing of it is."""
    data = json.dumps([regenerated(), webui()]).encode()[:-200]
    outcomes = place.take_in(data, size=size)
    assert states(outcomes) == ["imported", "failed"]
    assert "cut off" in outcomes[1].detail
    assert len(place.chats()) == 1


def test_long_title_is_cut(place: Place) -> None:
    """A title of a megabyte is cut, and the report says so."""
    [outcome] = place.take_in([regenerated(title="x" * 1_000_000)])
    assert (outcome.state, len(outcome.chat)) == ("imported", 80)
    assert "title cut to 500 characters" in outcome.detail
    assert place.only()["title"] == "x" * 500


HOSTILE = [
    float("nan"),
    float("inf"),
    -1,
    10**30,
    1e300,
    True,
    "yesterday",
    [],
    {},
    "9999-12-31T23:59:59Z",
    253402300799,
]


@pytest.mark.parametrize("time", HOSTILE, ids=repr)
def test_times_that_are_none(place: Place, time: Any) -> None:
    """They are left out, and a chat does not stay at the head of all lists for ever."""
    chat = chatgpt(node("q", None, "user", "?", create_time=time), create_time=time, update_time=time)
    assert states(place.take_in([chat])) == ["imported"]
    place.store.create("later", LOCAL_USER)
    assert place.chats()[0]["conversation_id"] == "later"


@pytest.mark.parametrize(
    "identity",
    ["../../etc/passwd", "a/b", "\ud800", "x" * 100_000, "", 5, None, {"a": 1}, "con", ".hidden", "a\0b"],
    ids=lambda value: repr(value)[:20],
)
def test_ids_that_are_none(place: Place, identity: Any) -> None:
    """No id becomes a path; the chat is here under another, and found again under it."""
    for chat in (
        regenerated(conversation_id=identity, id=identity),
        webui(id=identity),
        {"format": "self_agent", "version": 1, "conversation_id": identity, "messages": []},
    ):
        assert states(place.take_in([chat]) + place.take_in([chat])) == ["imported", "skipped"]


def test_odd_texts_are_kept(place: Place) -> None:
    """Halves of surrogate pairs are replaced, and all else is as it was."""
    data = json.dumps([chatgpt(node("q", None, "user", "a\ud83d b\0\u2028"), title="\udc00 t")]).encode()
    assert states(place.take_in(data)) == ["imported"]
    assert shown(place) == [("user", "a\ufffd b\0\u2028")]
    assert place.only()["title"] == "\ufffd t"


def test_key_named_twice(place: Place) -> None:
    """The last one counts, as everywhere."""
    data = b'{"messages": [], "messages": [{"role": "user", "role": "user", "content": "x", "content": "Hi"}]}'
    assert states(place.take_in(data)) == ["imported"]
    assert shown(place) == [("user", "Hi")]


def test_long_chain_of_messages(place: Place) -> None:
    """Four thousand messages in one chat, none of which has a time, and thoughts in between."""
    nodes = [node("0", None, "user", "0")]
    for number in range(1, 4_000):
        thought = {"content_type": "thoughts", "thoughts": [{"content": "hm"}]}
        more = {"content": thought} if number % 4 == 1 else {}
        role = "user" if number % 4 == 0 else "assistant"
        nodes.append(node(str(number), str(number - 1), role, str(number), **more))
    assert states(place.take_in([chatgpt(*nodes)])) == ["imported"]
    assert place.store.conversations(LOCAL_USER).items[0].count == 3_000


def test_what_cannot_be_shown_is_left_out(place: Place) -> None:
    """Sources that are nested so deeply that no answer could hold them."""
    deep: Any = []
    for _ in range(240):
        deep = [deep]
    row = {"role": "assistant", "content": "x", "sources": deep, "usage": {"a": 1}}
    place.take_in({"format": "self_agent", "version": 1, "conversation_id": "c", "messages": [row]})
    [message] = place.store.messages("c")
    assert (message.sources, message.usage) == (None, {"a": 1})


def test_messages_that_refer_wrongly(place: Place) -> None:
    """In one of our own exports: an id named twice fails the chat; a parent that is none begins anew."""
    rows = [{"id": 1, "role": "user", "content": "a"}, {"id": 1, "role": "user", "content": "b"}]
    own = {"format": "self_agent", "version": 1, "conversation_id": "c"}
    assert states(place.take_in({**own, "messages": rows})) == ["failed"]
    assert place.store.get("c") is None
    rows = [{"id": 1, "role": "user", "content": "a"}, {"id": 2, "parent": 7, "role": "user", "content": "b"}]
    [outcome] = place.take_in({**own, "messages": rows})
    assert outcome.detail == "2 messages; 1 messages whose parent is missing begin anew"


def test_memory_stays_with_one_chat(place: Place) -> None:
    """Of a file of several megabytes no more stands in memory than a chat or two."""
    text = "words " * 2000

    def chunks() -> Any:
        for number in range(400):
            chat = chatgpt(node("q", None, "user", text), conversation_id=str(number))
            yield (b"[" if not number else b",") + json.dumps(chat).encode()
        yield b"]"

    place.store.conversations(LOCAL_USER)
    keeps = not type(place.store).persistent
    tracemalloc.start()
    outcomes = list(place.transfer.take_in(LOCAL_USER, chunks()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert states(outcomes) == ["imported"] * 400
    assert peak < (8_000_000 if keeps else 1_500_000)


def test_folders_and_tags_end_somewhere(place: Place) -> None:
    """A chat with more tags than a user can have is here, with as many as fit."""
    chat = {"format": "self_agent", "version": 1, "conversation_id": "c", "tags": [str(n) for n in range(10_050)]}
    assert states(place.take_in({**chat, "messages": []})) == ["imported"]
    assert len(place.store.shelf(LOCAL_USER).tags) == 10_000


def test_unforeseen_failure_is_one_chats(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a bug costs only the chat in which it shows."""
    create = place.store.create

    def failing(conversation_id: str, *arguments: Any, **fields: Any) -> Any:
        if fields["title"] == "bad":
            raise RuntimeError
        return create(conversation_id, *arguments, **fields)

    monkeypatch.setattr(place.store, "create", failing)
    chats = [regenerated(conversation_id=str(number), title=title) for number, title in enumerate(("a", "bad", "c"))]
    assert states(place.take_in(chats)) == ["imported", "failed", "imported"]


def test_messages_stay_messages(place: Place) -> None:
    """What is imported can be talked in: the next message follows what is shown."""
    [outcome] = place.take_in([regenerated()])
    place.store.append(outcome.conversation_id or "", Message("user", "And the Rhine?"))
    assert [content for _, content in shown(place)][-2:] == ["6650 km.", "And the Rhine?"]
