"""Echo is predictable: what it says, when it fails and what it was asked."""

from __future__ import annotations

import threading
import time

import orjson
import pytest

from core.errors import InvalidRequest, UpstreamError, UpstreamTimeout
from self_agent.events import Delta, Info, Sources
from self_agent.providers.base import Cancellation, ChatMessage
from self_agent.providers.echo import Echo, Step


def ask(text: str) -> list[ChatMessage]:
    return [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]


def said(echo: Echo, text: str) -> str:
    return "".join(chunk.text for chunk in echo.stream(ask(text)) if isinstance(chunk, Delta))


@pytest.mark.parametrize("text", ["hello there", " two  spaces\n", "", "你好 世界"])
def test_reply_repeats_message_exactly(text: str) -> None:
    """The pieces join to the message, white space and all."""
    assert said(Echo(), text) == f"echo: {text}"


def test_reply_comes_in_words() -> None:
    """A frontend sees several pieces, then what they cost."""
    assert list(Echo().stream(ask("a b"))) == [
        Delta("echo:"),
        Delta(" a"),
        Delta(" b"),
        Info("echo", {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}, "stop"),
    ]


def test_fail_directive_fails_midway() -> None:
    """`/fail` shows a frontend a reply that breaks off."""
    chunks = Echo().stream(ask("/fail"))
    assert next(chunks) == Delta("echo:")
    with pytest.raises(UpstreamError):
        next(chunks)


def test_slow_directive_ends_on_cancel() -> None:
    """`/slow` leaves time to press stop, and stop is at once."""
    cancel = Cancellation()
    threading.Timer(0.1, cancel.cancel).start()
    begun = time.monotonic()
    assert list(Echo().stream(ask("/slow please"), cancel=cancel)) == []
    assert time.monotonic() - begun < 0.9


def test_delay_comes_before_pieces() -> None:
    """`delay` paces the reply."""
    begun = time.monotonic()
    assert said(Echo(delay=0.02), "a b") == "echo: a b"
    assert time.monotonic() - begun >= 0.06


def test_script_is_played_exactly() -> None:
    """A test can program every step of a reply, and its failure."""
    script: list[Step] = [Delta("a"), 0.01, Sources([{"url": "u"}]), UpstreamTimeout("late")]
    chunks = Echo(script=script).stream(ask("x"))
    assert [next(chunks), next(chunks)] == [Delta("a"), Sources([{"url": "u"}])]
    with pytest.raises(UpstreamTimeout):
        next(chunks)


def test_scripted_refusal_raises_at_once() -> None:
    """An error as the first step is a question that was not accepted."""
    with pytest.raises(UpstreamTimeout):
        Echo(script=[UpstreamTimeout("late")]).stream(ask("x"))


def test_last_messages_are_remembered() -> None:
    """A test can see what the model was sent."""
    echo = Echo()
    echo.stream(ask("x"))
    assert echo.last_messages == ask("x")
    assert echo.models() == ["echo"]
    assert "echo" in echo.describe()


def test_complete_answers_in_one() -> None:
    """A plain completion has OpenAI's shape."""
    answer = Echo().complete(orjson.dumps({"messages": ask("hi")}))
    body = orjson.loads(b"".join(answer.body))
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "echo: hi"}
    assert body["usage"]["total_tokens"] == 5


def test_complete_streams_chunks() -> None:
    """A streamed completion is chunks, the reason and usage, then [DONE]."""
    answer = Echo(script=[Delta("a"), Sources([]), Info("echo", {"total_tokens": 1}, "length")]).complete(
        orjson.dumps({"messages": ask("hi"), "stream": True})
    )
    *events, done = b"".join(answer.body).split(b"\n\n")[:-1]
    chunks = [orjson.loads(event.removeprefix(b"data: ")) for event in events]
    assert answer.content_type == "text/event-stream"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [{"content": "a"}, {}]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert done == b"data: [DONE]"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": [1]}', b'{"messages": [{"role": "user"}]}'])
def test_complete_refuses_a_malformed_body(body: bytes) -> None:
    """What an upstream would answer 400 to is an InvalidRequest."""
    with pytest.raises(InvalidRequest):
        Echo().complete(body)
