"""The `openai` package drives a real server, as its users do."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import openai
import pytest
import requests
from pydantic import BaseModel

from tests.serving import Server
from tests.upstream import Answer, FakeUpstream, Reply


def test_three_lines(sdk: openai.OpenAI) -> None:
    """Asked, and continued: the history is the server's."""
    first = sdk.responses.create(model="echo", input="Hello")
    assert first.output_text == "echo: Hello"
    second = sdk.responses.create(model="echo", input="Again", previous_response_id=first.id)
    assert (second.output_text, second.conversation) == ("echo: Again", first.conversation)
    assert sdk.responses.retrieve(second.id) == second


def test_streamed(sdk: openai.OpenAI) -> None:
    """Pieces as they come; the SDK puts together what is kept."""
    with sdk.responses.stream(model="echo", input="one two three") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds.count("response.output_text.delta") == 4
    assert final.output_text == "echo: one two three"
    assert sdk.responses.retrieve(final.id).output_text == final.output_text


def test_async_and_many_at_once(server: Server) -> None:
    """The asynchronous SDK: twenty streams at once, each with its own answer."""

    async def ask(client: openai.AsyncOpenAI, number: int) -> str:
        stream = await client.responses.create(model="echo", input=f"number {number}", stream=True)
        return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(20)))

    assert asyncio.run(all_of_them()) == [f"echo: number {number}" for number in range(20)]


class Weather(BaseModel):
    """What the model is to say."""

    place: str
    degrees: int


def test_parsed(sdk_in_front: openai.OpenAI, upstream: FakeUpstream) -> None:
    """`responses.parse` asks for its schema, and gets its object."""
    upstream.enqueue(Reply(['{"place": "Oslo", ', '"degrees": -3}']))
    parsed = sdk_in_front.responses.parse(model="m", input="Weather?", text_format=Weather)
    assert parsed.output_parsed == Weather(place="Oslo", degrees=-3)
    asked = upstream.asked[0].body["response_format"]
    assert (asked["type"], asked["json_schema"]["name"]) == ("json_schema", "Weather")
    assert set(asked["json_schema"]["schema"]["properties"]) == {"place", "degrees"}


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def test_functions(sdk_in_front: openai.OpenAI, upstream: FakeUpstream) -> None:
    """A function is called, in pieces as upstreams send them; its result is what the model goes on from."""
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": text}} for text in ('{"place"', ': "Oslo"}')]
    chunks = [chunk(tool_calls=[call]), *(chunk(tool_calls=[piece]) for piece in pieces)]
    upstream.enqueue(Reply(list(chunks), finish_reason="tool_calls"), Reply(["Cold"]))
    tool: Any = {"type": "function", "name": "weather", "parameters": {}, "strict": False}
    first = sdk_in_front.responses.create(model="m", input="Weather?", tools=[tool])
    [item] = first.output
    assert item.type == "function_call"
    assert (item.name, json.loads(item.arguments)) == ("weather", {"place": "Oslo"})
    result: Any = {"type": "function_call_output", "call_id": item.call_id, "output": "-3"}
    second = sdk_in_front.responses.create(model="m", input=[result], previous_response_id=first.id, tools=[tool])
    assert second.output_text == "Cold"
    roles = [message["role"] for message in upstream.asked[1].body["messages"]]
    assert roles == ["user", "assistant", "tool"]
    assert [tool["function"]["name"] for tool in upstream.asked[1].body["tools"]] == ["weather"]


def test_background_and_resume(sdk: openai.OpenAI) -> None:
    """A stream that was left goes on; it is joined behind the last event that was seen, and read again when done."""
    stream = sdk.responses.create(model="echo", input="/slow 1", background=True, stream=True)
    seen = []
    for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    stream.close()
    first: Any = seen[0]
    rid, last = first.response.id, seen[-1].sequence_number
    assert sdk.responses.retrieve(rid).status == "in_progress"
    rest = list(sdk.responses.retrieve(rid, stream=True, starting_after=last))
    assert rest[-1].type == "response.completed"
    assert rest[-1].response == sdk.responses.retrieve(rid)
    texts = [event.delta for event in [*seen, *rest] if event.type == "response.output_text.delta"]
    assert "".join(texts) == "echo: /slow 1"
    again = list(sdk.responses.retrieve(rid, stream=True, starting_after=last))
    assert "".join(e.delta for e in again if e.type == "response.output_text.delta") == "".join(texts[1:])
    assert again[-1] == rest[-1]


def test_cancelled(sdk: openai.OpenAI) -> None:
    """What runs in the background is stopped."""
    made = sdk.responses.create(model="echo", input="/slow 1 2 3 4 5 6 7 8 9", background=True)
    assert made.status == "in_progress"
    assert sdk.responses.cancel(made.id).status == "cancelled"
    sdk.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(made.id)


