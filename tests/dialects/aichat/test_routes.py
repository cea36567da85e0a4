"""The HTTP side of aichat: the examples of aichat.md by section, then what the contract adds."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient

from core.errors import UpstreamError
from self_agent import parts_of
from self_agent.dialects.aichat import functions
from self_agent.providers.none import NoModel
from tests.conftest import MakeApp
from tests.dialects.aichat.conftest import MakeChat, until
from tests.dialects.ways import Client, Way, pairs


def begin(client: Client) -> str:
    sid = client.ask("POST", "/api/chat/session", {"user_id": "u"})["data"]["session_id"]
    send(client, sid, "first")
    return str(sid)


def send(client: Client, cid: str, text: str) -> None:
    client.ask("POST", "/api/chat/message", {"session_id": cid, "content": text, "role": "user"})
    client.wait(cid)


WAY = Way(
    "aichat",
    create=begin,
    listed=lambda c: [row["session_id"] for row in c.ask("GET", "/aichat/getsessionlist/u")["data"]["list"]],
    read=lambda c, cid: pairs(c.ask("GET", f"/aichat/sessions/{cid}/messages")["data"]),
    send=send,
    delete=lambda c, cid: c.ask("DELETE", f"/aichat/deletesession/{cid}"),
    title=lambda c, cid: c.ask("GET", f"/aichat/sessions/{cid}")["data"]["title"],
    rename=lambda c, cid, name: c.ask("PATCH", f"/aichat/sessions/{cid}", {"new_title": name}),
    envelope=frozenset({"code", "message", "data"}),
)


NATIVE = "/api/v1/conversations"
SECRET = "a secret of thirty-two bytes or more"
SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
SESSION = ["session_id", "user_id", "title", "message_count", "created_at", "updated_at", "is_deleted"]
MESSAGE = ["message_id", "session_id", "role", "content", "created_at", "updated_at", "is_deleted"]
UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"


def data_of(answer: Any) -> Any:
    """Check the envelope of a success and return what is in it."""
    assert answer.status_code == 200, answer.text
    assert (list(answer.json), answer.json["code"]) == (["code", "message", "data"], 200)
    assert answer.json["message"] == "success"
    return answer.json["data"]


def refusal(answer: Any) -> tuple[int, str]:
    """Check the envelope of an error and return its status and sentence."""
    assert list(answer.json) == ["code", "message", "data"]
    assert answer.json["code"] == answer.status_code
    assert answer.json["data"] is None
    return answer.status_code, answer.json["message"]


def create(client: FlaskClient, **body: Any) -> str:
    return str(data_of(client.post("/api/chat/session", json=body))["session_id"])


def store(client: FlaskClient, session_id: str, content: str, role: str = "assistant") -> Any:
    body = {"session_id": session_id, "content": content, "role": role}
    return data_of(client.post("/api/chat/message", json=body))


# --- the document


@pytest.mark.parametrize("path", ["/api/chat/session", "/aichat/createsession"])
def test_create_session(client: FlaskClient, path: str) -> None:
    """创建会话: a session with an id of the server's; the title may be left out."""
    session = data_of(client.post(path, json={"user_id": "542738228948500480", "title": "技术讨论"}))
    assert list(session) == SESSION
    assert uuid.UUID(session["session_id"])
    assert (session["user_id"], session["title"], session["message_count"]) == ("542738228948500480", "技术讨论", 0)
    assert (session["is_deleted"], session["created_at"]) == (False, session["updated_at"])
    assert SECONDS.fullmatch(session["created_at"])
    for body in ({}, {"title": None}, {"title": " "}, {"user_id": "u"}):
        assert data_of(client.post(path, json=body))["title"] == "新会话"


def test_get_one_session(client: FlaskClient) -> None:
    """获取单个会话: the session object, its title and how many messages it has."""
    session_id = create(client, title="技术讨论")
    store(client, session_id, "你好")
    session = data_of(client.get(f"/api/chat/sessions/{session_id}"))
    assert list(session) == SESSION
    assert (session["title"], session["message_count"]) == ("技术讨论", 1)


def test_get_sessions_in_pages(client: FlaskClient) -> None:
    """批量获取会话: rows, newest first; both spellings of the size are understood."""
    ids = [create(client, title=f"t{number}") for number in range(3)]
    rows = data_of(client.post("/api/chat/sessions", json={"user_id": "u", "page": 1, "page_size": 50}))
    assert [row["session_id"] for row in rows] == ids[::-1]
    assert {row["user_id"] for row in rows} == {"u"}
    for name in ("page_size", "pageSize"):
        second = data_of(client.post("/api/chat/sessions", json={"page": 2, name: 2}))
        assert [row["session_id"] for row in second] == ids[:1]
    assert data_of(client.post("/api/chat/sessions", json={"page": 9})) == []


