"""Time is UTC text, `2025-04-30T10:00:01.000000Z`: it sorts as it reads and never goes backwards.

What is stored has happened, so `now` comes after it; but one damaged time must not carry all others away with it.
Hence a time more than a day ahead of the wall clock is not believed. A wall clock that shows a time before this was
written was never set (some machines start in 1970): then every time of this century is believed.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)

_DAY = 86_400_000_000  # microseconds
_AHEAD = _DAY  # that a stored time may be ahead of the wall clock
_WRITTEN = 1_735_689_600_000_000  # 2025-01-01: no clock that is set shows less
_CENTURY = 4_102_444_800_000_000  # 2100-01-01

wall = time.time_ns  # the one seam where a test can set the clock
_lock = threading.Lock()
_last = 0
_second = (0, "")  # the last second that was formatted, and its text: most times fall into it


def now() -> str:
    """Return the time, to the microsecond, later than any this process returned before.

    A wall clock that jumps back would otherwise put a reply before its question.
    """
    global _last
    with _lock:
        microseconds = wall() // 1000
        if microseconds <= _last:
            microseconds = _last + 1
        _last = microseconds
    return from_microseconds(microseconds)


def not_before(timestamp: str) -> None:
    """Keep `now` from returning a time at or before `timestamp`, unless that is too far ahead to be believed."""
    global _last
    try:
        seen = to_microseconds(timestamp)
    except ValueError:
        return
    if seen <= _horizon():
        with _lock:
            _last = max(_last, seen)


def days_ago(days: float) -> str:
    """Return the time that was so many days before the wall clock's."""
    return from_microseconds(max(0, wall() // 1000 - int(days * _DAY)))


def horizon() -> str:
    """Return the latest time that is believed to have happened."""
    return from_microseconds(_horizon())


def _horizon() -> int:
    microseconds = wall() // 1000
    return microseconds + _AHEAD if microseconds >= _WRITTEN else _CENTURY


def from_microseconds(microseconds: int) -> str:
    """Format microseconds since the epoch."""
    global _second
    seconds, rest = divmod(microseconds, 1_000_000)
    known, text = _second
    if seconds != known:
        text = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}".format(*time.gmtime(seconds)[:6])  # strftime's year 25 is "25"
        _second = (seconds, text)
    return f"{text}.{rest:06d}Z"


def to_microseconds(timestamp: str) -> int:
    """Parse an ISO 8601 time; without an offset it is UTC. Raises ValueError on anything else."""
    text = timestamp[:-1] if timestamp.endswith("Z") else timestamp
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    try:
        return (moment.astimezone(timezone.utc) - _EPOCH) // _MICROSECOND
    except OverflowError:
        raise ValueError("in UTC this time is not in the years 1 to 9999") from None


def normalize(timestamp: str) -> str:
    """Return any ISO 8601 time in the one form of this module. Raises ValueError."""
    return from_microseconds(to_microseconds(timestamp))


def normalize_or(value: Any, fallback: str) -> str:
    """Return what another program left as a time in the one form of this module; `fallback` for what is none."""
    try:
        return normalize(value)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError):
        return fallback


def to_seconds(timestamp: str, zone: str = "Z") -> str:
    """Cut a time of this module to whole seconds, as the interface documents show it."""
    return timestamp[:19] + zone
