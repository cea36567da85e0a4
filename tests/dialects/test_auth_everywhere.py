"""With auth on, no route of any dialect answers without a token or touches what is another user's.

The routes are those of the app's URL map: one that is added later is tested, or fails here.
"""

from __future__ import annotations

import re
import time
from typing import Any

import jwt
import pytest
from flask import Flask
from werkzeug.routing import Rule

from self_agent import parts_of
from self_agent.models import Message
from tests.conftest import MakeApp
from tests.dialects.ways import all_ways, arguments, way_of

SECRET = "s" * 32
PUBLIC = {"/", "/c/<conversation_id>", "/web/<path:name>", "/healthz", "/readyz", "/docs", "/openapi.json"}
MARK = "ada-private-words"


def bearer(user: str) -> dict[str, str]:
    token = jwt.encode({"sub": user, "exp": time.time() + 60}, SECRET, algorithm="HS256")
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An app in which Ada has a conversation, with a message, in a project and a folder, with a tag."""
    app = make_app(auth_enabled=True, jwt_secret=SECRET)
    store, shelves = parts_of(app).store, parts_of(app).shelves
    project = store.create_project("ada", MARK)
    store.create("adas", "ada", title=MARK, system_prompt=MARK, project_id=project.id)
    store.append("adas", Message("user", MARK), Message("assistant", MARK))
    shelves.add("ada", shelves.create_folder("ada", MARK).id, "adas")
    shelves.add_tag("ada", "adas", MARK)
    return app


def routes(app: Flask) -> list[tuple[str, Rule]]:
    return [
        (method, rule)
        for rule in app.url_map.iter_rules()
        if rule.rule not in PUBLIC
        for method in sorted((rule.methods or {"GET"}) - {"HEAD", "OPTIONS"})
    ]


def path_to_adas(app: Flask, rule: Rule) -> str:
    """Fill in the ids of what is Ada's."""
    store = parts_of(app).store
    conversation = store.get("adas")
    assert conversation is not None
    ids = {"conversation_id": "adas", "session_id": "adas", "project_id": 1, "user_id": "ada"}
    known = {**ids, "number": conversation.number, "message_id": store.messages("adas")[0].id}
    shelf = store.shelf("ada")
    values = arguments(rule, {**known, "folder_id": shelf.folders[-1].id, "tag_id": shelf.tags[0].id})
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(values[found[1]]), rule.rule)


BODY: dict[str, Any] = {
    "content": "x", "message": "x", "messages": [{"role": "user", "content": "x"}], "role": "user",
    "name": "stolen", "title": "stolen", "new_title": "stolen", "new_content": "stolen", "model": "stolen",
    "system_prompt": "stolen", "session_id": "adas", "conversation_id": "adas", "user_id": "ada", "project_id": 1,
    **{name: value for way in all_ways().values() for name, value in way.fields.items()},
}  # fmt: skip


def call(app: Flask, method: str, path: str, headers: dict[str, str]) -> Any:
    message = parts_of(app).store.messages("adas")[0].id
    body = {**BODY, "message_ids": [message]} if method in ("POST", "PUT", "PATCH") else None
    return app.test_client().open(path, method=method, headers=headers, json=body)


def state(app: Flask) -> Any:
    store = parts_of(app).store
    own = (store.projects("ada"), store.conversations("ada").items, store.shelf("ada"))
    return store.get("adas"), store.messages("adas"), own


def test_there_are_routes(app: Flask) -> None:
    """The URL map is really what the tests below go through."""
    assert len(routes(app)) > 50


def test_no_token_is_401_everywhere(app: Flask) -> None:
    """Every route of every dialect needs a token, a socket too."""
    for method, rule in routes(app):
        answer = call(app, method, path_to_adas(app, rule), {})
        assert answer.status_code == 401, (method, rule.rule)
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
        assert call(app, method, path_to_adas(app, rule), upgrade).status_code == 401, (method, rule.rule)


def test_strangers_see_and_change_nothing(app: Flask) -> None:
    """Bob cannot read, list, change, stop or delete what is Ada's, through any route."""
    before = state(app)
    for method, rule in routes(app):
        answer = call(app, method, path_to_adas(app, rule), bearer("bob"))
        assert answer.status_code < 500, (method, rule.rule, answer.text)
        assert MARK not in answer.text, (method, rule.rule)
        assert state(app) == before, (method, rule.rule)
        if "<" in rule.rule and "user_id" not in rule.rule:
            way = way_of(rule)
            assert way is not None
            is_empty = method == "GET" and rule.rule in way.empty
            assert answer.status_code in ({200} if is_empty else {400, way.stranger}), (method, rule.rule, answer.text)


def test_owner_sees_own(app: Flask) -> None:
    """The same routes answer Ada with what is hers, so that the test above proves something."""
    seen = 0
    for method, rule in routes(app):
        if method == "GET" and not rule.websocket:
            answer = call(app, method, path_to_adas(app, rule), bearer("ada"))
            seen += MARK in answer.text
    assert seen >= 14


def test_running_reply_is_not_shared(make_app: MakeApp) -> None:
    """A stranger can neither join nor stop a reply that is being generated."""
    app = make_app(auth_enabled=True, jwt_secret=SECRET, script=[2.0])
    service = parts_of(app)
    turn = service.conversations.send("ada", "adas", "hi", new={})
    turn.wait_started()
    client = app.test_client()
    bob = bearer("bob")
    assert client.get("/api/v1/conversations/adas/stream", headers=bob).status_code == 404
    assert client.post("/api/v1/conversations/adas/stop", headers=bob).status_code == 404
    for session_id in ("adas", turn.id):
        client.post("/v1/chat/stop-stream", json={"session_id": session_id}, headers=bob)
        assert not turn.is_over
    assert client.get("/api/v1/conversations/adas/stream", headers=bearer("ada")).status_code == 200
