"""Log files."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import logs
from core.errors import StartupError


@pytest.fixture(autouse=True)
def keep_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if handler not in handlers:
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    logging.raiseExceptions = raises


def test_lines_reach_the_file(tmp_path: Path) -> None:
    """What is logged is in the file, Chinese included; setting up again does not double it."""
    logs.setup(tmp_path / "deep" / "logs", "INFO")
    logs.setup(tmp_path / "deep" / "logs", "INFO")
    logging.getLogger("x").info("你好")
    logging.getLogger("x").debug("too much")
    assert (tmp_path / "deep" / "logs" / "self_agent.log").read_text("utf-8").count("你好") == 1


def test_unwritable_folder_refuses_start(tmp_path: Path) -> None:
    """A log folder that cannot be is a reason not to start, and says so."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="LOG_DIR"):
        logs.setup(tmp_path / "file", "INFO")