@pytest.mark.parametrize("path", ["/api/chat/sessions", "/aichat/deletesession"])
def test_delete_session(client: FlaskClient, path: str) -> None:
    """删除会话: it is gone, for every dialect."""
    session_id = create(client)
    assert data_of(client.delete(f"{path}/{session_id}")) == "会话删除成功"
    assert refusal(client.delete(f"{path}/{session_id}"))[0] == 404
    assert refusal(client.get(f"/api/chat/sessions/{session_id}"))[0] == 404
    assert client.get(NATIVE).json["data"] == []


@pytest.mark.parametrize("path", ["/api/chat/sessions", "/aichat/sessions"])
def test_change_title(client: FlaskClient, path: str) -> None:
    """更新会话标题: the new title is shown from then on."""
    session_id = create(client)
    assert data_of(client.patch(f"{path}/{session_id}", json={"new_title": "更新后的标题"})) == "标题更新成功"
    assert data_of(client.get(f"{path}/{session_id}"))["title"] == "更新后的标题"
    assert refusal(client.patch(f"{path}/{session_id}", json={"new_title": " "}))[0] == 400


def test_send_a_message(client: FlaskClient) -> None:
    """发送消息: it is stored; a user's is answered, and the reply is in the history."""
    session_id = create(client)
    message = store(client, session_id, "如何学习Python？", "user")
    assert list(message) == MESSAGE
    assert (message["role"], message["content"]) == ("user", "如何学习Python？")
    assert isinstance(message["message_id"], int)
    path = f"/api/chat/sessions/{session_id}/messages"
    until(lambda: data_of(client.get(path))["total"] == 2)
    assert data_of(client.get(path))["items"][1]["content"] == "echo: 如何学习Python？"
    for role in ("assistant", "system"):
        assert store(client, session_id, "x", role)["role"] == role
    assert data_of(client.get(path))["total"] == 4


def test_get_one_message(client: FlaskClient) -> None:
    """获取单个消息: a message of that session."""
    session_id, other = create(client), create(client)
    message = store(client, session_id, "你好！")
    path = f"messages/{message['message_id']}"
    assert data_of(client.get(f"/api/chat/sessions/{session_id}/{path}")) == message
    assert refusal(client.get(f"/api/chat/sessions/{other}/{path}"))[0] == 404


def test_get_messages_in_pages(client: FlaskClient) -> None:
    """获取批量消息 and 分页查询: oldest first, with the total; a page past the end is empty."""
    session_id = create(client)
    for number in range(5):
        store(client, session_id, f"m{number}")
    path = f"/api/chat/sessions/{session_id}/messages"
    page = data_of(client.get(path))
    assert [item["content"] for item in page["items"]] == [f"m{number}" for number in range(5)]
    assert {key: page[key] for key in ("total", "page", "page_size")} == {"total": 5, "page": 1, "page_size": 50}
    for name in ("page_size", "pageSize"):
        page = data_of(client.get(f"{path}?page=3&{name}=2"))
        assert ([item["content"] for item in page["items"]], page["page_size"]) == (["m4"], 2)
        rows = data_of(client.get(f"/aichat/sessions/{session_id}/messages?page=2&{name}=2"))
        assert [row["content"] for row in rows] == ["m2", "m3"]
    assert data_of(client.get(f"{path}?page=9"))["items"] == []


def test_delete_a_message(client: FlaskClient) -> None:
    """删除消息: it is not shown again and not counted."""
    session_id = create(client)
    message = store(client, session_id, "x")
    assert data_of(client.delete(f"/api/chat/messages/{message['message_id']}")) == "消息删除成功"
    assert refusal(client.delete(f"/api/chat/messages/{message['message_id']}"))[0] == 404
    assert data_of(client.get(f"/api/chat/sessions/{session_id}"))["message_count"] == 0


def test_edit_a_message(client: FlaskClient) -> None:
    """修改消息: only a user's can be."""
    session_id = create(client)
    asked, said = store(client, session_id, "x", "user"), store(client, session_id, "y")
    path = f"/api/chat/messages/{asked['message_id']}"
    assert data_of(client.patch(path, json={"new_content": "更新后的消息内容"})) == "消息编辑成功"
    shown = data_of(client.get(f"/api/chat/sessions/{session_id}/messages/{asked['message_id']}"))
    assert shown["content"] == "更新后的消息内容"
    assert refusal(client.patch(path, json={"new_content": " "}))[0] == 400
    other = client.patch(f"/api/chat/messages/{said['message_id']}", json={"new_content": "z"})
    assert refusal(other) == (400, "only messages of role user can be edited")


