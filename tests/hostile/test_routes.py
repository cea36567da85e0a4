"""Whatever a client sends to whichever route, it gets an answer of the dialect's shape, and no file but its own.

The routes are those of the app's URL map, the fields those of the models: what is added later is attacked too.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.routing import Rule

from core.config import Settings
from core.errors import NotFound
from self_agent import close, create_app, parts_of
from self_agent.libraries import WEB
from self_agent.models import Message
from self_agent.providers.echo import Echo
from self_agent.shelves import DEFAULT
from tests.dialects.ways import arguments, way_of
from tests.hostile import inputs
from tests.hostile.conftest import examples
from tests.hostile.inputs import KNOWN
from tests.hostile.wsgi import Answer, Request, ask, confined_to

NATIVE = {"data"}
JSON_TYPE = {"Content-Type": "application/json"}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get", ""]
LEAKS = re.compile(rb'Traceback|File \\?"|site-packages|\.py\b|/tmp/|/home/|/root/')


class Target(NamedTuple):
    """An app over a real folder, and what lies around that folder."""

    app: Flask
    world: Path

    @property
    def rules(self) -> list[Rule]:
        return list(self.app.url_map.iter_rules())


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One app for all requests; nothing around its folder may be another at the end."""
    world = tmp_path_factory.mktemp("world")
    for name in ("secret.txt", "secret.json", "known.json"):
        (world / name).write_text("secret")
    before = surroundings(world)
    app = create_app(Settings(data_dir=world / "data", log_dir=world / "logs"), provider=Echo())
    yield Target(app, world)
    close(app)
    assert surroundings(world) == before


def surroundings(world: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(world.iterdir()) if path.is_file()]


def seed(app: Flask) -> dict[str, Any]:
    """Make sure there is a conversation on a shelf; return the ids that a path or a body may name."""
    store, shelves = parts_of(app).store, parts_of(app).shelves
    conversation = store.get(KNOWN) or store.create(KNOWN, "local")
    try:
        [message] = store.latest(KNOWN, 1)
    except ValueError:
        [message] = store.append(KNOWN, Message("user", "hi"))
    projects = store.projects("local") or [store.create_project("local", "p")]
    own = [folder for folder in shelves.folders("local") if folder.id != DEFAULT]
    folder = own[0] if own else shelves.create_folder("local", "f")
    on_shelf = {"folder_id": folder.id, "tag_id": shelves.add_tag("local", KNOWN, "hello").id}
    ids = {"conversation_id": KNOWN, "session_id": KNOWN, "user_id": "local", "number": conversation.number}
    return {
        **ids,
        **on_shelf,
        "name": "app.js",
        "message_id": message.id,
        "message_ids": [message.id],
        "project_id": projects[0].id,
    }


def filled(rule: Rule, known: dict[str, Any], **instead: str) -> str:
    """Return the path of a rule, with the ids that are known unless others are given."""
    values = {**arguments(rule, known), **instead}
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(values[found[1]]), rule.rule)


def methods(rule: Rule) -> list[str]:
    return sorted((rule.methods or {"GET"}) - {"HEAD", "OPTIONS"})


def fields(app: Flask, rule: Rule) -> list[str]:
    """Return the names that the fields of a route's body go by."""
    kinds = get_type_hints(inspect.unwrap(app.view_functions[rule.endpoint]))
    return inputs.names_in(kinds["json"]) if "json" in kinds else []


def attack(target: Target, rule: Rule, request: Request) -> Answer:
    """Send a request to a path that begins as the rule's does, and check all that holds for every answer."""
    with confined_to(target.world / "data", target.world / "logs", WEB):
        answer = ask(target.app, request)
    assert 200 <= answer.status < 300 or 400 <= answer.status < 500, (request, answer)
    assert answer.headers["X-Request-Id"], request
    assert not LEAKS.search(answer.body) or rule.rule in ("/docs", "/openapi.json"), (request, answer)
    if answer.status >= 400:
        check_envelope(rule, request, answer)
    return answer


def check_envelope(rule: Rule, request: Request, answer: Answer) -> None:
    assert answer.headers["Content-Type"] == "application/json", (request, answer)
    if request.method == "HEAD":
        return
    body = json.loads(answer.body)
    way = way_of(rule)
    expected = way.envelope if way else NATIVE
    is_openai = expected == {"detail"} and "error" in body
    assert body.keys() == expected | ({"error"} if is_openai else set()), (request, answer)
    if expected == NATIVE:
        assert body["data"].keys() == {"success", "error"}, (request, answer)
    if "code" in body:
        assert (body["code"], body["data"]) == (answer.status, None), (request, answer)


# --- known trouble, each at every route


