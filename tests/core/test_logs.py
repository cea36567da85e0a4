"""Log files."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


# --- JSON lines


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the objects of the file; every line must be one."""
    return [json.loads(line) for line in (folder / "self_agent.log").read_bytes().splitlines()]


def test_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object a line, with what is known and nothing that is not; the terminal gets all of them too."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.setup(tmp_path, "INFO", "json")
    logging.getLogger("x").info("it is %s", "so")
    logging.getLogger("gunicorn.error").warning("careful", extra={"turn_id": "t1", "status": 503, "password": "hush"})
    first, second = lines(tmp_path)
    assert set(first) == {"time", "level", "logger", "message"}
    assert (first["level"], first["logger"], first["message"]) == ("INFO", "x", "it is so")
    assert first["time"].endswith("Z")
    assert (second["turn_id"], second["status"]) == ("t1", 503)
    assert "password" not in second
    assert [json.loads(line) for line in sys.stderr.getvalue().splitlines()] == [first, second]
    logs.setup(tmp_path, "INFO")  # and text is text again
    logging.getLogger("x").info("for the file")
    assert len(sys.stderr.getvalue().splitlines()) == 2


def test_json_has_ids_of_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request's and a node's id are in every line that is logged meanwhile; a line's own id comes first."""
    logs.setup(tmp_path, "INFO", "json")
    monkeypatch.setattr(logs, "node_id", "n1")
    token = logs.request_id.set("r1")
    logging.getLogger("x").info("a")
    logging.getLogger("x").info("b", extra={"request_id": "r2"})
    logs.request_id.reset(token)
    logging.getLogger("x").info("c")
    assert [(line.get("request_id"), line["node_id"]) for line in lines(tmp_path)] == [
        ("r1", "n1"), ("r2", "n1"), (None, "n1"),
    ]  # fmt: skip


def test_json_exception_is_one_field(tmp_path: Path) -> None:
    """A traceback has many lines and is one."""
    logs.setup(tmp_path, "INFO", "json")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    [line] = lines(tmp_path)
    assert line["exception"].startswith("Traceback")
    assert "first\nsecond" in line["exception"]


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\x0b", "\x85", "\u2028", "\x1b[2K\r", "\ud800\n"])
def test_line_cannot_be_forged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_format: str, end: str) -> None:
    """What looks like the end of a line to any reader, or moves a terminal's cursor, is only text."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.setup(tmp_path, "INFO", log_format)
    logging.getLogger("x").warning("asked for %s", f"a{end}2026-01-01T00:00:00Z ERROR forged 你")
    for text in ((tmp_path / "self_agent.log").read_text("utf-8"), sys.stderr.getvalue()):
        [line] = text.splitlines()
        assert line.isprintable()
        assert ("你" in line) == (log_format == "text")


def test_odd_values_are_lines(tmp_path: Path) -> None:
    """What JSON does not know becomes text; a line that cannot be made is lost, and nobody fails for it."""
    logs.setup(tmp_path, "INFO", "json")
    logging.getLogger("x").info("path", extra={"path": tmp_path, "status": 200})
    logging.getLogger("x").info("wrong %d", "arguments")
    [line] = lines(tmp_path)
    assert line["path"] == str(tmp_path)
