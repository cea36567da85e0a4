"""Every way an upstream can fail has its error, its remedy and its retries; none of them shows the key."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from email.utils import formatdate

import pytest

from core.errors import AppError, UpstreamError, UpstreamKeyRefused, UpstreamRateLimited, UpstreamTimeout
from self_agent.events import Delta, Info
from self_agent.providers.base import ChatMessage
from self_agent.providers.openai import errors as upstream_errors
from tests.providers.conftest import Connect
from tests.upstream import CUT, HANG, MODEL, RESET, Answer, FakeUpstream, Reply

NAMED = Info(MODEL)
QUESTION: list[ChatMessage] = [{"role": "user", "content": "hi"}]
KEY = "sk-very-secret"
NOW = {"Retry-After": "0"}


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def failure_of(provider: object) -> AppError:
    """Ask and return the error, whether it comes at once or in the middle."""
    with pytest.raises(AppError) as caught:
        list(provider.stream(QUESTION, api_key=KEY))  # type: ignore[attr-defined]
    return caught.value


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, UpstreamError, "answered 400: oh no"),
        (401, UpstreamKeyRefused, "OPENAI_API_KEY"),
        (403, UpstreamKeyRefused, "OPENAI_API_KEY"),
        (404, UpstreamError, "OPENAI_MODEL"),
        (408, UpstreamTimeout, "timed out"),
        (429, UpstreamRateLimited, "slow down"),
        (500, UpstreamError, "answered 500: oh no"),
        (504, UpstreamTimeout, "timed out"),
    ],
)
def test_status_becomes_its_error(
    upstream: FakeUpstream, connect: Connect, status: int, error: type[AppError], words: str
) -> None:
    """The upstream's words are passed on, on one line, cut, and without the key."""
    upstream.enqueue(Answer(status, {"error": {"message": f"oh no\n {KEY} {'x' * 900}"}}))
    failure = failure_of(connect(retries=0))
    assert type(failure) is error
    assert words in failure.message
    assert "oh no *** xxx" in failure.message
    assert "127.0.0.1" in failure.message
    assert KEY not in failure.message
    assert len(failure.message) < 500


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": "plain"}, "plain"),
        ({"detail": "of FastAPI"}, "of FastAPI"),
        (b"<html>", "Internal Server Error"),
        (b"[]", "Internal Server Error"),
        ({"error": {"message": 5}}, "Internal Server Error"),
        ({"error": "wrong key sk-ab****yz!"}, "wrong key ***"),
    ],
)
def test_words_of_any_shape(upstream: FakeUpstream, connect: Connect, body: object, words: str) -> None:
    """The message is found where servers put it; a page of HTML is not passed on."""
    upstream.enqueue(Answer(500, body))
    assert failure_of(connect(retries=0)).message.endswith(words)


def test_long_words_cost_nothing(upstream: FakeUpstream, connect: Connect) -> None:
    """Whatever an upstream says is cut in no time."""
    upstream.enqueue(Answer(500, {"error": "x" * 60_000}))
    begun = time.monotonic()
    assert failure_of(connect(retries=0)).message.endswith("xxx…")
    assert time.monotonic() - begun < 1


def test_unreadable_redirect_is_told(upstream: FakeUpstream, connect: Connect) -> None:
    """A target that is no URL is the upstream's failure, too."""
    upstream.enqueue(Answer(307, b"", {"Location": "http://[::1"}))
    assert isinstance(failure_of(connect(retries=0)), UpstreamError)


def test_redirect_is_not_followed(upstream: FakeUpstream, connect: Connect) -> None:
    """The key goes to the configured host only; the message says what to correct."""
    upstream.enqueue(Answer(307, b"", {"Location": f"http://127.0.0.1:1/v2?key={KEY}"}))
    assert "redirects to http://127.0.0.1:1/v2; correct OPENAI_BASE_URL" in failure_of(connect()).message
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_failures_are_retried(upstream: FakeUpstream, connect: Connect, status: int) -> None:
    """A busy upstream is asked again, and the reader notices nothing."""
    upstream.enqueue(Answer(status, {}, NOW), Answer(status, {}, NOW), Reply(["a"]))
    assert list(connect().stream(QUESTION))[:2] == [NAMED, Delta("a")]


