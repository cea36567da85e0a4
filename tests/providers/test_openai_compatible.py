"""What an upstream says comes out as chunks, as it comes, and what it is asked is what it understands."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from core.errors import ModelUnavailable, StartupError, UpstreamError
from self_agent.events import Chunk, Delta, Info, Sources
from self_agent.providers.base import ChatMessage
from tests.providers.conftest import Connect
from tests.upstream import MODEL, Answer, FakeUpstream, Reply, Step, chunk_of, completion_of

QUESTION: list[ChatMessage] = [{"role": "user", "content": "hi there"}]
NAMED = Info(MODEL)
INFO = Info(MODEL, {"total_tokens": 3}, "stop")
PAGE = {"type": "url", "url": "https://a.example", "title": "A"}


def texts(chunks: Iterable[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Delta))


@pytest.mark.parametrize("chunked", [True, False])
def test_tokens_arrive_as_they_come(upstream: FakeUpstream, connect: Connect, chunked: bool) -> None:
    """A token is not held back until the next, whether the upstream sends chunks or streams until it closes."""
    upstream.enqueue(Reply(["a", 0.3, " b"], chunked=chunked))
    chunks = iter(connect().stream(QUESTION))
    assert next(chunks) == NAMED
    assert next(chunks) == Delta("a")
    begun = time.monotonic()
    assert next(chunks) == Delta(" b")
    assert time.monotonic() - begun > 0.15
    assert list(chunks) == [INFO]


def test_history_is_sent_as_given(upstream: FakeUpstream, connect: Connect) -> None:
    """The upstream gets the messages, the model and the wish for a stream with usage, and the key."""
    list(connect(api_key="sk-configured").stream(QUESTION, model="other"))
    (request,) = upstream.requests
    assert request.body == {
        "model": "other",
        "messages": QUESTION,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert request.headers["authorization"] == "Bearer sk-configured"
    assert request.headers["accept-encoding"] == "identity"
    assert request.path == "/v1/chat/completions"


def test_connection_is_used_again(upstream: FakeUpstream, connect: Connect) -> None:
    """Replies one after the other share one connection."""
    provider = connect()
    for _ in range(3):
        assert texts(list(provider.stream(QUESTION))) == "reply 1: hi there"
    assert upstream.connections == 1


def test_request_key_is_not_kept(upstream: FakeUpstream, connect: Connect) -> None:
    """A key given for one request is sent with that request only."""
    provider = connect(api_key="sk-configured")
    list(provider.stream(QUESTION, api_key="poe-sk-mine"))
    list(provider.stream(QUESTION))
    assert [r.headers["authorization"] for r in upstream.requests] == ["Bearer poe-sk-mine", "Bearer sk-configured"]


def test_netrc_never_replaces_key(
    upstream: FakeUpstream, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password in ~/.netrc is for another program, with a key and without one."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    list(connect(api_key="sk-configured").stream(QUESTION))
    list(connect().stream(QUESTION))
    assert [request.headers.get("authorization") for request in upstream.requests] == ["Bearer sk-configured", None]


def test_cookies_are_not_shared(upstream: FakeUpstream, connect: Connect) -> None:
    """A cookie set for one user's request does not go along with another's."""
    upstream.enqueue(Answer(200, completion_of("x"), {"Set-Cookie": "who=me; Path=/"}))
    provider = connect()
    list(provider.stream(QUESTION))
    list(provider.stream(QUESTION))
    assert "cookie" not in upstream.requests[-1].headers


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_apart(upstream: FakeUpstream, connect: Connect, name: str) -> None:
    """DeepSeek's and OpenRouter's words for thinking are both understood."""
    upstream.enqueue(Reply([chunk_of({name: "hm", "content": None}), "so"]))
    assert list(connect().stream(QUESTION)) == [NAMED, Delta(reasoning="hm"), Delta("so"), INFO]


HIGH, LOW = "\\ud83d", "\\ude00"


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([f"a{HIGH}", f"{LOW}b"], "a😀b"),
        ([HIGH, LOW + HIGH, LOW], "😀😀"),
        ([HIGH + LOW], "😀"),
        ([f"a{HIGH}", "b"], "a\ufffdb"),
        ([HIGH, HIGH, LOW], "\ufffd😀"),
        ([LOW, f"{HIGH}x"], "\ufffd\ufffdx"),
        (["a", HIGH], "a\ufffd"),
        ([f"{HIGH}\\", f"\\{LOW}\\\\ud83d"], None),
        ([f"\\\\ud83d{HIGH}", LOW], "\\ud83d😀"),
        ([f'{HIGH}\\"', LOW], '\ufffd"\ufffd'),
    ],
)
def test_halves_of_characters_are_joined(
    upstream: FakeUpstream, connect: Connect, pieces: list[str], said: str | None
) -> None:
    """An emoji that comes in two surrogate halves is one; a half alone is a replacement character."""
    upstream.enqueue(Reply([b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % p.encode() for p in pieces]))
    if said is None:
        with pytest.raises(UpstreamError, match="no chat completion"):
            list(connect().stream(QUESTION))
    else:
        assert texts(connect().stream(QUESTION)) == said


def test_only_the_first_choice_counts(upstream: FakeUpstream, connect: Connect) -> None:
    """Other choices are neither mixed into the reply nor do they end it."""
    other = {"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}
    mixed = {"choices": [other, {"index": 0, "delta": {"content": "c"}}]}
    upstream.enqueue(Reply(["a", {"choices": [other]}, chunk_of({"content": "b"}), mixed]))
    assert list(connect().stream(QUESTION)) == [NAMED, Delta("a"), Delta("b"), Delta("c"), INFO]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_all_the_same(upstream: FakeUpstream, connect: Connect, encoding: str) -> None:
    """Some proxies compress what nobody asked them to."""
    body = orjson.dumps(completion_of("all at once"))
    body = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    upstream.enqueue(Answer(200, body, {"Content-Encoding": encoding}), Answer(200, b"x", {"Content-Encoding": "gzip"}))
    assert texts(connect().stream(QUESTION)) == "all at once"
    with pytest.raises(UpstreamError):
        list(connect().stream(QUESTION))


def test_odd_chunks_are_tolerated(upstream: FakeUpstream, connect: Connect) -> None:
    """Comments, roles, nulls, empty choices and content in parts disturb nothing."""
    parts = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
    steps: list[Step] = [b": keep-alive\n\n", chunk_of({"role": "assistant", "content": ""}), {"choices": []}]
    steps += [{"choices": None}, {"choices": [{"delta": None}]}, "a", chunk_of({"content": parts}), b"data: null\n\n"]
    upstream.enqueue(Reply(steps))
    assert list(connect().stream(QUESTION)) == [NAMED, Delta("a"), Delta("bc"), INFO]


@pytest.mark.parametrize(
    "chunk",
    [
        chunk_of({"content": 5}),
        chunk_of({"content": [5]}),
        chunk_of({"content": [{"text": 5}]}),
        {"choices": "x"},
        {"choices": [{"delta": "x"}]},
        ["x"],
    ],
)
def test_wrong_types_are_upstream_errors(upstream: FakeUpstream, connect: Connect, chunk: Any) -> None:
    """Something that is no chat chunk is the upstream's failure, not a bug here."""
    upstream.enqueue(Reply(["a", b"data: " + orjson.dumps(chunk) + b"\n\n"]))
    chunks = iter(connect().stream(QUESTION))
    assert next(chunks) == NAMED
    assert next(chunks) == Delta("a")
    with pytest.raises(UpstreamError, match="no chat completion"):
        next(chunks)


