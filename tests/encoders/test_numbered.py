"""Numbered server-sent events: what a reader has tells it where to go on, whatever the pieces were."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.errors import UpstreamError
from self_agent.encoders.sse import numbered
from self_agent.events import LAST, Delta, Done, Event, Failed, Sources, Started, reached
from self_agent.models import CUT_OFF, Message

REPLY = Message("assistant", "你😀b", id=2, reasoning="hm")
EVENTS: list[Event] = [
    Started("t", "c", 1, 2), Delta(reasoning="h"), Delta(reasoning="m"), Sources([{"n": 1}]), Delta("你😀"), Delta("b"),
    Done(REPLY),
]  # fmt: skip


def blocks(events: list[Event], after: int = 0) -> list[tuple[int | None, dict[str, Any]]]:
    """Return the id and the data of each event."""
    encode = numbered(after).encode
    found = []
    for block in b"".join(map(encode, events)).decode().split("\n\n")[:-1]:
        *ids, data = block.split("\n")
        found.append((int(ids[0].removeprefix("id: ")) if ids else None, json.loads(data.removeprefix("data: "))))
    return found


def test_bytes_are_as_documented() -> None:
    """The id stands before the data; sources have none."""
    encode = numbered().encode
    assert encode(EVENTS[0]) == b'id: 1\ndata: {"type":"start","message_id":2,"user_message_id":1}\n\n'
    assert encode(Delta("ab")) == b'id: 3\ndata: {"type":"content","delta":"ab","content":"ab"}\n\n'
    assert encode(Sources([])) == b'data: {"type":"sources","sources":[]}\n\n'
    assert encode(Failed(UpstreamError("x"))) == b'id: 4\ndata: {"type":"error","error":"x"}\n\n'


def test_numbers_count_characters() -> None:
    """Each piece adds its characters, start and end one each; so other pieces of the same reply are numbered alike."""
    assert [number for number, _ in blocks(EVENTS)] == [1, 2, 3, None, 5, 6, 7]
    again: list[Event] = [EVENTS[0], Delta(reasoning="hm"), Delta("你"), Delta("😀b"), EVENTS[-1]]
    assert [number for number, _ in blocks(again)] == [1, 3, 4, 6, 7]


@pytest.mark.parametrize("after", range(8))
def test_known_events_are_swallowed(after: int) -> None:
    """Behind any number comes what is missing, and nothing twice; a piece that is half known is cut."""
    found = blocks(EVENTS, after)
    text = "".join(data["delta"] for _, data in found if "delta" in data)
    assert text == "hm你😀b"[max(0, after - 1) :]
    assert [data["type"] for _, data in found if data["type"] in ("start", "done")] == [
        *(["start"] if after < 1 else []),
        *(["done"] if after < 7 else []),
    ]
    assert {"n": 1} in next(data["sources"] for number, data in found if number is None)


def test_one_event_with_both_is_two() -> None:
    """A piece with reasoning and text loses neither."""
    kinds = [(number, data["type"], data["delta"]) for number, data in blocks([Delta("text", "why")])]
    assert kinds == [(3, "thinking", "why"), (7, "content", "text")]


def test_recovered_end_is_behind_everything() -> None:
    """Of a reply that a crash cut off a reader may have had more than was kept: its end comes all the same."""
    end = Done(Message("assistant", "你", id=2, incomplete=True, error=CUT_OFF))
    assert reached(2, end) == LAST
    assert blocks([EVENTS[0], Delta("你"), end], after=40)[0][1]["full_content"] == "你"
    assert blocks([EVENTS[0], Delta("你"), end], after=LAST) == []