def test_retries_end(upstream: FakeUpstream, connect: Connect) -> None:
    """After the last retry the failure is told."""
    upstream.enqueue(*[Answer(500, {}, NOW)] * 3)
    failure_of(connect(retries=2))
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 408, 504])
def test_lasting_failures_are_not_retried(upstream: FakeUpstream, connect: Connect, status: int) -> None:
    """Asking again would change nothing."""
    upstream.enqueue(Answer(status, {}, NOW))
    failure_of(connect())
    assert len(upstream.requests) == 1


def test_reset_connection_is_retried(upstream: FakeUpstream, connect: Connect) -> None:
    """A connection that dies before the answer is made again, a moment later."""
    upstream.enqueue(Reply([], before=RESET), Reply([], before=CUT), Reply(["a"]))
    assert list(connect().stream(QUESTION))[:2] == [NAMED, Delta("a")]


def test_long_retry_after_gives_up(upstream: FakeUpstream, connect: Connect) -> None:
    """Who should wait long is told so at once, with how long."""
    upstream.enqueue(Answer(429, {}, {"Retry-After": "3600"}))
    assert failure_of(connect()).retry_after == 3600
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("9" * 10, 1e8, 1e10),
        ("9" * 999, 1e8, 1e10),
        ("0.5", 0.5, 0.5),
        (formatdate(4e9, usegmt=True), 1e9, 4e9),
        (formatdate(0), 0, 0),
    ],
)
def test_retry_after_is_read(value: str, low: float, high: float) -> None:
    """Seconds and dates are both understood."""
    seconds = upstream_errors.retry_after({"retry-after": value})
    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize("value", ["", "soon", "-5", "nan"])
def test_odd_retry_after_is_none(value: str) -> None:
    """What cannot be read is as if it were not there."""
    assert upstream_errors.retry_after({"retry-after": value}) is None


@pytest.mark.parametrize("cut", [CUT, RESET])
@pytest.mark.parametrize("chunked", [True, False])
def test_cut_stream_is_an_error(upstream: FakeUpstream, connect: Connect, cut: object, chunked: bool) -> None:
    """A reply without its end is never taken for whole."""
    upstream.enqueue(Reply(["a", 0.05, cut], chunked=chunked))  # type: ignore[list-item]
    chunks = iter(connect().stream(QUESTION))
    assert next(chunks) == NAMED
    assert next(chunks) == Delta("a")
    with pytest.raises(UpstreamError, match="cut its answer off"):
        next(chunks)


def test_reset_after_finish_is_whole(upstream: FakeUpstream, connect: Connect) -> None:
    """Once the finish_reason came, a broken connection takes nothing away."""
    finish = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    upstream.enqueue(Reply(["a", finish, 0.05, RESET]))
    assert list(connect().stream(QUESTION)) == [NAMED, Delta("a"), Info(MODEL, finish_reason="stop")]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("text/html", b"<html>hello</html>"), ("application/json", b"{"), ("text/event-stream", b"data: <p>\n\n")],
)
def test_garbage_is_an_error(upstream: FakeUpstream, connect: Connect, content_type: str, body: bytes) -> None:
    """A web page behind a wrong URL is called what it is."""
    upstream.enqueue(Answer(200, body, content_type=content_type))
    assert "no chat completion" in failure_of(connect()).message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": KEY, "code": "rate_limit_exceeded"}, UpstreamRateLimited),
        ({"message": KEY, "type": "insufficient_quota"}, UpstreamRateLimited),
        ({"message": KEY, "code": 429}, UpstreamRateLimited),
        ({"message": KEY, "code": "invalid_api_key"}, UpstreamKeyRefused),
        ({"message": KEY, "code": 500}, UpstreamError),
        (KEY, UpstreamError),
    ],
)
def test_error_inside_a_stream(upstream: FakeUpstream, connect: Connect, error: object, kind: type[AppError]) -> None:
    """An error in the place of a chunk gets the class its status would have had."""
    upstream.enqueue(Reply(["a", {"error": error}]))
    failure = failure_of(connect())
    assert type(failure) is kind
    assert "***" in failure.message


