"""The native dialect's favourites and tags, as the contract has them."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from core.config import Settings
from self_agent import close, create_app, shelves
from self_agent.providers.echo import Echo
from tests.conftest import MakeApp
from tests.dialects.test_auth_everywhere import SECRET, bearer
from tests.dialects.ways import Client, all_ways

ROOT = "/api/v1/conversations"
FOLDERS = "/api/v1/folders"
TAGS = "/api/v1/conversation_tags"
SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def say(client: FlaskClient, *cids: str) -> None:
    for cid in cids:
        assert client.post(f"{ROOT}/{cid}/messages", json={"content": "hi"}).status_code == 200


def make(client: FlaskClient, name: str) -> str:
    """Create a folder, and return its id."""
    return str(client.post(f"{FOLDERS}/", json={"name": name}).json["data"]["folder_id"])


def put(client: FlaskClient, folder: str, cid: str, verb: str = "add") -> Any:
    return client.post(f"{FOLDERS}/{folder}/{verb}", json={"conversation_id": cid})


def tag(client: FlaskClient, cid: str, text: str) -> Any:
    return client.post(f"{TAGS}/", json={"conversation_id": cid, "tag": text})


def contents(client: FlaskClient) -> dict[str, list[str]]:
    """Return what is in each folder, by its name."""
    return {row["name"]: row["conversation_ids"] for row in client.get(f"{FOLDERS}/").json["data"]}


def said(client: FlaskClient, cid: str) -> list[str]:
    """Return what the tags of a conversation say."""
    return [row["tag"] for row in client.get(f"{TAGS}/?conversation_id={cid}").json["tags"]]


def error_of(answer: Any, status: int) -> str:
    """Return the error of an answer in the native envelope."""
    assert answer.status_code == status, answer.text
    assert answer.json["data"].keys() == {"success", "error"}
    assert answer.json["data"]["success"] is False
    return str(answer.json["data"]["error"])


# --- folders


def test_default_folder_is_always_first(client: FlaskClient) -> None:
    """Nobody makes it; a folder has exactly the fields of the contract."""
    [default] = client.get(f"{FOLDERS}/").json["data"]
    assert list(default) == ["folder_id", "name", "conversation_ids", "created_at", "updated_at", "is_default"]
    assert (default["folder_id"], default["name"], default["conversation_ids"]) == ("default", "默认收藏夹", [])
    assert default["is_default"] is True
    made = client.post(f"{FOLDERS}/", json={"name": " 旅行 "}).json["data"]
    assert (made["name"], made["conversation_ids"], made["is_default"]) == ("旅行", [], False)
    assert all(SECONDS.fullmatch(row[key]) for row in (default, made) for key in ("created_at", "updated_at"))
    assert client.get(FOLDERS).json["data"] == [default, made]


def test_default_folder_stays_as_it_is(client: FlaskClient) -> None:
    """It can be neither renamed nor deleted, but filled."""
    error_of(client.patch(f"{FOLDERS}/default", json={"name": "mine"}), 400)
    error_of(client.delete(f"{FOLDERS}/default"), 400)
    say(client, "c")
    assert put(client, "default", "c").json["data"]["conversation_ids"] == ["c"]
    assert contents(client) == {"默认收藏夹": ["c"]}


@pytest.mark.parametrize("name", ["", " \n", "taken", " taken ", "默认收藏夹", "x" * 501])
def test_wrong_names_are_400(client: FlaskClient, name: str) -> None:
    """A name that is empty, taken or too long is refused, for a new folder and for another, and the field is named."""
    make(client, "taken")
    other = make(client, "other")
    before = client.get(f"{FOLDERS}/").json
    assert "name" in error_of(client.post(f"{FOLDERS}/", json={"name": name}), 400)
    assert "name" in error_of(client.patch(f"{FOLDERS}/{other}", json={"name": name}), 400)
    assert client.get(f"{FOLDERS}/").json == before


def test_folder_is_renamed_and_deleted(client: FlaskClient) -> None:
    """What is in it stays; its own name is no taken one; 500 characters are a name."""
    folder = make(client, "one")
    say(client, "c")
    put(client, folder, "c")
    assert client.patch(f"{FOLDERS}/{folder}/", json={"name": "one"}).json["data"]["name"] == "one"
    renamed = client.patch(f"{FOLDERS}/{folder}", json={"name": "名" * 500}).json["data"]
    assert (renamed["name"], renamed["conversation_ids"]) == ("名" * 500, ["c"])
    assert client.delete(f"{FOLDERS}/{folder}").json == {"data": {"success": True}}
    assert contents(client) == {"默认收藏夹": []}
    assert client.get(ROOT).json["data"] == ["c"]
    make(client, "one")


def test_adding_and_removing_twice(client: FlaskClient) -> None:
    """The second time changes nothing, not even the time; a conversation can be in many folders."""
    say(client, "a", "b")
    folder = make(client, "f")
    assert put(client, folder, "b").json["data"]["conversation_ids"] == ["b"]
    first = put(client, folder, "a").json
    assert first["data"]["conversation_ids"] == ["b", "a"]
    assert put(client, folder, "b").json == first
    put(client, "default", "a")
    assert contents(client) == {"默认收藏夹": ["a"], "f": ["b", "a"]}
    assert put(client, folder, "b", "remove").json["data"]["conversation_ids"] == ["a"]
    again = put(client, folder, "b", "remove").json
    assert again["data"]["conversation_ids"] == ["a"]
    assert put(client, folder, "never-was", "remove").json == again


def test_unknown_folders_and_conversations_are_404(client: FlaskClient) -> None:
    """What does not exist cannot be added to, added, renamed or deleted; an id that cannot be one is 400."""
    say(client, "c")
    for verb in ("add", "remove"):
        error_of(put(client, "nobody", "c", verb), 404)
        error_of(put(client, "default", "../c", verb), 400)
        error_of(client.post(f"{FOLDERS}/default/{verb}", json={}), 400)
    error_of(put(client, "default", "unknown"), 404)
    error_of(client.patch(f"{FOLDERS}/nobody", json={"name": "x"}), 404)
    error_of(client.delete(f"{FOLDERS}/nobody"), 404)
    assert contents(client) == {"默认收藏夹": []}


# --- tags


def test_tags_come_and_go(client: FlaskClient) -> None:
    """Listed bare, for one conversation and for all, changed and taken away."""
    say(client, "a", "b")
    made = tag(client, "a", " 工作 ").json
    assert list(made) == ["id", "conversation_id", "tag", "created_at", "updated_at"]
    assert (made["conversation_id"], made["tag"]) == ("a", "工作")
    assert all(SECONDS.fullmatch(made[key]) for key in ("created_at", "updated_at"))
    other = tag(client, "b", "工作").json
    assert client.get(f"{TAGS}/?conversation_id=a").json == {"tags": [made]}
    assert client.get(f"{TAGS}?conversation_id=unknown").json == {"tags": []}
    assert client.get(f"{TAGS}/all").json == client.get(f"{TAGS}/all/").json == {"tags": [made, other]}
    changed = client.put(f"{TAGS}/{made['id']}", json={"tag": "urgent"}).json
    assert (changed["id"], changed["tag"], changed["created_at"]) == (made["id"], "urgent", made["created_at"])
    assert client.delete(f"{TAGS}/{made['id']}").json == {"ok": True}
    assert client.get(f"{TAGS}/all").json == {"tags": [other]}


def test_same_tag_is_there_once(client: FlaskClient) -> None:
    """Giving a tag again returns the one there is; changing another into it is 400."""
    say(client, "a")
    made = tag(client, "a", "x").json
    assert tag(client, "a", "x").json == made
    other = tag(client, "a", "y").json
    assert "tag" in error_of(client.put(f"{TAGS}/{other['id']}", json={"tag": "x"}), 400)
    assert client.put(f"{TAGS}/{other['id']}", json={"tag": "y"}).json == other
    assert said(client, "a") == ["x", "y"]


def test_wrong_tags_are_refused(client: FlaskClient) -> None:
    """Empty and too long is 400, what does not exist 404, in the native envelope."""
    say(client, "a")
    made = tag(client, "a", "x").json
    for text in ("", " \t", "x" * 501):
        assert "tag" in error_of(tag(client, "a", text), 400)
        assert "tag" in error_of(client.put(f"{TAGS}/{made['id']}", json={"tag": text}), 400)
    assert client.get(f"{TAGS}/").json == client.get(f"{TAGS}/all").json == {"tags": [made]}
    error_of(client.get(f"{TAGS}/?conversation_id=../x"), 400)
    error_of(tag(client, "unknown", "x"), 404)
    error_of(client.put(f"{TAGS}/unknown", json={"tag": "x"}), 404)
    error_of(client.delete(f"{TAGS}/unknown"), 404)
    error_of(client.post(f"{TAGS}/a/b/c", json={}), 404)
    error_of(client.patch(f"{FOLDERS}/", json={}), 405)
    assert said(client, "a") == ["x"]


# --- what they are of


@pytest.mark.parametrize("name", [name for name, way in all_ways().items() if way.delete])
def test_deletion_takes_out_of_all(make_app: MakeApp, name: str) -> None:
    """Through whichever dialect, for good or softly; a new conversation with the old id is in none either."""
    client = Client(make_app())
    way = all_ways()[name]
    assert way.delete is not None
    cid = way.create(client)
    say(client.http, "bystander")
    folder = make(client.http, "f")
    for each in (cid, "bystander"):
        put(client.http, folder, each)
        put(client.http, "default", each)
        tag(client.http, each, "x")
    way.delete(client, cid)
    for _ in range(2):
        assert contents(client.http) == {"默认收藏夹": ["bystander"], "f": ["bystander"]}
        assert said(client.http, cid) == []
        assert [row["conversation_id"] for row in client.http.get(f"{TAGS}/all").json["tags"]] == ["bystander"]
        say(client.http, cid)
    put(client.http, folder, cid)
    assert contents(client.http)["f"] == ["bystander", cid]


def test_shelves_are_a_users_own(make_app: MakeApp) -> None:
    """With auth on nobody sees another's folders and tags, nor puts another's conversation into one."""
    client = make_app(auth_enabled=True, jwt_secret=SECRET).test_client()
    ada, bob = bearer("ada"), bearer("bob")
    client.post(f"{ROOT}/adas/messages", json={"content": "hi"}, headers=ada)
    made = client.post(f"{FOLDERS}/", json={"name": "f"}, headers=ada).json["data"]
    member = {"conversation_id": "adas"}
    assert client.post(f"{FOLDERS}/default/add", json=member, headers=ada).status_code == 200
    assert client.post(f"{TAGS}/", json={**member, "tag": "x"}, headers=ada).status_code == 200
    error_of(client.post(f"{FOLDERS}/default/add", json=member, headers=bob), 404)
    error_of(client.post(f"{TAGS}/", json={**member, "tag": "x"}, headers=bob), 404)
    error_of(client.post(f"{FOLDERS}/{made['folder_id']}/remove", json=member, headers=bob), 404)
    assert [row["conversation_ids"] for row in client.get(FOLDERS, headers=bob).json["data"]] == [[]]
    assert client.get(f"{TAGS}?conversation_id=adas", headers=bob).json == {"tags": []}
    assert client.post(f"{FOLDERS}/", json={"name": "f"}, headers=bob).status_code == 200
    assert [row["conversation_ids"] for row in client.get(FOLDERS, headers=ada).json["data"]] == [["adas"], []]


def test_numbers_of_them_are_bounded(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than there may be is 400 and says what to do; deleting one makes room."""
    monkeypatch.setattr(shelves, "MAX_FOLDERS", 2)
    monkeypatch.setattr(shelves, "MAX_TAGS", 1)
    say(client, "c")
    folder, made = make(client, "f"), tag(client, "c", "x").json
    assert "delete one" in error_of(client.post(f"{FOLDERS}/", json={"name": "g"}), 400)
    assert "delete one" in error_of(tag(client, "c", "y"), 400)
    assert tag(client, "c", "x").json == made
    client.delete(f"{FOLDERS}/{folder}")
    client.delete(f"{TAGS}/{made['id']}")
    make(client, "g")
    assert tag(client, "c", "y").status_code == 200


