"""Sends that cannot double: a send that is repeated with its key is stored once and answered as before."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient

from core.errors import ModelUnavailable, UpstreamError
from self_agent import parts_of
from self_agent.events import Delta
from self_agent.models import Message
from self_agent.providers.none import NoModel
from tests.conftest import MakeApp
from tests.dialects.resuming import ROOT, Held

Send = tuple[str, dict[str, Any]]
SENDS: dict[str, Send] = {  # to the conversation `c`, which has the number 1
    "self_agent": (f"{ROOT}/c/messages", {"content": "hi"}),
    "self_agent stream": (f"{ROOT}/c/messages/stream", {"content": "hi"}),
    "poe": ("/v1/chat/conversations/c/messages", {"content": "hi"}),
    "poe stream": ("/v1/chat/conversations/c/messages", {"content": "hi", "stream": True}),
    "alice": (f"/alice{ROOT}/1/messages/stream", {"content": "hi"}),
    "chat_system": ("/chat/sessions/c/chat", {"message": "hi"}),
    "aichat": ("/api/chat/message", {"session_id": "c", "content": "hi"}),
}
SYSTEM = ("/v1/chat/conversations/c/messages", {"role": "system", "content": "hi"})
EVERY = pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
SECRET = "s" * 32


class Model(Held):
    """One that can be away, or refuse at once."""

    def __init__(self) -> None:
        super().__init__([Delta("Hel"), Delta("lo")])
        self.is_away = False

    def check(self) -> None:
        if self.is_away:
            raise ModelUnavailable("away")


def app_of(make_app: MakeApp, provider: Any = None, **settings: Any) -> Flask:
    app = make_app(provider=provider or Model(), **settings)
    parts_of(app).store.create("c", "local")
    return app


def post(client: FlaskClient, send: Send, key: str | None = "k1", **headers: str) -> Any:
    path, body = send
    return client.post(path, json=body, headers={**headers, **({"Idempotency-Key": key} if key is not None else {})})


def talk(app: Flask, cid: str = "c") -> list[tuple[str, str]]:
    wait(app, cid)
    return [(message.role, message.content) for message in parts_of(app).store.messages(cid)]


def wait(app: Flask, cid: str = "c") -> None:
    while turn := parts_of(app).turns.current(cid):
        turn.wait_over()
        time.sleep(0.001)


@EVERY
def test_repeat_is_answered_as_before(make_app: MakeApp, send: Send) -> None:
    """The same key, path and body: the first answer, and one question and one reply in the store."""
    app = app_of(make_app)
    client = app.test_client()
    answers = []
    for _ in range(3):
        answers.append(post(client, send))
        wait(app)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert talk(app) == [("user", "hi"), ("assistant", "Hello")]
    if answers[0].mimetype == "application/json":
        assert answers[0].json == answers[1].json
    elif answers[0].mimetype == "text/plain":
        assert answers[0].text == answers[1].text == "Hello"
    else:
        assert pieces(answers[0]) == pieces(answers[1]) == "Hello"


def pieces(answer: Any) -> str:
    rows = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    return "".join(row.get("content", "") for row in rows)


@EVERY
def test_repeat_joins_the_running_reply(make_app: MakeApp, send: Send) -> None:
    """While the first is running, others with its key get that reply; the model is asked once."""
    model = Model()
    model.hold = 1
    app = app_of(make_app, model)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(post(app.test_client(), send).text)) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert model.reached.wait(10)
    time.sleep(0.05)
    model.go_on.set()
    for thread in threads:
        thread.join()
    assert len({text for text in answers if text}) == 1
    assert len(answers) == 5
    assert talk(app) == [("user", "hi"), ("assistant", "Hello")]


@EVERY
def test_other_body_with_the_key(make_app: MakeApp, send: Send) -> None:
    """Another body with the same key is 422, running or stored, in the dialect's envelope, and stores nothing."""
    model = Model()
    model.hold = 1
    app = app_of(make_app, model)
    client = app.test_client()
    path, body = send
    other = (path, {**body, "more": 1})
    sender = threading.Thread(target=post, args=(app.test_client(), send))
    sender.start()
    assert model.reached.wait(10)
    running = post(client, other)
    model.go_on.set()
    sender.join()
    wait(app)
    for answer in (running, post(client, other)):
        assert answer.status_code == 422
        assert "Idempotency-Key was used for another message" in json.dumps(answer.json)
        assert list(answer.json) == list(client.post(path, json={"content": 5, "message": 5}).json)
    assert len(talk(app)) == 2


