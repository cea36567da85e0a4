"""A body that comes cut anywhere is the same, and one that is broken is an error, never a wait."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from self_agent.providers.openai.http1 import Dechunker


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
