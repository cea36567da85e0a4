"""Whose key is sent to the upstream, and whose data is shown to whom."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import jwt
import pytest
from flask.testing import FlaskClient

from self_agent.providers.openai.provider import OpenAICompatible
from self_agent.storage.json_files import JsonFileStore
from tests.conftest import MakeApp
from tests.dialects.poe.conftest import BEARER, COMPLETIONS, KEY, ROOT, begin, history, project, provider_of, say
from tests.upstream import Answer, FakeUpstream, Reply

SECRET = "0123456789abcdef0123456789abcdef"


def test_key_is_passed_and_kept_nowhere(
    make_poe: MakeApp, upstream: FakeUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller's key reaches the upstream for that request only, and no log, file or answer."""
    caplog.set_level(logging.DEBUG)
    store = JsonFileStore(tmp_path / "data")
    client = make_poe(store=store, provider=provider_of(upstream)).test_client()
    cid = begin(client)
    upstream.enqueue(Reply(["ok"]), Reply(["ok"]), Answer(401, {"error": {"message": f"bad key {KEY}"}}))
    answers = [say(client, cid, "hi", headers=BEARER), say(client, cid, "hi", headers=BEARER, stream=True)]
    answers += [say(client, cid, "hi", headers=BEARER), say(client, cid, "hi")]
    assert [answer.status_code for answer in answers] == [200, 200, 401, 200]
    sent = [request.headers["authorization"] for request in upstream.asked]
    assert sent == [f"Bearer {KEY}"] * 3 + ["Bearer sk-server"]
    store.close()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(cid.encode() in content for content in files)
    assert not any(KEY.encode() in content for content in files)
    assert KEY not in caplog.text
    assert not any(KEY in answer.text for answer in answers)


@pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer  ", KEY, ""])
def test_other_schemes_are_no_key(proxy: FlaskClient, upstream: FakeUpstream, header: str) -> None:
    """What is no Bearer key is ignored, and the server's own key is used."""
    assert say(proxy, begin(proxy), "hi", headers={"Authorization": header}).status_code == 200
    assert upstream.asked[0].headers["authorization"] == "Bearer sk-server"


def test_users_token_stays_here(make_poe: MakeApp, upstream: FakeUpstream) -> None:
    """With auth on the header holds the user's token, which no upstream gets to see."""
    app = make_poe(provider=provider_of(upstream), auth_enabled=True, jwt_secret=SECRET)
    client = app.test_client()
    refused = client.get(ROOT)
    assert (refused.status_code, list(refused.json)) == (401, ["detail"])
    token = jwt.encode({"sub": "ann", "exp": time.time() + 60}, SECRET, "HS256")
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    assert say(client, begin(client), "hi").status_code == 200
    assert client.post(COMPLETIONS, json={"messages": [{"role": "user", "content": "hi"}]}).status_code == 200
    assert client.get("/v1/models").status_code == 200
    assert {request.headers["authorization"] for request in upstream.requests} == {"Bearer sk-server"}


def test_others_own_nothing_here(make_poe: MakeApp) -> None:
    """What belongs to somebody else does not exist for you."""
    app = make_poe(auth_enabled=True, jwt_secret=SECRET)
    ann, bob = app.test_client(), app.test_client()
    for name, client in (("ann", ann), ("bob", bob)):
        token = jwt.encode({"sub": name, "exp": time.time() + 60}, SECRET, "HS256")
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    number = project(ann, "P")
    cid = begin(ann, project_id=number)
    message_id = say(ann, cid, "hi").json["user_message_id"]
    path = f"{ROOT}/{cid}"
    answers = [bob.get(path), bob.get(f"{path}/messages"), say(bob, cid, "x"), bob.put(path, json={}), bob.delete(path)]
    answers += [say(bob, cid, "x", role="system"), bob.get(f"/v1/projects/{number}")]
    answers += [bob.post(ROOT, json={"project_id": number}), bob.get(f"{ROOT}?project_id={number}")]
    answers += [bob.post("/v1/chat/messages/delete", json={"message_ids": [message_id]})]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert bob.post("/v1/chat/stop-stream", json={"session_id": cid}).json["stopped"] is False
    assert (bob.get(ROOT).json, bob.get(f"{ROOT}/grouped").json, bob.get("/v1/projects").json) == ([], {"其它": []}, [])
    assert len(history(ann, cid)) == 2


@pytest.mark.parametrize("takes_all", [False, True])
def test_dummy_key_replaces_nothing(make_poe: MakeApp, upstream: FakeUpstream, takes_all: bool) -> None:
    """SDKs insist on a key, so people send `EMPTY`: the server's own is used, unless CALLER_KEYS says otherwise."""
    provider = OpenAICompatible(upstream.base_url, api_key="sk-server", model="m", takes_callers_keys=takes_all)
    client = make_poe(provider=provider).test_client()
    headers = {"Authorization": "Bearer EMPTY"}
    assert say(client, begin(client), "hi", headers=headers).status_code == 200
    messages = {"messages": [{"role": "user", "content": "hi"}]}
    assert client.post(COMPLETIONS, json=messages, headers=headers).status_code == 200
    assert client.get("/v1/models", headers=headers).status_code == 200
    sent = {request.headers["authorization"] for request in upstream.requests}
    assert sent == {"Bearer EMPTY" if takes_all else "Bearer sk-server"}


def test_callers_key_where_there_is_no_other(make_poe: MakeApp, upstream: FakeUpstream) -> None:
    """A server without a key of its own passes on whatever key it is called with."""
    client = make_poe(provider=OpenAICompatible(upstream.base_url, model="m")).test_client()
    assert say(client, begin(client), "hi", headers={"Authorization": "Bearer mine"}).status_code == 200
    assert upstream.asked[0].headers["authorization"] == "Bearer mine"
