"""The dialect of Alice: the examples of alice.md by section, then the contract."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient

from core.errors import AppError, UpstreamError, UpstreamKeyRefused, UpstreamRateLimited, UpstreamTimeout
from self_agent.events import Delta, Sources
from self_agent.providers.none import NoModel
from tests.conftest import MakeApp
from tests.dialects.ways import Client, Way, pairs

ALICE = "/alice/api/v1/conversations"


def begin(client: Client) -> str:
    number = client.ask("POST", ALICE)["id"]
    client.ask("POST", f"{ALICE}/{number}/messages/stream", {"content": "first"})
    return client.id_of(number)


WAY = Way(
    "alice",
    create=begin,
    listed=lambda c: [c.id_of(row["id"]) for row in c.ask("GET", ALICE)],
    read=lambda c, cid: pairs(c.ask("GET", f"{ALICE}/{c.number(cid)}")["messages"]),
    send=lambda c, cid, text: c.ask("POST", f"{ALICE}/{c.number(cid)}/messages/stream", {"content": text}),
    delete=lambda c, cid: c.ask("DELETE", f"{ALICE}/{c.number(cid)}"),
    title=lambda c, cid: c.ask("GET", f"{ALICE}/{c.number(cid)}")["title"],
    envelope=frozenset({"detail"}),
    arguments={"conversation_id": "number"},
)


ROOT = "/api/v1/conversations"
SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
VIDEO = {"type": "video", "id": "123"}
SECRET = "s" * 32


@pytest.fixture
def client(make_app: MakeApp) -> FlaskClient:
    return make_app(dialects="alice").test_client()


def create(client: FlaskClient, **body: Any) -> int:
    number = client.post(f"{ROOT}/", json=body).json["id"]
    assert isinstance(number, int)
    return number


def say(client: FlaskClient, number: int, content: str) -> list[dict[str, Any]]:
    answer = client.post(f"{ROOT}/{number}/messages/stream", json={"content": content})
    assert answer.status_code == 200
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


# --- the document


def test_list_newest_first(client: FlaskClient) -> None:
    """GET / (获取对话列表): a plain list, newest update first."""
    assert client.get(f"{ROOT}/").json == []
    first, second, third = create(client, title="关于设计模式的讨论"), create(client), create(client)
    say(client, second, "什么是单例模式？什么是工厂？")
    rows = client.get(f"{ROOT}/").json
    assert [list(row) for row in rows] == [["id", "title", "created_at", "updated_at", "message_count"]] * 3
    assert [(row["id"], row["title"], row["message_count"]) for row in rows] == [
        (second, "什么是单例模式？什么", 2),
        (third, "新对话", 0),
        (first, "关于设计模式的讨论", 0),
    ]
    assert all(SECONDS.fullmatch(row[name]) for row in rows for name in ("created_at", "updated_at"))


def test_create_without_a_body(client: FlaskClient) -> None:
    """POST / (创建新对话): no body, title null; ids are integers that count up."""
    answer = client.post(f"{ROOT}/")
    assert answer.status_code == 200
    assert list(answer.json) == ["id", "title", "created_at", "updated_at", "message_count"]
    assert (answer.json["title"], answer.json["message_count"]) == (None, 0)
    assert client.post(ROOT).json["id"] == answer.json["id"] + 1


@pytest.mark.parametrize(("title", "kept"), [("题目", "题目"), (" 题目 ", "题目"), (" ", None), (None, None)])
def test_create_may_set_title(client: FlaskClient, title: str | None, kept: str | None) -> None:
    """A title that says something is kept; any other is none."""
    created = client.post(f"{ROOT}/", json={"title": title, "unknown": 1}).json
    assert created["title"] == kept
    assert client.get(f"{ROOT}/{created['id']}").json["title"] == (kept or "新对话")


def test_detail_with_sources(make_app: MakeApp) -> None:
    """GET /{id} (获取对话详情): messages oldest first; the sources of a reply are a JSON string."""
    client = make_app(dialects="alice", script=[Delta("单例模式是"), Sources([VIDEO]), Delta("…")]).test_client()
    number = create(client)
    events = say(client, number, "什么是单例模式？")
    detail = client.get(f"{ROOT}/{number}").json
    assert list(detail) == ["id", "title", "created_at", "updated_at", "messages"]
    assert (detail["id"], detail["title"]) == (number, "什么是单例模式？")
    question, reply = detail["messages"]
    assert list(question) == ["id", "role", "content", "sources", "created_at"]
    assert (question["role"], question["content"], question["sources"]) == ("user", "什么是单例模式？", None)
    assert (reply["role"], reply["content"]) == ("assistant", "单例模式是…")
    assert reply["sources"] == '[{"type": "video", "id": "123"}]'
    assert reply["id"] == events[0]["message_id"] > question["id"]
    assert all(SECONDS.fullmatch(time) for time in (detail["created_at"], reply["created_at"]))


def test_delete_and_unknown(client: FlaskClient) -> None:
    """DELETE /{id} (删除对话): said once, then the conversation does not exist, and its number stays used."""
    number = create(client)
    assert client.delete(f"{ROOT}/{number}").json == {"message": "对话已删除", "id": number}
    answer = client.delete(f"{ROOT}/{number}")
    assert (answer.status_code, answer.json) == (404, {"detail": f"对话 #{number} 不存在"})
    assert create(client) > number


def test_stream_of_typed_events(make_app: MakeApp) -> None:
    """POST /{id}/messages/stream (发送消息): start, pieces, sources, done; nothing after it."""
    client = make_app(dialects="alice", script=[Delta("这个视频"), Delta("主要"), Sources([VIDEO])]).test_client()
    number = create(client)
    answer = client.post(f"{ROOT}/{number}/messages/stream/", json={"content": "帮我总结"})
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert "这个视频".encode() in answer.data
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
    mid = events[0]["message_id"]
    assert events == [
        {"type": "start", "message_id": mid},
        {"type": "content", "delta": "这个视频", "content": "这个视频"},
        {"type": "content", "delta": "主要", "content": "主要"},
        {"type": "sources", "sources": [VIDEO]},
        {"type": "done", "message_id": mid, "full_content": "这个视频主要", "reasoning": None},
    ]


# --- what the contract adds


def test_native_conversation_has_number(make_app: MakeApp) -> None:
    """A conversation of another dialect is listed, read, continued and deleted here by its number."""
    client = make_app(dialects="self_agent,alice=/alice").test_client()
    client.post(f"{ROOT}/conv_123/messages", json={"content": "你好"})
    [row] = client.get(f"/alice{ROOT}").json
    path = f"/alice{ROOT}/{row['id']}"
    assert (row["title"], row["message_count"]) == ("你好", 2)
    assert client.post(f"{path}/messages/stream", json={"content": "again"}).status_code == 200
    assert len(client.get(path).json["messages"]) == len(client.get(f"{ROOT}/conv_123").json["data"]["messages"]) == 4
    client.delete(path)
    assert client.get(f"{ROOT}/").json["data"] == []


FAILURES: list[tuple[AppError, int]] = [
    (UpstreamError("unreachable"), 502),
    (UpstreamTimeout("too slow"), 504),
    (UpstreamKeyRefused("bad key"), 401),
    (UpstreamRateLimited("slow down", retry_after=3), 429),
]


@pytest.mark.parametrize(("error", "status"), FAILURES, ids=lambda value: type(value).__name__)
def test_failure_before_stream_has_status(make_app: MakeApp, error: AppError, status: int) -> None:
    """A model that refuses the question is a status; the question stays."""
    client = make_app(dialects="alice", script=[error]).test_client()
    number = create(client)
    answer = client.post(f"{ROOT}/{number}/messages/stream", json={"content": "hi"})
    assert (answer.status_code, answer.json) == (status, {"detail": error.message})
    assert answer.headers.get("Retry-After") == ("3" if status == 429 else None)
    assert [message["content"] for message in client.get(f"{ROOT}/{number}").json["messages"]] == ["hi"]


def test_failure_during_stream_is_event(make_app: MakeApp) -> None:
    """A model that fails in the middle is an event; the pieces are kept and the next send works."""
    client = make_app(dialects="alice", script=[Delta("half"), UpstreamError("cut off")]).test_client()
    number = create(client)
    for count in (2, 4):
        assert say(client, number, "hi")[-2:] == [
            {"type": "content", "delta": "half", "content": "half"},
            {"type": "error", "error": "cut off"},
        ]
        assert len(client.get(f"{ROOT}/{number}").json["messages"]) == count


def test_no_model_is_503(make_app: MakeApp) -> None:
    """Without a model a send is 503 and stores nothing."""
    client = make_app(dialects="alice", provider=NoModel()).test_client()
    number = create(client)
    answer = client.post(f"{ROOT}/{number}/messages/stream", json={"content": "hi"})
    assert answer.status_code == 503
    assert "OPENAI_BASE_URL" in answer.json["detail"]
    assert client.get(f"{ROOT}/{number}").json["messages"] == []


# --- bad input


@pytest.mark.parametrize("number", ["1", "0", "-1", "abc", "1.5", "9" * 30, "9" * 128])
@pytest.mark.parametrize("method", ["get", "delete", "post"])
def test_unknown_id_is_404(client: FlaskClient, method: str, number: str) -> None:
    """An id that no conversation has, a number or not, is 404 in the document's words."""
    answer = ask_for(client, method, number)
    assert (answer.status_code, answer.json) == (404, {"detail": f"对话 #{number} 不存在"})


