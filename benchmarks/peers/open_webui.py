"""Open WebUI, one worker on SQLite: a stored chat's tokens come over Socket.IO, as its own page gets them.

A request with the ids of a saved chat and of a socket's session is what the page sends: it is answered at once and the
reply is written in the background. Without the session's id it is answered when the reply is stored: a plain send.
"""

from __future__ import annotations

import contextlib
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

from benchmarks.answers import SEND, Kind
from benchmarks.peers.base import LINE, RELAY, Peer, launched
from benchmarks.peers.socket_io import Connection, SocketClient, SocketRoute
from benchmarks.route import Asking, Route, completion, request
from benchmarks.stream_load import QUESTION, Client, Target
from tests.upstream import MODEL

COMPLETIONS, CHATS = "/api/chat/completions", "/api/v1/chats"


class OpenWebUI(Peer):
    """The server with what it would fetch or compute beside a chat turned off: no embeddings, no titles, no updates."""

    name = "Open WebUI"
    package = "open-webui"

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, port: int) -> Iterator[Peer]:
        """Run it without accounts: whoever asks is its one user, as with self_agent."""
        (folder / "data").mkdir(exist_ok=True)
        options = ["open-webui", "serve", "--host", "127.0.0.1", "--port"]
        with launched(folder, options, environment(folder, port), cls.package) as running:
            peer = cls(running)
            peer.sign_in()
            yield peer

    def sign_in(self) -> None:
        """Get the token of the one user, and have it list its models once."""
        token = self.post("/api/v1/auths/signin", {"email": "", "password": ""})["token"]
        self.headers["Authorization"] = f"Bearer {token}"
        models = requests.get(self.url("/api/models"), headers=self.headers, timeout=60).json()["data"]
        assert MODEL in [model["id"] for model in models], models

    def __init__(self, running: Any) -> None:
        super().__init__(running)
        self.headers: dict[str, str] = {}
        self.connection: Connection | None = None
        self.chats: dict[str, tuple[str, str]] = {}  # by a conversation's name: its id and that of its last message

    def connected(self) -> Connection:
        """Return the one socket of those who ask one question at a time."""
        self.connection = self.connection or Connection(self)
        return self.connection

    def quiet(self) -> None:
        """Close it: what nobody reads would pile up."""
        if self.connection:
            self.connection.close()
        self.connection = None

    def url(self, path: str) -> str:
        """Return a whole address."""
        return f"http://127.0.0.1:{self.running.port}{path}"

    def post(self, path: str, body: object) -> Any:
        """Send a request outside of what is measured."""
        answer = requests.post(self.url(path), json=body, headers=self.headers, timeout=120)
        answer.raise_for_status()
        return answer.json()

    def new_chat(self, messages: int = 0) -> tuple[str, str | None]:
        """Make a chat with so many messages; return its id and that of its last message."""
        ids = [str(uuid.uuid4()) for _ in range(messages)]
        history = {
            name: {
                "id": name,
                "parentId": ids[n - 1] if n else None,
                "childrenIds": ids[n + 1 : n + 2],
                "role": "assistant" if n % 2 else "user",
                "content": LINE,
                "timestamp": int(time.time()),
                **({"model": MODEL, "done": True} if n % 2 else {"models": [MODEL]}),
            }
            for n, name in enumerate(ids)
        }
        last = ids[-1] if ids else None
        chat = {"title": "t", "models": [MODEL], "history": {"currentId": last, "messages": history}, "tags": []}
        return str(self.post(f"{CHATS}/new", {"chat": chat})["id"]), last

    def turn(self, chat: str | None, parent: str | None, question: str, **more: Any) -> tuple[dict[str, Any], str]:
        """Return the body of a send that is stored, and the id that its reply will have."""
        asked, reply = str(uuid.uuid4()), str(uuid.uuid4())
        message = {"id": asked, "parentId": parent, "childrenIds": [reply], "role": "user", "content": question}
        body = {
            **completion(question, model=MODEL),
            "message_ids": [{"model_id": MODEL, "message_id": reply}],
            "user_message": {**message, "timestamp": int(time.time()), "models": [MODEL]},
            "parent_id": parent,
            **({"chat_id": chat} if chat else {}),
            **more,
        }
        return body, reply

    def route(self, way: str) -> Asking | None:
        """Return a connection that is kept alive, for what is stored with a socket."""
        if way == RELAY:
            return Route(*self.running, COMPLETIONS, lambda word: completion(word, model=MODEL), self.headers)
        return SocketRoute(self) if way in ("new", "next") else None

    def sends(self, name: str) -> Callable[[], bytes]:
        """Return what goes on in a chat that is made now."""
        return self._going_on(*self.new_chat())

    def long(self, messages: int) -> Callable[[], bytes]:
        """Return what goes on in a chat with so many messages."""
        return self._going_on(*self.new_chat(messages))

    def _going_on(self, chat: str, parent: str | None) -> Callable[[], bytes]:
        def ask() -> bytes:
            nonlocal parent
            body, parent = self.turn(chat, parent, SEND.word, stream=False)
            return request(COMPLETIONS, body, self.headers)

        return ask

    def streams(self, way: str) -> Client | None:
        """Return a client of event streams, or of as many chats over one socket."""
        body = completion(QUESTION, model=MODEL)
        target = Target(*self.running, COMPLETIONS, body, {**self.headers, "Connection": "close"})
        return Client(target) if way == RELAY else SocketClient(target, self)

    def begin(self, kind: Kind) -> Iterator[bytes]:
        """Ask as its page does."""
        with contextlib.closing(Connection(self)) as connection:
            self.post(COMPLETIONS, self.turn(None, None, kind.word, session_id=connection.session)[0])
            while True:
                yield connection.next().encode()

    def kept(self) -> list[str]:
        """Return what its page would show."""
        chats = requests.get(self.url(f"{CHATS}/"), headers=self.headers, timeout=60).json()
        if not chats:
            return []
        chat = requests.get(self.url(f"{CHATS}/{chats[0]['id']}"), headers=self.headers, timeout=60).json()
        messages = chat["chat"]["history"]["messages"].values()
        return [message["content"] for message in sorted(messages, key=lambda message: message["role"] == "assistant")]


def environment(folder: Path, port: int) -> dict[str, str]:
    """Return its settings."""
    return {
        "DATA_DIR": str(folder / "data"),
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "WEBUI_AUTH": "False",
        "WEBUI_SECRET_KEY": secrets.token_hex(32),
        "ENABLE_OLLAMA_API": "False",
        "OPENAI_API_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "OPENAI_API_KEY": "none",
        "BYPASS_EMBEDDING_AND_RETRIEVAL": "True",
        "RAG_EMBEDDING_ENGINE": "openai",
        "ANONYMIZED_TELEMETRY": "False",
        "DO_NOT_TRACK": "true",
        "SCARF_NO_ANALYTICS": "true",
        "GLOBAL_LOG_LEVEL": "ERROR",
    }
