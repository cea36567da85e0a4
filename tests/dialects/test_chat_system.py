"""The dialect of the chat system: the examples of chat_system.md by section, then the contract."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient

from core.errors import AppError, UpstreamError, UpstreamKeyRefused, UpstreamRateLimited, UpstreamTimeout
from self_agent import parts_of
from self_agent.events import Delta, Sources
from self_agent.providers.none import NoModel
from tests.conftest import MakeApp
from tests.dialects.ways import Client, Talk, Way, pairs


def begin(client: Client) -> str:
    client.ask("POST", "/chat/sessions/made-by-chat/chat", {"message": "first"})
    return "made-by-chat"


def read(client: Client, cid: str) -> Talk:
    rows = client.ask("GET", f"/chat/sessions/{cid}/messages")["data"]["messages"]
    return [("user" if role == "human" else role, content) for role, content in pairs(rows)]


WAY = Way(
    "chat_system",
    create=begin,
    listed=lambda c: [row["session_id"] for row in c.ask("GET", "/chat/sessions")["data"]],
    read=read,
    send=lambda c, cid, text: c.ask("POST", f"/chat/sessions/{cid}/chat", {"message": text}),
    delete=lambda c, cid: c.ask("DELETE", f"/chat/sessions/{cid}"),
    title=lambda c, cid: c.ask("GET", f"/chat/sessions/{cid}/messages")["data"]["title"],
    envelope=frozenset({"code", "message", "data"}),
    stranger=403,
)


ROOT = "/chat/sessions"
SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
SECRET = "s" * 32


@pytest.fixture
def client(make_app: MakeApp) -> FlaskClient:
    return make_app(dialects="chat_system").test_client()


def say(client: FlaskClient, session: str, message: str) -> str:
    answer = client.post(f"{ROOT}/{session}/chat", json={"message": message})
    assert answer.status_code == 200
    return answer.text


def refusal(status: int, message: str) -> dict[str, Any]:
    return {"code": status, "message": message, "data": None}


# --- the document


def test_section_1_sessions_newest_first(client: FlaskClient) -> None:
    """1. 查询所有会话列表: all sessions, newest update first, with the beginning of the last message."""
    assert client.get(ROOT).json == {"code": 200, "message": "查询成功", "data": []}
    for session in ("a", "b", "a"):
        say(client, session, f"我是{session}")
    answer = client.get(f"{ROOT}/").json
    assert (answer["code"], answer["message"]) == (200, "查询成功")
    fields = ["session_id", "title", "created_at", "updated_at", "message_count", "last_message"]
    assert [list(row) for row in answer["data"]] == [fields] * 2
    assert [(row["session_id"], row["message_count"], row["last_message"]) for row in answer["data"]] == [
        ("a", 4, "echo: 我是a"),
        ("b", 2, "echo: 我是b"),
    ]
    assert all(SECONDS.fullmatch(row[name]) for row in answer["data"] for name in ("created_at", "updated_at"))


def test_section_1_empty_session(make_app: MakeApp) -> None:
    """最后一条消息: null where there is none; a title is the name that every dialect shows."""
    app = make_app(dialects="chat_system")
    parts_of(app).conversations.create("local", "empty")
    named = parts_of(app).conversations.create("local", "named", title="题目")
    parts_of(app).conversations.add("local", named.id, "user", "长" * 300)
    rows = app.test_client().get(ROOT).json["data"]
    assert [(row["title"], row["last_message"]) for row in rows] == [("题目", "长" * 200), ("", None)]


def test_section_2_messages_of_session(make_app: MakeApp) -> None:
    """2. 查询聊天记录: roles human and assistant, oldest first, with UTC times."""
    app = make_app(dialects="chat_system")
    client = app.test_client()
    say(client, "a", "你好")
    parts_of(app).conversations.add("local", "a", "system", "be kind")
    answer = client.get(f"{ROOT}/a/messages").json
    assert (answer["code"], answer["message"]) == (200, "查询成功")
    data = answer["data"]
    assert list(data) == ["session_id", "title", "created_at", "messages", "total_messages"]
    assert (data["session_id"], data["total_messages"]) == ("a", 3)
    assert [list(message) for message in data["messages"]] == [["role", "content", "time"]] * 3
    assert [(message["role"], message["content"]) for message in data["messages"]] == [
        ("human", "你好"),
        ("assistant", "echo: 你好"),
        ("system", "be kind"),
    ]
    assert all(SECONDS.fullmatch(time) for time in (data["created_at"], *(m["time"] for m in data["messages"])))


def test_section_3_delete_counts_messages(client: FlaskClient) -> None:
    """3. 删除会话: says how many messages went with it; then there is no such session."""
    say(client, "a", "你好")
    assert client.delete(f"{ROOT}/a").json == {
        "code": 200,
        "message": "删除成功",
        "data": {"success": True, "deleted_session_id": "a", "deleted_messages_count": 2},
    }
    again = client.delete(f"{ROOT}/a")
    assert (again.status_code, again.json) == (404, refusal(404, "会话不存在"))
    assert client.get(ROOT).json["data"] == []


def test_section_4_reply_is_bare_text(make_app: MakeApp) -> None:
    """4. 聊天接口（流式）: nothing but the reply's text."""
    script = [Delta(reasoning="hm"), Delta("你"), Sources([{"url": "u"}]), Delta("好\n")]
    client = make_app(dialects="chat_system", script=script).test_client()
    answer = client.post(f"{ROOT}/a/chat/", json={"message": "你好"})
    assert answer.data == "你好\n".encode()
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-cache", "no")


