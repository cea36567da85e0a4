"""Responses as OpenAI's API has them: what is answered, kept, joined, continued, refused."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient

from core.errors import UpstreamError, UpstreamRateLimited
from self_agent import parts_of
from self_agent.events import CallDelta, Delta, Info
from self_agent.providers.echo import Echo
from self_agent.providers.none import NoModel
from self_agent.storage.json_files import JsonFileStore
from tests.conftest import MakeApp
from tests.dialects.openai.conftest import CONVERSATIONS, RESPONSES

SECRET = "s" * 32
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": True}


def respond(client: FlaskClient, words: Any = "hi", **fields: Any) -> Any:
    answer = client.post(RESPONSES, json={"input": words, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json


def text(response: Any) -> str:
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


def events(answer: Any) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def asked(client: FlaskClient) -> list[tuple[str, Any]]:
    provider = parts_of(client.application).provider
    assert isinstance(provider, Echo)
    return [(message["role"], message["content"]) for message in provider.last_messages]


def test_response_is_kept(client: FlaskClient) -> None:
    """It is retrieved as it was answered, with all that was asked for."""
    said = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 99,
        "reasoning": {"effort": "low"},
        "tools": [TOOL],
        "tool_choice": "auto",
        "text": {"format": {"type": "json_object"}},
        "user": "me",
        "truncation": "auto",
        "parallel_tool_calls": False,
    }
    made = respond(client, "hi", **said)
    assert (made["status"], text(made), made["object"]) == ("completed", "echo: hi", "response")
    assert client.get(f"{RESPONSES}/{made['id']}").json == made
    for name, value in said.items():
        if name not in ("reasoning", "tools"):
            assert made[name] == value
    assert made["reasoning"]["effort"] == "low"
    assert made["tools"][0]["name"] == "weather"
    assert asked(client) == [("system", "Be brief."), ("user", "hi")]
    provider = parts_of(client.application).provider
    assert isinstance(provider, Echo)
    function = {name: value for name, value in TOOL.items() if name != "type"}
    assert provider.last_options == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 99,
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
    }


def test_previous_response_is_continued(client: FlaskClient) -> None:
    """The model is shown what was said before, but not the instructions of before."""
    first = respond(client, "one", instructions="Rhyme.")
    second = respond(client, "two", previous_response_id=first["id"])
    assert asked(client) == [("user", "one"), ("assistant", "echo: one"), ("user", "two")]
    assert second["conversation"] == first["conversation"]
    assert second["previous_response_id"] == first["id"]


def test_earlier_response_makes_a_branch(client: FlaskClient) -> None:
    """Going on from one that is not the last leaves the others; each can be gone on from."""
    first = respond(client, "one")
    second = respond(client, "two", previous_response_id=first["id"])
    other = respond(client, "2", previous_response_id=first["id"])
    assert asked(client) == [("user", "one"), ("assistant", "echo: one"), ("user", "2")]
    respond(client, "three", previous_response_id=second["id"])
    assert asked(client)[2:] == [("user", "two"), ("assistant", "echo: two"), ("user", "three")]
    respond(client, "drei", previous_response_id=other["id"])
    assert asked(client)[2:] == [("user", "2"), ("assistant", "echo: 2"), ("user", "drei")]
    assert text(client.get(f"{RESPONSES}/{second['id']}").json) == "echo: two"


@pytest.mark.parametrize("as_object", [False, True])
def test_conversation_is_continued(client: FlaskClient, as_object: bool) -> None:
    """Input and output become its items, and what it has is shown to the model."""
    cid = client.post(CONVERSATIONS, json={"items": [{"role": "system", "content": "Rhyme."}]}).json["id"]
    respond(client, "one", conversation={"id": cid} if as_object else cid)
    made = respond(client, [{"role": "user", "content": "two"}], conversation=cid)
    assert asked(client) == [("system", "Rhyme."), ("user", "one"), ("assistant", "echo: one"), ("user", "two")]
    assert made["conversation"] == {"id": cid}
    items = client.get(f"{CONVERSATIONS}/{cid}/items").json["data"]
    assert items[0] == made["output"][0]
    assert len(items) == 5


def test_input_items_are_kept(client: FlaskClient) -> None:
    """All that was said with a question is its input, and no more."""
    first = respond(client, "one")
    said = [{"role": "developer", "content": "Be nice"}, {"role": "user", "content": "two"}]
    made = respond(client, said, previous_response_id=first["id"])
    items = client.get(f"{RESPONSES}/{made['id']}/input_items?order=asc").json
    assert [(item["role"], item["content"][0]["text"]) for item in items["data"]] == [
        ("developer", "Be nice"),
        ("user", "two"),
    ]
    newest = client.get(f"{RESPONSES}/{made['id']}/input_items?limit=1").json
    assert (newest["data"], newest["has_more"]) == (items["data"][1:], True)
    rest = client.get(f"{RESPONSES}/{made['id']}/input_items?limit=1&after={newest['last_id']}").json
    assert (rest["data"], rest["has_more"]) == (items["data"][:1], False)


def test_functions_are_called(make_openai: MakeApp) -> None:
    """A call is an item that is kept; its result is answered, and the model is shown both."""
    call = [CallDelta(0, "", "c1", "weather"), CallDelta(0, '{"place":'), CallDelta(0, '"x"}')]
    client = make_openai(script=[*call, Info("m", None, "tool_calls")]).test_client()
    made = respond(client, "Weather?", tools=[TOOL])
    [item] = made["output"]
    assert {name: item[name] for name in ("type", "call_id", "name", "arguments", "status")} == {
        "type": "function_call",
        "call_id": "c1",
        "name": "weather",
        "arguments": '{"place":"x"}',
        "status": "completed",
    }
    result = {"type": "function_call_output", "call_id": "c1", "output": "Rain"}
    respond(client, [result], previous_response_id=made["id"], tools=[TOOL])
    provider = parts_of(client.application).provider
    assert isinstance(provider, Echo)
    function = {"name": "weather", "arguments": '{"place":"x"}'}
    assert provider.last_messages[1:] == [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "Rain"},
    ]
    cid = made["conversation"]["id"]
    kinds = [item["type"] for item in client.get(f"{CONVERSATIONS}/{cid}/items?order=asc").json["data"]]
    assert kinds == ["message", "function_call", "function_call_output", "function_call"]


def test_whole_history_can_be_sent(client: FlaskClient) -> None:
    """Who keeps the history itself sends it as items, or as references to items that are kept here."""
    first = respond(client, "one")
    said = [
        {"role": "user", "content": "one"},
        {"type": "item_reference", "id": first["output"][0]["id"]},
        {"role": "user", "content": "two"},
    ]
    made = respond(client, said)
    assert asked(client) == [("user", "one"), ("assistant", "echo: one"), ("user", "two")]
    assert made["conversation"] != first["conversation"]


def test_nothing_is_kept_without_store(make_openai: MakeApp) -> None:
    """With `store: false` the answer is all there is, with the history that was named."""
    client = make_openai().test_client()
    first = respond(client, "one")
    before = parts_of(client.application).store.messages(first["conversation"]["id"])
    made = respond(client, "two", store=False, previous_response_id=first["id"])
    assert asked(client) == [("user", "one"), ("assistant", "echo: one"), ("user", "two")]
    assert (made["store"], text(made), made["conversation"]) == (False, "echo: two", None)
    assert client.get(f"{RESPONSES}/{made['id']}").status_code == 404
    assert parts_of(client.application).store.messages(first["conversation"]["id"]) == before
    assert len(client.get(CONVERSATIONS).json["data"]) == 1
    streamed = events(client.post(RESPONSES, json={"input": "x", "store": False, "stream": True}))
    assert text(streamed[-1]["response"]) == "echo: x"
    assert len({event["item_id"] for event in streamed if "item_id" in event}) == 1


def test_stream_ends_with_what_is_kept(client: FlaskClient) -> None:
    """The last event is the response, which can be named at once, as events from any of them on too."""
    streamed = events(client.post(RESPONSES, json={"input": "hi", "stream": True}))
    last = streamed[-1]["response"]
    path = f"{RESPONSES}/{last['id']}"
    assert client.get(path).json == last
    for event in streamed:
        number = event["sequence_number"]
        rest = events(client.get(f"{path}?stream=true&starting_after={number}"))
        assert rest[-1:] == ([] if event is streamed[-1] else [streamed[-1]])
        assert all(e["sequence_number"] > number for e in rest)
    whole = events(client.get(f"{path}?stream=true"))
    assert (whole[0]["type"], whole[-1]) == ("response.created", streamed[-1])


def test_background_is_polled_and_cancelled(make_openai: MakeApp) -> None:
    """It is answered at once, joined from any event on, and what there is stays when it is cancelled."""
    client = make_openai(script=[Delta("half"), 30.0, Delta("never")]).test_client()
    made = respond(client, "go", background=True)
    assert (made["status"], made["output"]) == ("in_progress", [])
    path = f"{RESPONSES}/{made['id']}"
    turn = parts_of(client.application).turns.current(made["conversation"]["id"])
    assert turn is not None
    while not turn.text()[0]:
        time.sleep(0.01)
    running = client.get(path).json
    assert (running["status"], text(running), running["background"]) == ("in_progress", "half", True)
    stopped = client.post(f"{path}/cancel").json
    assert (stopped["status"], text(stopped)) == ("cancelled", "half")
    assert client.post(f"{path}/cancel").json == client.get(path).json == stopped


def test_cancelled_before_its_first_word(make_openai: MakeApp) -> None:
    """A response that was cancelled says so also where nothing of it is kept; a finished one is not cancelled."""
    client = make_openai(script=[30.0]).test_client()
    made = respond(client, "go", background=True)
    path = f"{RESPONSES}/{made['id']}"
    assert client.post(f"{path}/cancel").json["status"] == "cancelled"
    assert client.get(path).json["status"] == "cancelled"
    client = make_openai().test_client()
    done = client.post(f"{RESPONSES}/{respond(client)['id']}/cancel")
    assert (done.status_code, done.json["error"]["type"]) == (400, "invalid_request_error")


def test_deleted_response_is_gone(client: FlaskClient) -> None:
    """With what it answered, and with the conversation that was made for it."""
    first = respond(client, "one")
    second = respond(client, "two", previous_response_id=first["id"])
    deleted = client.delete(f"{RESPONSES}/{second['id']}")
    assert deleted.json == {"id": second["id"], "object": "response", "deleted": True}
    for method, path in (("get", ""), ("delete", ""), ("post", "/cancel"), ("get", "/input_items")):
        answer = getattr(client, method)(f"{RESPONSES}/{second['id']}{path}")
        words = f"Response with id '{second['id']}' not found."
        assert (answer.status_code, answer.json["error"]["message"]) == (404, words)
    assert len(client.get(f"{CONVERSATIONS}/{first['conversation']['id']}/items").json["data"]) == 2
    client.delete(f"{RESPONSES}/{first['id']}")
    assert client.get(CONVERSATIONS).json["data"] == []


def test_replies_of_other_dialects_are_responses(make_app: MakeApp) -> None:
    """A reply that was asked for elsewhere is retrieved and continued here."""
    client = make_app().test_client()
    client.post("/api/v1/conversations/demo/messages", json={"content": "hi"})
    reply = parts_of(client.application).store.latest("demo", 1)[0]
    response = client.get(f"{RESPONSES}/resp_{reply.id}").json
    assert (text(response), response["conversation"], response["status"]) == ("echo: hi", {"id": "demo"}, "completed")
    respond(client, "more", previous_response_id=response["id"])
    shown = client.get("/api/v1/conversations/demo").json["data"]["messages"]
    assert [message["content"] for message in shown] == ["hi", "echo: hi", "more", "echo: more"]


def test_length_and_failure_are_told(make_openai: MakeApp) -> None:
    """A reply that was cut short is incomplete, one that broke off is failed; neither is an error of HTTP."""
    client = make_openai(script=[Delta("half"), Info("m", None, "length")]).test_client()
    made = respond(client)
    assert (made["status"], made["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    client = make_openai(script=[Delta("half"), UpstreamError("broke off")]).test_client()
    made = respond(client)
    assert (made["status"], made["error"]) == ("failed", {"code": "server_error", "message": "broke off"})
    assert text(made) == "half"
    kept = client.get(f"{RESPONSES}/{made['id']}").json
    assert (kept["status"], kept["error"], kept["output"]) == ("failed", made["error"], made["output"])
    streamed = events(client.post(RESPONSES, json={"input": "hi", "stream": True}))
    assert streamed[-1]["type"] == "response.failed"
    client = make_openai(script=[Delta(" "), UpstreamError("broke off")]).test_client()
    made = respond(client)
    assert client.get(f"{RESPONSES}/{made['id']}").json["status"] == "failed"  # though nothing of it is kept


@pytest.mark.parametrize("stream", [False, True])
def test_refused_question_has_its_status(make_openai: MakeApp, stream: bool) -> None:
    """What fails before the model takes the question is the error that the SDKs raise for it."""
    client = make_openai(script=[UpstreamRateLimited("slow down", retry_after=3)]).test_client()
    answer = client.post(RESPONSES, json={"input": "hi", "stream": stream})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    assert answer.json["error"] == {
        "message": "slow down",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    client = make_openai(provider=NoModel()).test_client()
    assert client.post(RESPONSES, json={"input": "hi", "stream": stream}).status_code == 503
    assert client.get(CONVERSATIONS).json["data"] == []


UNSUPPORTED = {
    "prompt": {"id": "x"},
    "prompt_cache_options": {"mode": "implicit"},
    "moderation": {"model": "x"},
    "context_management": [{"type": "compaction"}],
    "top_logprobs": 3,
    "service_tier": "flex",
}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        *(({name: value}, name) for name, value in UNSUPPORTED.items()),
        ({"colour": "red"}, "colour"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"background": True, "store": False}, "background"),
        ({"conversation": "a", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"previous_response_id": "x"}, "previous_response_id"),
        ({"conversation": "conv_x"}, "conversation"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "mcp_call"}]}, "input[0]"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_named(client: FlaskClient, fields: Any, param: str) -> None:
    """Never dropped in silence: the refusal names the parameter, and nothing is kept."""
    answer = client.post(RESPONSES, json={"input": "hi", **fields})
    assert answer.status_code in (400, 404), answer.text
    assert answer.json["error"]["param"].split(".")[: param.count(".") + 1] == param.split("."), answer.text
    assert answer.json["error"]["message"]
    assert client.get(CONVERSATIONS).json["data"] == []


def test_what_a_stream_cannot_have(client: FlaskClient) -> None:
    """Obfuscation is not faked."""
    answer = client.get(f"{RESPONSES}/{respond(client)['id']}?stream=true&include_obfuscation=true")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "include_obfuscation")


def test_empty_question_is_refused(client: FlaskClient) -> None:
    """What is asked must be something."""
    assert client.post(RESPONSES, json={"input": " "}).status_code == 400


@pytest.mark.parametrize("response_id", ["resp_1", "resp_x", "resp_", "msg_1048577", "x", "resp_" + "9" * 16])
def test_unknown_response_is_404(client: FlaskClient, response_id: str) -> None:
    """Also one that is a question, and one of no number."""
    respond(client)
    assert client.get(f"{RESPONSES}/{response_id}").status_code == 404
    assert client.get(f"{RESPONSES}/resp_1048577").status_code == 404


def test_strangers_find_nothing(make_openai: MakeApp) -> None:
    """What is another user's cannot be named, continued, referred to, listed or deleted."""
    app = make_openai(auth_enabled=True, jwt_secret=SECRET)
    ann, bob = app.test_client(), app.test_client()
    for name, client in (("ann", ann), ("bob", bob)):
        token = jwt.encode({"sub": name, "exp": time.time() + 60}, SECRET, "HS256")
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    made = respond(ann, "secret", metadata={"a": "b"})
    cid, rid, item = made["conversation"]["id"], made["id"], made["output"][0]["id"]
    before = parts_of(app).store.messages(cid)
    bodies: list[Any] = [
        {"input": "x", "conversation": cid},
        {"input": "x", "previous_response_id": rid},
        {"input": "x", "previous_response_id": rid, "store": False},
        {"input": [{"type": "item_reference", "id": item}]},
    ]
    answers = [bob.post(RESPONSES, json=body) for body in bodies]
    for path in (f"{RESPONSES}/{rid}", f"{CONVERSATIONS}/{cid}", f"{CONVERSATIONS}/{cid}/items/{item}"):
        answers += [bob.get(path), bob.delete(path)]
    answers += [bob.post(f"{RESPONSES}/{rid}/cancel"), bob.get(f"{RESPONSES}/{rid}/input_items")]
    answers += [bob.post(f"{CONVERSATIONS}/{cid}/items", json={"items": [{"role": "user", "content": "x"}]})]
    answers += [bob.post(f"{CONVERSATIONS}/{cid}", json={"metadata": {}}), bob.get(f"{CONVERSATIONS}/{cid}/items")]
    assert {answer.status_code for answer in answers} <= {400, 404}
    assert not any("secret" in answer.text for answer in answers)
    assert bob.get(CONVERSATIONS).json["data"] == []
    assert parts_of(app).store.messages(cid) == before


