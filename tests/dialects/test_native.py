"""The native dialect: the examples of self_agent.md by section, then the contract's additions."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient

from core.errors import UpstreamError, UpstreamRateLimited
from self_agent import parts_of
from self_agent.events import Delta, Info, Sources
from self_agent.providers.none import NoModel
from tests.conftest import MakeApp
from tests.dialects.ways import Client, Way, pairs

NATIVE = "/api/v1/conversations"


def begin(client: Client) -> str:
    client.ask("POST", f"{NATIVE}/made-natively/messages", {"content": "first"})
    return "made-natively"


WAY = Way(
    "self_agent",
    create=begin,
    listed=lambda c: c.ask("GET", NATIVE)["data"],
    read=lambda c, cid: pairs(c.ask("GET", f"{NATIVE}/{cid}")["data"]["messages"]),
    send=lambda c, cid, text: c.ask("POST", f"{NATIVE}/{cid}/messages", {"content": text}),
    delete=lambda c, cid: c.ask("DELETE", f"{NATIVE}/{cid}"),
    title=lambda c, cid: c.ask("GET", f"{NATIVE}/{cid}")["data"]["name"],
    rename=lambda c, cid, name: c.ask("PATCH", f"{NATIVE}/{cid}", {"name": name}),
    fields={"tag": "hello", "parent": None, "pinned": True, "archived": False},
    empty=frozenset({f"{NATIVE}/<conversation_id>"}),
)


ROOT = "/api/v1/conversations"
SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def say(client: FlaskClient, cid: str, content: str, **more: Any) -> Any:
    return client.post(f"{ROOT}/{cid}/messages", json={"content": content, **more})


def sse(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


# --- the document


def test_section_1_ids_newest_first(client: FlaskClient) -> None:
    """获取会话ID列表: ids only, newest update first, with paging."""
    assert client.get(f"{ROOT}/").json == {"data": [], "meta": {"page": 1, "size": 20, "total": 0}}
    for cid in ("conv_123", "conv_456", "conv_123"):
        say(client, cid, "你好")
    assert client.get(f"{ROOT}/").json == {
        "data": ["conv_123", "conv_456"],
        "meta": {"page": 1, "size": 20, "total": 2},
    }
    assert client.get(f"{ROOT}?page=2&size=1").json == {
        "data": ["conv_456"],
        "meta": {"page": 2, "size": 1, "total": 2},
    }
    assert client.get(f"{ROOT}?page=9").json["data"] == []


def test_section_2_detail_with_history(client: FlaskClient) -> None:
    """获取会话详情: heading, messages oldest first, paging."""
    say(client, "conv_123", "你好世界，今天天气怎么样？")
    data = client.get(f"{ROOT}/conv_123").json["data"]
    assert list(data)[:7] == ["conversation_id", "name", "summary", "created_at", "updated_at", "messages", "meta"]
    assert data["name"] == "你好世界，今天天气怎"
    assert data["summary"] == "echo: 你好世界，今天天气怎么样？"
    assert data["meta"] == {"page": 1, "size": 100, "total": 2}
    assert [list(message) for message in data["messages"]] == [["role", "content", "timestamp"]] * 2
    assert [message["role"] for message in data["messages"]] == ["user", "assistant"]
    times = [data["created_at"], data["updated_at"], *(message["timestamp"] for message in data["messages"])]
    assert all(SECONDS.fullmatch(time) for time in times)
    assert client.get(f"{ROOT}/conv_123?page=2&size=1").json["data"]["messages"][0]["role"] == "assistant"
    assert client.get(f"{ROOT}/conv_123?page=3&size=1").json["data"]["messages"] == []


def test_section_2_unknown_is_empty(client: FlaskClient) -> None:
    """如会话不存在，返回空消息列表: and asking does not create it."""
    data = client.get(f"{ROOT}/nobody").json["data"]
    assert (data["messages"], data["meta"]["total"], data["name"], data["summary"]) == ([], 0, "", "")
    assert (data["created_at"], data["updated_at"]) == (None, None)
    assert client.get(f"{ROOT}/").json["data"] == []


def test_section_3_send_returns_reply(client: FlaskClient) -> None:
    """发送消息: the reply, the last 20 messages and the heading; an unknown conversation is created."""
    answer = say(client, "conv_123", "你好")
    assert answer.status_code == 200
    data = answer.json["data"]
    assert data["reply"] == "echo: 你好"
    assert [(m["role"], m["content"]) for m in data["messages"]] == [("user", "你好"), ("assistant", "echo: 你好")]
    assert (data["conversation_id"], data["name"], data["summary"]) == ("conv_123", "你好", "echo: 你好")
    assert data["model"] == "echo"
    for n in range(12):
        data = say(client, "conv_123", f"n{n}").json["data"]
    assert len(data["messages"]) == 20
    assert data["messages"][-1]["content"] == "echo: n11"


def test_section_4_delete(client: FlaskClient) -> None:
    """删除会话: success; an unknown one is success false with an error."""
    say(client, "conv_123", "hi")
    assert client.delete(f"{ROOT}/conv_123").json == {"data": {"success": True}}
    again = client.delete(f"{ROOT}/conv_123")
    assert again.status_code == 404
    assert again.json["data"]["success"] is False
    assert again.json["data"]["error"]
    assert client.get(f"{ROOT}/conv_123").json["data"]["messages"] == []
    assert say(client, "conv_123", "new").json["data"]["messages"][0]["content"] == "new"


def test_section_8_utf8_and_slashes(client: FlaskClient) -> None:
    """Chinese is sent as it is; every path works with and without a slash at its end."""
    answer = say(client, "c", "你好")
    assert "你好".encode() in answer.data
    assert client.get(f"{ROOT}/c/").json == client.get(f"{ROOT}/c").json
    assert client.post(f"{ROOT}/c/messages/", json={"content": "x"}).status_code == 200


# --- what the contract adds


def test_stream_carries_both_spellings(make_app: MakeApp) -> None:
    """Start, pieces under both names, sources, done with the whole; the store has it."""
    sources = [{"type": "url", "url": "https://a.example", "title": "A"}]
    client = make_app(script=[Delta("你"), Sources(sources), Delta("好"), Info(model="m")]).test_client()
    answer = client.post(f"{ROOT}/c/messages/stream", json={"content": "hi"})
    assert answer.headers["Content-Type"] == "text/event-stream"
    events = sse(answer)
    mid = events[0]["message_id"]
    assert events == [
        {"type": "start", "message_id": mid, "user_message_id": mid - 1},
        {"type": "content", "delta": "你", "content": "你"},
        {"type": "sources", "sources": sources},
        {"type": "content", "delta": "好", "content": "好"},
        {"type": "done", "message_id": mid, "full_content": "你好", "reasoning": None},
    ]
    assert client.get(f"{ROOT}/c").json["data"]["messages"][1]["sources"] == sources


def test_stream_failure_before_and_after_start(make_app: MakeApp) -> None:
    """Before the first byte a failure has its status; after it, it is an event, and the pieces are kept."""
    refused = make_app(script=[UpstreamRateLimited("slow down", retry_after=3)]).test_client()
    answer = refused.post(f"{ROOT}/c/messages/stream", json={"content": "hi"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    assert answer.json == {"data": {"success": False, "error": "slow down"}}
    assert [m["content"] for m in refused.get(f"{ROOT}/c").json["data"]["messages"]] == ["hi"]
    cut = make_app(script=[Delta("half"), UpstreamError("cut off")]).test_client()
    assert sse(cut.post(f"{ROOT}/c/messages/stream", json={"content": "hi"}))[-1] == {
        "type": "error",
        "error": "cut off",
    }
    last = cut.get(f"{ROOT}/c").json["data"]["messages"][-1]
    assert (last["content"], last["incomplete"]) == ("half", True)
    assert say(cut, "c", "hi").status_code == 502


def test_stop_and_join_a_reply(make_app: MakeApp) -> None:
    """A reply can be joined from anywhere while it runs, and a stop ends it for all who follow."""
    app = make_app(script=[Delta("half"), 30.0, Delta("never")])
    joined: list[Any] = []

    def send() -> None:
        joined.append(sse(app.test_client().post(f"{ROOT}/c/messages/stream", json={"content": "hi"})))

    sender = threading.Thread(target=send)
    sender.start()
    service = parts_of(app)
    while not (service.store.get("c") and (turn := service.turns.current("c"))):
        pass
    turn.wait_started()
    follower = app.test_client().get(f"{ROOT}/c/stream")
    assert app.test_client().post(f"{ROOT}/c/stop").json == {"data": {"success": True, "stopped": True}}
    sender.join(10)
    assert sse(follower) == joined[0]
    assert joined[0][-1]["type"] == "done"
    assert joined[0][-1]["incomplete"] is True
    assert app.test_client().post(f"{ROOT}/c/stop").json["data"]["stopped"] is False
    assert app.test_client().get(f"{ROOT}/c/stream").status_code == 404


def test_change_name_prompt_model(make_app: MakeApp) -> None:
    """PATCH sets what is given and leaves the rest; null resets."""
    app = make_app()
    client = app.test_client()
    say(client, "c", "hello world and all")
    data = client.patch(f"{ROOT}/c", json={"name": "题目", "system_prompt": "Be kind.", "model": "m"}).json["data"]
    assert (data["name"], data["system_prompt"], data["config"]) == ("题目", "Be kind.", {"model": "m"})
    say(client, "c", "x")
    provider: Any = parts_of(app).provider
    assert provider.last_messages[0] == {"role": "system", "content": "Be kind."}
    data = client.patch(f"{ROOT}/c", json={"name": None}).json["data"]
    assert (data["name"], data["system_prompt"]) == ("hello worl", "Be kind.")
    assert client.patch(f"{ROOT}/unknown", json={"name": "x"}).status_code == 404


# --- bad input


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": 1}, "content"),
        ({"content": None}, "content"),
        ({"content": "x", "model": 3}, "model"),
        ({"content": " \n\t"}, "content"),
        ({"content": ""}, "content"),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["messages", "messages/stream"])
def test_wrong_field_is_named(client: FlaskClient, path: str, body: Any, field: str) -> None:
    """A wrong field is 400, named, and nothing is stored."""
    answer = client.post(f"{ROOT}/c/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json["data"]["success"] is False
    assert field in answer.json["data"]["error"]
    assert client.get(f"{ROOT}/").json["data"] == []


def test_form_without_body_is_400(client: FlaskClient) -> None:
    """What `curl -d ''` sends lacks its fields, and a stop needs none."""
    empty = {"data": b"", "content_type": "application/x-www-form-urlencoded"}
    answer = client.post(f"{ROOT}/c/messages", **empty)
    assert answer.status_code == 400
    assert "content" in answer.json["data"]["error"]
    say(client, "c", "hi")
    assert client.post(f"{ROOT}/c/stop", **empty).status_code == 200


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=abc", f"page={10**30}", "size=0", "size=101", "size=x"])
def test_wrong_page_is_400(client: FlaskClient, query: str) -> None:
    """A page that cannot be is 400 and names the parameter."""
    answer = client.get(f"{ROOT}/?{query}")
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.json["data"]["error"]
    assert client.get(f"{ROOT}/c?{query.replace('101', '501')}").status_code == 400


@pytest.mark.parametrize("cid", [".hidden", "a b", "a%00b", "x" * 300, "..", "é", "a:b", "%2e%2e"])
def test_wrong_id_is_400(client: FlaskClient, cid: str) -> None:
    """An id that could be anything but a name is 400 for every method."""
    for method, path in (("get", ""), ("delete", ""), ("patch", ""), ("post", "/messages"), ("post", "/stop")):
        body = None if method in ("get", "delete") else {"content": "x"}
        answer = getattr(client, method)(f"{ROOT}/{cid}{path}", json=body)
        assert answer.status_code == 400, (method, path)
        assert answer.json["data"]["success"] is False


def test_device_names_and_case_are_ids(client: FlaskClient) -> None:
    """Names that mean something elsewhere are just ids here; case makes a different one."""
    for cid in ("con", "NUL", "aux.txt", "Conv", "conv", "x" * 128):
        assert say(client, cid, cid).json["data"]["messages"][0]["content"] == cid
    assert len(client.get(f"{ROOT}/").json["data"]) == 6


def test_no_model_is_503(make_app: MakeApp) -> None:
    """Without a model a send is 503, says what to set, and stores nothing."""
    client = make_app(provider=NoModel()).test_client()
    answer = say(client, "c", "hi")
    assert answer.status_code == 503
    assert "OPENAI_BASE_URL" in answer.json["data"]["error"]
    assert client.get(f"{ROOT}/").json["data"] == []


def test_two_sends_are_answered_in_order(make_app: MakeApp) -> None:
    """Two tabs that send at once: both are answered, one after the other."""
    app = make_app(script=[0.05, Delta("ok")])
    threads = [threading.Thread(target=say, args=(app.test_client(), "c", f"m{n}")) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    roles = [m["role"] for m in app.test_client().get(f"{ROOT}/c").json["data"]["messages"]]
    assert roles == ["user", "assistant"] * 4


def test_name_has_a_limit(client: FlaskClient) -> None:
    """A name of a megabyte is no name; one of 500 characters is."""
    say(client, "c", "hi")
    for length, status in ((500, 200), (501, 400), (1_000_000, 400)):
        assert client.patch(f"{ROOT}/c", json={"name": "长" * length}).status_code == status
    assert client.get(f"{ROOT}/c").json["data"]["name"] == "长" * 500
    for path in ("/v1/projects", "/v1/chat/conversations"):
        assert client.post(path, json={"name": "x" * 501}).status_code == 400