@pytest.mark.parametrize("number", [".hidden", "..", "1 ", "１", "9" * 129, "a%00b"])
@pytest.mark.parametrize("method", ["get", "delete", "post"])
def test_wrong_id_is_400(client: FlaskClient, method: str, number: str) -> None:
    """What could not be an id in any dialect is 400."""
    answer = ask_for(client, method, number)
    assert (answer.status_code, list(answer.json)) == (400, ["detail"])


def ask_for(client: FlaskClient, method: str, number: str) -> Any:
    if method == "post":
        return client.post(f"{ROOT}/{number}/messages/stream", json={"content": "hi"})
    return getattr(client, method)(f"{ROOT}/{number}")


@pytest.mark.parametrize("body", [{}, {"content": 1}, {"content": None}, {"content": ""}, {"content": " \n"}], ids=str)
def test_wrong_content_is_named(client: FlaskClient, body: Any) -> None:
    """A message without text is 400, the field is named, and nothing is stored."""
    number = create(client)
    answer = client.post(f"{ROOT}/{number}/messages/stream", json=body)
    assert answer.status_code == 400
    assert "content" in answer.json["detail"]
    assert client.get(f"{ROOT}/{number}").json["messages"] == []


def test_wrong_title_creates_nothing(client: FlaskClient) -> None:
    """A title that is no text is 400 and names the field."""
    answer = client.post(f"{ROOT}/", json={"title": 1})
    assert answer.status_code == 400
    assert "title" in answer.json["detail"]
    assert client.get(f"{ROOT}/").json == []


