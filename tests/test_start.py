"""What somebody sees who starts and stops the server: a line each, with the reason and the remedy."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serving import ROOT, Server

GOODBYE = "self_agent has stopped; everything is stored\n"
on_unix = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn, make and these signals are not on Windows")


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"PATH": os.environ["PATH"], "HOME": str(cwd), **environment}
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=120, check=False)


def refusal(tmp_path: Path, *arguments: str, **settings: str) -> str:
    """Start a server that must not start; return the one line it says."""
    server = Server(tmp_path, *arguments, **settings)
    assert server.wait() == 1
    [line] = server.output.splitlines()
    return line


def test_missing_packages_are_one_line() -> None:
    """Without its packages `python run.py` says how to get them."""
    done = run(sys.executable, "-S", "run.py")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "No module named" in line
    assert "`make run`" in line
    assert "pip install -r requirements.txt" in line


def test_old_python_is_one_line() -> None:
    """A Python that is too old says so before it stumbles over anything."""
    script = "import runpy, sys; sys.version_info = (3, 8, 1); runpy.run_path('run.py', run_name='__main__')"
    done = run(sys.executable, "-c", script)
    assert done.returncode == 1
    assert done.stderr == "self_agent: this is Python 3.8, and it needs 3.10 or later: try python3.12 run.py\n"


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1", "fe80::zz", "a..b"])
def test_wrong_host_is_called_so(tmp_path: Path, host: str) -> None:
    """What is no address of this computer is a matter of the host, and not of the port."""
    line = refusal(tmp_path, host=host)
    assert f"the host {host}" in line
    assert "--host" in line
    assert "another port" not in line


def test_taken_port_is_called_so(tmp_path: Path) -> None:
    """A port that somebody has is a matter of the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = refusal(tmp_path, port=str(taken.getsockname()[1]))
    assert "choose another port with --port" in line


@on_unix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_goodbye_is_said(tmp_path: Path, number: int) -> None:
    """An orderly end is the last line, once."""
    with Server(tmp_path) as server:
        server.signal(number)
        assert server.wait() == 0
        assert server.output.endswith(GOODBYE)
        assert server.output.count("stopped") == 1


def test_no_goodbye_without_a_start(tmp_path: Path) -> None:
    """A server that could not start stores nothing and does not say so."""
    (tmp_path / "file").write_text("")
    server = Server(tmp_path, data_dir=tmp_path / "file")
    assert server.wait() != 0
    assert "stopped" not in server.output


@on_unix
def test_nobody_reads_what_it_says(tmp_path: Path) -> None:
    """A terminal that is gone changes nothing: it serves, ends with 0, and the port is free again."""
    with Server(tmp_path) as server:
        assert server.process.stdout
        server.process.stdout.close()  # both streams go there
        server.send("c", "hi")
        server.signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


@on_unix
def test_unreadable_request_is_not_logged(tmp_path: Path) -> None:
    """Of a request that cannot be read the log has the reason, and nothing that may be a key."""
    requests = (
        b"GET /?token=tok-private\r\n\r\n",
        b"GET /tok-private HTTP/9.x\r\n\r\n",
        b"G(T /?token=tok-private HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization : Bearer tok-private\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: a\r\n tok-private\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: tok-private\r\n\r\n",
        b"GET / HTTP/1.1\r\nExpect: tok-private\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\ntok-private\r\n",
        b"PRI * HTTP/2.0\r\n\r\ntok-private\r\n\r\n",
        b"GET /" + b": " * 4000 + b"tok-private HTTP/1.1\r\n\r\n",
    )
    with Server(tmp_path, log_level="DEBUG") as server:
        for request in requests:
            with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=5) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
        server.signal(signal.SIGTERM)
        server.wait()
    text = "".join(path.read_text() for path in (tmp_path / "logs").iterdir()) + server.output
    assert "tok-private" not in text
    assert "Invalid request from ip=127.0.0.1: Invalid HTTP request line\n" in text


@on_unix
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("python", ["#!/bin/sh\nexit 1\n", "#!/nowhere/python3.8\n"])
def test_broken_environment_is_made_anew(tmp_path: Path, python: str) -> None:
    """`make run` over a .venv whose Python is old or gone makes another, and says so in a line.

    That the page's libraries cannot be fetched is told, and the server starts.
    """
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "self_agent").mkdir()
    (tmp_path / "self_agent" / "libraries.py").write_text("raise SystemExit('there is no network')")
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "run.py").write_text("print('it runs')")
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").write_text(python)
    (folder / "python").chmod(0o755)
    time.sleep(0.01)
    (folder.parent / ".run").touch()
    done = run("make", "--silent", "run", f"PYTHON={sys.executable}", cwd=tmp_path)
    assert done.returncode == 0, done
    assert done.stdout == ".venv has no working Python 3.10 or later: it is made anew\nit runs\n"
    assert "there is no network" in done.stderr
    assert run("make", "--silent", "run", cwd=tmp_path).stdout == "it runs\n"


@on_unix
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_refuses_an_old_python(tmp_path: Path) -> None:
    """`make run` with a Python that is too old names the remedy, and leaves nothing half-made."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").write_text("")
    done = run("make", "--silent", "run", "PYTHON=false", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stdout == "self_agent needs Python 3.10 or later: make run PYTHON=python3.12\n"
    assert not (tmp_path / ".venv").exists()
