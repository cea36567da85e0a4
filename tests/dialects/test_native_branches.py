"""Branches through the native dialect: regenerate, edit and send again, choose, fork, page from the end."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask.testing import FlaskClient

from self_agent import parts_of
from self_agent.models import id_at
from tests.conftest import MakeApp

ROOT = "/api/v1/conversations"


def post(client: FlaskClient, path: str, status: int = 200, **body: Any) -> Any:
    answer = client.post(f"{ROOT}/{path}", json=body)
    assert answer.status_code == status, answer.json
    return answer.json["data"]


def full(client: FlaskClient, conversation_id: str = "c", **query: Any) -> Any:
    answer = client.get(f"{ROOT}/{conversation_id}", query_string={"view": "full", **query})
    assert answer.status_code == 200, answer.json
    return answer.json["data"]


def shown(client: FlaskClient, conversation_id: str = "c") -> list[str]:
    return [message["content"] for message in full(client, conversation_id)["messages"]]


def ids(client: FlaskClient) -> list[int]:
    return [message["id"] for message in full(client)["messages"]]


@pytest.fixture
def talked(client: FlaskClient) -> FlaskClient:
    """A client with a conversation of two questions."""
    for content in ("one", "two"):
        post(client, "c/messages", content=content)
    return client


def test_regenerated_reply_is_shown_beside_first(talked: FlaskClient) -> None:
    """Regenerating a reply shows another one; both can be leafed to, and each goes on."""
    *_, question, reply = ids(talked)
    answer = post(talked, f"c/messages/{reply}/regenerate")
    assert answer["reply"] == "echo: two"
    other = ids(talked)[-1]
    last = full(talked)["messages"][-1]
    assert (last["siblings"], last["parent"], last["model"]) == ([reply, other], question, "echo")
    assert full(talked)["meta"] == {"size": 100, "total": 4, "has_more": False}
    post(talked, "c/choose", message_id=reply)
    post(talked, "c/messages", content="three")
    assert shown(talked) == ["one", "echo: one", "two", "echo: two", "three", "echo: three"]
    post(talked, "c/choose", message_id=other)
    assert len(shown(talked)) == 4
    post(talked, f"c/messages/{question}/regenerate")
    assert len(full(talked)["messages"][-1]["siblings"]) == 3


def test_regenerate_streams(talked: FlaskClient) -> None:
    """The stream's reply is the one that is shown then; the first question can be answered again, too."""
    first = ids(talked)[0]
    stream = talked.post(f"{ROOT}/c/messages/{first}/regenerate/stream", json={})
    assert (stream.status_code, stream.mimetype) == (200, "text/event-stream")
    assert '"full_content":"echo: one"' in stream.text
    assert shown(talked) == ["one", "echo: one"]


def test_model_sees_its_branch_alone(make_app: MakeApp) -> None:
    """What the model is asked ends in the question that is answered again, and nothing of other branches is in it."""
    app = make_app()
    client = app.test_client()
    provider = parts_of(app).provider
    asked: list[list[str]] = []
    stream = provider.stream
    provider.stream = lambda messages, **more: (  # type: ignore[method-assign]
        asked.append([m["content"] for m in messages if m["role"] != "system"]) or stream(messages, **more)  # type: ignore[func-returns-value]
    )
    post(client, "c/messages", content="one")
    post(client, "c/messages", content="two")
    post(client, f"c/messages/{ids(client)[1]}/regenerate")
    post(client, "c/messages", content="edited", parent=0)
    post(client, "c/messages", content="next")
    assert asked[2:] == [["one"], ["edited"], ["edited", "echo: edited", "next"]]


def test_edited_question_is_sent_again(talked: FlaskClient) -> None:
    """A send with a parent begins a branch there; what followed before is kept."""
    _, parent, question, _ = ids(talked)
    post(talked, "c/messages", content="2", parent=parent)
    assert shown(talked) == ["one", "echo: one", "2", "echo: 2"]
    assert full(talked)["messages"][2]["siblings"] == [question, ids(talked)[2]]
    post(talked, "c/messages", content="1", parent=0)
    assert shown(talked) == ["1", "echo: 1"]
    assert full(talked)["messages"][0]["parent"] is None
    post(talked, "c/choose", message_id=question)
    assert shown(talked) == ["one", "echo: one", "two", "echo: two"]


