"""A connection is used again without anybody noticing: not the upstream, not who asks, not if it died meanwhile."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from core.errors import UpstreamError, UpstreamTimeout
from self_agent.providers.base import ChatMessage
from self_agent.providers.openai import connections
from self_agent.providers.openai.connections import IdleConnections
from tests.providers.conftest import Connect, raw_server
from tests.upstream import CUT, HANG, RESET, Answer, FakeUpstream, Order, Reply, completion_of

QUESTION: list[ChatMessage] = [{"role": "user", "content": "hi"}]
HELLO = b'{"choices":[{"message":{"content":"hello"}}]}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(HELLO), HELLO)


def test_requests_look_the_same(upstream: FakeUpstream, connect: Connect) -> None:
    """The second request on a connection has the headers that requests gave the first."""
    provider = connect(api_key="sk-x")
    for _ in range(2):
        list(provider.stream(QUESTION))
        provider.models(api_key="poe-sk-x")
    first, models, second, models_again = upstream.requests
    assert (first, models) == (second, models_again)
    assert upstream.connections == 1


@pytest.mark.parametrize("answer", [Answer(200, completion_of("x")), Answer(400, {"error": "no"}), Answer(204)])
def test_any_whole_answer_leaves_its_connection(upstream: FakeUpstream, connect: Connect, answer: Answer) -> None:
    """Not only a stream: what has a length is read to its end, too."""
    upstream.enqueue(answer, answer)
    provider = connect()
    for _ in range(2):
        completion = provider.complete(b'{"model": "x", "messages": []}')
        assert (completion.status, bool(list(completion.body))) == (answer.status, answer.status != 204)
    assert upstream.connections == 1


@pytest.mark.parametrize("end", [CUT, RESET])
def test_dead_connection_is_no_retry(upstream: FakeUpstream, connect: Connect, end: Order) -> None:
    """One that is closed when it is asked again is replaced, although nothing may be asked twice."""
    provider = connect(retries=0)
    list(provider.stream(QUESTION))
    upstream.enqueue(Reply([], before=end), Reply(["a"]))
    assert len(list(provider.stream(QUESTION))) == 3
    assert upstream.connections == 2


def test_broken_off_head_is_told(connect: Connect) -> None:
    """Once something of an answer came, the question is not asked again."""
    with raw_server(WHOLE, b"HTTP/1.1 200 OK\r\nContent-") as url:
        provider = connect(url, retries=0)
        list(provider.stream(QUESTION))
        with pytest.raises(UpstreamError, match="closed the connection"):
            provider.stream(QUESTION)


@pytest.mark.parametrize("data", [b"SSH-2.0-hello\r\n\r\n", b"HTTP/1.1 200 OK\r\n nonsense\r\n\r\n", b"x" * 70_000])
def test_other_protocols_are_told(connect: Connect, data: bytes) -> None:
    """What is no head is called so."""
    with raw_server(WHOLE, data) as url:
        provider = connect(url, retries=0)
        list(provider.stream(QUESTION))
        with pytest.raises(UpstreamError, match="does not answer as an HTTP server"):
            provider.stream(QUESTION)


def test_head_comes_in_pieces(connect: Connect) -> None:
    """What is said before the answer is read over."""
    with raw_server(WHOLE, b"HTTP/1.1 102 Processing\r\n\r\n" + WHOLE) as url:
        provider = connect(url)
        assert list(provider.stream(QUESTION)) == list(provider.stream(QUESTION))


def test_silence_on_a_kept_connection(upstream: FakeUpstream, connect: Connect) -> None:
    """An upstream that does not answer is a timeout, and the question is not asked again."""
    provider = connect(read_timeout=0.2)
    list(provider.stream(QUESTION))
    upstream.enqueue(Reply([], before=HANG))
    with pytest.raises(UpstreamTimeout):
        provider.stream(QUESTION)
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("reply", [Reply(["a"], chunked=False), Reply(["a", b"data: [DONE]\n\n", HANG])])
def test_unfinished_bodies_end_their_connection(upstream: FakeUpstream, connect: Connect, reply: Reply) -> None:
    """One on which more may come, or that the upstream closes, is not used again."""
    upstream.enqueue(reply)
    provider = connect()
    list(provider.stream(QUESTION))
    list(provider.stream(QUESTION))
    assert upstream.connections == 2


def test_forwarding_proxy_is_asked_anew(
    upstream: FakeUpstream, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that reads requests gets them as it wants them, from requests."""
    monkeypatch.setenv("HTTP_PROXY", upstream.base_url.removesuffix("/v1"))
    provider = connect("http://nowhere.invalid")
    list(provider.stream(QUESTION))
    list(provider.stream(QUESTION))
    assert {request.path for request in upstream.requests} == {"http://nowhere.invalid/v1/chat/completions"}


# --- those that wait


Pair = Callable[[], tuple[socket.socket, socket.socket]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:

        def make() -> tuple[socket.socket, socket.socket]:
            ours, theirs = socket.socketpair()
            return stack.enter_context(ours), stack.enter_context(theirs)

        yield make


def test_last_used_goes_first(pair: Pair) -> None:
    """Those that are not needed any more grow old."""
    idle = IdleConnections()
    first, second = pair()[0], pair()[0]
    idle.put(first)
    idle.put(second)
    assert [idle.take(), idle.take(), idle.take()] == [second, first, None]


def test_closed_and_chatty_are_dropped(pair: Pair) -> None:
    """Neither can carry a request."""
    idle = IdleConnections()
    (closed, theirs), (chatty, other) = pair(), pair()
    idle.put(closed)
    idle.put(chatty)
    theirs.close()
    other.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert idle.take() is None
    assert closed.fileno() == chatty.fileno() == -1


def test_old_are_dropped(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upstream is about to close it, too."""
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.0)
    idle = IdleConnections()
    first, second = pair()[0], pair()[0]
    idle.put(first)
    idle.put(second)
    assert first.fileno() == -1
    assert idle.take() is None
    assert second.fileno() == -1


def test_there_is_a_bound(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many, the oldest goes."""
    monkeypatch.setattr(connections, "MOST_IDLE", 1)
    idle = IdleConnections()
    old, new = pair()[0], pair()[0]
    idle.put(old)
    idle.put(new)
    assert (idle.take(), old.fileno()) == (new, -1)


def test_none_outlives_the_end(pair: Pair) -> None:
    """A reply that ends after the provider was closed leaves nothing open."""
    idle = IdleConnections()
    before, after = pair()[0], pair()[0]
    idle.put(before)
    idle.close()
    idle.put(after)
    assert before.fileno() == after.fileno() == -1
