"""An answer tells what has come without waiting, how it ended, and lets go of its connection."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable

import pytest

from core.errors import UpstreamError, UpstreamTimeout
from self_agent.events import Delta, Info
from self_agent.providers.base import ChatMessage, Live, is_readable
from tests.providers.conftest import Connect, T, live, raw_server
from tests.upstream import CUT, DONE, HANG, MODEL, RESET, FakeUpstream, Order, Reply, Step, event

NAMED = Info(MODEL)
INFO = Info(MODEL, {"total_tokens": 3}, "stop")
QUESTION: list[ChatMessage] = [{"role": "user", "content": "hi"}]
BODY = b'{"model": "m", "stream": true, "messages": []}'


def received(answer: Live[T]) -> list[T]:
    """Read an answer to its end as the hub does."""
    items = answer.receive()
    while not answer.is_over:
        assert is_readable(answer.fileno(), 2)
        items += answer.receive()
    return items


def test_nothing_is_waited_for(upstream: FakeUpstream, connect: Connect) -> None:
    """`receive` returns at once, whether something has come or not, and the end comes with the last of it."""
    upstream.enqueue(Reply(["a", 0.2, "b"]))
    reply = live(connect().stream(QUESTION))
    begun = time.monotonic()
    seen = reply.receive()
    while Delta("a") not in seen:
        seen += reply.receive()
    assert reply.receive() == []
    assert time.monotonic() - begun < 0.2
    assert received(reply) == [Delta("b"), INFO]
    assert (reply.receive(), reply.failure) == ([], None)
    reply.close()


@pytest.mark.parametrize("end", [CUT, RESET, b"data: nonsense\n\n", {"error": "no"}])
def test_failure_comes_after_the_chunks(upstream: FakeUpstream, connect: Connect, end: Step) -> None:
    """What came before it is returned, whatever went wrong."""
    upstream.enqueue(Reply(["a", "b", 0.05, end] if isinstance(end, Order) else [event("a"), event("b"), end]))
    reply = live(connect().stream(QUESTION))
    assert received(reply) == [NAMED, Delta("a"), Delta("b")]
    assert isinstance(reply.failure, UpstreamError)
    reply.close()


def test_all_in_one_packet_before_nonsense(connect: Connect) -> None:
    """The chunks of a packet that ends in no chunk count."""
    data = event("a")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    with raw_server(head + b"%x\r\n%b\r\nxyz\r\n" % (len(data), data)) as url:
        reply = live(connect(url).stream(QUESTION))
        assert received(reply) == [NAMED, Delta("a")]
        assert isinstance(reply.failure, UpstreamError)
        reply.close()


def test_given_up_is_a_timeout(upstream: FakeUpstream, connect: Connect) -> None:
    """Who waits decides that it was too long; `silence` says how long that is."""
    upstream.enqueue(Reply(["a", HANG]))
    reply = live(connect(read_timeout=7.0).stream(QUESTION))
    reply.receive()
    reply.give_up()
    assert (reply.silence, reply.is_over, type(reply.failure)) == (7.0, True, UpstreamTimeout)
    reply.close()
    assert upstream.disconnected.wait(2)


def test_whole_reply_is_not_given_up(upstream: FakeUpstream, connect: Connect) -> None:
    """Once the finish_reason came only the end of the stream is missing: that is no failure."""
    finish = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    upstream.enqueue(Reply(["a", finish, HANG]))
    assert list(connect(read_timeout=0.2).stream(QUESTION))[1:] == [Delta("a"), Info(MODEL, None, "stop")]


def test_pass_through_is_live(upstream: FakeUpstream, connect: Connect) -> None:
    """The very bytes of the body, without what they were wrapped in."""
    steps: list[Step] = [event("a"), 0.05, b": odd\n\n"]
    upstream.enqueue(*[Reply(steps, usage=None, finish_reason=None)] * 2)
    provider = connect()
    for _ in range(2):
        body = live(provider.complete(BODY).body)
        assert b"".join(received(body)) == event("a") + b": odd\n\n" + DONE
        body.close()
    assert upstream.connections == 1


def test_closing_twice_is_harmless(upstream: FakeUpstream, connect: Connect) -> None:
    """The connection is given back once."""
    provider = connect()
    answers: list[Iterable[object]] = [provider.stream(QUESTION), provider.complete(BODY).body]
    for answer in answers:
        list(answer)
        live(answer).close()
    first, second = live(provider.stream(QUESTION)), live(provider.stream(QUESTION))
    assert first.fileno() != second.fileno()
    first.close()
    second.close()


def test_high_descriptors_can_be_waited_for() -> None:
    """A server with thousands of connections has them; `select` would refuse."""
    fcntl = pytest.importorskip("fcntl")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            high = fcntl.fcntl(ours, fcntl.F_DUPFD, 1024)
        except OSError:
            pytest.skip("the system allows no more descriptors")
        with socket.socket(fileno=high):
            assert not is_readable(high, 0.01)
            theirs.send(b"x")
            assert is_readable(high, 1)
