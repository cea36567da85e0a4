"""An answer that comes cut anywhere is the same, and one that is broken is an error, never a wait."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from self_agent.providers.openai.http1 import Counted, Dechunker, Head, body_of, read_head


def coded(chunks: list[bytes], trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.lists(st.integers(0, 300), max_size=8))
def test_cut_anywhere_is_the_same(chunks: list[bytes], cuts: list[int]) -> None:
    """Wherever the network cuts, the content comes whole and the end is seen."""
    data = coded(chunks)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    decoder = Dechunker()
    found = b"".join(decoder.feed(data[a:b]) for a, b in itertools.pairwise(places))
    assert (found, decoder.ended, decoder.rest) == (b"".join(chunks), True, b"")


def test_part_of_a_chunk_is_not_held_back() -> None:
    """A token does not wait for the rest of a large chunk."""
    assert Dechunker().feed(b"100\r\nab") == b"ab"


@pytest.mark.parametrize("data", [b"2;name=value\r\nab\r\n0\r\n\r\n", b"2\nab\n0\n\n", coded([b"ab"], b"a: b\r\n")])
def test_what_servers_send_too(data: bytes) -> None:
    """Extensions, bare line feeds and trailers are read over."""
    decoder = Dechunker()
    assert (decoder.feed(data), decoder.ended) == (b"ab", True)


def test_what_follows_is_kept_apart() -> None:
    """Bytes behind the end are of no body; a connection that has some is not used again."""
    decoder = Dechunker()
    assert decoder.feed(coded([b"ab"]) + b"HTTP/1.1 200 OK") == b"ab"
    assert decoder.rest == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("data", [b"xyz\r\n", b"\r\n", b"-1\r\n", b"1_0\r\n", b"2\r\nabc\r\n", b"1" * 5000])
def test_no_chunked_body_is_an_error(data: bytes) -> None:
    """What is not in chunks is refused, not waited for."""
    decoder = Dechunker()
    decoder.feed(data)
    assert decoder.ended
    assert decoder.fault


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX: a\r\nX:  b \r\n\r\n"
READ = Head(200, {"content-type": "text/plain", "x": "a, b"})


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (HEAD, (READ, b"")),
        (HEAD + b"body\r\n\r\n", (READ, b"body\r\n\r\n")),
        (HEAD.replace(b"\r\n", b"\n"), (READ, b"")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n" + HEAD, (READ, b"")),
        (b"HTTP/1.1 204\r\n\r\n", (Head(204, {}), b"")),
        (b"HTTP/1.0 200 OK\r\n\r\n", (Head(200, {}, is_persistent=False), b"")),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n", (Head(200, {"connection": "Close"}, False), b"")),
        (b"HTTP/1.1 100 Continue\r\n\r\n", None),
        (b"", None),
    ],
)
def test_head_is_read(data: bytes, found: object) -> None:
    """What is said before the answer is skipped; names are in lower case; repeated headers are one."""
    assert read_head(data) == found


def test_head_comes_whole_or_not_at_all() -> None:
    """As long as a byte is missing there is none."""
    assert all(read_head(HEAD[:end]) is None for end in range(len(HEAD)))


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nspaced : x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
        b"x" * 70_000,
    ],
)
def test_no_head_is_an_error(data: bytes) -> None:
    """Other protocols and malformed or endless heads are refused."""
    with pytest.raises(ValueError, match=r"head|status|protocol"):
        read_head(data)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-length": "4"}, (b"abcd", True, b"ef")),
        ({"content-length": "0"}, (b"", True, b"abcdef")),
        ({"content-length": "9"}, (b"abcdef", False, b"")),
        ({}, (b"abcdef", False, b"")),
    ],
)
def test_body_without_chunks(headers: dict[str, str], body: object) -> None:
    """A length says where the body ends; without one its connection does."""
    decoder = body_of(Head(200, headers))
    assert (decoder.feed(b"abcdef"), decoder.ended, decoder.rest) == body
    assert decoder.ends_on_close == (not headers)


def test_chunks_go_before_a_length() -> None:
    """Where an answer has both, the chunks are right; where it can have no body, there is none."""
    both = {"transfer-encoding": "Chunked", "content-length": "4"}
    assert isinstance(body_of(Head(200, both)), Dechunker)
    assert isinstance(body_of(Head(304, both)), Counted)


@pytest.mark.parametrize("headers", [{"transfer-encoding": "gzip, chunked"}, {"content-length": "4, 5"}])
def test_unknown_ends_are_refused(headers: dict[str, str]) -> None:
    """A body whose end cannot be known is not guessed at."""
    with pytest.raises(ValueError, match=r"coding|length"):
        body_of(Head(200, headers))
