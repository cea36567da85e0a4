"""What a benchmark asks of a server, whatever its API: a way for each thing that a client does with it.

`RELAY` streams an answer of which the server keeps nothing; `NEW` and `NEXT` stream the first and a further reply of a
conversation that it stores. A server that does not know a way has None for it.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from benchmarks import servers
from benchmarks.answers import Kind
from benchmarks.route import Asking
from benchmarks.servers import ROOT, Running, StartError
from benchmarks.stream_load import Client

RELAY, NEW, NEXT = "relay", "new", "next"
LINE = "0123456789 " * 9  # a message of a history


class Peer(ABC):
    """A running server. `started` runs one whose model is the upstream on a port, with its data in a folder."""

    name: ClassVar[str]
    package: ClassVar[str] = ""  # by which it is installed, in a virtual environment of its own
    stores: ClassVar[bool] = True

    def __init__(self, running: Running) -> None:
        self.running = running

    @classmethod
    @abstractmethod
    def started(cls, folder: Path, port: int) -> contextlib.AbstractContextManager[Peer]:
        """Run it until the end of the `with`. Raises StartError when that cannot be done here."""

    @abstractmethod
    def route(self, way: str) -> Asking | None:
        """Return a new connection, or what else it takes, to ask one question at a time."""

    def quiet(self) -> None:
        """Leave what its routes hold open, for they are done."""

    @abstractmethod
    def sends(self, name: str) -> Callable[[], bytes]:
        """Return what makes the next send, without streaming, to a conversation that begins now."""

    @abstractmethod
    def long(self, messages: int) -> Callable[[], bytes]:
        """Return what makes the next send to a conversation that has so many messages already."""

    @abstractmethod
    def streams(self, way: str) -> Client | None:
        """Return a client that opens many streams at once."""

    @abstractmethod
    def begin(self, kind: Kind) -> Iterator[bytes]:
        """Ask for a streamed answer of a new conversation; yield what comes of it."""

    def kept(self) -> list[str]:
        """Return the contents of the messages of the only conversation there is; nothing where none are stored."""
        return []


@contextlib.contextmanager
def launched(folder: Path, command: list[str], environment: dict[str, str], package: str) -> Iterator[Running]:
    """Run a program of a peer's virtual environment on a free port, which is appended to the command."""
    program = ROOT / f".venv-{package}" / "bin" / command[0]
    if not program.exists():
        raise StartError("it is not installed; run: make bench-peers")
    port = servers.free_port()
    with servers.started([program, *command[1:], str(port)], folder, environment, port=port) as running:
        yield running


def version(package: str) -> str:
    """Return which version of a package its virtual environment has."""
    pattern = f"lib/python*/site-packages/{package.replace('-', '_')}-*.dist-info"
    found = [path.name for path in (ROOT / f".venv-{package}").glob(pattern)]
    return found[0].removesuffix(".dist-info").rpartition("-")[2] if found else "not installed"
