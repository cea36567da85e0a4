"""`/openapi.json` says what the server does: every operation is called, and every answer is as it is described."""

from __future__ import annotations

import re
import time
from typing import Any

import jwt
import pytest
import schemathesis
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from core import errors
from core.errors import AppError
from self_agent import openapi
from self_agent.openapi import Body, spec
from tests.conftest import MakeApp

SECRET = "s" * 32
SECONDS = 30  # at most, for each of the two searches
OFF = {"enabled": False}
CHECKS = {
    "positive_data_acceptance": OFF,  # a schema cannot say that a text must not be blank or that a thing must exist
    "ignored_auth": OFF,  # fails by itself over WSGI (`max_redirects`); tests/dialects/test_auth_everywhere.py does it
}
# Of a conversation called `grouped`, or a tag called `all`, PUT and DELETE are allowed at this path; OPTIONS says so.
AMBIGUOUS = [
    {"include-path": path, "checks": {"allow_header_conformance": OFF}}
    for path in ("/v1/chat/conversations/grouped", "/api/v1/conversation_tags/all")
]


def search(app: Flask, headers: dict[str, str], *, fuzzing: bool) -> tuple[list[str], set[str]]:
    """Call every operation with what it takes and with what it does not; return what is wrong, and what was called."""
    settings = {
        "seed": 1,
        "max-time": SECONDS,
        "headers": headers,
        "checks": CHECKS,
        "operations": AMBIGUOUS,
        "generation": {"max-examples": 3, "deterministic": True, "database": "none"},
        "phases": {"stateful": OFF, "fuzzing": {"enabled": fuzzing}},
    }
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app, config=SchemathesisConfig.from_dict(settings))
    for name, kind in schema.raw_schema["components"]["schemas"].items():
        if "." not in name and "properties" in kind:  # an answer, of which every key is to be described
            kind["additionalProperties"] = False
    wrong: list[str] = []
    called: set[str] = set()
    for event in from_schema(schema).execute():
        if isinstance(event, (events.NonFatalError, events.FatalError)):
            wrong.append(str(getattr(event, "value", None) or getattr(event, "exception", None)))
        if isinstance(event, events.ScenarioFinished):
            called.add(event.recorder.label)
            wrong += [
                f"{event.recorder.label}: {check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.failure_info
            ]
    return wrong, called


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


@pytest.mark.parametrize("auth", [False, True])
def test_answers_are_as_described(make_app: MakeApp, auth: bool) -> None:
    """No 5xx, no status and no content type that the document does not have, no answer of another shape."""
    app = make_app(auth_enabled=auth, jwt_secret=SECRET)
    token = jwt.encode({"sub": "ada", "exp": time.time() + 600}, SECRET, algorithm="HS256")
    headers = {"Authorization": f"Bearer {token}"} if auth else {}
    wrong, called = search(app, headers, fuzzing=not auth)
    assert not wrong, "\n\n".join(wrong[:5])
    document = app.test_client().get("/openapi.json").json
    assert called >= {f"{method.upper()} {path}" for method, path, _ in operations(document)}


def test_undescribed_answers_are_found(make_app: MakeApp) -> None:
    """The search sees an answer with a key too many and one with a status of its own."""
    app = make_app(dialects="self_agent")
    app.test_client().get("/openapi.json")  # which is made once
    app.view_functions["self_agent.models"] = lambda: {"data": [], "more": 1}
    app.view_functions["self_agent.list_ids"] = lambda: ({"data": []}, 418)
    wrong, _ = search(app, {}, fuzzing=False)
    found = {tuple(line.split(": ")[:2]) for line in wrong}
    assert ("GET /api/v1/models", "response_schema_conformance") in found
    assert ("GET /api/v1/conversations/", "status_code_conformance") in found


def test_examples_work_as_they_stand(make_app: MakeApp) -> None:
    """Whoever opens /docs, sends a message, makes a project and presses Execute anywhere is answered with 200."""
    document = make_app().test_client().get("/openapi.json").json
    paths = document["paths"]
    first = [paths["/api/v1/conversations/{conversation_id}/messages"]["post"], paths["/v1/projects"]["post"]]
    called = 0
    for method, path, operation in operations(document):
        if "200" in operation["responses"] and operation["operationId"] not in NOT_NOW:
            client = make_app().test_client()
            client.post("/api/v1/conversations/demo/messages", json=body_of(first[0]))
            client.post("/v1/projects", json=body_of(first[1]))
            client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}], "store": True})
            made = made_by(client)
            values = {each["name"]: each["example"] for each in operation["parameters"] if each["in"] == "path"}
            if (method, path) in OF_ONES_OWN:
                values = made
            asked = {e["name"]: e["example"] for e in operation["parameters"] if e["in"] == "query" and "example" in e}
            answer = client.open(
                path.format(**values),
                method=method,
                json=body_of(operation),
                query_string=asked,
                headers=headers_of(operation),
            )
            assert answer.status_code == 200, (method, path, answer.text)
            called += 1
    assert called > 50


