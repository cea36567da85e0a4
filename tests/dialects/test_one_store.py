"""One store, seen through every dialect: what one makes, each other lists, reads, continues, renames, deletes."""

from __future__ import annotations

import itertools

import pytest

from self_agent import parts_of
from tests.conftest import MakeApp
from tests.dialects.ways import Client, all_ways

WAYS = all_ways()
FIRST = [("user", "first"), ("assistant", "echo: first")]
SECOND = [("user", "second"), ("assistant", "echo: second")]


@pytest.mark.parametrize(("maker", "other"), list(itertools.product(WAYS, WAYS)))
def test_made_by_one_used_by_other(make_app: MakeApp, maker: str, other: str) -> None:
    """Listed, read, continued, renamed and deleted through the other; the maker sees all of it."""
    client = Client(make_app())
    one, two = WAYS[maker], WAYS[other]
    cid = one.create(client)
    assert two.listed is None or two.listed(client) == [cid]
    assert two.read(client, cid) == FIRST
    two.send(client, cid, "second")
    assert one.read(client, cid) == two.read(client, cid) == FIRST + SECOND
    if two.rename is not None:
        two.rename(client, cid, "新名字")
        assert one.title is None or one.title(client, cid) == "新名字"
    if two.delete is not None:
        two.delete(client, cid)
        assert [way.listed(client) for way in WAYS.values() if way.listed] == [[]] * sum(
            way.listed is not None for way in WAYS.values()
        )
        assert parts_of(client.app).store.get(cid) is None


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.delete])
def test_deletions_can_be_undone(make_app: MakeApp, name: str) -> None:
    """Through whichever dialect, but for chat_system, whose document says "for good"."""
    client = Client(make_app())
    way = WAYS[name]
    assert way.delete
    cid = way.create(client)
    way.delete(client, cid)
    answer = client.http.post(f"/api/v1/conversations/{cid}/restore")
    assert answer.status_code == (404 if name == "chat_system" else 200)
    assert (parts_of(client.app).store.get(cid) is None) == (name == "chat_system")


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.listed])
def test_lists_agree(make_app: MakeApp, name: str) -> None:
    """Pinned first, archived left out, in every dialect's list."""
    client = Client(make_app())
    way = WAYS[name]
    assert way.listed
    store = parts_of(client.app).store
    made = [way.create(client)]
    for other in ("b", "c"):
        store.create(other, "local")
        made.append(other)
    store.update(made[0], pinned=True)
    store.update("c", archived=True)
    store.update("b", title="newest")
    assert way.listed(client) == [made[0], "b"]
