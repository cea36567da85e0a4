"""Time is UTC text, `2025-04-30T10:00:01.000000Z`: it sorts as it reads and never goes backwards."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)

_lock = threading.Lock()
_last = 0
_second = (0, "")  # the last second that was formatted, and its text: most times fall into it


def now() -> str:
    """Return the time, to the microsecond, later than any this process returned before.

    A wall clock that jumps back would otherwise put a reply before its question.
    """
    global _last
    with _lock:
        microseconds = time.time_ns() // 1000
        if microseconds <= _last:
            microseconds = _last + 1
        _last = microseconds
    return from_microseconds(microseconds)


def not_before(timestamp: str) -> None:
    """Keep `now` from returning a time at or before `timestamp`: what is on disk already happened."""
    global _last
    try:
        seen = to_microseconds(timestamp)
    except ValueError:
        return
    if timestamp.startswith("9999"):  # no time but a damaged one, and soon after it a year has five digits
        return
    with _lock:
        _last = max(_last, seen)


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