def test_hostile_ids_everywhere(target: Target) -> None:
    """No text in the place of an id is more than an id."""
    for rule in target.rules:
        for name in sorted(rule.arguments):
            for value in inputs.IDS:
                for method in methods(rule):
                    known = seed(target.app)
                    body = json.dumps(inputs.right(known)).encode() if method in ("POST", "PUT", "PATCH") else b""
                    path = filled(rule, known, **{name: value})
                    attack(target, rule, Request(method, path, headers=JSON_TYPE, body=body))


def test_hostile_queries_everywhere(target: Target) -> None:
    """Numbers that are none, or none that make sense, are refused in the dialect's own words."""
    for rule in [rule for rule in target.rules if "GET" in methods(rule)]:
        path = filled(rule, seed(target.app))
        for value in inputs.NUMBERS:
            for query in ("&".join(f"{name}={value}" for name in inputs.PARAMETERS), f"page=1&page={value}&size=&"):
                attack(target, rule, Request("GET", path, query))


def test_wrong_pages_are_refused(target: Target) -> None:
    """Where there are pages, a number that is none is 400, whichever it is."""
    for value in ("-1", "0", "abc", "", "1.5", "NaN", str(10**30), "9" * 5000):
        assert attack(target, target.rules[0], Request("GET", "/api/v1/conversations/", f"page={value}")).status == 400


def test_hostile_bodies_everywhere(target: Target) -> None:
    """What is no JSON object, or one of the wrong shape, is refused and does no harm."""
    for rule in target.rules:
        for method in {"POST", "PUT", "PATCH"} & set(methods(rule)):
            for body in inputs.raw_bodies(inputs.right(seed(target.app))):
                attack(target, rule, Request(method, filled(rule, seed(target.app)), headers=JSON_TYPE, body=body))


def test_wrong_types_everywhere(target: Target) -> None:
    """Each field of each route takes each type of JSON, or says which field is wrong."""
    for rule in target.rules:
        for method in {"POST", "PUT", "PATCH"} & set(methods(rule)):
            for value in (None, True, -1, 2**63, 2**64, 1e308, [], [None], [-1], [2**63], {}, " "):
                for name in fields(target.app, rule):
                    known = seed(target.app)
                    body = json.dumps({**inputs.right(known), name: value}).encode()
                    attack(target, rule, Request(method, filled(rule, known), headers=JSON_TYPE, body=body))


def test_hostile_headers_everywhere(target: Target) -> None:
    """No header breaks anything, whatever its bytes."""
    for number, rule in enumerate(target.rules):
        for headers in inputs.HEADERS[number % 5 :: 5]:  # most are dealt with before the route matters
            known = seed(target.app)
            body = json.dumps(inputs.right(known)).encode()
            attack(target, rule, Request(methods(rule)[0], filled(rule, known), "", {**JSON_TYPE, **headers}, body))


def test_odd_methods_everywhere(target: Target) -> None:
    """A method that nobody has heard of is refused as any other, with whatever slash, and nothing is redirected."""
    for rule in target.rules:
        for method in METHODS:
            for end in ("", "/", "//"):
                attack(target, rule, Request(method, filled(rule, seed(target.app)).rstrip("/") + end))


def test_long_words_are_answered(target: Target) -> None:
    """A message of a megabyte, in one word or in very many, is a message."""
    for content in ("😀" * 250_000, "a " * 50_000, "\0" * 100_000):
        body = json.dumps({"content": content}, ensure_ascii=False).encode()
        request = Request("POST", "/api/v1/conversations/long/messages", headers=JSON_TYPE, body=body)
        answer = attack(target, target.rules[0], request)
        assert json.loads(answer.body)["data"]["reply"] == f"echo: {content}"


# --- and in any mixture


@examples(300)
@given(data=st.data())
def test_any_request_is_answered(target: Target, data: st.DataObject) -> None:
    """A status below 500, the dialect's envelope, a request id, no redirect, no foreign file, no hang."""
    known = seed(target.app)
    rule = data.draw(st.sampled_from(target.rules), "rule")
    right = arguments(rule, known)
    path = filled(rule, known, **{name: data.draw(inputs.segments(right[name]), name) for name in sorted(right)})
    method = data.draw(st.sampled_from(methods(rule) * 5 + METHODS), "method")
    headers = {**JSON_TYPE, **data.draw(inputs.headers(), "headers")}
    body = data.draw(inputs.bodies(inputs.right(known)), "body")
    attack(target, rule, Request(method, path, data.draw(inputs.queries(), "query"), headers, body))


def test_conversations_survive_all(target: Target) -> None:
    """After all of the above the store still does what it is for."""
    service = parts_of(target.app)
    turn = service.conversations.send("local", "afterwards", "hi", new={})
    assert turn.wait().message
    assert [message.content for message in service.store.messages("afterwards")] == ["hi", "echo: hi"]
    service.conversations.delete("local", "afterwards")
    with pytest.raises(NotFound):
        service.conversations.find("local", "afterwards")
