"""Servers that are measured: started as a user starts them, waited for with a bound, killed with all they started."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CONVERSATIONS = "/api/v1/conversations"
PATIENCE = 180.0  # seconds until a server must listen


class StartError(Exception):
    """Raised when a server cannot be started here; says why in one line."""


class Running(NamedTuple):
    """A server that listens; `pid` is the process that was started, whose children count as its own."""

    port: int
    pid: int

    def kill(self) -> None:
        """Kill every process of the server at once, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@contextlib.contextmanager
def started(
    command: list[str | Path], folder: Path, environment: dict[str, str], *, port: int = 0, says: str = ""
) -> Iterator[Running]:
    """Run a command in a folder until the end of the `with`; yield when it listens on `port`, or `says` on which.

    `says` is a pattern of what it prints, whose group is the port. Its output stays in the folder's `output`.
    Raises StartError when it ends before, or takes too long.
    """
    path = folder / "output"
    own = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
    with path.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=own, stdout=output, stderr=output, start_new_session=True)
    server = Running(port, process.pid)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            found = re.search(says, path.read_text(errors="replace")) if says else _listens(port) and [port, port]
            if found:
                break
            if process.poll() is not None or time.monotonic() > deadline:
                ended = f"ended with {process.returncode}" if process.poll() is not None else f"{PATIENCE:g} s passed"
                lines = path.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
                raise StartError(f"{ended}: {lines[-1][:200]}")
            time.sleep(0.05)
        yield server._replace(port=int(found[1]))
    finally:
        server.kill()
        process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def self_agent(
    folder: Path, root: Path = ROOT, script: str | None = None, **settings: Any
) -> contextlib.AbstractContextManager[Running]:
    """Run the server of a checkout, this one or another, with settings; a script may stand in for its run.py."""
    environment = {
        "PORT": "0",
        "DATA_DIR": str(folder / "data"),
        "LOG_DIR": str(folder / "logs"),
        "PROVIDER": "echo",
        "PAGE": "false",  # which would fetch its libraries
        **{name.upper(): str(value) for name, value in settings.items()},
    }
    if script:  # `-c` would put the folder before the checkout
        environment["PYTHONPATH"] = str(root)
    command = [sys.executable, "-c", script] if script else [sys.executable, root / "run.py"]
    return started(command, folder, environment, says=r"listens on http://\S+:(\d+)")


def relaying(port: int) -> dict[str, str]:
    """Return the settings of a server whose model is an upstream on this port."""
    return {"provider": "openai", "openai_base_url": f"http://127.0.0.1:{port}/v1", "openai_model": "m"}


# --- another checkout


def add_beside(parser: argparse.ArgumentParser) -> None:
    """Add the option that names another checkout."""
    parser.add_argument("--beside", type=_checkout, metavar="DIR", help="another checkout, measured in the same rounds")


def _checkout(name: str) -> Path:
    root = Path(name).resolve()
    if not (root / "run.py").is_file():
        raise argparse.ArgumentTypeError(f"there is no run.py in {name}")
    return root


def sides(beside: Path | None) -> dict[str, Path]:
    """Return the checkouts to measure by their names in the table: this one is `ours`."""
    return {"ours": ROOT, **({commit(beside): beside} if beside else {})}


def commit(root: Path) -> str:
    """Return the short name of the commit that a checkout is at."""
    command = ["git", "-C", root, "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "the other checkout"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder on the disk that the server's own data would be on, and remove it afterwards."""
    with tempfile.TemporaryDirectory(dir=ROOT / "data") as name:
        yield Path(name)
