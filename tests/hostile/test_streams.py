"""Whatever an upstream sends, the reply ends: whole, or in an error that says whose fault it was."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import UpstreamError
from self_agent.events import Chunk, Delta, Info, Sources
from self_agent.providers.openai.chunks import ReplyReader, error_in
from self_agent.providers.openai.decoder import SSEDecoder
from self_agent.providers.openai.provider import OpenAICompatible
from self_agent.storage.json_files.lines import dump
from tests.hostile.conftest import examples, within
from tests.hostile.damage import DEEP, Damage, damages
from tests.upstream import DONE, Answer, FakeUpstream, Reply, chunk_of, completion_of, event

SECONDS = 20.0
FIELDS = [
    "choices", "delta", "message", "content", "reasoning", "reasoning_content", "finish_reason", "model", "usage",
    "citations", "search_results", "annotations", "type", "url_citation", "url", "title", "text", "error", "code", "id",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just(DEEP)
    | st.sampled_from(["stop", "url_citation", "error", "http://x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip
LINES = st.sampled_from(
    [b"data: a", b"data:", b"data", b": c", b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\0", b"id: \xff"]
)
STREAM = b"".join(
    [b": ping\n\n", event("Hel"), event("lo ✓"), event(chunk_of({"content": None}, usage={"total_tokens": 3})),
     event(chunk_of({"content": [{"type": "text", "text": "!"}]}, citations=["http://a", "http://b"])),
     event(chunk_of({}, finish_reason="stop")), DONE]
)  # fmt: skip


def chunks(field: str, value: Any) -> list[dict[str, Any]]:
    """Put a value into every place of a chunk where a field of this name may be."""
    citation = {"type": "url_citation", "url_citation": {"url": "http://a", field: value}}
    source = {"url": "http://b", field: value}
    return [
        {**chunk_of({"content": "x"}), field: value},
        chunk_of({"content": "x", field: value}),
        {"choices": [{"delta": {"content": "x"}, field: value}]},
        {"choices": [{"message": {"content": [{"text": "x", field: value}]}}]},
        {"choices": [{"delta": {"annotations": [citation]}}], "search_results": [source]},
        {"error": {"message": "m", field: value}},
    ]


# --- bytes to events


def as_the_standard_says(stream: bytes) -> list[bytes]:
    """Decode a whole stream the slow and simple way."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, data = [], []
    for line in text.split(b"\n")[:-1]:
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif not line and data:
            events.append(b"\n".join(data))
            data = []
    return events


@examples(400)
@given(stream=st.lists(LINES | st.binary(max_size=6)).map(b"".join), cuts=st.lists(st.integers(0, 80)))
def test_any_bytes_are_decoded(stream: bytes, cuts: list[int]) -> None:
    """Any bytes, cut anywhere, give what the standard says."""
    decoder = SSEDecoder()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    found = [data for start, end in itertools.pairwise(edges) for data in decoder.feed(stream[start:end])]
    assert found == as_the_standard_says(stream)


# --- objects to chunks


def check_chunks(found: list[Chunk]) -> None:
    """See that the types are right, and that everything can be written as JSON."""
    for chunk in found:
        if isinstance(chunk, Delta):
            assert {type(chunk.text), type(chunk.reasoning)} == {str}
        elif isinstance(chunk, Sources):
            assert all(isinstance(source["url"], str) for source in json.loads(dump(chunk.sources)))
        else:
            assert isinstance(chunk, Info)
            assert {type(chunk.model), type(chunk.finish_reason)} <= {str, type(None)}
            dump(chunk.usage)


@examples(400)
@given(values=st.lists(VALUES, max_size=3))
def test_any_object_is_read(values: list[Any]) -> None:
    """A chunk of any shape is read, or refused with a ValueError."""
    reader = ReplyReader()
    for value in values:
        error_in(value)
        try:
            check_chunks(reader.read(value))
        except ValueError:
            return
    check_chunks([reader.info()])


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "depth", [0, 300, 1000, None], ids=["object", "deep", "deeper than Python calls", "other types"]
)
def test_odd_field_is_read_or_refused(field: str, depth: int | None) -> None:
    """A field of another type, or nested as deep as it can be read, does no harm in any place."""
    odd = [5, -1, True, 1.5, "x", [], [None], [5], {"a": 1}] if depth is None else [nested(depth), {"x": nested(depth)}]
    for value in odd:
        for chunk in chunks(field, value):
            reader = ReplyReader()
            try:
                check_chunks(reader.read(chunk))
            except ValueError:
                continue
            check_chunks([reader.info()])


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = [value]
    return value


# --- a whole provider


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def provider(upstream: FakeUpstream) -> Iterator[OpenAICompatible]:
    made = OpenAICompatible(upstream.base_url, model="m", retries=0, read_timeout=5.0)
    yield made
    made.close()


def converse(provider: OpenAICompatible) -> list[Chunk]:
    """Ask, and read to the end, which is the last `Info` or an UpstreamError."""

    def run() -> list[Chunk]:
        try:
            found = list(provider.stream([{"role": "user", "content": "hi"}]))
        except UpstreamError:
            return []
        assert isinstance(found[-1], Info)
        return found

    found = within(SECONDS, run)
    assert isinstance(found, list)
    check_chunks(found)
    return found


def test_whole_stream_is_read(upstream: FakeUpstream, provider: OpenAICompatible) -> None:
    """The stream that is damaged below is a whole reply."""
    upstream.enqueue(Reply([STREAM], finish_reason=None, usage=None, done=False))
    assert "".join(chunk.text for chunk in converse(provider) if isinstance(chunk, Delta)) == "Hello ✓!"


@examples(120)
@given(happened=damages(), cuts=st.lists(st.floats(0, 1), max_size=3), chunked=st.booleans())
def test_damaged_stream_ends(
    upstream: FakeUpstream, provider: OpenAICompatible, happened: list[Damage], cuts: list[float], chunked: bool
) -> None:
    """A stream with flipped bits, missing or foreign pieces ends in a reply or an UpstreamError."""
    stream = STREAM
    for damage in happened:
        stream = damage(stream)
    edges = [0, *sorted(int(cut * len(stream)) for cut in cuts), len(stream)]
    steps: list[Any] = [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]
    upstream.enqueue(Reply(steps, finish_reason=None, usage=None, done=False, chunked=chunked))
    converse(provider)


@pytest.mark.parametrize("field", FIELDS)
def test_odd_fields_end_too(upstream: FakeUpstream, provider: OpenAICompatible, field: str) -> None:
    """So does one whose chunks, or whole completion, have fields of another type or depth."""
    for value in (5, [5], {"a": [1]}, nested(300), nested(1000)):
        for chunk in chunks(field, value):
            upstream.enqueue(Reply([chunk]))
            converse(provider)
        upstream.enqueue(Answer(200, {**completion_of("x"), field: value}))
        converse(provider)


@examples(60)
@given(status=st.integers(200, 599).filter(lambda status: status != 304), body=VALUES | st.binary(max_size=50))
def test_odd_answer_is_an_error(upstream: FakeUpstream, provider: OpenAICompatible, status: int, body: Any) -> None:
    """An answer of any status and content is a reply or an UpstreamError."""
    upstream.enqueue(Answer(status, body))
    converse(provider)
    upstream.models_answer = Answer(status, body)
    try:
        assert all(isinstance(name, str) for name in provider.models(api_key="k"))
    except UpstreamError:
        pass
    finally:
        upstream.models_answer = None
