"""Runs the SDK's own tests against this server: `python -m tests.dialects.openai.sdk_suite <its source distribution>`.

They were written for a mock that knows every id. A proxy in between replaces each id that they name by that of
something real, which it makes for the request. It prints how many tests pass, and what the others were refused for. The
interpreter needs `openai`, `pytest` and `pytest-asyncio` beside what the server needs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import xml.etree.ElementTree as ET
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import requests

from tests.serving import Server

FILES = ["test_models.py", "chat", "test_conversations.py", "conversations", "test_responses.py", "responses"]
RESPONSES = ("resp_677efb5139a88190b512bc3fef8e535d", "response_id", "resp_123", "previous_response_id")


class Real:
    """Makes what a request needs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, body: Any) -> Any:
        return requests.post(f"{self.url}/v1{path}", json=body, timeout=30).json()

    def response(self, is_cancelled: bool) -> str:
        made = self.post("/responses", {"input": "/slow x" if is_cancelled else "hi", "background": is_cancelled})
        return str(made["id"])

    def path(self, method: str, path: str) -> str:
        """Return a path with ids of what is there."""
        if found := re.search(rf"/responses/({'|'.join(RESPONSES)})\b", path):
            path = path.replace(found[1], self.response(path.endswith("/cancel")), 1)
        if "conv_123" in path:
            made = self.post("/conversations", {"items": [{"role": "user", "content": "x"}]})
            items = requests.get(f"{self.url}/v1/conversations/{made['id']}/items", timeout=30).json()
            path = path.replace("conv_123", made["id"]).replace("msg_abc", items["first_id"])
        if "/chat/completions/completion_id" in path:
            asked = {"messages": [{"role": "user", "content": "x"}], "store": True}
            path = path.replace("completion_id", self.post("/chat/completions", asked)["id"])
        path = re.sub(r"([?&])after=[a-z]\w*&?", r"\1", path).rstrip("?&")
        return re.sub(r"/models/(?!$)[^?]+", "/models/echo", path)

    def body(self, data: bytes) -> bytes:
        """Return a body with ids of what is there."""
        text = data.decode()
        for name in RESPONSES:
            if f'"previous_response_id":"{name}"' in text.replace('": "', '":"'):
                text = re.sub(rf'("previous_response_id": ?)"{name}"', rf'\1"{self.response(False)}"', text)
        if re.search(r'"conversation": ?"string"', text):
            made = self.post("/conversations", {})["id"]
            text = re.sub(r'("conversation": ?)"string"', rf'\1"{made}"', text)
        return text.encode()


class Proxy(BaseHTTPRequestHandler):
    """Passes a request on, with other ids."""

    real: Real
    refusals: ClassVar[Counter[str]] = Counter()

    def _pass(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.real.path(self.command, self.path)
        answer = requests.request(
            self.command,
            self.real.url + path,
            data=self.real.body(data),
            headers={"Content-Type": "application/json"} if data else {},
            timeout=60,
        )
        if answer.status_code >= 400:
            error = answer.json()["error"]
            where = re.sub(r"(resp|conv|msg|chatcmpl)[_-]\w+", r"{\1}", path.partition("?")[0])
            self.refusals[f"{answer.status_code} {self.command} {where} {error['param']}"] += 1
        self.send_response(answer.status_code)
        for name in ("Content-Type", "X-Request-Id"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_DELETE = _pass  # the names that the base class looks for

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main(source: Path) -> None:
    """Run the tests, and print what came of them."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        Proxy.real = Real(server.url)
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        environment = {**os.environ, "TEST_API_BASE_URL": f"http://127.0.0.1:{proxy.server_port}/v1"}
        report = Path(folder) / "report.xml"
        files = [f"tests/api_resources/{name}" for name in FILES]
        settings = ["addopts=", "filterwarnings=default"]
        plain = ["-q", "-p", "no:cacheprovider", *(f"-o{each}" for each in settings), f"--junitxml={report}"]
        command = [os.environ.get("SUITE_PYTHON", sys.executable), "-m", "pytest", *plain, *files]
        subprocess.run(command, cwd=source, env=environment, stdout=subprocess.DEVNULL, check=False)
        proxy.shutdown()
        outcomes: Counter[str] = Counter()
        for case in ET.parse(report).iter("testcase"):
            problem = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
            words = "passed" if problem is None else f"{problem.tag}: {(problem.get('message') or '')[:110]}"
            outcomes[words] += 1
        print(json.dumps({"tests": outcomes.most_common(), "refused": Proxy.refusals.most_common()}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
