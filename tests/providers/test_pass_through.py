"""A chat completion is passed through untouched, both ways."""

from __future__ import annotations

import threading
import time

import orjson
import pytest

from core.errors import UpstreamError
from self_agent.providers.base import Cancellation
from tests.providers.conftest import Connect, raw_server
from tests.upstream import HANG, RESET, Answer, FakeUpstream, Reply, event

BODY = b'{"model": "x",  "messages": [{"role":"user","content":"hi"}], "tools": [{"type": "function"}], "seed": 1}'


def test_request_goes_up_byte_for_byte(upstream: FakeUpstream, connect: Connect) -> None:
    """Every field of the client, in its own spelling, reaches the upstream."""
    list(connect().complete(BODY, api_key="poe-sk-mine").body)
    (request,) = upstream.requests
    assert request.raw == BODY
    assert request.headers["authorization"] == "Bearer poe-sk-mine"


@pytest.mark.parametrize("body", [b'{"messages": [], "seed": 1}', b'{"messages": [], "seed": 1, "model": ""}'])
def test_missing_model_is_filled_in(upstream: FakeUpstream, connect: Connect, body: bytes) -> None:
    """The configured model answers whoever names none."""
    list(connect(model="m").complete(body).body)
    assert upstream.requests[0].body == {"messages": [], "seed": 1, "model": "m"}


def test_answer_comes_down_byte_for_byte(upstream: FakeUpstream, connect: Connect) -> None:
    """The upstream's bytes are not parsed on their way."""
    upstream.enqueue(Answer(200, b'{ "any":  "thing" }', {"X-Request-Id": "7", "Server-Secret": "s"}))
    answer = connect().complete(BODY)
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.headers == {"x-request-id": "7"}
    assert b"".join(answer.body) == b'{ "any":  "thing" }'


def test_stream_comes_down_as_it_comes(upstream: FakeUpstream, connect: Connect) -> None:
    """A streamed answer is passed on piece by piece."""
    upstream.enqueue(Reply([{"a": 1}, 0.2, b": odd\n\n"], usage=None, finish_reason=None))
    answer = connect().complete(orjson.dumps({**orjson.loads(BODY), "stream": True}))
    assert answer.content_type == "text/event-stream"
    body = iter(answer.body)
    assert next(body) == event({"a": 1})
    assert b"".join(body) == b": odd\n\ndata: [DONE]\n\n"


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_error_status_passes_through(upstream: FakeUpstream, connect: Connect, status: int) -> None:
    """The upstream's own error reaches the client as it is."""
    upstream.enqueue(Answer(status, b'{"error": {"message": "no"}}'))
    answer = connect(retries=0).complete(BODY)
    assert answer.status == status
    assert b"".join(answer.body) == b'{"error": {"message": "no"}}'


def test_last_refusal_passes_through(upstream: FakeUpstream, connect: Connect) -> None:
    """After the retries a 429 is passed back with its Retry-After."""
    upstream.enqueue(*[Answer(429, b"{}", {"Retry-After": "0"})] * 2)
    answer = connect(retries=1).complete(BODY)
    assert (answer.status, answer.headers, list(answer.body)) == (429, {"retry-after": "0"}, [b"{}"])


def test_malformed_body_is_left_to_upstream(upstream: FakeUpstream, connect: Connect) -> None:
    """Who understands the body refuses it."""
    upstream.enqueue(Answer(400, b"no"))
    answer = connect().complete(b"{")
    assert (answer.status, list(answer.body)) == (400, [b"no"])
    assert upstream.requests[0].raw == b"{"


def test_unreachable_upstream_raises(connect: Connect) -> None:
    """Without any answer there is nothing to pass on."""
    with pytest.raises(UpstreamError):
        connect("http://127.0.0.1:1", retries=0).complete(BODY)


def test_cut_body_raises(upstream: FakeUpstream, connect: Connect) -> None:
    """A body that breaks off is not taken for whole."""
    upstream.enqueue(Reply(["a", 0.05, RESET]))
    with pytest.raises(UpstreamError, match="cut"):
        list(connect().complete(orjson.dumps({"stream": True})).body)


@pytest.mark.parametrize("first", [b"xyz\r\n", b""])
def test_broken_begin_raises_at_once(connect: Connect, first: bytes) -> None:
    """As long as nothing was passed on, the client can still be told by a status."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with raw_server([head, first]) as url, pytest.raises(UpstreamError):
        connect(url).complete(BODY)


@pytest.mark.parametrize("status", [400, 401, 500])
def test_key_is_not_passed_back(upstream: FakeUpstream, connect: Connect, status: int) -> None:
    """A key that the upstream repeats may be the server's own."""
    upstream.enqueue(Answer(status, b'{"error": {"message": "wrong key sk-configured, sorry"}}'))
    answer = connect(api_key="sk-configured", retries=0).complete(BODY)
    assert b"".join(answer.body) == b'{"error": {"message": "wrong key ***, sorry"}}'


def test_many_choices_pass_untouched(upstream: FakeUpstream, connect: Connect) -> None:
    """What is not merged here is for the client to read, as tool calls are."""
    body = orjson.dumps({**orjson.loads(BODY), "n": 2, "tool_choice": "auto"})
    said = b'{"choices": [{"index": 1}, {"index": 0, "message": {"tool_calls": [{"id": "a"}]}}]}'
    upstream.enqueue(Answer(200, said))
    assert b"".join(connect().complete(body).body) == said
    assert upstream.requests[0].raw == body


def test_cancel_ends_the_body(upstream: FakeUpstream, connect: Connect) -> None:
    """A client that leaves ends the upstream's work, before the headers and after them."""
    for reply in (Reply(["a", HANG]), Reply([], before=HANG)):
        upstream.enqueue(reply)
        cancel = Cancellation()
        threading.Timer(0.1, cancel.cancel).start()
        begun = time.monotonic()
        list(connect().complete(orjson.dumps({"stream": True}), cancel=cancel).body)
        assert time.monotonic() - begun < 2
        assert upstream.disconnected.wait(2)
        upstream.disconnected.clear()
