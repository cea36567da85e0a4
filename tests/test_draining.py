"""SIGTERM with DRAIN_SECONDS: a balancer notices first, and only then does the server end as ever."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.serving import CONVERSATIONS, Server
from tests.upstream import FakeUpstream, Reply

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn and these signals are not on Windows")

LONG = 600  # seconds of draining that no test waits for


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as upstream:
        yield upstream


def on(upstream: FakeUpstream) -> dict[str, str]:
    return {"provider": "openai", "openai_base_url": upstream.base_url, "openai_model": "m"}


def until_drained(server: Server) -> dict[str, object]:
    """Wait until /readyz says no; return what it says."""
    deadline = time.monotonic() + 10
    while (answer := requests.get(f"{server.url}/readyz", timeout=5)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert answer.status_code == 503
    return answer.json()


def test_all_is_served_while_draining(tmp_path: Path, upstream: FakeUpstream) -> None:
    """/readyz says no at once, on new connections too; sends and streams go on, /healthz says that it lives."""
    with Server(tmp_path, drain_seconds=LONG, **on(upstream)) as server:
        assert requests.get(f"{server.url}/readyz", timeout=5).json()["ready"] is True
        server.signal(signal.SIGTERM)
        assert "stopping" in str(until_drained(server)["reasons"])
        assert requests.get(f"{server.url}/healthz", timeout=5).status_code == 200
        assert server.send("c", "hi").status_code == 200
        assert b'"done"' in server.stream("c", "again").rest()
        server.signal(signal.SIGTERM)  # again: it goes on as it was
        assert server.send("c", "hi").status_code == 200
        assert server.process.poll() is None


def test_ends_after_draining(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Then running replies have their whole grace, and it exits with 0."""
    upstream.enqueue(Reply([f"w{n} " for n in range(30)], delay=0.1))
    with Server(tmp_path, drain_seconds=0.5, grace_seconds=LONG, **on(upstream)) as server:
        answer = server.stream("c", "hi")
        answer.first_piece()
        server.signal(signal.SIGTERM)
        until_drained(server)
        assert b"w29 " in answer.rest()
        assert server.wait() == 0
        assert "everything is stored" in server.output


@pytest.mark.parametrize("first", [[], [signal.SIGTERM]])
def test_ctrl_c_does_not_drain(tmp_path: Path, first: list[int]) -> None:
    """Ctrl-C ends at once, also a draining that has begun."""
    with Server(tmp_path, drain_seconds=LONG) as server:
        for number in first:
            server.signal(number)
            until_drained(server)
        server.signal(signal.SIGINT)
        assert server.wait(20) == 0


def test_ctrl_c_while_draining_stores(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The reply that was running is there as far as it came, from its own end and not from a checkpoint."""
    upstream.enqueue(Reply([f"w{n} " for n in range(400)], delay=0.05))
    with Server(tmp_path, drain_seconds=LONG, **on(upstream)) as server:
        answer = server.stream("c", "hi")
        answer.first_piece()
        server.signal(signal.SIGTERM)
        until_drained(server)
        server.signal(signal.SIGINT)
        assert b'"incomplete":true' in answer.rest()
        assert server.wait(20) == 0
    assert not list((tmp_path / "data" / "checkpoints").iterdir())


def test_ctrl_c_ends_the_grace(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Ctrl-C behind a SIGTERM: nobody waits for the grace, and nobody is killed before the reply is stored."""
    upstream.enqueue(Reply([f"w{n} " for n in range(400)], delay=0.05))
    with Server(tmp_path, grace_seconds=LONG, **on(upstream)) as server:
        answer = server.stream("c", "hi")
        answer.first_piece()
        server.signal(signal.SIGTERM)
        until_refused(server)
        server.signal(signal.SIGINT)
        assert b'"incomplete":true' in answer.rest()
        assert server.wait(20) == 0


def until_refused(server: Server) -> None:
    """Wait until no new connection is answered."""
    deadline = time.monotonic() + 10
    with contextlib.suppress(requests.RequestException):
        while requests.get(f"{server.url}/healthz", timeout=1).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_json_log_of_a_server(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Every line of the file and of the output is an object; a turn's line names its request,
    whichever thread writes it; no secret is in any."""
    settings = {"log_format": "json", "log_level": "DEBUG", "openai_api_key": "sk-very-secret", **on(upstream)}
    with Server(tmp_path, **settings) as server:
        assert server.send("c", "my private words", headers={"Authorization": "Bearer tok-private"}).status_code == 200
        upstream.enqueue(Reply(["one ", "two"], delay=0.3))  # the hub's threads end this one
        assert b'"done"' in server.stream("d", "my private words").rest()
        requests.get(f"{server.url}/a%0A{{}}?token=tok-private", timeout=5)
        requests.get(f"{server.url}{CONVERSATIONS}/c", timeout=5)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    text = (tmp_path / "logs" / "self_agent.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    shown = [json.loads(line) for line in server.output.splitlines()]
    assert {line["message"] for line in shown} == {line["message"] for line in lines}
    assert any("listens on" in line["message"] for line in shown)
    ended = [line["request_id"] for line in lines if "turn_id" in line]
    sent = {line["request_id"]: line for line in lines if line.get("method") == "POST"}
    assert set(ended) == set(sent)
    assert len(ended) == 2
    assert [sent[ended[0]][name] for name in ("path", "status")] == [f"{CONVERSATIONS}/c/messages", 200]
    assert [line["path"] for line in lines if line.get("status") == 404] == ["'/a\\n{}'"]
    assert not any(secret in text + server.output for secret in ("private", "sk-very-secret"))
