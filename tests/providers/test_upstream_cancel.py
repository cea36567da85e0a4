"""A stop takes effect at once wherever the request is, and leaves the other requests alone."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from self_agent.events import Delta, Info
from self_agent.providers.base import Cancellation, ChatMessage, Provider, is_readable
from self_agent.providers.openai.connections import Interrupt
from tests.providers.conftest import Connect, live
from tests.upstream import HANG, MODEL, Answer, FakeUpstream, Reply, Step, event

NAMED = Info(MODEL)
QUESTION: list[ChatMessage] = [{"role": "user", "content": "hi"}]
DRIP: list[Step] = ["a", *[0.02, "b"] * 1000]  # type: ignore[list-item]
SOON = 2.0  # seconds; measured 0.01, but machines are busy


def cancelled_after(provider: Provider, seconds: float = 0.1) -> list[object]:
    """Return what came before the stop, having checked that the end came soon after it."""
    cancel = Cancellation()
    timer = threading.Timer(seconds, cancel.cancel)
    begun = time.monotonic()
    timer.start()
    chunks = list(provider.stream(QUESTION, cancel=cancel))
    timer.join()
    assert seconds * 0.9 <= time.monotonic() - begun < seconds + SOON
    return list(chunks)


@contextlib.contextmanager
def silent_listener(backlog: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        yield listener


@pytest.mark.parametrize(
    "reply",
    [Reply(["a", HANG]), Reply(["a", HANG], chunked=False), Reply(DRIP)],
    ids=["chunked", "until close", "dripping"],
)
def test_cancel_wakes_a_blocked_read(upstream: FakeUpstream, connect: Connect, reply: Reply) -> None:
    """The reply just ends, and the upstream sees that its client has gone."""
    upstream.enqueue(reply)
    assert cancelled_after(connect())[1] == Delta("a")
    assert upstream.disconnected.wait(SOON)


def test_cancel_before_headers(upstream: FakeUpstream, connect: Connect) -> None:
    """A question that is not accepted yet is withdrawn."""
    upstream.enqueue(Reply([], before=HANG))
    assert cancelled_after(connect()) == []
    assert upstream.disconnected.wait(SOON)


def test_cancel_on_a_reused_connection(upstream: FakeUpstream, connect: Connect) -> None:
    """A connection kept alive can be cut as well as a new one, and is not used again."""
    provider = connect()
    list(provider.stream(QUESTION))
    upstream.enqueue(Reply([], before=HANG))
    assert cancelled_after(provider) == []
    assert upstream.connections == 1
    assert len(list(provider.stream(QUESTION))) > 1
    assert upstream.connections == 2


def test_cancel_during_retry_pause(upstream: FakeUpstream, connect: Connect) -> None:
    """Nobody waits for a retry that is not wanted any more."""
    upstream.enqueue(Answer(429, {}, {"Retry-After": "15"}))
    assert cancelled_after(connect()) == []
    assert len(upstream.requests) == 1


def test_cancel_while_asking_for_models(upstream: FakeUpstream, connect: Connect) -> None:
    """Without a configured model there is a request before the question; it can be stopped, too."""
    upstream.models_answer = Answer(503, {}, {"Retry-After": "15"})
    assert cancelled_after(connect(model="")) == []


def test_cancel_while_connecting(connect: Connect) -> None:
    """A host that swallows packets holds nobody up."""
    with silent_listener(0) as listener, contextlib.ExitStack() as held:
        for _ in range(3):  # the queue is full, so the kernel answers no further SYN
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        provider = connect(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert cancelled_after(provider) == []


def test_cancel_during_tls_handshake(connect: Connect) -> None:
    """A host that accepts and then says nothing does not either."""
    with silent_listener(5) as listener:
        assert cancelled_after(connect(f"https://127.0.0.1:{listener.getsockname()[1]}")) == []


@pytest.mark.parametrize("before", [HANG, None])
def test_cancel_over_tls(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: object) -> None:
    """The same holds for a connection that is encrypted, before the headers and in the middle."""
    certificate = tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -addext subjectAltName=IP:127.0.0.1 -days 2"
    try:
        subprocess.run(
            [*command.split(), "-keyout", certificate, "-out", tmp_path / "only"], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "only").read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FakeUpstream(tls=context) as upstream:
        provider = connect(upstream.base_url)
        assert len(list(provider.stream(QUESTION))) > 1
        upstream.enqueue(Reply(["a", HANG], before=before))  # type: ignore[arg-type]
        assert cancelled_after(provider, 0.3) == ([] if before else [NAMED, Delta("a")])
        assert upstream.disconnected.wait(SOON)


def test_cancelled_before_asking(upstream: FakeUpstream, connect: Connect) -> None:
    """A stop that came first means that nothing is sent."""
    cancel = Cancellation()
    cancel.cancel()
    assert list(connect().stream(QUESTION, cancel=cancel)) == []
    assert list(connect(model="").stream(QUESTION, cancel=cancel)) == []
    assert upstream.requests == []


def test_late_cancel_spares_the_next(upstream: FakeUpstream, connect: Connect) -> None:
    """A stop after a reply's end does not cut the request that uses its connection now."""
    provider, cancel = connect(), Cancellation()
    list(provider.stream(QUESTION, cancel=cancel))
    upstream.enqueue(Reply(["a", 0.2, "b"]))
    chunks = iter(provider.stream(QUESTION))
    assert next(chunks) == NAMED
    assert next(chunks) == Delta("a")
    cancel.cancel()
    assert [*chunks][:1] == [Delta("b")]
    assert upstream.connections == 1


def test_cancel_within_a_burst(upstream: FakeUpstream, connect: Connect) -> None:
    """Tokens that are here already are not relayed after a stop."""
    cancel = Cancellation()
    upstream.enqueue(Reply(["a", 0.1, event("b") * 3, HANG]))
    reply = live(connect().stream(QUESTION, cancel=cancel))
    while Delta("a") not in reply.receive():
        assert is_readable(reply.fileno(), SOON)
    assert is_readable(reply.fileno(), SOON)
    cancel.cancel()
    assert (reply.receive(), reply.is_over, reply.failure) == ([], True, None)
    reply.close()


@pytest.mark.parametrize("read", [0, 1])
def test_closing_lets_go_of_upstream(upstream: FakeUpstream, connect: Connect, read: int) -> None:
    """Closing the reply closes the connection, even if nothing was read from it."""
    upstream.enqueue(Reply(["a", HANG]))
    reply = live(connect().stream(QUESTION))
    for _ in range(read):
        next(iter(reply))
    reply.close()
    assert upstream.disconnected.wait(SOON)


def test_interrupt_survives_closed_sockets() -> None:
    """Cutting what is closed already is no error."""
    interrupt = Interrupt()
    with socket.socket() as sock:
        interrupt.watch(sock)
    interrupt.cut()


def test_interrupt_cuts_later_sockets() -> None:
    """A stop between two attempts, or while one connects, holds for the socket that comes after it."""
    interrupt = Interrupt()
    interrupt.cut()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        interrupt.watch(ours)
        theirs.settimeout(SOON)
        assert theirs.recv(1) == b""