# Nothing runs, and nothing has been deleted.
NOT_NOW = ("self_agent_restore", "openai_responses_cancel")

# The default folder can be filled, not changed; tags have ids that only the server knows.
OF_ONES_OWN = {
    ("patch", "/api/v1/folders/{folder_id}"),
    ("delete", "/api/v1/folders/{folder_id}"),
    ("put", "/api/v1/conversation_tags/{tag_id}"),
    ("delete", "/api/v1/conversation_tags/{tag_id}"),
}


def made_by(client: FlaskClient) -> dict[str, str]:
    """Make a folder and a tag, and return their ids."""
    folder = client.post("/api/v1/folders", json={"name": "f"}).json
    tag = client.post("/api/v1/conversation_tags", json={"conversation_id": "demo", "tag": "t"}).json
    assert folder
    assert tag
    return {"folder_id": folder["data"]["folder_id"], "tag_id": tag["id"]}


def body_of(operation: Any) -> Any:
    return operation["requestBody"]["content"]["application/json"]["example"] if "requestBody" in operation else None


def headers_of(operation: Any) -> dict[str, str]:
    headers = [each for each in operation["parameters"] if each["in"] == "header"]
    return {each["name"]: each["schema"]["example"] for each in headers if "example" in each["schema"]}


def test_operations_are_named(client: FlaskClient) -> None:
    """Names are readable and used once; each has a tag, and each tag a sentence."""
    document = client.get("/openapi.json").json
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)
    assert {"self_agent_send", "poe_chat_create", "alice_detail", "chat_system_chat", "healthz"} <= set(names)
    sentences = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(sentence.endswith(".") for sentence in sentences.values())
    assert {tag for _, _, operation in operations(document) for tag in operation["tags"]} == set(sentences)


def test_streams_show_what_they_look_like(client: FlaskClient) -> None:
    """A stream has its content type, and an example in its own framing."""
    paths = client.get("/openapi.json").json["paths"]
    typed = paths["/api/v1/conversations/{conversation_id}/messages/stream"]["post"]["responses"]["200"]["content"]
    assert 'data: {"type":"done"' in typed["text/event-stream"]["example"]
    both = paths["/v1/chat/conversations/{conversation_id}/messages"]["post"]["responses"]["200"]["content"]
    assert set(both) == {"application/json", "text/event-stream"}
    text = paths["/chat/sessions/{session_id}/chat"]["post"]["responses"]["200"]["content"]
    assert text == {"text/plain; charset=utf-8": {"example": "Hello!"}}


def test_errors_have_the_dialects_envelope(client: FlaskClient) -> None:
    """Each dialect describes an error once, with the body that it really answers with."""
    document = client.get("/openapi.json").json
    shared = document["components"]["responses"]
    for name in ("self_agent", "openai", "poe", "alice", "aichat", "chat_system"):
        assert {"400", "403", "404", "413", "415", "429", "500", "502", "503", "504"} <= {
            key.removeprefix(f"{name}_") for key in shared
        }
    content = shared["alice_404"]["content"]["application/json"]
    assert content["schema"]["required"] == ["detail"]
    content = shared["openai_404"]["content"]["application/json"]
    assert set(content["example"]["error"]) == {"message", "type", "param", "code"}


def test_a_new_dialect_is_described_unasked() -> None:
    """A view that says nothing of its answers has JSON, the errors of its dialect, a name and an example."""

    class Words(Body):
        words: str

    def error_body(error: AppError, path: str) -> tuple[Any, int]:
        return {"qagh": error.message}, error.status

    def jatlh(ghom: str, json: Words) -> Any:
        """Speak."""
        return {}

    jatlh.__annotations__["json"] = Words  # which is local here
    blueprint = Blueprint("klingon", __name__)
    blueprint.post("/ghom/<ghom>")(spec.validate()(jatlh))
    app = Flask(__name__)
    app.register_blueprint(blueprint)
    openapi.install(app, error_body, auth=True)
    operation = app.test_client().get("/openapi.json").json["paths"]["/ghom/{ghom}"]["post"]
    assert (operation["operationId"], operation["tags"]) == ("klingon_jatlh", ["klingon"])
    assert operation["requestBody"]["content"]["application/json"]["example"] == {"words": "Hello"}
    assert operation["parameters"][0]["example"] == "demo"
    assert operation["responses"]["200"]["content"] == {"application/json": {"schema": {}}}
    statuses = {kind.status for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AppError)}
    assert set(operation["responses"]) == {"200", *map(str, statuses - {405, 422})}  # it takes no key
    shared = app.test_client().get("/openapi.json").json["components"]["responses"]
    assert shared["klingon_504"]["content"]["application/json"]["schema"]["required"] == ["qagh"]
