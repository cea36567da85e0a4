"""What the contract adds to poe.md: roles, ids, frames, lists, projects, stops."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from flask.testing import FlaskClient

from self_agent import parts_of
from self_agent.events import Delta, Sources
from self_agent.providers.none import NoModel
from tests.conftest import MakeApp
from tests.dialects.poe.conftest import ROOT, SECONDS, begin, frames, history, project, say
from tests.dialects.ways import Client, Way, pairs

POE = "/v1/chat/conversations"


def made(client: Client) -> str:
    cid = client.ask("POST", POE, {})["conversation_id"]
    client.ask("POST", f"{POE}/{cid}/messages", {"content": "first"})
    return str(cid)


WAY = Way(
    "poe",
    create=made,
    listed=lambda c: [row["id"] for row in c.ask("GET", POE)],
    read=lambda c, cid: pairs(c.ask("GET", f"{POE}/{cid}/messages")["messages"]),
    send=lambda c, cid, text: c.ask("POST", f"{POE}/{cid}/messages", {"content": text}),
    delete=lambda c, cid: c.ask("DELETE", f"{POE}/{cid}"),
    title=lambda c, cid: c.ask("GET", f"{POE}/{cid}")["name"],
    rename=lambda c, cid, name: c.ask("PUT", f"{POE}/{cid}", {"name": name}),
    envelope=frozenset({"detail"}),
    fields={"status": 0},
)


def test_reply_names_messages_and_model(client: FlaskClient) -> None:
    """The ids in the answer are those of the stored messages; the model is the one that answered."""
    cid = begin(client, model="wanted")
    answer = say(client, cid, "hi").json
    assert list(answer) == ["conversation_id", "reply", "user_message_id", "assistant_message_id", "model"]
    assert answer["model"] == "echo"
    ids = [answer["user_message_id"], answer["assistant_message_id"]]
    assert client.post("/v1/chat/messages/delete", json={"message_ids": ids[:1]}).json["deleted"] == 1
    assert history(client, cid) == [("assistant", "echo: hi")]


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_only_user_is_answered(make_poe: MakeApp, role: str) -> None:
    """A message of another role is stored, shown to the model later, and needs no model now."""
    client = make_poe(provider=NoModel()).test_client()
    cid = begin(client)
    answer = say(client, cid, "note", role=role, stream=True)
    assert answer.status_code == 200
    assert answer.json == {"conversation_id": cid, "reply": "", "message_id": answer.json["message_id"]}
    assert history(client, cid) == [(role, "note")]
    assert say(client, "unknown", "note", role=role).status_code == 404


def test_system_prompt_reaches_model(make_poe: MakeApp) -> None:
    """What the history begins with is what the model is told first."""
    app = make_poe()
    cid = begin(app.test_client(), system_prompt="Be kind.")
    say(app.test_client(), cid, "hi")
    provider: Any = parts_of(app).provider
    assert provider.last_messages == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]


def test_sources_and_reasoning_keep_content(make_poe: MakeApp) -> None:
    """A client that adds up `content` gets the reply, whatever else the frames carry."""
    sources = [{"type": "url", "url": "https://a.example"}]
    client = make_poe(script=[Delta(reasoning="hm"), Delta("a"), Sources(sources), Delta("b")]).test_client()
    _, *parts, done = frames(say(client, begin(client), "hi", stream=True))
    assert "".join(part["content"] for part in parts) == "ab"
    assert {"content": "", "sources": sources} in parts
    assert done == "[DONE]"


def test_list_rows_and_one_project(client: FlaskClient) -> None:
    """Rows have `id`, newest first; `project_id` picks those of one project, 0 those of none."""
    number = project(client, "P")
    inside, outside = begin(client, project_id=number), begin(client, name="题目")
    rows = client.get(ROOT).json
    assert [row["id"] for row in rows] == [outside, inside]
    assert rows[0] == client.get(f"{ROOT}/{outside}").json
    assert rows[0]["name"] == "题目"
    assert SECONDS.fullmatch(rows[0]["updated_at"])
    assert [row["id"] for row in client.get(f"{ROOT}?project_id={number}").json] == [inside]
    assert [row["id"] for row in client.get(f"{ROOT}?project_id=0").json] == [outside]
    assert client.get(f"{ROOT}?project_id=99").status_code == 404
    say(client, inside, "hello world")
    newest = client.get(f"{ROOT}/").json[0]
    assert (newest["id"], newest["name"]) == (inside, "hello worl")


def test_same_project_name_shares_key(client: FlaskClient) -> None:
    """Two projects of one name are one group; an empty project is an empty group; 其它 comes last."""
    first, second, _ = project(client, "P"), project(client, "P"), project(client, "Empty")
    ids = {begin(client, project_id=first), begin(client, project_id=second)}
    groups = json.loads(client.get(f"{ROOT}/grouped").text)
    assert {row["conversation_id"] for row in groups["P"]} == ids
    assert (list(groups), groups["Empty"]) == (["P", "Empty", "其它"], [])


def test_projects_from_create_to_delete(client: FlaskClient) -> None:
    """Projects are listed oldest first, renamed by PUT or PATCH, and 404 once deleted."""
    row = client.post("/v1/projects", json={"name": " 项目A "}).json
    assert (list(row), row["name"]) == (["id", "name", "created_at"], "项目A")
    assert SECONDS.fullmatch(row["created_at"])
    other = project(client, "B")
    assert [found["id"] for found in client.get("/v1/projects").json] == [row["id"], other]
    path = f"/v1/projects/{row['id']}"
    assert client.put(path, json={"name": "C"}).json == {**row, "name": "C"}
    assert client.patch(path, json={"name": "D"}).json == client.get(path).json == {**row, "name": "D"}
    assert client.delete(path).json == {"message": "Project deleted"}
    for answer in (client.get(path), client.put(path, json={"name": "x"}), client.delete(path)):
        assert (answer.status_code, answer.json) == (404, {"detail": f"project {row['id']} does not exist"})
    assert client.get("/v1/projects/abc").json == {"detail": "there is nothing at this path"}


@pytest.mark.parametrize("by", ["session_id", "conversation_id"])
def test_stop_keeps_what_came(make_poe: MakeApp, by: str) -> None:
    """A stream is stopped by either id: it ends like any other, and its pieces are kept."""
    app = make_poe(script=[Delta("half"), 30.0, Delta("never")])
    client = app.test_client()
    cid = begin(client)
    streamed = app.test_client().post(f"{ROOT}/{cid}/messages", json={"content": "hi", "stream": True}, buffered=False)
    pieces = iter(streamed.response)
    received = next(pieces)
    while b"half" not in received:
        received += next(pieces)
    first = json.loads(received.split(b"\n")[0][6:])
    assert client.post("/v1/chat/stop-stream", json={"session_id": first[by]}).json["stopped"] is True
    assert b"".join(pieces).endswith(b'data: {"content":"","finish_reason":"stop"}\n\ndata: [DONE]\n\n')
    assert history(client, cid)[-1] == ("assistant", "half")
    for session_id in (first[by], "unknown"):
        answer = client.post("/v1/chat/stop-stream", json={"session_id": session_id})
        assert (answer.status_code, answer.json["stopped"]) == (200, False)


def test_stop_before_first_piece(make_poe: MakeApp) -> None:
    """A reply stopped before its first character is empty and not stored."""
    app = make_poe(script=[30.0])
    cid = begin(app.test_client())
    answers: list[Any] = []
    sender = threading.Thread(target=lambda: answers.append(say(app.test_client(), cid, "hi")))
    sender.start()
    stop = {"session_id": cid}
    deadline = time.monotonic() + 10
    while not app.test_client().post("/v1/chat/stop-stream", json=stop).json["stopped"]:
        assert time.monotonic() < deadline
    sender.join(10)
    [answer] = answers
    assert (answer.status_code, answer.json["reply"], answer.json["assistant_message_id"]) == (200, "", None)
    assert history(app.test_client(), cid) == [("user", "hi")]


def test_delete_messages_of_any_conversation(client: FlaskClient) -> None:
    """Messages of several conversations go at once; ids of none, however odd, count for nothing."""
    answers = [say(client, begin(client), "hi").json for _ in range(2)]
    ids = [answer["user_message_id"] for answer in answers]
    answer = client.post("/v1/chat/messages/delete", json={"message_ids": [*ids, ids[0], 0, -1, 1 << 60]})
    assert answer.json == {"message": "Messages deleted", "deleted": 2}
    assert [history(client, found["conversation_id"]) for found in answers] == [[("assistant", "echo: hi")]] * 2
    assert client.post("/v1/chat/messages/delete", json={"message_ids": []}).json["deleted"] == 0


def test_history_is_shared_with_native(make_poe: MakeApp) -> None:
    """A conversation of this dialect is read and continued through another."""
    client = make_poe(dialects="self_agent,poe").test_client()
    cid = begin(client)
    say(client, cid, "hi")
    client.post(f"/api/v1/conversations/{cid}/messages", json={"content": "again"})
    assert [content for _, content in history(client, cid)] == ["hi", "echo: hi", "again", "echo: again"]


def test_status_archives(client: FlaskClient) -> None:
    """`status` 1 is archived: set by PUT or at the start, shown in rows, and chosen by the list; others are 400."""
    a, b, c = begin(client), begin(client, status=1), begin(client, status=0)
    assert client.put(f"{ROOT}/{a}", json={"status": 1}).status_code == 200

    def rows(query: str = "") -> dict[str, int]:
        return {row["id"]: row["status"] for row in client.get(f"{ROOT}{query}").json}

    assert rows() == rows("?status=0") == {c: 0}
    assert rows("?status=1") == {b: 1, a: 1}
    assert [row["conversation_id"] for row in client.get(f"{ROOT}/grouped").json["其它"]] == [c]
    assert client.get(f"{ROOT}/{a}").json["status"] == 1
    assert client.put(f"{ROOT}/{a}", json={"status": None}).status_code == 200
    assert client.put(f"{ROOT}/{b}", json={"name": "n"}).status_code == 200
    assert rows() == {a: 0, c: 0}
    for query in ("2", "-1", "archived", "", "1.5", "true"):
        answer = client.get(f"{ROOT}?status={query}")
        assert (answer.status_code, list(answer.json)) == (400, ["detail"]), query
        assert answer.json["detail"].startswith("status: ")
    for value in (2, -1, "1", True, [], 1.0):
        assert client.put(f"{ROOT}/{c}", json={"status": value}).status_code == 400, value
    assert rows() == {a: 0, c: 0}


def test_pinned_first(client: FlaskClient) -> None:
    """What was pinned elsewhere comes first here, and what was deleted here can be restored elsewhere."""
    store = parts_of(client.application).store
    a, b = begin(client), begin(client)
    store.update(a, pinned=True)
    store.update(b, title="newest")
    assert [row["id"] for row in client.get(ROOT).json] == [a, b]
    client.delete(f"{ROOT}/{b}")
    assert store.restore("local", b).title == "newest"