def test_sources_grow_without_duplicates(upstream: FakeUpstream, connect: Connect) -> None:
    """OpenAI's annotations and Perplexity's lists become one list by URL, told again only when it grew."""
    nested = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
    flat = {"type": "url_citation", "url": "https://b.example", "title": "B"}
    found = {"url": "https://c.example", "title": "C", "date": "2025-01-01"}
    links = {"citations": ["https://a.example", "https://d.example"], "search_results": [found]}
    upstream.enqueue(
        Reply(
            [
                chunk_of({"annotations": [nested, {"type": "file_citation"}]}),
                chunk_of({"annotations": [nested]}),
                chunk_of({"content": "x", "annotations": [flat]}),
                chunk_of({}, **links),
                chunk_of({}, **links),
            ]
        )
    )
    pages = [
        PAGE,
        {"type": "url", "url": "https://b.example", "title": "B"},
        {"type": "url", **found},
        {"type": "url", "url": "https://d.example", "title": "https://d.example"},
    ]
    assert list(connect().stream(QUESTION)) == [
        NAMED,
        Sources(pages[:1]),
        Delta("x"),
        Sources(pages[:2]),
        Sources(pages),
        INFO,
    ]


def test_plain_json_is_one_delta(upstream: FakeUpstream, connect: Connect) -> None:
    """An upstream that does not stream still answers."""
    upstream.enqueue(Answer(200, completion_of("all at once", usage={"total_tokens": 3})))
    assert list(connect().stream(QUESTION)) == [NAMED, Delta("all at once"), INFO]