def test_section_4_continues_a_session(client: FlaskClient) -> None:
    """如果session存在，继续: the same session grows and keeps its title."""
    say(client, "a", "one")
    [before] = client.get(ROOT).json["data"]
    say(client, "a", "two")
    [after] = client.get(ROOT).json["data"]
    assert (after["title"], after["message_count"]) == (before["title"], 4)


@pytest.fixture
def local_time_is_utc_plus_8(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CST-8")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot change its time zone on Windows")
@pytest.mark.usefixtures("local_time_is_utc_plus_8")
def test_section_4_title_is_local_time(client: FlaskClient) -> None:
    """标题使用"会话+时间"格式: a new session is titled with the local time."""
    say(client, "a", "你好")
    [row] = client.get(ROOT).json["data"]
    assert re.fullmatch(r"会话 \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row["title"])
    said = datetime.strptime(row["title"][3:] + "+0800", "%Y-%m-%d %H:%M:%S%z")
    assert abs(datetime.now(timezone.utc) - said) < timedelta(minutes=1)


@pytest.mark.parametrize("body", [None, {}, {"message": ""}, {"message": " \n\t"}, {"content": "hi"}], ids=str)
def test_section_4_empty_message(client: FlaskClient, body: Any) -> None:
    """错误响应（非流式）: a message without text is refused in the document's words, and nothing is stored."""
    answer = client.post(f"{ROOT}/a/chat", json=body) if body is not None else client.post(f"{ROOT}/a/chat")
    assert (answer.status_code, answer.json) == (400, refusal(400, "消息内容不能为空"))
    assert client.get(ROOT).json["data"] == []


def test_openapi_requires_the_message(client: FlaskClient) -> None:
    """【必填】: the description of the interface says that a message is required."""
    document = client.get("/openapi.json").json
    chat = document["paths"]["/chat/sessions/{session_id}/chat"]["post"]
    name = chat["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
    assert document["components"]["schemas"][name]["required"] == ["message"]


# --- how a stream ends


FAILURES: list[tuple[AppError, int]] = [
    (UpstreamError("unreachable"), 502),
    (UpstreamTimeout("too slow"), 504),
    (UpstreamKeyRefused("bad key"), 401),
    (UpstreamRateLimited("slow down", retry_after=3), 429),
]


@pytest.mark.parametrize("before", [[], [Delta(reasoning="hm")]], ids=["at once", "after thinking"])
@pytest.mark.parametrize(("error", "status"), FAILURES, ids=lambda value: type(value).__name__)
def test_failure_before_text_has_status(make_app: MakeApp, before: list[Any], error: AppError, status: int) -> None:
    """Until the first text is out a failure has its status and envelope; the question stays."""
    client = make_app(dialects="chat_system", script=[*before, error]).test_client()
    answer = client.post(f"{ROOT}/a/chat", json={"message": "hi"})
    assert (answer.status_code, answer.json) == (status, refusal(status, error.message))
    assert answer.headers.get("Retry-After") == ("3" if status == 429 else None)
    assert client.get(f"{ROOT}/a/messages").json["data"]["total_messages"] == 1


def test_no_model_is_503(make_app: MakeApp) -> None:
    """Without a model a send is 503 and creates no session."""
    client = make_app(dialects="chat_system", provider=NoModel()).test_client()
    answer = client.post(f"{ROOT}/a/chat", json={"message": "hi"})
    assert (answer.status_code, answer.json["code"], answer.json["data"]) == (503, 503, None)
    assert client.get(ROOT).json["data"] == []


def test_cut_off_is_one_warning(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    """In the process, what breaks the connection is a broken pipe, after the text that came before it."""
    client = make_app(dialects="chat_system", script=[Delta("half"), UpstreamError("gone")]).test_client()
    answer = client.post(f"{ROOT}/a/chat", json={"message": "hi"})
    assert answer.status_code == 200
    with pytest.raises(BrokenPipeError):
        assert answer.data
    [record] = [record for record in caplog.records if "failed after" in record.message]
    assert record.message.endswith("UpstreamError: gone")
    assert record.exc_info is None


@pytest.mark.parametrize("text", ["half", ""])
def test_stopped_reply_ends_normally(make_app: MakeApp, text: str) -> None:
    """A stop is no failure: what there is of the reply is all of it, even if that is nothing."""
    app = make_app(dialects="chat_system", script=[Delta(text), 30.0, Delta("never")])
    received: list[str] = []
    sender = threading.Thread(target=lambda: received.append(say(app.test_client(), "a", "hi")))
    sender.start()
    until_replied(app, text)
    assert parts_of(app).conversations.stop("local", "a") is True
    sender.join(10)
    assert received == [text]


def until_replied(app: Flask, text: str) -> None:
    """Wait until the model has said so much in the session that is answered now."""
    deadline = time.monotonic() + 10
    while not (turn := parts_of(app).turns.current("a")) or not turn.question.id or turn.text()[0] != text:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- bad input


@pytest.mark.parametrize("method", ["get", "delete"])
def test_unknown_session_is_404(client: FlaskClient, method: str) -> None:
    """A session that is not there is 404 in the document's words."""
    answer = getattr(client, method)(f"{ROOT}/nobody" + ("/messages" if method == "get" else ""))
    assert (answer.status_code, answer.json) == (404, refusal(404, "会话不存在"))


@pytest.mark.parametrize("session", [".hidden", "a b", "a%00b", "x" * 300, "..", "é"])
def test_wrong_id_is_400(client: FlaskClient, session: str) -> None:
    """An id that could be anything but a name is 400 for every method."""
    for method, path in (("get", "/messages"), ("delete", ""), ("post", "/chat")):
        body = {"message": "hi"} if method == "post" else None
        answer = getattr(client, method)(f"{ROOT}/{session}{path}", json=body)
        assert (answer.status_code, answer.json["code"], answer.json["data"]) == (400, 400, None)


@pytest.mark.parametrize("message", [1, None, ["hi"]], ids=str)
def test_wrong_type_is_named(client: FlaskClient, message: Any) -> None:
    """A message that is no text is 400 and names the field."""
    answer = client.post(f"{ROOT}/a/chat", json={"message": message})
    assert (answer.status_code, answer.json["code"]) == (400, 400)
    assert answer.json["message"].startswith("message:")


@pytest.mark.parametrize(
    ("method", "path", "request_", "status"),
    [
        ("put", "/a/chat", {}, 405),
        ("get", "/a", {}, 405),
        ("get", "/a/nothing/here", {}, 404),
        ("post", "/a/chat", {"data": "{", "content_type": "application/json"}, 400),
        ("post", "/a/chat", {"json": []}, 400),
        ("post", "/a/chat", {"data": "message=hi"}, 415),
    ],
    ids=str,
)
def test_every_error_has_envelope(client: FlaskClient, method: str, path: str, request_: Any, status: int) -> None:
    """Whatever is refused below the mount is refused in this dialect's envelope."""
    answer = getattr(client, method)(ROOT + path, **request_)
    assert answer.status_code == status
    assert answer.json == refusal(status, answer.json["message"])
    assert answer.json["message"] not in ("", "会话不存在")


def test_bug_hides_its_reason(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is 500 in the envelope, with the request's id and without its reason."""
    app = make_app(dialects="chat_system")
    monkeypatch.delitem(app.extensions, "self_agent")
    answer = app.test_client().get(ROOT)
    monkeypatch.undo()
    assert answer.json == refusal(500, answer.json["message"])
    assert answer.headers["X-Request-Id"] in answer.json["message"]
    assert "KeyError" not in answer.text


# --- users


def test_other_users_session_is_403(make_app: MakeApp) -> None:
    """无权限: a session of somebody else is 403 in the document's words, and nothing of it changes."""
    client = make_app(dialects="chat_system", auth_enabled=True, jwt_secret=SECRET).test_client()
    client.post(f"{ROOT}/a/chat", json={"message": "mine"}, headers=token("ann"))
    bob = token("bob")
    assert client.get(f"{ROOT}/a/messages", headers=bob).json == refusal(403, "无权限访问该会话")
    assert client.delete(f"{ROOT}/a", headers=bob).json == refusal(403, "无权限删除该会话")
    answer = client.post(f"{ROOT}/a/chat", json={"message": "hi"}, headers=bob)
    assert (answer.status_code, answer.json) == (403, refusal(403, "无权限访问该会话"))
    assert client.get(ROOT, headers=bob).json["data"] == []
    assert client.get(f"{ROOT}/a/messages", headers=token("ann")).json["data"]["total_messages"] == 2


def test_auth_on_needs_token(make_app: MakeApp) -> None:
    """【必需】需要Bearer Token: with auth on, a request without one is 401 in the envelope."""
    client = make_app(dialects="chat_system", auth_enabled=True, jwt_secret=SECRET).test_client()
    for answer in (client.get(ROOT), client.post(f"{ROOT}/a/chat", json={"message": "hi"}), client.delete(f"{ROOT}/a")):
        assert (answer.status_code, answer.json["code"], answer.json["data"]) == (401, 401, None)


def token(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt.encode({'sub': name, 'exp': time.time() + 60}, SECRET)}"}