@EVERY
@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "x" * 10_000, "tab\t", "del\x7f", "ключ", "a\x01b"])
def test_what_is_no_key(make_app: MakeApp, send: Send, key: str) -> None:
    """Anything but 1 to 255 visible ASCII characters is 400, which names the header, and stores nothing."""
    app = app_of(make_app)
    raw = key.encode().decode("latin-1")
    answer = app.test_client().post(send[0], json=send[1], environ_overrides={"HTTP_IDEMPOTENCY_KEY": raw})
    assert answer.status_code == 400
    assert "Idempotency-Key: use 1 to 255 visible ASCII characters" in answer.text
    assert talk(app) == []


@EVERY
def test_longest_key_and_slash(make_app: MakeApp, send: Send) -> None:
    """A key as long as may be is one; a slash behind the path makes no other route of it."""
    app = app_of(make_app)
    client = app.test_client()
    for slash in ("", "/"):
        assert post(client, (send[0] + slash, send[1]), "~!" * 127 + "x").status_code == 200
        wait(app)
    assert len(talk(app)) == 2


@EVERY
def test_repeat_needs_no_model(make_app: MakeApp, send: Send) -> None:
    """When the reply is there, it does not matter that no model could answer now; a new send is refused, and free."""
    model = Model()
    app = app_of(make_app, model)
    client = app.test_client()
    first = post(client, send)
    wait(app)
    model.is_away = True
    assert post(client, send).status_code == first.status_code == 200
    assert post(client, send, "k2").status_code == 503
    model.is_away = False
    assert post(client, send, "k2").status_code == 200
    assert len(talk(app)) == 4


@EVERY
def test_unanswered_question_is_asked_again(make_app: MakeApp, send: Send) -> None:
    """A question whose model failed without a word gets its reply by a repeat; it is stored once."""
    model = Model()
    app = app_of(make_app, model)
    client = app.test_client()
    model.chunks = [UpstreamError("gone")]
    post(client, send)
    assert talk(app) == [("user", "hi")]
    model.chunks = [Delta("now")]
    assert post(client, send).status_code == 200
    assert talk(app) == [("user", "hi"), ("assistant", "now")]
    question, reply = parts_of(app).store.messages("c")
    assert reply.id == question.id + 1


def test_gone_on_without_a_reply(make_app: MakeApp) -> None:
    """A repeat of a question without a reply, behind which there is more now, is 409 and says what to do."""
    model = Model()
    app = app_of(make_app, model)
    client = app.test_client()
    model.chunks = [UpstreamError("gone")]
    post(client, SENDS["self_agent"])
    parts_of(app).store.append("c", Message("system", "more"))
    answer = post(client, SENDS["self_agent"])
    assert answer.status_code == 409
    assert "use another key" in answer.json["data"]["error"]
    assert len(talk(app)) == 2


@pytest.mark.parametrize("place", [0, 1])
def test_deleted_message_is_not_sent_again(make_app: MakeApp, place: int) -> None:
    """A repeat of what was deleted since, question or reply, is 409."""
    app = app_of(make_app)
    client = app.test_client()
    post(client, SENDS["self_agent"])
    parts_of(app).store.hide([parts_of(app).store.messages("c")[place].id])
    answer = post(client, SENDS["self_agent"])
    assert answer.status_code == 409
    assert "deleted" in answer.json["data"]["error"]
    assert len(talk(app)) == 1


def test_stopped_reply_is_the_answer(make_app: MakeApp) -> None:
    """A reply that was stopped is what a repeat gets, marked as incomplete."""
    model = Model()
    model.hold = 1
    app = app_of(make_app, model)
    sender = threading.Thread(target=post, args=(app.test_client(), SENDS["self_agent"]))
    sender.start()
    assert model.reached.wait(10)
    client = app.test_client()
    client.post(f"{ROOT}/c/stop")
    model.go_on.set()
    sender.join()
    again = post(client, SENDS["self_agent"]).json["data"]
    assert (again["reply"], again["incomplete"]) == ("Hel", True)
    assert len(talk(app)) == 2


