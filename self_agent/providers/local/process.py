"""The parent's side of the child process: its stdin is its life, its stdout one line, its stderr a log file."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from core.errors import ModelUnavailable
from self_agent.providers.local import child as local_child
from self_agent.providers.local.weights import REMEDY
from self_agent.providers.openai.provider import OpenAICompatible

CONTEXT_TOKENS = 4096
REPLY_SHARE = 2  # half of the context is the longest reply: a small model that repeats itself would fill all of it
LOAD_TIMEOUT = 120.0
CLOSE_TIMEOUT = 2.0


class ModelProcess:
    """One run of the child process, from its start to its end."""

    def __init__(self, model: Path, name: str, log_file: Path) -> None:
        self.model = model
        self._name = name
        self.url = ""  # from `connect` on
        self._client: OpenAICompatible | None = None
        log_file.parent.mkdir(parents=True, exist_ok=True)
        # By its path, not with -m: the package would be looked for in the current folder, and imported whole.
        command = [sys.executable, local_child.__file__]
        with log_file.open("wb") as errors:
            self._child = subprocess.Popen(  # noqa: S603 - nothing in the command comes from a request
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )

    def connect(self, read_timeout: float) -> None:
        """Wait until the child has loaded the model. Raises ModelUnavailable if it cannot."""
        key = secrets.token_urlsafe(32)
        timer = threading.Timer(LOAD_TIMEOUT, self._child.kill)
        timer.start()
        answer = self._exchange(
            {
                "path": str(self.model),
                "name": self._name,
                "key": key,
                "context_tokens": CONTEXT_TOKENS,
                "reply_tokens": CONTEXT_TOKENS // REPLY_SHARE,
            }
        )
        timer.cancel()
        if "port" not in answer:
            self.close()
            reason = answer.get("error", "its process ended (see model.log), perhaps for want of memory or time")
            raise ModelUnavailable(f"the embedded model cannot be loaded: {reason}; {REMEDY}")
        self.url = f"http://127.0.0.1:{answer['port']}"
        self._client = OpenAICompatible(
            f"{self.url}/v1",
            api_key=key,
            model=self._name,
            read_timeout=read_timeout,
            retries=0,
            context_tokens=CONTEXT_TOKENS,
            name="local",
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def client(self) -> OpenAICompatible:
        """The way to talk to the child, from `connect` on."""
        assert self._client is not None
        return self._client

    def _exchange(self, config: dict[str, Any]) -> dict[str, Any]:
        """Send the configuration by stdin, where no other process can read the key, and return the answer."""
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        with stdout:
            try:
                stdin.write(json.dumps(config).encode() + b"\n")
                stdin.flush()
                return dict(json.loads(stdout.readline()))
            except (OSError, ValueError):  # it died, or `close` came first
                return {}

    def ended(self, within: float = 0.0) -> bool:
        """Tell whether the process has ended, or does so `within` seconds."""
        try:
            self._child.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """End the process, by force if it does not go."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):  # it died before it read what was written
            self._child.stdin.close()
        if not self.ended(CLOSE_TIMEOUT):
            self._child.kill()
            self._child.wait()
        if self._client is not None:
            self._client.close()
