"""Times."""

from __future__ import annotations

import pytest

from core import clock


def test_times_only_go_forward() -> None:
    """No two times are the same, and none is before one that was seen on disk."""
    times = [clock.now() for _ in range(1000)]
    assert sorted(set(times)) == times
    clock.not_before("2099-01-01T00:00:00.000000Z")
    try:
        assert clock.now() == "2099-01-01T00:00:00.000001Z"
    finally:
        clock._last = 0


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
