"""Whatever stands in a field of OpenAI's API, deep in it too, is answered, or refused by its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from core.config import Settings
from self_agent import close, create_app
from self_agent.dialects.openai.asking import ResponseBody
from self_agent.providers.echo import Echo
from tests.hostile.conftest import examples
from tests.hostile.inputs import JSON

KINDS = ["message", "function_call", "function_call_output", "reasoning", "item_reference", "web_search_call"]
NAMES = [
    "type",
    "role",
    "content",
    "id",
    "call_id",
    "name",
    "arguments",
    "output",
    "summary",
    "text",
    "format",
    "schema",
]
WORDS = st.sampled_from(
    [*KINDS, "user", "developer", "msg_1", "resp_1", "input_text", "json_schema", "", "\0", "x" * 999]
)
VALUES = st.recursive(
    JSON | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=10,
)
FIELDS = [info.alias or name for name, info in ResponseBody.model_fields.items()]
PATHS = ["/v1/responses", "/v1/conversations", "/v1/conversations/c/items", "/v1/chat/completions"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A client of an app over real files, with a conversation in it."""
    world = tmp_path_factory.mktemp("world")
    app = create_app(
        Settings(data_dir=world / "data", log_dir=world / "logs", dialects="self_agent,openai"), provider=Echo()
    )
    client = app.test_client()
    client.post("/api/v1/conversations/c/messages", json={"content": "hi"})
    yield client
    close(app)


def attack(client: FlaskClient, path: str, body: Any) -> None:
    try:
        data = json.dumps(body)
        data.encode()
    except (ValueError, UnicodeError):
        return
    answer = client.post(path, data=data, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, (path, data, answer.text)
    if answer.status_code >= 400:
        assert answer.json["error"].keys() == {"message", "type", "param", "code"}
        assert answer.json["error"]["message"]


@examples(300)
@given(data=st.data())
def test_any_field_of_a_response(client: FlaskClient, data: st.DataObject) -> None:
    """A question with a few fields of anything."""
    changes = data.draw(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3))
    attack(client, PATHS[0], {"input": "hi", "background": False, **changes})


@examples(300)
@given(items=st.lists(VALUES, max_size=3), path=st.sampled_from(PATHS))
def test_any_item(client: FlaskClient, items: list[Any], path: str) -> None:
    """Items, and messages of a completion that is kept, of anything."""
    attack(client, path, {"input": items} if path == PATHS[0] else {"items": items})
    attack(client, PATHS[3], {"messages": items or ["x"], "store": True})


@pytest.mark.parametrize("depth", [50, 90, 240])
def test_deep_fields(client: FlaskClient, depth: int) -> None:
    """What is nested deep is kept, or refused; it is answered the same when it is read again."""
    deep: Any = "x"
    for _ in range(depth):
        deep = {"a": deep}
    tool = {"type": "function", "name": "f", "parameters": deep}
    attack(client, PATHS[0], {"input": "hi", "tools": [tool]})
    for row in client.get("/v1/conversations").json["data"]:
        items = client.get(f"/v1/conversations/{row['id']}/items").json["data"]
        for item in items:
            if item.get("role") == "assistant":
                assert client.get(f"/v1/responses/{item['id'].replace('msg', 'resp')}").status_code == 200
