"""The live list: what each dialect does to a chat is told to its user, and to nobody else."""

from __future__ import annotations

import itertools
import re
import time
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient

from self_agent import parts_of
from self_agent.events import KINDS, Change
from self_agent.feed import Ring
from self_agent.models import LOCAL_USER, Message
from self_agent.turns.turn import Turn
from tests.conftest import MakeApp
from tests.dialects.ways import Client, Way, all_ways

EVENTS = "/api/v1/events"
NATIVE = "/api/v1/conversations"
SECRET = "s" * 32


class Heard:
    """Hears what is told of one user's chats."""

    def __init__(self, app: Flask, user: str = LOCAL_USER) -> None:
        self.ring: Ring = parts_of(app).feed.open(user)
        self.position = 0

    def next(self) -> list[tuple[str, str]]:
        """Return what has been told since the last call."""
        changes = self.changes()
        return [(change.kind, change.conversation_id) for change in changes]

    def changes(self) -> list[Change]:
        with self.ring.lock:
            found = list(self.ring.since(self.position))
            self.position = self.ring.length
        return found


def bearer(user: str, seconds: float = 60) -> dict[str, str]:
    token = jwt.encode({"sub": user, "exp": time.time() + seconds}, SECRET, algorithm="HS256")
    return {"Authorization": f"Bearer {token}"}


def told(client: FlaskClient, position: str = "", **options: Any) -> tuple[list[str], list[Any]]:
    """Return the ids and the data of what a listener is told at once."""
    answer = client.get(EVENTS, query_string={"after": position}, **options)
    assert answer.status_code == 200
    assert answer.mimetype == "text/event-stream"
    blocks = [block for block in answer.text.split("\n\n") if block.startswith("id: ")]
    pairs = [re.fullmatch(r"id: (\S+)\ndata: (\{.*\})", block) for block in blocks]
    assert all(pairs), blocks
    decode = client.application.json.loads
    return [pair[1] for pair in pairs if pair], [decode(pair[2]) for pair in pairs if pair]


@pytest.mark.parametrize("way", all_ways().values(), ids=all_ways())
def test_every_dialect_is_heard(make_app: MakeApp, way: Way) -> None:
    """A chat that is made, talked with, renamed and deleted, each told when it is so."""
    client = Client(make_app())
    heard = Heard(client.app)
    cid = way.create(client)
    client.wait(cid)
    changes = heard.changes()
    assert [change.kind for change in changes] == ["created", "answering", "answered"]
    assert {(change.conversation_id, change.number) for change in changes} == {(cid, client.number(cid))}
    way.send(client, cid, "again")
    client.wait(cid)
    assert heard.next() == [("answering", cid), ("answered", cid)]
    if way.rename:
        way.rename(client, cid, "name")
        assert heard.next() == [("changed", cid)]
    if way.delete:
        number = client.number(cid)
        way.delete(client, cid)
        [deleted] = heard.changes()
        assert (deleted.kind, deleted.conversation_id, deleted.number) == ("deleted", cid, number)


def test_every_use_case_is_heard(make_app: MakeApp) -> None:
    """What changes a chat other than by talking, and nothing for what changed nothing."""
    app = make_app()
    service, shelves, heard = parts_of(app).conversations, parts_of(app).shelves, Heard(app)
    service.create("local", "c")
    message = service.add("local", "c", "user", "hi")
    assert heard.next() == [("created", "c"), ("changed", "c")]
    service.edit_message("local", message.id, "ho")
    assert service.delete_messages("local", [message.id, 0, 1 << 40]) == 1
    assert heard.next() == [("changed", "c")] * 2
    assert service.delete_messages("local", [message.id]) == 0
    service.update("local", "c", {})
    assert heard.next() == []
    project = service.create_project("local", "p")
    service.update("local", "c", {"project_id": project.id})
    service.rename_project("local", project.id, "q")
    service.delete_project("local", project.id)
    assert heard.next() == [("changed", "c"), ("reset", ""), ("reset", "")]
    folder = shelves.create_folder("local", "f")
    shelves.add("local", folder.id, "c")
    shelves.add("local", folder.id, "c")
    shelves.remove("local", folder.id, "c")
    shelves.remove("local", folder.id, "c")
    tag = shelves.add_tag("local", "c", "t")
    shelves.change_tag("local", tag.id, "u")
    shelves.delete_tag("local", tag.id)
    assert heard.next() == [("changed", "c")] * 5
    for cid in ("a", "b"):
        service.create("local", cid)
        shelves.add("local", folder.id, cid)
    heard.next()
    shelves.rename_folder("local", folder.id, "g")
    shelves.delete_folder("local", folder.id)
    assert heard.next() == [("changed", "a"), ("changed", "b")]


def test_draft_is_told_when_lists_show_it(make_app: MakeApp) -> None:
    """Settings before the first message make no row in any list; the message does, in whichever way it comes."""
    app = make_app()
    service, heard = parts_of(app).conversations, Heard(app)
    for cid in ("sent", "added"):
        service.update("local", cid, {"model": "m"}, create=True)
    assert heard.next() == []
    service.send("local", "sent", "hi").wait()
    service.add("local", "added", "user", "hi")
    assert heard.next() == [("created", "sent"), ("answering", "sent"), ("answered", "sent"), ("created", "added")]


