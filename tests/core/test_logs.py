"""Log files."""

from __future__ import annotations

import io
import logging
import os
import sys
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
    logs.terminal._has_bar = False


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


def test_log_outlives_a_failed_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no new file can be begun, the old one goes on and says why; later the rotation is tried again."""
    monkeypatch.setattr(logs, "MAX_BYTES", 200)
    logs.setup(tmp_path, "INFO")
    path = tmp_path / "self_agent.log"
    (tmp_path / "self_agent.log.3").write_text("")
    (tmp_path / "self_agent.log.4").mkdir()  # in the way of the third
    for number in range(10):
        logging.getLogger("x").info("line %d of those that fill the file", number)
    assert [f"line {number} " in path.read_text() for number in range(10)] == [True] * 10
    assert path.read_text().count("cannot be rotated") == 1
    (tmp_path / "self_agent.log.4").rmdir()
    [to_file] = [handler for handler in logging.getLogger().handlers if isinstance(handler, logs.RotatingFile)]
    to_file._rotates_from = 0.0
    logging.getLogger("x").info("the first of a new file")
    assert path.read_text().count("\n") == 1
    assert "line 9" in (tmp_path / "self_agent.log.1").read_text()


def test_log_comes_back_when_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that cannot be written are lost and harm nobody; those after them are written."""
    monkeypatch.setattr(logs, "MAX_BYTES", 20)
    logs.setup(tmp_path / "logs", "INFO")
    logging.getLogger("x").info("a line that fills the file")
    (tmp_path / "logs").rename(tmp_path / "away")
    logging.getLogger("x").info("lost")
    (tmp_path / "away").rename(tmp_path / "logs")
    logging.getLogger("x").info("written")
    assert "written" in (tmp_path / "logs" / "self_agent.log").read_text()


def test_lines_do_not_land_on_the_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal gets warnings and what is meant for it, each on a line of its own."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.setup(tmp_path, "INFO")
    logs.terminal.draw_bar("[##  ]")
    logging.getLogger("x").info("for the file")
    logging.getLogger("x").info("shown", extra=logs.SHOWN)
    logging.getLogger("gunicorn.error").warning("for the file too")
    logs.terminal.draw_bar("[### ]")
    logging.getLogger("x").warning("careful")
    assert sys.stderr.getvalue() == "\r[##  ]\nshown\n\r[### ]\nWARNING: careful\n"


def test_terminal_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the other end, a closed stream or none at all: nothing fails, now or at the end."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as broken:
        for stream in (broken, None):
            monkeypatch.setattr(sys, "stderr", stream)
            logs.setup(tmp_path, "INFO")
            logging.getLogger("x").warning("nobody sees this")
            logs.terminal.draw_bar("nor this")
            assert not logs.terminal.has_room()
    monkeypatch.setattr(sys, "stderr", broken)
    assert not logs.terminal.has_room()
    logs.terminal.end_bar()