def test_fork_is_a_conversation_of_its_own(talked: FlaskClient) -> None:
    """A fork has all up to the message, with ids of its own, and what was set; both go their ways."""
    talked.patch(f"{ROOT}/c", json={"name": "A walk", "system_prompt": "Be brief."})
    made = post(talked, "c/fork", message_id=ids(talked)[1])
    assert made["name"] == "A walk"
    post(talked, f"{made['conversation_id']}/messages", content="three")
    assert shown(talked, made["conversation_id"]) == ["one", "echo: one", "three", "echo: three"]
    assert full(talked, made["conversation_id"])["system_prompt"] == "Be brief."
    assert len(shown(talked)) == 4
    assert post(talked, "c/fork", message_id=ids(talked)[0], conversation_id="d")["conversation_id"] == "d"
    assert "exists already" in post(talked, "c/fork", 409, message_id=ids(talked)[0], conversation_id="d")["error"]
    post(talked, "c/fork", 400, message_id=ids(talked)[0], conversation_id="../d")


def test_pages_from_the_end(client: FlaskClient) -> None:
    """Going back from the end, a page at a time, shows each message once, with its parent."""
    for n in range(6):
        post(client, "c/messages", content=str(n))
    post(client, "c/messages", content="again", parent=full(client)["messages"][3]["id"])
    expected = shown(client)
    for size in (1, 3, 4, 6, 500):
        seen: list[Any] = []
        page = full(client, size=size)
        while True:
            seen = page["messages"] + seen
            if not page["meta"]["has_more"]:
                break
            page = full(client, size=size, before=seen[0]["id"])
        assert [message["content"] for message in seen] == expected
        assert [message["parent"] for message in seen] == [None, *(message["id"] for message in seen[:-1])]
    assert full(client, before=seen[0]["id"])["messages"] == []
    assert full(client, "unknown")["messages"] == []


