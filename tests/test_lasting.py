"""What must not end the server, or keep it from ending: terminals, signals, half requests, all threads busy."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.serving import CONVERSATIONS, ROOT, Server
from tests.upstream import FakeUpstream, Reply

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn and these signals are not on Windows")


def on(upstream: FakeUpstream) -> dict[str, str]:
    return {"provider": "openai", "openai_base_url": upstream.base_url, "openai_model": "m"}


def pid_of_worker(folder: Path) -> int:
    return int((folder / "data" / ".lock.pid").read_text().split()[0])


def is_healthy(server: Server, seconds: float = 5) -> bool:
    return requests.get(f"{server.url}/healthz", timeout=seconds).status_code == 200


def connect(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def test_closed_terminal_ends_the_server(tmp_path: Path) -> None:
    """A terminal that closes sends SIGHUP to all processes: a running reply is finished and stored; exit 0."""
    with FakeUpstream() as upstream, Server(tmp_path, **on(upstream)) as server:
        upstream.enqueue(Reply(["one ", "two ", "three"], delay=0.2))
        answer = server.stream("c", "hi")
        answer.first_piece()
        os.killpg(server.process.pid, signal.SIGHUP)
        assert b"one two three" in answer.rest()
        assert server.wait() == 0
    with Server(tmp_path) as server:
        assert [message["content"] for message in server.messages("c")] == ["hi", "one two three"]


def test_other_signals_change_nothing(tmp_path: Path) -> None:
    """A background process that a terminal would stop, or an operator's signal for another server, goes on."""
    with Server(tmp_path) as server:
        pid = pid_of_worker(tmp_path)
        for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            os.killpg(server.process.pid, number)
            time.sleep(0.1)
            assert is_healthy(server)
        assert pid_of_worker(tmp_path) == pid
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.output.count("listens on") == 1