@pytest.mark.parametrize("reply", [Reply(["a"], done=False), Reply(["a"], finish_reason=None)])
def test_either_end_is_an_end(upstream: FakeUpstream, connect: Connect, reply: Reply) -> None:
    """[DONE] or a finish_reason is enough for a reply to be whole."""
    upstream.enqueue(reply)
    *rest, info = connect().stream(QUESTION)
    assert texts(rest) == "a"
    assert isinstance(info, Info)


def test_stream_left_open_after_done(upstream: FakeUpstream, connect: Connect) -> None:
    """An upstream that keeps its stream open after [DONE] does not hold up the reply's end."""
    upstream.enqueue(Reply(["a", b"data: [DONE]\n\n", 30.0]))
    begun = time.monotonic()
    assert texts(list(connect().stream(QUESTION))) == "a"
    assert time.monotonic() - begun < 5


def test_refused_stream_options_left_out(upstream: FakeUpstream, connect: Connect) -> None:
    """An upstream that does not know stream_options is asked without, and so from then on."""
    upstream.enqueue(Answer(400, {"error": {"message": "unknown field stream_options"}}))
    provider = connect()
    assert texts(list(provider.stream(QUESTION))) == "reply 1: hi there"
    list(provider.stream(QUESTION))
    assert ["stream_options" in request.body for request in upstream.requests] == [True, False, False]


def test_first_listed_model_is_asked(upstream: FakeUpstream, connect: Connect) -> None:
    """Without a model anywhere the upstream's first is used, and looked up once."""
    provider = connect(model="")
    list(provider.stream(QUESTION))
    list(provider.stream(QUESTION))
    assert [request.path for request in upstream.requests].count("/v1/models") == 1
    assert upstream.asked[0].body["model"] == MODEL


def test_no_model_names_the_setting(upstream: FakeUpstream, connect: Connect) -> None:
    """Where there is none at all, the error says what to set."""
    upstream.models = []
    with pytest.raises(ModelUnavailable, match="OPENAI_MODEL"):
        connect(model="").stream(QUESTION)


def test_models_are_listed_and_kept(upstream: FakeUpstream, connect: Connect) -> None:
    """The list is asked for once a minute, but anew for a key of one's own."""
    provider = connect()
    assert provider.models() == provider.models() == [MODEL]
    upstream.models = ["mine"]
    assert provider.models(api_key="poe-sk-mine") == ["mine"]
    assert provider.models() == [MODEL]
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"data": [1]}'])
def test_unreadable_models_are_upstream_errors(upstream: FakeUpstream, connect: Connect, body: bytes) -> None:
    """What is no list of models is the upstream's failure."""
    upstream.models_answer = Answer(200, body)
    with pytest.raises(UpstreamError, match="no list of models"):
        connect().models()


@pytest.mark.parametrize(
    ("base_url", "where"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/v1:"),
        ("http://127.0.0.1:1/", "http://127.0.0.1:1/v1:"),
        ("http://127.0.0.1:1/api/v3/", "http://127.0.0.1:1/api/v3:"),
        ("http://me:secret@127.0.0.1:1/x", "http://127.0.0.1:1/x:"),
    ],
)
def test_base_url_is_completed(connect: Connect, base_url: str, where: str) -> None:
    """A bare host means its /v1; a path is kept; a password in it is not shown."""
    with pytest.raises(UpstreamError) as caught:
        connect(base_url, retries=0).models()
    assert f"at {where} connection refused" in caught.value.message


@pytest.mark.parametrize("base_url", ["localhost:8000", "ftp://x/v1", "http://", "http://x:y/v1", "http://[::1"])
def test_useless_base_url_stops_start(connect: Connect, base_url: str) -> None:
    """A URL that cannot work is told at start, with the setting's name."""
    with pytest.raises(StartupError, match="OPENAI_BASE_URL"):
        connect(base_url)


def test_default_model_never_calls_out(upstream: FakeUpstream, connect: Connect) -> None:
    """It is the configured one, else the first of the list once that was read, and then what is asked for."""
    assert connect(model="m").default_model() == "m"
    upstream.models = ["first", "second"]
    for learn in (lambda p: p.models(), lambda p: list(p.stream(QUESTION))):
        provider = connect(model="")
        before = len(upstream.requests)
        assert provider.default_model() is None
        assert len(upstream.requests) == before
        learn(provider)
        assert provider.default_model() == "first"
        list(provider.stream(QUESTION))
        assert upstream.asked[-1].body["model"] == "first"


def test_description_never_calls_out(connect: Connect) -> None:
    """The banner names the model, or else the host; no URL at all means OpenAI's own."""
    assert connect(model="m").describe() == "m"
    assert connect("https://api.poe.com/v1", model="").describe() == "api.poe.com"
    assert connect("  ", model="").describe() in ("api.openai.com", "")
