"""Times."""

from __future__ import annotations

import time

import pytest

from core import clock


def test_times_only_go_forward() -> None:
    """No two times are the same, and none is before one that was seen on disk."""
    times = [clock.now() for _ in range(1000)]
    assert sorted(set(times)) == times
    soon = clock.from_microseconds(time.time_ns() // 1000 + 3_600_000_000)
    clock.not_before(soon)
    try:
        assert soon < clock.now() < clock.now()
    finally:
        clock._last = 0


@pytest.mark.parametrize("timestamp", ["2099-01-01T00:00:00.000000Z", "9998-12-31T23:59:59.999999Z"])
def test_far_future_is_not_believed(timestamp: str) -> None:
    """A time more than a day ahead of the wall clock moves nothing."""
    clock.not_before(timestamp)
    assert clock.now() < clock.horizon() < timestamp


def test_clock_that_was_never_set() -> None:
    """On a machine that starts in 1970 what is stored has happened all the same, but not in another century."""
    clock.wall, clock._last = lambda: 5_000_000_000, 0
    try:
        clock.not_before("9998-12-31T23:59:59.999999Z")
        assert clock.now() == "1970-01-01T00:00:05.000000Z"
        clock.not_before("2026-01-01T00:00:00.000000Z")
        assert clock.now() == "2026-01-01T00:00:00.000001Z"
    finally:
        clock.wall, clock._last = time.time_ns, 0


def test_garbage_does_not_move_clock() -> None:
    """A file with a broken time is no reason to be wrong about the time."""
    clock.not_before("yesterday")
    assert clock.now() < "2099"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-04-30T10:00:00Z", "2025-04-30T10:00:00.000000Z"),
        ("2025-04-30T10:00:00", "2025-04-30T10:00:00.000000Z"),
        ("2025-04-30T10:00:00.5+08:00".replace(".5", ".500000"), "2025-04-30T02:00:00.500000Z"),
    ],
)
def test_any_iso_time_is_normalized(text: str, expected: str) -> None:
    """What other programs wrote is read as what it means."""
    assert clock.normalize(text) == expected
    assert clock.to_seconds(expected, "") == expected[:19]
