"""A file as its chats."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from self_agent.transfer.splitting import Flaw, split

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\{}[],:\n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
chats = st.lists(st.dictionaries(st.text(max_size=4), values, max_size=3), max_size=5)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@given(chats, st.integers(1, 40), st.sampled_from([None, 1]))
def test_chats_come_out_as_they_went_in(documents: list[object], size: int, indent: int | None) -> None:
    """Whatever is in them, and wherever the file is cut into pieces."""
    data = json.dumps(documents, indent=indent).encode()
    found = list(split(pieces(data, size)))
    assert [json.loads(each) for each in found if isinstance(each, bytes)] == documents
    assert len(found) == len(documents)


@given(chats, st.data())
def test_cut_file_gives_what_is_whole(documents: list[object], data: st.DataObject) -> None:
    """Every chat before the cut comes out, and then one flaw says that the file was cut off."""
    whole = json.dumps(documents).encode()
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    *found, flaw = split(pieces(cut, 7))
    assert [json.loads(each) for each in found if isinstance(each, bytes)] == documents[: len(found)]
    assert isinstance(flaw, Flaw)
    assert "cut off" in flaw.reason


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b'{"a": 1}', 1),
        (b'\xef\xbb\xbf[{"a": 1}]', 1),
        (b'{"a": 1}\n{"b": 2}\n', 2),
        (b'[{"a": 1}, {"b": 2}]', 2),
        (b"[]", 0),
        (b"", 0),
    ],
)
def test_list_one_or_lines(data: bytes, count: int) -> None:
    """A list, one chat, one a line, with the mark that some editors put in front."""
    assert [type(each) for each in split([data])] == [bytes] * count


@pytest.mark.parametrize("data", [b"hello", b'["words", 5]', b'[{"a": 1}] and more', b"[5]"])
def test_what_is_no_chat_is_said(data: bytes) -> None:
    """What stands where a chat should be is not passed over in silence."""
    assert isinstance(list(split([data]))[-1], Flaw)


def test_broken_chat_costs_itself_only() -> None:
    """One that is no JSON comes out as it is; those around it are whole."""
    found = list(split([b'[{"a": 1}, {"b": nonsense}, {"c": 3}]']))
    assert found == [b'{"a": 1}', b'{"b": nonsense}', b'{"c": 3}']


def test_too_long_chat_is_not_kept() -> None:
    """It is not in memory as a whole, and the next one comes out."""
    big = b'{"a": "' + b"x" * 5_000_000 + b'"}'
    data = b'[{"a": 1},' + big + b',{"b": 2}]'
    tracemalloc.start()
    found = list(split(pieces(data, 1000), longest=10_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [type(each) for each in found] == [bytes, Flaw, bytes]
    assert peak < 1_000_000


def test_deep_nesting_takes_no_memory() -> None:
    """Half a million brackets are counted, not kept."""
    assert [type(each) for each in split(pieces(b"[" * 500_000, 1000), longest=10_000)] == [Flaw]