def test_bare_error_object_counts(upstream: FakeUpstream, connect: Connect) -> None:
    """Older vLLM sends the error without a wrapping."""
    upstream.enqueue(Reply([{"object": "error", "message": "too long", "code": 400}]))
    assert failure_of(connect()).message.endswith("failed: too long")


def test_silence_before_headers_times_out(upstream: FakeUpstream, connect: Connect) -> None:
    """An upstream that never answers is a timeout, and not asked again."""
    upstream.enqueue(Reply([], before=HANG))
    assert isinstance(failure_of(connect(read_timeout=0.1)), UpstreamTimeout)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("chunked", [True, False])
def test_silence_midway_times_out(upstream: FakeUpstream, connect: Connect, chunked: bool) -> None:
    """The same in the middle of a reply."""
    upstream.enqueue(Reply(["a", HANG], chunked=chunked))
    assert "READ_TIMEOUT" in failure_of(connect(read_timeout=0.2)).message


def test_refused_connection_names_remedy(connect: Connect) -> None:
    """After one more try the message says what to look at."""
    url = f"http://127.0.0.1:{closed_port()}"
    assert failure_of(connect(url, retries=1)).message == (
        f"cannot reach the model at {url}/v1: connection refused; is it running? See OPENAI_BASE_URL"
    )


def test_unknown_host_is_told(connect: Connect) -> None:
    """A name that does not exist is not retried."""
    assert "no such host" in failure_of(connect("http://nowhere.invalid")).message


def test_plain_server_behind_https(upstream: FakeUpstream, connect: Connect) -> None:
    """https where there is only http is a question of the URL."""
    message = failure_of(connect(upstream.base_url.replace("http", "https"))).message
    assert "no secure connection" in message


def test_refusing_proxy_is_named(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is down is not called a model that is down."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    assert "HTTPS_PROXY" in failure_of(connect("http://nowhere.invalid", retries=0)).message


def test_other_protocols_are_told(connect: Connect) -> None:
    """Something that does not speak HTTP is a question of the URL, not a bug."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-hello\r\n")

        greeter = threading.Thread(target=greet)
        greeter.start()
        provider = connect(f"http://127.0.0.1:{server.getsockname()[1]}")
        assert "does not answer as an HTTP server" in failure_of(provider).message
        greeter.join()


def test_unanswered_connect_times_out(connect: Connect) -> None:
    """A host that never accepts is told apart from one that is silent."""
    with socket.socket() as listener, contextlib.ExitStack() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # the queue is full, so the kernel answers no further SYN
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        provider = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.1)
        assert "CONNECT_TIMEOUT" in failure_of(provider).message


@pytest.mark.parametrize("key", ["sk-\nX: y", "sk-é", "sk-\x00"])
def test_impossible_key_is_refused(upstream: FakeUpstream, connect: Connect, key: str) -> None:
    """A key that no header can hold is refused before http.client would show it."""
    with pytest.raises(UpstreamKeyRefused) as caught:
        connect().stream(QUESTION, api_key=key)
    assert key not in str(caught.value)
    assert upstream.requests == []


def test_no_exception_holds_the_key(upstream: FakeUpstream, connect: Connect) -> None:
    """Neither the errors nor what they are chained to know the request and its headers."""
    upstream.enqueue(Answer(500, {}), Reply(["a", RESET]), Reply([], before=CUT))
    providers = [connect(retries=0), connect(retries=0), connect(retries=0), connect("http://127.0.0.1:1", retries=0)]
    for provider in providers:
        error: BaseException | None = failure_of(provider)
        while error is not None:
            assert KEY not in repr(error)
            assert getattr(error, "request", None) is None
            error = error.__cause__ or error.__context__
