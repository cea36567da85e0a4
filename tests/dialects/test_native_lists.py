"""The native dialect's lists, pins, archive, deletions and what brings them back."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from core.errors import StorageBusy
from self_agent import parts_of
from self_agent.models import Message
from tests.conftest import MakeApp
from tests.dialects.test_auth_everywhere import SECRET, bearer
from tests.dialects.test_native import ROOT, say
from tests.dialects.test_native_shelves import make, put, tag
from tests.hostile.inputs import IDS

HEADING = [
    "conversation_id", "name", "title", "first_line", "summary", "created_at", "updated_at", "count", "model",
    "project", "folders", "tags", "pinned", "archived", "answering",
]  # fmt: skip


def headings(client: FlaskClient, query: str = "", **more: Any) -> list[Any]:
    answer = client.get(f"{ROOT}/?view=headings{query}", **more)
    assert answer.status_code == 200, answer.text
    rows = answer.json["data"]
    assert [list(row) for row in rows] == [HEADING] * len(rows)
    return list(rows)


def ids(client: FlaskClient, query: str = "") -> list[str]:
    found = [row["conversation_id"] for row in headings(client, query)]
    answer = client.get(f"{ROOT}/?page=1{query}").json
    assert answer["data"] == found
    assert answer["meta"]["total"] == len(found)
    return found


def words(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json["data"]) == ["success", "error"]
    assert answer.json["data"]["success"] is False
    return str(answer.json["data"]["error"])


def test_heading_has_all_that_a_list_shows(client: FlaskClient) -> None:
    """Everything in one answer; what there is none of is null or empty."""
    store = parts_of(client.application).store
    project = store.create_project("local", "项目").id
    say(client, "plain", "  \n你好世界，今天天气怎么样？" + "x" * 100 + "\nsecond line")
    say(client, "full", "first")
    store.append("full", Message("assistant", "y" * 300))
    store.update("full", project_id=project, model="m", title="A walk")
    folder = make(client, "f")
    put(client, folder, "full")
    put(client, "default", "full")
    tags = [tag(client, "full", text).json for text in ("x", "y")]
    client.patch(f"{ROOT}/plain", json={"pinned": True})
    plain, full = headings(client)
    assert full["folders"] == ["default", folder]
    assert full["tags"] == [{"id": each["id"], "tag": each["tag"]} for each in tags]
    assert (full["name"], full["title"], full["first_line"], full["summary"]) == (
        "A walk",
        "A walk",
        "first",
        "y" * 200,
    )
    assert (full["count"], full["model"], full["project"]) == (3, "m", {"id": project, "name": "项目"})
    assert (plain["name"], plain["title"], plain["count"]) == ("  \n你好世界，今天", None, 2)
    assert plain["first_line"] == ("你好世界，今天天气怎么样？" + "x" * 100)[:77]
    assert (plain["model"], plain["project"], plain["folders"], plain["tags"]) == (None, None, [], [])
    assert [(row["pinned"], row["archived"], row["answering"]) for row in (plain, full)] == [
        (True, False, False),
        (False, False, False),
    ]


def test_lists_are_chosen(client: FlaskClient) -> None:
    """Pinned first, archived only where asked for, filtered by words, in pages; ids and headings alike."""
    for name, text in [("a", "Hello"), ("b", "你好"), ("c", "hello again"), ("d", "bye")]:
        say(client, name, text)
    for name, change in [("a", {"pinned": True}), ("d", {"archived": True}), ("b", {"name": "Say HELLO"})]:
        assert client.patch(f"{ROOT}/{name}", json=change).status_code == 200
    assert ids(client) == ["a", "b", "c"]
    assert ids(client, "&archived=true") == ["d"]
    assert ids(client, "&archived=false&q=hello") == ["a", "b", "c"]
    assert ids(client, "&q=你好") == ["b"]
    assert ids(client, "&q=bye") == []
    assert ids(client, "&q=BYE&archived=1") == ["d"]
    page = client.get(f"{ROOT}/?view=headings&page=2&size=2&q=hello").json
    assert [row["conversation_id"] for row in page["data"]] == ["c"]
    assert page["meta"] == {"page": 2, "size": 2, "total": 3}


def test_answering_is_shown(make_app: MakeApp) -> None:
    """A list says where a reply is being generated now."""
    app = make_app(script=[2.0])
    service = parts_of(app).conversations
    turn = service.send("local", "running", "hi", new={})
    turn.wait_started()
    parts_of(app).store.create("other", "local")
    assert {row["conversation_id"]: row["answering"] for row in headings(app.test_client())} == {
        "running": True,
        "other": False,
    }
    service.stop("local", "running")
    assert not any(row["answering"] for row in headings(app.test_client()))


def test_pin_and_archive(client: FlaskClient) -> None:
    """PATCH sets each alone, null takes it away, and its answer has all of a heading and what it had before."""
    say(client, "c", "hi")
    for change, shown in [
        ({"pinned": True}, (True, False)),
        ({"archived": True}, (True, True)),
        ({"pinned": None, "archived": False}, (False, False)),
        ({}, (False, False)),
    ]:
        data = client.patch(f"{ROOT}/c", json=change).json["data"]
        assert (data["pinned"], data["archived"]) == shown
        assert set(data) == {*HEADING, "system_prompt", "config"}
    assert data["summary"] == "echo: hi"
    for wrong in ("yes", 1, []):
        assert "pinned" in words(client.patch(f"{ROOT}/c", json={"pinned": wrong}), 400)


def test_bad_queries_say_what_is_wrong(client: FlaskClient) -> None:
    """Each names its parameter; nothing is guessed."""
    for query, name in [
        ("view=other", "view"),
        ("archived=maybe", "archived"),
        ("archived=", "archived"),
        (f"q={'x' * 1_000_000}", "q"),
        ("view=headings&size=101", "size"),
    ]:
        assert words(client.get(f"{ROOT}/?{query}"), 400).startswith(f"{name}: ")
    assert client.get(f"{ROOT}/?q=%00%ff").json["data"] == []


def test_restored_as_it_was(client: FlaskClient) -> None:
    """The same ids, title, folders and tags, through the whole of the API; a second time there is nothing."""
    say(client, "c", "hi")
    client.patch(f"{ROOT}/c", json={"name": "A walk", "pinned": True})
    put(client, "default", "c")
    tag(client, "c", "x")
    before, messages = headings(client), client.get(f"{ROOT}/c").json
    assert client.delete(f"{ROOT}/c").status_code == 200
    make(client, "meanwhile")
    assert headings(client) == []
    assert client.post(f"{ROOT}/c/restore").json == {"data": before[0]}
    assert (headings(client), client.get(f"{ROOT}/c").json) == (before, messages)
    assert "restore" in words(client.post(f"{ROOT}/c/restore"), 404)
    assert "restore" in words(client.post(f"{ROOT}/nobody/restore"), 404)


def test_taken_id_is_409(client: FlaskClient) -> None:
    """Another conversation that has the id by now stays as it is."""
    say(client, "c", "one")
    client.delete(f"{ROOT}/c")
    say(client, "c", "two")
    assert "exists" in words(client.post(f"{ROOT}/c/restore"), 409)
    assert client.get(f"{ROOT}/c").json["data"]["summary"] == "echo: two"


def test_no_days_are_for_good(make_app: MakeApp) -> None:
    """With KEEP_DELETED_DAYS=0 nothing is kept that could be restored."""
    app = make_app(keep_deleted_days=0)
    client = app.test_client()
    say(client, "c", "hi")
    client.delete(f"{ROOT}/c")
    words(client.post(f"{ROOT}/c/restore"), 404)
    assert parts_of(app).store.sweep("9") == 0


def test_hostile_ids_are_refused(client: FlaskClient) -> None:
    """An id that can be none is an error in the envelope, and nothing of it reaches the disk."""
    for hostile in IDS:
        answer = client.post(f"{ROOT}/{hostile}/restore")
        assert answer.status_code in (400, 404, 405), hostile
        assert answer.json["data"]["success"] is False, hostile


def test_delete_all(make_app: MakeApp) -> None:
    """Archived ones too; a running reply stops; each comes back by itself; without all=true nothing happens."""
    app = make_app(script=[2.0])
    client, service = app.test_client(), parts_of(app)
    for name in "abc":
        service.store.create(name, "local", archived=name == "b")
    service.store.create("others", "somebody else")
    turn = service.conversations.send("local", "c", "hi")
    turn.wait_started()
    for query in ("", "?all=", "?all=false", "?all=1", "?all=TRUE", "?All=true"):
        assert "all=true" in words(client.delete(f"{ROOT}/{query}"), 400)
    assert service.store.conversations("local", archived=None).total == 3
    assert client.delete(f"{ROOT}/?all=true").json == {"data": {"success": True, "deleted": 3}}
    assert turn.is_over
    assert service.store.conversations("local", archived=None).total == 0
    assert service.store.get("others")
    assert client.delete(f"{ROOT}/?all=true").json["data"]["deleted"] == 0
    for name in "cab":
        assert client.post(f"{ROOT}/{name}/restore").json["data"]["archived"] is (name == "b")


def test_delete_all_goes_on_behind_an_error(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be deleted now does not save the others, and is not passed over in silence."""
    app = make_app()
    store = parts_of(app).store
    for name in "abc":
        store.create(name, "local")
    delete = store.delete

    def refusing(conversation_id: str, *, keep: bool = False) -> int:
        if conversation_id == "b":
            raise StorageBusy("is being edited")
        return delete(conversation_id, keep=keep)

    monkeypatch.setattr(store, "delete", refusing)
    assert words(app.test_client().delete(f"{ROOT}/?all=true"), 503) == "is being edited"
    assert [found.id for found in store.conversations("local").items] == ["b"]


def test_deleted_is_its_owners(make_app: MakeApp) -> None:
    """With auth on, another user restores neither what was deleted nor learns that there was something."""
    app = make_app(auth_enabled=True, jwt_secret=SECRET)
    client, ada, bob = app.test_client(), bearer("ada"), bearer("bob")
    client.post(f"{ROOT}/c/messages", json={"content": "hi"}, headers=ada)
    client.post(f"{ROOT}/c/set_config", json={}, headers=ada)
    assert headings(client, headers=bob) == []
    assert client.delete(f"{ROOT}/?all=true", headers=bob).json["data"]["deleted"] == 0
    client.delete(f"{ROOT}/c", headers=ada)
    told = words(client.post(f"{ROOT}/c/restore", headers=bob), 404)
    assert told == words(client.post(f"{ROOT}/nothing/restore", headers=bob), 404)
    assert client.post(f"{ROOT}/c/restore", headers=ada).json["data"]["count"] == 2
    assert len(headings(client, headers=ada)) == 1
