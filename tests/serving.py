"""A real server process, started as a user would start it: `python run.py`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

ROOT = Path(__file__).parent.parent
CONVERSATIONS = "/api/v1/conversations"


class Stream:
    """A reply that is being received, line by line."""

    def __init__(self, answer: requests.Response) -> None:
        self.answer = answer
        self._lines = answer.iter_lines(chunk_size=1)

    def first_piece(self) -> None:
        """Read until the first piece of the reply has come."""
        for line in self._lines:
            if b'"content"' in line:
                return
        raise AssertionError("no piece came")

    def rest(self) -> bytes:
        """Read to the end."""
        return b"\n".join(self._lines)

    def close(self) -> None:
        """Go away, as a closed tab does."""
        self.answer.close()


class Server:
    """Runs until the end of the `with`; `settings` become its environment."""

    def __init__(self, folder: Path, *arguments: str, **settings: Any) -> None:
        self.folder = folder
        environment = {
            **{name: value for name, value in os.environ.items() if name.startswith("COV")},
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", str(folder)),
            "PORT": "0",
            "DATA_DIR": str(folder / "data"),
            "LOG_DIR": str(folder / "logs"),
            "PROVIDER": "echo",
            "PAGE": "false",  # which would fetch its libraries
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *arguments],
            cwd=folder,  # where there is no .env
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""
        self.url = self._read_url()

    def _read_url(self) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if found := re.search(r"listens on (http://\S+)", line):
                return found[1]
        self.process.wait()
        return ""

    def __enter__(self) -> Server:
        assert self.url, self.output
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def signal(self, number: int) -> None:
        """Send a signal to the process that the user started."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill every process of the server at once, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = 30) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(seconds)
        if self.process.stdout and not self.process.stdout.closed:
            self.output += self.process.stdout.read()
            self.process.stdout.close()
        return code

    # --- the native dialect, in short

    def send(self, conversation_id: str, content: str, **options: Any) -> requests.Response:
        return requests.post(
            f"{self.url}{CONVERSATIONS}/{conversation_id}/messages", json={"content": content}, timeout=30, **options
        )

    def stream(self, conversation_id: str, content: str) -> Stream:
        url = f"{self.url}{CONVERSATIONS}/{conversation_id}/messages/stream"
        return Stream(requests.post(url, json={"content": content}, stream=True, timeout=30))

    def stop(self, conversation_id: str) -> requests.Response:
        return requests.post(f"{self.url}{CONVERSATIONS}/{conversation_id}/stop", timeout=30)

    def messages(self, conversation_id: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.url}{CONVERSATIONS}/{conversation_id}?size=500", timeout=30)
        return answer.json()["data"]["messages"]

    def until_messages(self, conversation_id: str, count: int) -> list[dict[str, Any]]:
        """Wait until the conversation has so many messages."""
        deadline = time.monotonic() + 20
        while len(messages := self.messages(conversation_id)) < count:
            assert time.monotonic() < deadline, messages
            time.sleep(0.02)
        return messages