def test_routes_and_conversations_are_independent(make_app: MakeApp) -> None:
    """The same key on another route or conversation is another key."""
    app = app_of(make_app)
    client = app.test_client()
    parts_of(app).store.create("d", "local")
    for send in SENDS.values():
        path, body = send
        in_d = {**body, "session_id": "d"} if "session_id" in body else body
        for each in (send, (path.replace("/c/", "/d/").replace("/1/", "/2/"), in_d)):
            if "stream" not in body:
                assert post(client, each).status_code == 200
                wait(app)
                wait(app, "d")
    routes = len(SENDS) - 1
    assert (len(talk(app)), len(talk(app, "d"))) == (2 * routes, 2 * routes)


def test_users_are_independent(make_app: MakeApp) -> None:
    """Another user's key finds nothing; one who sends to the same new conversation at once does not join it."""
    model = Model()
    model.hold = 1
    app = make_app(provider=model, auth_enabled=True, jwt_secret=SECRET)
    tokens = {
        name: "Bearer " + jwt.encode({"sub": name, "exp": time.time() + 60}, SECRET, "HS256") for name in ("ada", "bob")
    }
    send = SENDS["self_agent"]
    answers: list[int] = []

    def ask(name: str) -> None:
        answers.append(post(app.test_client(), send, Authorization=tokens[name]).status_code)

    first = threading.Thread(target=ask, args=("ada",))
    first.start()
    assert model.reached.wait(10)
    ask("bob")
    assert answers == [404]
    second = threading.Thread(target=ask, args=("ada",))
    second.start()
    model.go_on.set()
    first.join()
    second.join()
    assert answers == [404, 200, 200]
    assert len(talk(app)) == 2


def test_message_that_is_not_answered(make_app: MakeApp) -> None:
    """poe's system messages, and aichat's, are stored once too, and come back as they were."""
    app = app_of(make_app)
    client = app.test_client()
    aichat = ("/api/chat/message", {"session_id": "c", "content": "note", "role": "assistant"})
    for send in (SYSTEM, aichat):
        assert post(client, send).json == post(client, send).json
        assert post(client, (send[0], {**send[1], "content": "else"})).status_code == 422
    assert talk(app) == [("system", "hi"), ("assistant", "note")]


def test_without_a_key_nothing_changes(make_app: MakeApp) -> None:
    """Who sends no key sends twice; nothing is kept of a key that was not there."""
    app = app_of(make_app)
    for _ in range(2):
        assert post(app.test_client(), SENDS["self_agent"], None).status_code == 200
    assert len(talk(app)) == 4
    assert all(message.key is None for message in parts_of(app).store.messages("c"))


def test_key_is_shown_nowhere(make_app: MakeApp) -> None:
    """Neither the key nor what is kept of it is in any answer of any path that reads."""
    app = app_of(make_app)
    client = app.test_client()
    post(client, SENDS["self_agent"], "tell-tale")
    kept = parts_of(app).store.messages("c")[0].key
    assert kept
    assert "tell-tale" not in kept
    asked = 0
    known = {"conversation_id": "c", "session_id": "c", "message_id": parts_of(app).store.messages("c")[0].id}
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or ()) and not rule.websocket and set(rule.arguments) <= set(known):
            for cid in ("c", "1"):
                with app.test_request_context():
                    path = rule.build({**{name: known[name] for name in rule.arguments}, "conversation_id": cid}, True)
                assert path is not None
                text = client.get(path[1] + ("?after=0" if path[1].endswith("/stream") else "")).text
                assert kept not in text
                assert kept[:16] not in text
                asked += "hi" in text
    assert asked > 8


def test_completions_ignore_keys(make_app: MakeApp) -> None:
    """Where nothing is stored nothing is repeated: the upstream's own keys are the upstream's business."""
    client = make_app().test_client()
    for content in ("a", "b"):
        body = {"messages": [{"role": "user", "content": content}]}
        answer = client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "k"})
        assert answer.json["choices"][0]["message"]["content"] == f"echo: {content}"  # type: ignore[index]


def test_no_model_leaves_the_key_free(make_app: MakeApp) -> None:
    """A send that failed before anything was stored has not used its key."""
    client = make_app(provider=NoModel()).test_client()
    for content in ("a", "b"):
        assert post(client, (f"{ROOT}/new/messages", {"content": content})).status_code == 503
    assert client.get(f"{ROOT}/").json["data"] == []  # type: ignore[index]


def test_browsers_may_send_it(client: FlaskClient) -> None:
    """A page of an allowed origin is told that it may send the header."""
    asked = {
        "Origin": "http://localhost:5173",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "idempotency-key,last-event-id",
    }
    allowed = client.options(f"{ROOT}/c/messages", headers=asked).headers["Access-Control-Allow-Headers"].lower()
    assert "idempotency-key" in allowed
    assert "last-event-id" in allowed