def test_session_list_has_paging(client: FlaskClient) -> None:
    """获取会话列表api: the rows and how many there are."""
    assert data_of(client.get("/aichat/getsessionlist/u1"))["pagination"]["totalPages"] == 0
    ids = [create(client) for _ in range(5)]
    for name in ("page_size", "pageSize"):
        data = data_of(client.get(f"/aichat/getsessionlist/u1?page=2&{name}=2"))
        assert [row["session_id"] for row in data["list"]] == [ids[2], ids[1]]
        assert [list(row) for row in data["list"]] == [SESSION] * 2
        assert {row["user_id"] for row in data["list"]} == {"u1"}
        assert data["pagination"] == {"total": 5, "pageSize": 2, "pageNum": 2, "totalPages": 3}
    assert data_of(client.get("/aichat/getsessionlist/u1"))["pagination"]["pageSize"] == 20


def test_session_list_shows_newest(client: FlaskClient) -> None:
    """获取会话列表用于消息首屏加载: the newest session carries its latest 50 messages, the others none."""
    newest, other = create(client), create(client)
    store(client, other, "old")
    for number in range(60):
        store(client, newest, f"m{number}")
    rows = data_of(client.get("/aichat/getsessionlistshow/u1"))["list"]
    assert [row["session_id"] for row in rows] == [newest, other]
    assert [message["content"] for message in rows[0]["messages"]] == [f"m{number}" for number in range(10, 60)]
    assert rows[1]["messages"] == []
    second = data_of(client.get("/aichat/getsessionlistshow/u1?page=2&pageSize=1"))
    assert (second["list"][0]["messages"], second["pagination"]["total"]) == ([], 2)


def test_session_with_its_messages(client: FlaskClient) -> None:
    """获取单个会话api: the session and its latest 50 messages, in order."""
    session_id = create(client)
    for number in range(60):
        store(client, session_id, f"m{number}")
    session = data_of(client.get(f"/aichat/sessions/{session_id}"))
    assert list(session) == [*SESSION, "messages"]
    assert [message["content"] for message in session["messages"]] == [f"m{number}" for number in range(10, 60)]


def test_functions_of_the_document(make_app: MakeApp) -> None:
    """crud基础数据库查询: the functions, with the names and arguments of the document."""
    db = parts_of(make_app()).conversations
    assert functions.create_session(db, "s", "local")["title"] == "新会话"
    assert functions.create_session(db, session_id="t", user_id="local", title="题")["title"] == "题"
    assert [session["session_id"] for session in functions.list_sessions(db, "local", 1, 20)] == ["t", "s"]
    assert functions.update_session_title(db, "s", "新") is True
    assert functions.get_session(db, "s")["title"] == "新"
    message = functions.create_message(db, "s", "你好", "user")
    until(lambda: functions.get_session(db, "s")["message_count"] == 2)
    assert functions.get_message(db, message["message_id"]) == message
    assert functions.list_messages(db, "s", 1, 50)[0] == message
    assert functions.update_message_content(db, message["message_id"], "再见") is True
    assert functions.get_message(db, message["message_id"])["content"] == "再见"
    assert functions.soft_delete_message(db, message["message_id"]) is True
    assert functions.soft_delete_session(db, "s") is True
    assert [functions.get_session(db, "s"), functions.get_message(db, message["message_id"])] == [None, None]
    assert (functions.list_messages(db, "s"), functions.latest_messages(db, "s")) == ([], [])
    assert functions.soft_delete_session(db, "s") is False
    assert functions.update_session_title(db, "s", "x") is False
    assert functions.soft_delete_message(db, message["message_id"]) is False
    assert functions.update_message_content(db, message["message_id"], "x") is False


# --- what the contract adds


def test_other_dialects_are_shown(client: FlaskClient) -> None:
    """A conversation of another dialect is a session here, under its name."""
    client.post(f"{NATIVE}/conv_1/messages", json={"content": "你好世界，今天天气怎么样？"})
    session = data_of(client.get("/aichat/sessions/conv_1"))
    assert (session["title"], session["message_count"]) == ("你好世界，今天天气怎", 2)
    session_id = create(client, title="题")
    assert client.get(f"{NATIVE}/{session_id}").json["data"]["name"] == "题"