def test_all_at_once_lose_nothing(make_app: MakeApp) -> None:
    """Clients that add, tag and create at the same time: all of it is there, each thing once."""
    app = make_app()
    cids = [f"c{n}" for n in range(6)]
    say(app.test_client(), *cids)

    def add(cid: str) -> None:
        client = app.test_client()
        for _ in range(3):
            put(client, "default", cid)
            tag(client, cid, "x")
            client.post(f"{FOLDERS}/", json={"name": "same"})

    threads = [threading.Thread(target=add, args=(cid,)) for cid in cids * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = app.test_client().get(f"{FOLDERS}/").json["data"]
    assert [(row["name"], sorted(row["conversation_ids"])) for row in rows] == [("默认收藏夹", cids), ("same", [])]
    assert sorted(row["conversation_id"] for row in app.test_client().get(f"{TAGS}/all").json["tags"]) == cids


def test_shelves_are_there_after_restart(tmp_path: Path) -> None:
    """Folders, what is in them and tags are as they were, the default folder's times too once it was used."""
    settings = Settings(data_dir=tmp_path / "data", log_dir=tmp_path / "logs")
    seen: list[Any] = []
    for step in range(2):
        app = create_app(settings, provider=Echo())
        client = app.test_client()
        if step == 0:
            say(client, "a", "b")
            put(client, make(client, "f"), "b")
            put(client, "default", "a")
            tag(client, "a", "x")
        seen.append((client.get(f"{FOLDERS}/").json, client.get(f"{TAGS}/all").json))
        close(app)
    assert seen[0] == seen[1]
    assert "b" in str(seen[0])