def test_every_end_of_a_reply_is_told(make_app: MakeApp) -> None:
    """A failure and a stop end an answer too; what was never stored is not told."""
    app = make_app()
    parts, heard = parts_of(app), Heard(app)
    failed = parts.conversations.send("local", "c", "/fail", new={})
    failed.wait_over()
    assert heard.next() == [("created", "c"), ("answering", "c"), ("answered", "c")]
    turn = parts.conversations.send("local", "c", "/slow one two three", attend=False)
    waiting = parts.conversations.send("local", "c", "second", attend=False)
    turn.wait_stored()
    assert heard.next() == [("answering", "c")]
    parts.conversations.stop("local", "c")
    waiting.wait()
    assert heard.next() == [("answered", "c"), ("answering", "c"), ("answered", "c")]
    parts.store.delete("c")
    gone = parts.turns.submit("local", "c", Message("user", "hi"), lambda *_: iter(()))
    gone.wait_over()
    assert heard.next() == []


def test_branches_are_heard(make_app: MakeApp) -> None:
    """Another branch is a change, a fork a new chat, a question answered again an answer."""
    app = make_app()
    service, heard = parts_of(app).conversations, Heard(app)
    reply = service.send("local", "c", "hi", new={}).wait().message
    assert reply is not None
    heard.next()
    service.regenerate("local", "c", reply.id).wait()
    assert heard.next() == [("answering", "c"), ("answered", "c")]
    service.choose("local", "c", reply.id)
    service.fork("local", "c", reply.id, "d")
    assert heard.next() == [("changed", "c"), ("created", "d")]


def test_restored_and_all_deleted_are_heard(make_app: MakeApp) -> None:
    """Each of many, and one that comes back."""
    app = make_app()
    service, heard = parts_of(app).conversations, Heard(app)
    for cid in ("a", "b"):
        service.create("local", cid)
    heard.next()
    service.delete_all("local")
    assert sorted(heard.next()) == [("deleted", "a"), ("deleted", "b")]
    service.restore("local", "a")
    assert heard.next() == [("changed", "a")]


def test_stop_before_the_beginning_tells_no_answer(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that is answered again can be stopped before it is asked: nobody is left to think that it answers."""
    app = make_app()
    parts = parts_of(app)
    reply = parts.conversations.send("local", "c", "hi", new={}).wait().message
    assert reply is not None
    heard = Heard(app)
    begun = parts.turns._begun

    def slow(turn: Turn, new: Any) -> Any:
        found = begun(turn, new)
        parts.turns.stop(turn)
        return found

    monkeypatch.setattr(parts.turns, "_begun", slow)
    parts.conversations.regenerate("local", "c", reply.id)
    assert heard.next() == []


def test_events_are_as_documented(make_app: MakeApp) -> None:
    """Ids to go on from, types that are known; a header goes before the query, and HEAD has no body."""
    app = make_app()
    client = app.test_client()
    [position], [reset] = told(client)
    assert reset == {"type": "reset"}
    client.post(f"{NATIVE}/c/messages", json={"content": "hi"})
    ids, data = told(client, position)
    assert [each["type"] for each in data] == ["created", "answering", "answered"]
    assert {each["type"] for each in data} <= KINDS
    assert all(each.keys() == {"type", "conversation_id", "number"} for each in data)
    for place, name in enumerate(ids):
        assert told(client, position, headers={"Last-Event-ID": name})[0] == ids[place + 1 :]
    head = client.head(EVENTS)
    assert (head.status_code, head.data, head.mimetype) == (200, b"", "text/event-stream")
    assert parts_of(app).feed.open("local").listeners == 1


def test_hostile_positions_are_reset(make_app: MakeApp) -> None:
    """Whatever a client says it saw last, it is answered, with the word to load the list."""
    client = make_app().test_client()
    [position], _ = told(client)
    odd = ["x", "-1", "0", "é", "\0", "%00", "{}", "9" * 5000, position + "0" * 300, position + "\t", "🙂" * 100]
    for name in odd:
        assert told(client, name)[1] == [{"type": "reset"}]
        if name.isprintable() and name.isascii():
            assert told(client, headers={"Last-Event-ID": name})[1] == [{"type": "reset"}]


def test_restart_is_a_reset(make_app: MakeApp) -> None:
    """A position of an earlier run means nothing to the next, however far that has come."""
    first = make_app().test_client()
    told(first)
    first.post(f"{NATIVE}/c/messages", json={"content": "hi"})
    position = told(first)[0][-1]
    second = make_app().test_client()
    told(second)
    for cid in ("a", "b"):
        second.post(f"{NATIVE}/{cid}/messages", json={"content": "hi"})
    assert told(second, position)[1] == [{"type": "reset"}]


def test_users_hear_only_their_own(make_app: MakeApp) -> None:
    """Neither another's changes, nor how many there were, nor from another's position."""
    app = make_app(auth_enabled=True, jwt_secret=SECRET)
    client = app.test_client()
    start = {user: told(client, headers=bearer(user))[0][0] for user in ("ada", "bob")}
    client.post(f"{NATIVE}/c/messages", json={"content": "hi"}, headers=bearer("ada"))
    for method, path in itertools.product(("delete", "patch"), (f"{NATIVE}/c",)):
        assert client.open(path, method=method, json={"name": "x"}, headers=bearer("bob")).status_code == 404
    assert len(told(client, start["ada"], headers=bearer("ada"))[0]) == 3
    assert told(client, start["bob"], headers=bearer("bob"))[0] == []
    assert told(client, start["ada"], headers=bearer("bob"))[0] == [start["bob"]]
    assert client.get(EVENTS).status_code == 401
    assert client.get(EVENTS, headers=bearer("ada", -1)).status_code == 401
    assert client.get(EVENTS).json == {"data": {"success": False, "error": client.get(EVENTS).json["data"]["error"]}}  # type: ignore[index]
