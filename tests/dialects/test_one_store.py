"""One store, seen through every dialect: what one makes, each other lists, reads, continues, renames, deletes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from self_agent import parts_of
from self_agent.dialects import DIALECTS
from tests.conftest import MakeApp

Talk = list[tuple[str, str]]  # (role, content)


class Client:
    """A test client that also knows which conversation has which number."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.http: FlaskClient = app.test_client()

    def number(self, cid: str) -> int:
        found = parts_of(self.app).store.get(cid)
        return found.number if found else 0

    def id_of(self, number: int) -> str:
        found = parts_of(self.app).store.by_number(number)
        assert found is not None
        return found.id

    def ask(self, method: str, path: str, json: Any = None) -> Any:
        answer = self.http.open(path, method=method, json=json)
        assert answer.status_code == 200, (path, answer.text)
        return answer.text if answer.mimetype.startswith("text/") else answer.json


@dataclass(frozen=True)
class Way:
    """How a dialect does each thing; `rename` is None where it cannot."""

    create: Callable[[Client], str]
    listed: Callable[[Client], list[str]]
    read: Callable[[Client, str], Talk]
    send: Callable[[Client, str, str], Any]
    delete: Callable[[Client, str], Any]
    name: Callable[[Client, str], str] | None = None
    rename: Callable[[Client, str, str], Any] | None = None


def wait(client: Client, cid: str) -> None:
    """Wait for a reply that was only begun."""
    turn = parts_of(client.app).turns.current(cid)
    if turn is not None:
        turn.wait()


def begin_self_agent(client: Client) -> str:
    client.ask("POST", "/api/v1/conversations/made-natively/messages", {"content": "first"})
    return "made-natively"


def begin_poe(client: Client) -> str:
    cid = client.ask("POST", "/v1/chat/conversations", {})["conversation_id"]
    client.ask("POST", f"/v1/chat/conversations/{cid}/messages", {"content": "first"})
    return str(cid)


def begin_alice(client: Client) -> str:
    number = client.ask("POST", "/alice/api/v1/conversations")["id"]
    client.ask("POST", f"/alice/api/v1/conversations/{number}/messages/stream", {"content": "first"})
    return client.id_of(number)


def begin_aichat(client: Client) -> str:
    sid = client.ask("POST", "/api/chat/session", {"user_id": "u"})["data"]["session_id"]
    client.ask("POST", "/api/chat/message", {"session_id": sid, "content": "first", "role": "user"})
    wait(client, sid)
    return str(sid)


def begin_chat_system(client: Client) -> str:
    client.ask("POST", "/chat/sessions/made-by-chat/chat", {"message": "first"})
    return "made-by-chat"


def send_aichat(client: Client, cid: str, text: str) -> None:
    client.ask("POST", "/api/chat/message", {"session_id": cid, "content": text, "role": "user"})
    wait(client, cid)


def pairs(rows: list[dict[str, Any]]) -> Talk:
    return [("user" if row["role"] == "human" else row["role"], row["content"]) for row in rows]


NATIVE, POE, ALICE = "/api/v1/conversations", "/v1/chat/conversations", "/alice/api/v1/conversations"
WAYS: dict[str, Way] = {
    "self_agent": Way(
        create=begin_self_agent,
        listed=lambda c: c.ask("GET", NATIVE)["data"],
        read=lambda c, cid: pairs(c.ask("GET", f"{NATIVE}/{cid}")["data"]["messages"]),
        send=lambda c, cid, text: c.ask("POST", f"{NATIVE}/{cid}/messages", {"content": text}),
        delete=lambda c, cid: c.ask("DELETE", f"{NATIVE}/{cid}"),
        name=lambda c, cid: c.ask("GET", f"{NATIVE}/{cid}")["data"]["name"],
        rename=lambda c, cid, name: c.ask("PATCH", f"{NATIVE}/{cid}", {"name": name}),
    ),
    "poe": Way(
        create=begin_poe,
        listed=lambda c: [row["id"] for row in c.ask("GET", POE)],
        read=lambda c, cid: pairs(c.ask("GET", f"{POE}/{cid}/messages")["messages"]),
        send=lambda c, cid, text: c.ask("POST", f"{POE}/{cid}/messages", {"content": text}),
        delete=lambda c, cid: c.ask("DELETE", f"{POE}/{cid}"),
        name=lambda c, cid: c.ask("GET", f"{POE}/{cid}")["name"],
        rename=lambda c, cid, name: c.ask("PUT", f"{POE}/{cid}", {"name": name}),
    ),
    "alice": Way(
        create=begin_alice,
        listed=lambda c: [c.id_of(row["id"]) for row in c.ask("GET", ALICE)],
        read=lambda c, cid: pairs(c.ask("GET", f"{ALICE}/{c.number(cid)}")["messages"]),
        send=lambda c, cid, text: c.ask("POST", f"{ALICE}/{c.number(cid)}/messages/stream", {"content": text}),
        delete=lambda c, cid: c.ask("DELETE", f"{ALICE}/{c.number(cid)}"),
        name=lambda c, cid: c.ask("GET", f"{ALICE}/{c.number(cid)}")["title"],
    ),
    "aichat": Way(
        create=begin_aichat,
        listed=lambda c: [row["session_id"] for row in c.ask("GET", "/aichat/getsessionlist/u")["data"]["list"]],
        read=lambda c, cid: pairs(c.ask("GET", f"/aichat/sessions/{cid}/messages")["data"]),
        send=send_aichat,
        delete=lambda c, cid: c.ask("DELETE", f"/aichat/deletesession/{cid}"),
        name=lambda c, cid: c.ask("GET", f"/aichat/sessions/{cid}")["data"]["title"],
        rename=lambda c, cid, name: c.ask("PATCH", f"/aichat/sessions/{cid}", {"new_title": name}),
    ),
    "chat_system": Way(
        create=begin_chat_system,
        listed=lambda c: [row["session_id"] for row in c.ask("GET", "/chat/sessions")["data"]],
        read=lambda c, cid: pairs(c.ask("GET", f"/chat/sessions/{cid}/messages")["data"]["messages"]),
        send=lambda c, cid, text: c.ask("POST", f"/chat/sessions/{cid}/chat", {"message": text}),
        delete=lambda c, cid: c.ask("DELETE", f"/chat/sessions/{cid}"),
        name=lambda c, cid: c.ask("GET", f"/chat/sessions/{cid}/messages")["data"]["title"],
    ),
}
FIRST = [("user", "first"), ("assistant", "echo: first")]
SECOND = [("user", "second"), ("assistant", "echo: second")]


def test_every_dialect_is_here() -> None:
    """A dialect that is added later is added to this table, too."""
    assert set(WAYS) == set(DIALECTS)


@pytest.mark.parametrize(("maker", "other"), list(itertools.product(WAYS, WAYS)))
def test_made_by_one_used_by_other(make_app: MakeApp, maker: str, other: str) -> None:
    """Listed, read, continued, renamed and deleted through the other; the maker sees all of it."""
    client = Client(make_app())
    one, two = WAYS[maker], WAYS[other]
    cid = one.create(client)
    assert two.listed(client) == [cid]
    assert two.read(client, cid) == FIRST
    two.send(client, cid, "second")
    assert one.read(client, cid) == two.read(client, cid) == FIRST + SECOND
    if two.rename is not None:
        two.rename(client, cid, "新名字")
        assert one.name is not None
        assert one.name(client, cid) == "新名字"
    two.delete(client, cid)
    for way in WAYS.values():
        assert way.listed(client) == []