def test_model_failure_keeps_message(make_chat: MakeChat) -> None:
    """No model at all is 503 and stores nothing; a model that fails later leaves the message."""
    none = make_chat(provider=NoModel()).test_client()
    session_id = create(none)
    body = {"session_id": session_id, "content": "hi", "role": "user"}
    assert refusal(none.post("/api/chat/message", json=body))[0] == 503
    assert data_of(none.get(f"/api/chat/sessions/{session_id}"))["message_count"] == 0
    broken = make_chat(script=[UpstreamError("gone")]).test_client()
    session_id = create(broken)
    assert store(broken, session_id, "hi", "user")["content"] == "hi"
    assert data_of(broken.get(f"/api/chat/sessions/{session_id}"))["message_count"] == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", f"/api/chat/sessions/{UNKNOWN}"),
        ("patch", f"/api/chat/sessions/{UNKNOWN}"),
        ("delete", f"/api/chat/sessions/{UNKNOWN}"),
        ("get", f"/api/chat/sessions/{UNKNOWN}/messages"),
        ("get", f"/api/chat/sessions/{UNKNOWN}/messages/1"),
        ("get", f"/aichat/sessions/{UNKNOWN}"),
        ("patch", f"/aichat/sessions/{UNKNOWN}"),
        ("delete", f"/aichat/deletesession/{UNKNOWN}"),
        ("get", f"/aichat/sessions/{UNKNOWN}/messages"),
        ("patch", "/api/chat/messages/1"),
        ("delete", "/api/chat/messages/1"),
        ("delete", "/api/chat/messages/0"),
        ("delete", f"/api/chat/messages/{2**53}"),
        ("patch", f"/api/chat/messages/{10**30}"),
        ("delete", "/api/chat/messages/" + "9" * 5000),
        ("get", "/api/chat/nothing"),
        ("get", "/aichat"),
        ("get", "/aichat/sessions"),
    ],
)
def test_unknown_is_404(client: FlaskClient, method: str, path: str) -> None:
    """What is not there is 404 in this dialect's envelope, whatever names it."""
    body = None if method in ("get", "delete") else {"new_title": "x", "new_content": "x"}
    assert refusal(getattr(client, method)(path, json=body))[0] == 404


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "1_0", "١", "0x1"])
def test_wrong_message_id_is_400(client: FlaskClient, number: str) -> None:
    """A message id is an integer."""
    assert refusal(client.delete(f"/api/chat/messages/{number}")) == (400, "message_id must be an integer")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("message", {"session_id": "s", "role": "user"}, "content"),
        ("message", {"session_id": "s", "content": 1, "role": "user"}, "content"),
        ("message", {"content": "x", "role": "user"}, "session_id"),
        ("message", {"session_id": 7, "content": "x"}, "session_id"),
        ("message", {"session_id": "s", "content": "x", "role": 1}, "role"),
        ("message", {"session_id": "s", "content": "x", "role": "robot"}, "role"),
        ("message", {"session_id": "s", "content": " \n", "role": "user"}, "content"),
        ("message", {"session_id": "s", "content": "", "role": "assistant"}, "content"),
        ("message", {"session_id": ".s", "content": "x", "role": "user"}, "id"),
        ("session", {"title": 1}, "title"),
        ("session", {"user_id": 1}, "user_id"),
        ("sessions", {"page": 0}, "page"),
        ("sessions", {"page": "1"}, "page"),
        ("sessions", {"page_size": 0}, "page_size"),
        ("sessions", {"pageSize": 101}, "pageSize"),
    ],
)
def test_wrong_field_is_named(client: FlaskClient, path: str, body: Any, field: str) -> None:
    """A wrong field is 400 and named, and nothing is stored."""
    client.post(f"{NATIVE}/s/set_config", json={})
    status, sentence = refusal(client.post(f"/api/chat/{path}", json=body))
    assert (status, field in sentence) == (400, True), sentence
    assert data_of(client.get("/api/chat/sessions/s"))["message_count"] == 0


@pytest.mark.parametrize("query", ["page=0", "page=x", f"page={10**30}", "page_size=0", "pageSize=101", "pageSize=x"])
def test_wrong_page_is_400(client: FlaskClient, query: str) -> None:
    """A page that cannot be is 400 on every list."""
    session_id = create(client)
    for path in (
        "/aichat/getsessionlist/u",
        "/aichat/getsessionlistshow/u",
        f"/api/chat/sessions/{session_id}/messages",
        f"/aichat/sessions/{session_id}/messages",
    ):
        assert refusal(client.get(f"{path}?{query}"))[0] == 400