def test_state_of_two_clients_and_another_dialect(server: Server, sdk: openai.OpenAI) -> None:
    """One conversation, spoken to through two SDKs and the native dialect."""
    conversation = sdk.conversations.create(metadata={"topic": "demo"})
    sdk.responses.create(model="echo", input="one", conversation=conversation.id)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="other", max_retries=0) as other:
        other.responses.create(model="echo", input="two", conversation=conversation.id)
        server.send(conversation.id, "three")
        items = list(other.conversations.items.list(conversation.id, order="asc", limit=2))
    said = [item.content[0].text for item in items if item.type == "message"]  # type: ignore[union-attr]
    assert said == ["one", "echo: one", "two", "echo: two", "three", "echo: three"]
    assert [message["content"] for message in server.messages(conversation.id)] == said


def test_conversations_and_items(sdk: openai.OpenAI) -> None:
    """Each method of the SDK."""
    made = sdk.conversations.create(items=[{"role": "user", "content": "hi"}])
    assert sdk.conversations.update(made.id, metadata={"a": "b"}).metadata == {"a": "b"}
    added = sdk.conversations.items.create(made.id, items=[{"role": "user", "content": "more"}])
    found = sdk.conversations.items.retrieve(added.last_id, conversation_id=made.id)
    assert found == added.data[0]
    assert sdk.conversations.items.delete(added.last_id, conversation_id=made.id).id == made.id
    assert len(list(sdk.conversations.items.list(made.id))) == 1
    assert sdk.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match="not found"):
        sdk.conversations.retrieve(made.id)


def test_completions_plain_and_stored(sdk: openai.OpenAI) -> None:
    """A plain completion is kept nowhere; a stored one is listed, read, changed and deleted."""
    plain = sdk.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hi"}])
    assert plain.choices[0].message.content == "echo: hi"
    metadata = {"run": "1"}
    said: Any = [{"role": "developer", "content": "d"}, {"role": "user", "content": "hi"}]
    kept = sdk.chat.completions.create(model="echo", messages=said, store=True, metadata=metadata)
    assert kept.choices[0].message.content == "echo: hi"
    stream = sdk.chat.completions.create(
        model="echo", messages=said, store=True, stream=True, stream_options={"include_usage": True}
    )
    pieces = list(stream)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == "echo: hi"
    assert pieces[-1].usage is not None
    assert [row.id for row in sdk.chat.completions.list(metadata=metadata)] == [kept.id]
    assert {kept.id, pieces[0].id} <= {row.id for row in sdk.chat.completions.list(limit=1)}
    assert sdk.chat.completions.retrieve(kept.id).choices == kept.choices
    assert [row.content for row in sdk.chat.completions.messages.list(kept.id)] == ["d", "hi"]
    assert sdk.chat.completions.update(kept.id, metadata={"run": "2"}).metadata == {"run": "2"}
    assert sdk.chat.completions.delete(kept.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.retrieve(kept.id)


def test_errors_are_the_sdks(sdk_in_front: openai.OpenAI, upstream: FakeUpstream) -> None:
    """Each refusal is the exception that OpenAI's own server would cause, with its message and parameter."""
    sdk = sdk_in_front
    with pytest.raises(openai.BadRequestError, match="Unsupported parameter: 'prompt'") as refused:
        sdk.responses.create(model="m", input="x", prompt={"id": "p"})
    assert (refused.value.param, refused.value.code) == ("prompt", "unsupported_parameter")
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        sdk.models.retrieve("gpt-9")
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        sdk.files.list()
    with pytest.raises(openai.BadRequestError, match="Previous response"):
        sdk.responses.create(model="m", input="x", previous_response_id="resp_1")
    kinds = {401: openai.AuthenticationError, 429: openai.RateLimitError, 503: openai.InternalServerError}
    for status, kind in kinds.items():
        upstream.enqueue(Answer(status, {"error": {"message": "no"}}, {"Retry-After": "60"}))
        with pytest.raises(kind):
            sdk.responses.create(model="m", input="x")


class Cutter:
    """A proxy that hangs up on the first connections once the request has gone through."""

    def __init__(self, url: str, cuts: int) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = cuts
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with closing(client), socket.create_connection(self._target) as server:
                self._pass(client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            for sock in select.select([client, server], [], [], 10)[0]:
                data = sock.recv(65536)
                if sock is server and self.cuts:
                    self.cuts -= 1
                    return
                if not data:
                    return
                (server if sock is client else client).sendall(data)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def cutter(server: Server) -> Iterator[Cutter]:
    proxy = Cutter(server.url, cuts=2)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("stream", [False, True])
def test_retry_on_a_cut_connection(server: Server, cutter: Cutter, stream: bool) -> None:
    """The SDK sends again what was cut off; with a key of the user's it is stored and answered once."""
    headers = {"Idempotency-Key": f"retry-{stream}"}
    with openai.OpenAI(base_url=f"{cutter.url}/v1", api_key="any", max_retries=3) as client:
        if stream:
            with client.responses.stream(model="echo", input="once", extra_headers=headers) as events:
                made = events.get_final_response()
        else:
            made = client.responses.create(model="echo", input="once", extra_headers=headers)
    assert cutter.cuts == 0
    assert made.output_text == "echo: once"
    assert made.conversation is not None
    assert [message["content"] for message in server.messages(made.conversation.id)] == ["once", "echo: once"]


def test_llm_style_plain_requests(server: Server) -> None:
    """What needs no SDK: a list of models, with any key or none."""
    assert requests.get(f"{server.url}/v1/models", timeout=10).json()["data"][0]["id"] == "echo"
