"""However the bytes are cut, the same events come out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from self_agent.providers.openai.decoder import SSEDecoder

TABLE = [
    (b"data: a\n\n", [b"a"]),
    (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    (b"data:a\n\n", [b"a"]),
    (b"data:  a\n\n", [b" a"]),
    (b"data: a\ndata: b\n\n", [b"a\nb"]),
    (b"data\n\n", [b""]),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    (b"data: a\r\ndata: b\n\r\n", [b"a\nb"]),
    (b": ping\n\ndata: a\n\n", [b"a"]),
    (b": ping\ndata: a\n\n", [b"a"]),
    (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
    (b"event: x\n\n", []),
    (b"database: a\n\n", []),
    (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    (b"\xef\xbbdata: a\n\n", []),
    (b"\n\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [b"a", b"b"]),
    (b"data: cut off\n", []),
    (b"", []),
]


@pytest.mark.parametrize(("stream", "events"), TABLE)
def test_stream_becomes_its_events(stream: bytes, events: list[bytes]) -> None:
    """Line ends, comments, other fields and a BOM are read as the standard says."""
    assert SSEDecoder().feed(stream) == events


@pytest.mark.parametrize(("stream", "events"), TABLE)
def test_bytes_one_by_one_too(stream: bytes, events: list[bytes]) -> None:
    """An event comes out with its last byte, however slowly the bytes arrive."""
    decoder = SSEDecoder()
    assert [data for byte in stream for data in decoder.feed(bytes([byte]))] == events


STREAMS = st.lists(
    st.sampled_from(
        [b"data: a", b"data:", b"data: {}", b": c", b"id: 1", b"\n", b"\r", b"\r\n", b"\n\n", b"\xef\xbb\xbf"]
    )
).map(b"".join)


@given(STREAMS, st.lists(st.integers(min_value=0, max_value=60)))
def test_any_split_same_events(stream: bytes, cuts: list[int]) -> None:
    """Where the network cuts the stream makes no difference."""
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder = SSEDecoder()
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert [data for piece in pieces for data in decoder.feed(piece)] == SSEDecoder().feed(stream)


def test_event_comes_with_its_end() -> None:
    """A CR that may be half of a CRLF does not hold an event back."""
    assert SSEDecoder().feed(b"data: a\r\r") == [b"a"]


def test_endless_event_is_refused() -> None:
    """An upstream that never ends its event cannot fill the memory."""
    decoder = SSEDecoder(max_event=100)
    decoder.feed(b"data: " + b"x" * 90)
    with pytest.raises(ValueError, match="100 bytes"):
        decoder.feed(b"x" * 90)


def test_large_whole_event_is_refused() -> None:
    """The bound holds for an event that comes in one piece, too."""
    with pytest.raises(ValueError, match="100 bytes"):
        SSEDecoder(max_event=100).feed(b"data: " + b"x" * 100 + b"\n\n")