def test_every_dialect_shows_the_same_branch(talked: FlaskClient, make_app: MakeApp) -> None:
    """Whichever dialect reads a conversation, it shows, counts and continues the one branch."""
    post(talked, f"c/messages/{ids(talked)[1]}/regenerate")
    other = post(talked, "c/messages", content="another", parent=ids(talked)[1])["messages"]
    texts = [message["content"] for message in other]
    assert texts == ["one", "echo: one", "another", "echo: another"]
    number = full(talked)["messages"][0]["id"] >> 20
    poe = talked.get("/v1/chat/conversations/c/messages").json["messages"]
    alice = talked.get(f"/alice/api/v1/conversations/{number}").json["messages"]
    aichat = talked.get("/api/chat/sessions/c/messages").json["data"]
    system = talked.get("/chat/sessions/c/messages").json["data"]
    for messages in (poe, alice, aichat["items"], system["messages"]):
        assert [message["content"] for message in messages] == texts
    assert (aichat["total"], system["total_messages"]) == (4, 4)
    assert talked.get("/alice/api/v1/conversations").json[0]["message_count"] == 4
    post(talked, "c/messages", content="more")
    assert talked.get("/v1/chat/conversations/c/messages").json["messages"][-1]["content"] == "echo: more"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("c/messages", {"content": "x", "parent": id_at(2, 1)}, 404, "in this conversation"),
        ("c/messages", {"content": "x", "parent": id_at(1, 99)}, 404, "no such message"),
        ("c/messages", {"content": "x", "parent": -1}, 400, "parent"),
        ("c/messages", {"content": "x", "parent": 1 << 60}, 400, "parent"),
        ("c/messages", {"content": "x", "parent": "1"}, 400, "parent"),
        ("unknown/messages", {"content": "x", "parent": 5}, 404, "in this conversation"),
        ("c/messages/7/regenerate", {}, 404, "in this conversation"),
        ("c/messages/x/regenerate", {}, 404, "does not exist"),
        (f"c/messages/{'9' * 5000}/regenerate", {}, 404, "does not exist"),
        (f"c/messages/{id_at(1, 99)}/regenerate", {}, 404, "no such message"),
        (f"d/messages/{id_at(1, 1)}/regenerate", {}, 404, "does not exist"),
        ("c/choose", {"message_id": id_at(1, 99)}, 404, "no such message"),
        ("c/choose", {"message_id": id_at(2, 1)}, 404, "in this conversation"),
        ("c/choose", {}, 400, "message_id"),
        ("c/fork", {"message_id": id_at(1, 99)}, 404, "no such message"),
        ("c/fork", {"message_id": 0}, 400, "message_id"),
        ("unknown/fork", {"message_id": 5}, 404, "does not exist"),
    ],
)
def test_what_is_not_there_is_refused(
    talked: FlaskClient, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    """A parent of another chat, a branch that is gone, a fork of nothing: an error in words, and nothing is done."""
    before = full(talked)
    answer = talked.post(f"{ROOT}/{path}", json=body)
    assert (answer.status_code, answer.json["data"]["success"]) == (status, False)
    assert words in answer.json["data"]["error"].lower()
    assert full(talked) == before
    assert talked.get(f"{ROOT}/").json["data"] == ["c"]


def test_deleted_message_is_no_parent(talked: FlaskClient) -> None:
    """What was deleted can be neither forked, chosen, answered again nor followed."""
    _, gone, *_ = ids(talked)
    talked.post("/v1/chat/messages/delete", json={"message_ids": [gone]})
    post(talked, "c/fork", 404, message_id=gone)
    post(talked, "c/choose", 404, message_id=gone)
    post(talked, f"c/messages/{gone}/regenerate", 404)
    post(talked, "c/messages", 404, content="x", parent=gone)
    assert shown(talked) == ["one", "two", "echo: two"]


def test_reply_to_nothing_is_not_regenerated(talked: FlaskClient) -> None:
    """A message of another role without a question before it answers nothing."""
    talked.post("/v1/chat/conversations/c/messages", json={"role": "system", "content": "rule"})
    talked.post("/v1/chat/conversations/c/messages", json={"role": "assistant", "content": "aside"})
    assert "answers no question" in post(talked, f"c/messages/{ids(talked)[-1]}/regenerate", 400)["error"]


def test_all_but_fork_wait_for_the_answer(make_app: MakeApp) -> None:
    """While the chat is answering a branch can be neither begun nor chosen; it can be forked, and sends wait."""
    app = make_app()
    client = app.test_client()
    for content in ("one", "two"):
        post(client, "c/messages", content=content)
    first, reply, *_ = ids(client)
    go = threading.Event()
    provider = parts_of(app).provider
    stream = provider.stream

    def held(*args: Any, **more: Any) -> Any:
        def chunks() -> Any:
            go.wait(10)
            yield from stream(*args, **more)

        return chunks()

    provider.stream = held  # type: ignore[method-assign]
    turn = parts_of(app).conversations.regenerate("local", "c", reply)
    assert shown(client) == ["one", "echo: one", "two", "echo: two"]  # until the new reply is there
    for path, body in (
        (f"c/messages/{reply}/regenerate", {}),
        ("c/messages", {"content": "x", "parent": first}),
        ("c/choose", {"message_id": first}),
    ):
        assert "being generated" in post(client, path, 409, **body)["error"]
    assert shown(client, post(client, "c/fork", message_id=reply)["conversation_id"]) == ["one", "echo: one"]
    sent = parts_of(app).conversations.send("local", "c", "three")
    go.set()
    turn.wait()
    sent.wait()
    assert shown(client) == ["one", "echo: one", "three", "echo: three"]


def test_stopped_before_a_word_leaves_the_first_reply(make_app: MakeApp) -> None:
    """A second reply that was stopped, or failed, before its first word changes nothing of what is shown."""
    app = make_app()
    client = app.test_client()
    post(client, "c/messages", content="one")
    before = full(client)
    provider = parts_of(app).provider
    provider.stream = lambda *args, **more: iter(())  # type: ignore[method-assign]
    post(client, f"c/messages/{ids(client)[1]}/regenerate", 502)
    assert full(client) == before


def test_choosing_does_not_race_a_send(make_app: MakeApp) -> None:
    """A send that comes while a branch is being chosen begins when that is done."""
    app = make_app()
    client = app.test_client()
    post(client, "c/messages", content="one")
    post(client, "c/messages", content="two", parent=0)
    first = id_at(1, 1)
    parts = parts_of(app)
    began = threading.Event()
    with parts.turns.held("c"):

        def send() -> None:
            began.set()
            parts.conversations.send("local", "c", "three").wait()

        thread = threading.Thread(target=send)
        thread.start()
        began.wait()
        parts.store.choose("c", first)
        assert shown(client) == ["one", "echo: one"]
    thread.join()
    assert shown(client) == ["one", "echo: one", "three", "echo: three"]