def test_every_error_has_envelope(make_chat: MakeChat, monkeypatch: pytest.MonkeyPatch) -> None:
    """405, 415, 413, bad JSON and a bug: all in the envelope of this dialect."""
    app = make_chat(max_body_bytes=1000)
    client = app.test_client()
    assert refusal(client.put("/api/chat/session", json={}))[0] == 405
    assert refusal(client.get("/aichat/createsession"))[0] == 405
    assert refusal(client.post("/api/chat/session", data="title=x"))[0] == 415
    assert refusal(client.post("/api/chat/session", data="{", content_type="application/json"))[0] == 400
    assert refusal(client.post("/api/chat/session", json=[1]))[0] == 400
    assert refusal(client.post("/api/chat/session", json={"title": "x" * 2000}))[0] == 413
    monkeypatch.setattr(parts_of(app).conversations, "find", lambda *_: 1 / 0)
    status, sentence = refusal(client.get("/aichat/sessions/s"))
    assert (status, "internal error" in sentence, "division" in sentence) == (500, True, False)


@pytest.mark.parametrize("path", ["/api/chat/sessions/.x", "/aichat/sessions/a%00b", "/aichat/deletesession/a b"])
def test_wrong_session_id_is_400(client: FlaskClient, path: str) -> None:
    """An id that could be anything but a name is 400."""
    method = client.delete if "delete" in path else client.get
    assert refusal(method(path))[0] == 400


def test_slash_and_utf8(client: FlaskClient) -> None:
    """A slash at the end changes nothing, and Chinese is sent as it is."""
    assert "新会话".encode() in client.post("/aichat/createsession/", json={}).data
    assert len(data_of(client.post("/api/chat/sessions/", json={}))) == 1
    assert client.options("/api/chat/sessions/s", headers={"Origin": "http://localhost"}).status_code == 200


def test_nothing_of_others_is_shown(make_chat: MakeChat) -> None:
    """With auth on, another user's session does not exist, and his `user_id` opens nothing."""
    client = make_chat(auth_enabled=True, jwt_secret=SECRET).test_client()

    def by(user: str) -> dict[str, Any]:
        claims = {"sub": user, "exp": time.time() + 60}
        return {"headers": {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}}

    assert refusal(client.get("/aichat/getsessionlist/ada"))[0] == 401
    session = data_of(client.post("/api/chat/session", json={"user_id": "ada"}, **by("ada")))
    assert session["user_id"] == "ada"
    sid = session["session_id"]
    body = {"session_id": sid, "content": "secret", "role": "assistant"}
    mid = data_of(client.post("/api/chat/message", json=body, **by("ada")))["message_id"]
    assert data_of(client.get("/aichat/getsessionlist/ada", **by("ada")))["pagination"]["total"] == 1
    changes = {"new_title": "x", "new_content": "x"}
    for method, path, json in (
        ("get", f"/api/chat/sessions/{sid}", None),
        ("get", f"/aichat/sessions/{sid}", None),
        ("get", f"/api/chat/sessions/{sid}/messages", None),
        ("get", f"/aichat/sessions/{sid}/messages", None),
        ("get", f"/api/chat/sessions/{sid}/messages/{mid}", None),
        ("patch", f"/api/chat/sessions/{sid}", changes),
        ("patch", f"/aichat/sessions/{sid}", changes),
        ("patch", f"/api/chat/messages/{mid}", changes),
        ("delete", f"/api/chat/messages/{mid}", None),
        ("delete", f"/api/chat/sessions/{sid}", None),
        ("delete", f"/aichat/deletesession/{sid}", None),
        ("post", "/api/chat/message", body),
        ("post", "/api/chat/sessions", {"user_id": "ada"}),
        ("post", "/aichat/createsession", {"user_id": "ada"}),
        ("get", "/aichat/getsessionlist/ada", None),
        ("get", "/aichat/getsessionlistshow/ada", None),
    ):
        assert refusal(getattr(client, method)(path, json=json, **by("eve")))[0] == 404, (method, path)
    assert data_of(client.post("/api/chat/sessions", json={}, **by("eve"))) == []
    assert data_of(client.get(f"/aichat/sessions/{sid}", **by("ada")))["messages"][0]["content"] == "secret"
    assert client.options(f"/api/chat/sessions/{sid}").status_code == 200
