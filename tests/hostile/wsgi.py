"""A request as a WSGI server hands it over, with nothing tidied up on the way, and a guard on the files it opens."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from flask import Flask
from werkzeug.test import run_wsgi_app

from tests.hostile.conftest import within

SECONDS = 60.0  # after which a request hangs; the slowest takes a fraction of one


@dataclass(frozen=True)
class Request:
    """What a client sent; `path` is quoted as on the wire, header values are latin-1 as in WSGI."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Answer(NamedTuple):
    """What it got back."""

    status: int
    headers: Any
    body: bytes


def ask(app: Flask, request: Request) -> Answer:
    """Send a request and read its answer to the end."""

    def run() -> Answer:
        pieces, status, headers = run_wsgi_app(app, environ(request))
        try:
            return Answer(int(status.split()[0]), headers, b"".join(pieces))
        finally:
            getattr(pieces, "close", lambda: None)()

    answer = within(SECONDS, run)
    assert isinstance(answer, Answer)
    return answer


def environ(request: Request) -> dict[str, Any]:
    """Do what gunicorn does to a request; a `Content-Length` among the headers is believed."""
    headers = {"Host": "localhost", "Content-Length": str(len(request.body)), **request.headers}
    named = {name.upper().replace("-", "_"): value for name, value in headers.items()}
    lifted = {name: named.pop(name) for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if name in named}
    return {
        "REQUEST_METHOD": request.method,
        "RAW_URI": f"{request.path}?{request.query}",
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "SCRIPT_NAME": "",
        "QUERY_STRING": request.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **lifted,
        **{f"HTTP_{name}": value for name, value in named.items()},
    }


# --- the guard

_TOUCHING = frozenset({"open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir", "os.link"})
_PYTHON = tuple({sys.prefix, sys.base_prefix, str(Path(__file__).parents[2])})  # modules are imported when needed
_allowed: tuple[str, ...] = ()  # while it is empty nothing is watched: an audit hook cannot be taken off again
_strayed: list[str] = []


def _watch(name: str, arguments: tuple[Any, ...]) -> None:
    if _allowed and name in _TOUCHING and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if not path.startswith(_allowed) and not (path.startswith(_PYTHON) and _only_reads(name, arguments)):
            _strayed.append(f"{name} {path}")


def _only_reads(name: str, arguments: tuple[Any, ...]) -> bool:
    if name == "open":
        return not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    return name in ("os.listdir", "os.scandir")


sys.addaudithook(_watch)


@contextlib.contextmanager
def confined_to(*folders: Path) -> Iterator[None]:
    """Fail when anything outside of these folders was opened, listed, moved or removed inside the block."""
    global _allowed
    _strayed.clear()
    _allowed = tuple(f"{folder}{os.sep}" for folder in folders) + tuple(map(str, folders))
    try:
        yield
    finally:
        _allowed = ()
    assert not _strayed, _strayed