def test_document_says_so(client: FlaskClient) -> None:
    """Each send has the header and 422 in the OpenAPI document; what stores nothing has neither."""
    paths = client.get("/openapi.json").json["paths"]  # type: ignore[index]
    takes: Callable[[Any], bool] = lambda operation: any(  # noqa: E731
        each["in"] == "header" and each["name"] == "Idempotency-Key" for each in operation.get("parameters", ())
    )
    found = {path for path, methods in paths.items() if takes(methods.get("post", {}))}
    assert found >= {
        f"{ROOT}/{{conversation_id}}/messages",
        f"{ROOT}/{{conversation_id}}/messages/stream",
        f"/alice{ROOT}/{{conversation_id}}/messages/stream",
        "/v1/chat/conversations/{conversation_id}/messages",
        "/chat/sessions/{session_id}/chat",
        "/api/chat/message",
    }
    assert "/v1/chat/completions" not in found
    for methods in paths.values():
        for operation in methods.values():
            assert ("422" in operation["responses"]) == takes(operation)
    joined = paths[f"{ROOT}/{{conversation_id}}/stream"]["get"]
    assert {each["name"] for each in joined["parameters"]} >= {"after", "message_id", "Last-Event-ID"}
    assert {"200", "204", "400", "404", "409"} <= set(joined["responses"])
    assert "content" not in joined["responses"]["204"]


# --- branches


def test_regenerate_is_repeated(make_app: MakeApp) -> None:
    """The wish for another reply, with a key: one other reply, joined while it runs and found when it is stored."""
    model = Model()
    app = app_of(make_app, model)
    client = app.test_client()
    post(client, SENDS["self_agent"])
    question, first = parts_of(app).store.messages("c")
    wish = (f"{ROOT}/c/messages/{first.id}/regenerate", {})
    model.chunks, model.hold = [Delta("an"), Delta("other")], 1
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(post(app.test_client(), wish, "r1"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert model.reached.wait(10)
    time.sleep(0.05)
    assert post(client, wish, "r2").status_code == 409
    assert post(client, SENDS["self_agent"]).json["data"]["reply"] == "Hello"  # not the one that is running
    model.go_on.set()
    for thread in threads:
        thread.join()
    answers.append(post(client, wish, "r1"))
    assert [answer.json["data"]["reply"] for answer in answers] == ["another"] * 4
    assert [message.content for message in parts_of(app).store.everything("c")] == ["hi", "Hello", "another"]
    other = post(client, (wish[0] + "/stream", {}), "r1")
    assert parts_of(app).store.latest("c", 1)[0].parent == question.id
    assert pieces(other) == "another"
    assert len(parts_of(app).store.everything("c")) == 4  # another route, another key
    assert post(client, (wish[0], {"model": "x"}), "r1").status_code == 422


def test_edited_question_is_repeated(make_app: MakeApp) -> None:
    """A message sent again with another text, as a branch: its repeat stores no third, while it runs and after."""
    model = Model()
    app = app_of(make_app, model)
    client = app.test_client()
    post(client, SENDS["self_agent"])
    edited = (f"{ROOT}/c/messages", {"content": "ho", "parent": 0})
    model.hold = 1
    sender = threading.Thread(target=post, args=(app.test_client(), edited, "k2"))
    sender.start()
    assert model.reached.wait(10)
    joined = threading.Thread(target=post, args=(app.test_client(), edited, "k2"))
    joined.start()
    time.sleep(0.05)
    model.go_on.set()
    sender.join()
    joined.join()
    assert post(client, edited, "k2").json["data"]["reply"] == "Hello"
    assert post(client, SENDS["self_agent"]).json["data"]["reply"] == "Hello"  # the other branch's
    assert len(parts_of(app).store.everything("c")) == 4


def test_fork_has_no_keys(make_app: MakeApp) -> None:
    """A copy of a conversation is another one: nothing was sent to it."""
    app = app_of(make_app)
    client = app.test_client()
    post(client, SENDS["self_agent"])
    last = parts_of(app).store.messages("c")[-1]
    assert client.post(f"{ROOT}/c/fork", json={"message_id": last.id, "conversation_id": "d"}).status_code == 200
    assert [message.key for message in parts_of(app).store.messages("d")] == [None, None]