def test_all_is_there_after_a_restart(make_openai: MakeApp, tmp_path: Any) -> None:
    """Responses, items of every kind and metadata are read from the files again."""
    store = JsonFileStore(tmp_path / "data")
    call = [CallDelta(0, "{}", "c1", "weather"), Info("m", None, "tool_calls")]
    client = make_openai(store=store, script=call).test_client()
    cid = client.post(CONVERSATIONS, json={"metadata": {"主题": "b"}}).json["id"]
    made = respond(client, [{"role": "developer", "content": "d"}, {"role": "user", "content": "x"}], conversation=cid)
    paths = [f"{CONVERSATIONS}/{cid}", f"{CONVERSATIONS}/{cid}/items", f"{RESPONSES}/{made['id']}", CONVERSATIONS]
    before = [client.get(path).json for path in paths]
    store.close()
    client = make_openai(store=JsonFileStore(tmp_path / "data")).test_client()
    assert [client.get(path).json for path in paths] == before


@pytest.mark.parametrize("stream", [False, True])
def test_same_key_same_answer(client: FlaskClient, stream: bool) -> None:
    """A send that is repeated with its key is stored once, with a conversation of its own or a new one."""
    cid = client.post(CONVERSATIONS).json["id"]
    for fields in ({}, {"conversation": cid}):
        answers = []
        for _ in range(2):
            body = {"input": "hi", "stream": stream, **fields}
            answer = client.post(RESPONSES, json=body, headers={"Idempotency-Key": f"k{len(fields)}"})
            answers.append(events(answer)[-1]["response"] if stream else answer.json)
        assert answers[0] == answers[1]
        items = client.get(f"{CONVERSATIONS}/{answers[0]['conversation']['id']}/items").json["data"]
        assert len(items) == 2
    assert len(client.get(CONVERSATIONS).json["data"]) == 2


