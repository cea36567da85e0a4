"""A short run of what `python -m tests.torture.crash` does at length."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.torture.crash import torture

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")


def test_kills_lose_nothing(tmp_path: Path) -> None:
    """Every message, reply, rename, edit and deletion that was acknowledged survives kill -9, once and in order."""
    tally = torture(tmp_path, kills=20, seconds=30, seed=20250430)
    assert tally.problems == []
    assert tally.kills > 3
    assert tally.acknowledged > tally.kills
    assert tally.repeated > tally.kills / 2