def test_dead_output_is_no_reason_to_end(tmp_path: Path) -> None:
    """With nobody at the other end of its output the server serves, in its first worker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    reading, writing = os.pipe()
    os.close(reading)
    folders = {"DATA_DIR": str(tmp_path / "data"), "LOG_DIR": str(tmp_path / "logs")}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, **folders, "PROVIDER": "echo"},
        stdout=writing,
        stderr=writing,
    )
    os.close(writing)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(requests.RequestException):
                assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (tmp_path / "logs" / "self_agent.log").read_text().count("Booting worker") == 1
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_worker_that_always_dies_is_given_up(tmp_path: Path) -> None:
    """A server whose worker cannot live says so in one line, instead of starting it for ever."""
    with Server(tmp_path) as server:
        deadline = time.monotonic() + 60
        while server.process.poll() is None:
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError, ValueError, IndexError):
                os.kill(pid_of_worker(tmp_path), signal.SIGKILL)
            time.sleep(0.1)
        assert server.wait() == 1
        assert "ended by itself 5 times" in server.output


def test_orphan_lets_go(tmp_path: Path) -> None:
    """When the master is killed its worker lets go of address and folder, and another server can have them."""
    with Server(tmp_path) as server:
        pid, port = pid_of_worker(tmp_path), urlsplit(server.url).port
        server.process.kill()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() if sys.platform == "linux" else _lives(pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with Server(tmp_path, "--port", str(port)) as again:
            assert is_healthy(again)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_half_requests_give_way(tmp_path: Path) -> None:
    """More half-sent requests than threads: others are answered at once, those that sent nothing more are cut off."""
    with Server(tmp_path, threads=8) as server, contextlib.ExitStack() as stack:
        halves = [stack.enter_context(connect(server)) for _ in range(40)]
        for half in halves[:20]:
            half.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        for half in halves[20:]:
            half.sendall(
                f"POST {CONVERSATIONS}/c/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                "Content-Length: 100\r\n\r\n{".encode()
            )
        began = time.monotonic()
        for _ in range(5):
            assert is_healthy(server)
        while (status := server.send("d", "hi").status_code) != 200:
            assert status == 503
            time.sleep(0.1)
        assert time.monotonic() - began < 10  # each was answered in a fraction of the time limits
        assert halves[0].recv(1000) in (b"", b"HTTP/1.1 400 Bad Request\r\n")


def test_slow_head_has_a_limit(tmp_path: Path) -> None:
    """A client that sends its headers byte by byte is cut off in the end."""
    with Server(tmp_path) as server, connect(server) as slow:
        began = time.monotonic()
        with contextlib.suppress(OSError):  # reset or broken pipe, as the timing wants it
            while time.monotonic() - began < 25:
                slow.sendall(b"G")
                time.sleep(0.3)
        assert time.monotonic() - began < 25
        assert is_healthy(server)


def test_busy_server_says_so(tmp_path: Path) -> None:
    """When every thread waits for a model, /healthz and /metrics are answered, and all else is told to come again."""
    with FakeUpstream() as upstream, Server(tmp_path, threads=4, **on(upstream)) as server:
        for _ in range(4):
            upstream.enqueue(Reply(["slow"] * 80, delay=0.1))
        senders = [threading.Thread(target=server.send, args=(f"c{n}", "hi")) for n in range(4)]
        for sender in senders:
            sender.start()
        deadline = time.monotonic() + 10
        while (answer := requests.get(f"{server.url}{CONVERSATIONS}/", timeout=5)).status_code != 503:
            assert time.monotonic() < deadline
        assert answer.headers["Retry-After"] == "2"
        assert "busy" in answer.json()["data"]["error"]
        assert is_healthy(server)
        while requests.get(f"{server.url}/readyz", timeout=5).status_code != 503:  # one sender may just be coming
            assert time.monotonic() < deadline
        text = requests.get(f"{server.url}/metrics", timeout=5).text
        assert 'self_agent_requests_total{method="(other)",route="(busy)",status="503"}' in text
        for sender in senders:
            sender.join()
        assert requests.get(f"{server.url}{CONVERSATIONS}/", timeout=5).status_code == 200


def test_kept_connections_block_no_reserve(tmp_path: Path) -> None:
    """With all threads busy, half a request on a connection that was used before takes none of the reserved ones."""
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(FakeUpstream())
        server = stack.enter_context(Server(tmp_path, threads=4, **on(upstream)))
        kept = [stack.enter_context(connect(server)) for _ in range(8)]
        for connection in kept:
            connection.sendall(whole)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        for _ in range(4):
            upstream.enqueue(Reply(["slow"] * 40, delay=0.1))
        senders = [threading.Thread(target=server.send, args=(f"c{n}", "hi")) for n in range(4)]
        for sender in senders:
            sender.start()
        time.sleep(1.5)
        for connection in kept:
            connection.sendall(whole[:20])
        time.sleep(0.3)
        assert is_healthy(server, 2)
        for sender in senders:
            sender.join()


def test_thread_goes_with_its_client(tmp_path: Path) -> None:
    """A send whose client has hung up gives its thread back before the model has ended; the reply is stored."""
    with FakeUpstream() as upstream, Server(tmp_path, threads=4, **on(upstream)) as server:
        body = b'{"content": "hi"}'
        for n in range(4):
            upstream.enqueue(Reply(["slow "] * 60, delay=0.1))
            with connect(server) as client:
                head = f"POST {CONVERSATIONS}/c{n}/messages HTTP/1.1\r\nHost: localhost\r\n"
                rest = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + rest.encode() + body)
                time.sleep(0.3)
        began = time.monotonic()
        while requests.get(f"{server.url}{CONVERSATIONS}/", timeout=5).status_code != 200:
            assert time.monotonic() - began < 4  # the replies take 6 s
            time.sleep(0.1)
        time.sleep(max(0, 8 - (time.monotonic() - began)))
        assert server.until_messages("c0", 2)[1]["content"] == "slow " * 60


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the limits of another process")
def test_descriptors_run_out(tmp_path: Path) -> None:
    """A worker that can open nothing more goes on with what it has, and with all when there is room again."""
    import resource

    with Server(tmp_path) as server:
        server.send("c", "hi")
        pid = pid_of_worker(tmp_path)
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 20, hard))
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(connect(server)).sendall(b"GET / HTTP/1.1\r\nHos")
            time.sleep(1)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert is_healthy(server, 10)
        assert len(server.messages("c")) == 2
        assert pid_of_worker(tmp_path) == pid
        log = (tmp_path / "logs" / "self_agent.log").read_text()
        assert "no connection can be accepted now" in log
        assert log.count("Booting worker") == 1


def test_path_is_not_the_clients_to_say(tmp_path: Path) -> None:
    """Headers that a proxy would send rewrite no path."""
    with Server(tmp_path) as server:
        for name in ("SCRIPT_NAME", "SCRIPT-NAME", "PATH_INFO", "X-Forwarded-Prefix", "REMOTE_USER"):
            answer = requests.get(f"{server.url}{CONVERSATIONS}/", headers={name: "/api"}, timeout=5)
            assert answer.status_code in (200, 400), name
            assert answer.status_code == 400 or answer.json()["data"] == []