@pytest.mark.parametrize(
    ("method", "path", "request_", "status"),
    [
        ("put", "/1", {}, 405),
        ("get", "/1/messages/stream", {}, 405),
        ("get", "/1/nothing/here", {}, 404),
        ("post", "/", {"data": "{", "content_type": "application/json"}, 400),
        ("post", "/", {"json": []}, 400),
        ("post", "/1/messages/stream", {"data": "content=hi"}, 415),
    ],
    ids=str,
)
def test_every_error_has_detail(client: FlaskClient, method: str, path: str, request_: Any, status: int) -> None:
    """Whatever is refused below the mount is refused in this dialect's envelope."""
    answer = getattr(client, method)(ROOT + path, **request_)
    assert (answer.status_code, list(answer.json)) == (status, ["detail"])
    assert answer.json["detail"]


def test_bug_hides_its_reason(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is 500 in the envelope, with the request's id and without its reason."""
    app = make_app(dialects="alice")
    monkeypatch.delitem(app.extensions, "self_agent")
    answer = app.test_client().get(ROOT)
    monkeypatch.undo()
    assert (answer.status_code, list(answer.json)) == (500, ["detail"])
    assert answer.headers["X-Request-Id"] in answer.json["detail"]
    assert "KeyError" not in answer.text


# --- users


def test_other_users_conversation_is_404(make_app: MakeApp) -> None:
    """A conversation of somebody else does not exist, in the same words; and nobody does without a token."""
    client = make_app(dialects="alice", auth_enabled=True, jwt_secret=SECRET).test_client()
    number = client.post(ROOT, headers=token("ann")).json["id"]
    unknown = {"detail": f"对话 #{number} 不存在"}
    for method, path in (("get", ""), ("post", "/messages/stream"), ("delete", "")):
        body = {"content": "hi"} if method == "post" else None
        answer = getattr(client, method)(f"{ROOT}/{number}{path}", json=body, headers=token("bob"))
        assert (answer.status_code, answer.json) == (404, unknown)
    assert client.get(ROOT, headers=token("bob")).json == []
    assert [row["id"] for row in client.get(ROOT, headers=token("ann")).json] == [number]
    refused = client.get(ROOT)
    assert (refused.status_code, list(refused.json)) == (401, ["detail"])


def token(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt.encode({'sub': name, 'exp': time.time() + 60}, SECRET)}"}