def test_same_key_other_body(client: FlaskClient) -> None:
    """A key is one message's; and what is no key is refused."""
    key = {"Idempotency-Key": "k"}
    assert client.post(RESPONSES, json={"input": "hi"}, headers=key).status_code == 200
    other = client.post(RESPONSES, json={"input": "ho"}, headers=key)
    assert (other.status_code, other.json["error"]["type"]) == (422, "invalid_request_error")
    assert client.post(RESPONSES, json={"input": "hi"}, headers={"Idempotency-Key": "a b"}).status_code == 400
    assert len(client.get(CONVERSATIONS).json["data"]) == 1


def test_same_key_of_a_stored_completion(client: FlaskClient) -> None:
    """A completion that is kept is kept once."""
    body = {"messages": [{"role": "user", "content": "hi"}], "store": True}
    answers = [client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "k"}).json for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(client.get("/v1/chat/completions").json["data"]) == 1


def test_key_while_it_is_running(make_openai: MakeApp) -> None:
    """Who sends again while the first is answered joins it; in the background the same response is named."""
    client = make_openai(script=[Delta("a"), 0.3, Delta("b")]).test_client()
    key = {"Idempotency-Key": "k"}
    first = client.post(RESPONSES, json={"input": "hi", "background": True}, headers=key).json
    again = client.post(RESPONSES, json={"input": "hi", "background": True}, headers=key).json
    assert (again["id"], again["status"]) == (first["id"], "in_progress")
    streamed = events(client.get(f"{RESPONSES}/{first['id']}?stream=true"))
    assert text(streamed[-1]["response"]) == "ab"
    done = client.post(RESPONSES, json={"input": "hi", "background": True}, headers=key).json
    assert (done["id"], done["status"]) == (first["id"], "completed")


def test_events_that_there_are_not(make_openai: MakeApp) -> None:
    """Behind the last event there is nothing, and beyond it an error; also of a reply that is running."""
    client = make_openai().test_client()
    streamed = events(client.post(RESPONSES, json={"input": "hi", "stream": True}))
    path = f"{RESPONSES}/{streamed[-1]['response']['id']}?stream=true&starting_after="
    last = streamed[-1]["sequence_number"]
    assert events(client.get(f"{path}{last}")) == []
    for after in (last + 1, -2, "x"):
        answer = client.get(f"{path}{after}")
        assert (answer.status_code, answer.json["error"]["param"]) == (400, "starting_after")
    client = make_openai(script=[Delta("half"), 30.0]).test_client()
    made = respond(client, "go", background=True)
    beyond = client.get(f"{RESPONSES}/{made['id']}?stream=true&starting_after=999")
    assert beyond.status_code == 400
