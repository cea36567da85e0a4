"""A client that lost its connection goes on behind the last event it has: nothing doubled, nothing missing."""

from __future__ import annotations

import threading

import pytest
from flask.testing import FlaskClient

from core.errors import UpstreamError
from self_agent import parts_of
from self_agent.events import LAST, Delta
from self_agent.models import CUT_OFF, Message
from self_agent.turns.turn import PIECE
from tests.conftest import MakeApp
from tests.dialects.resuming import CHUNKS, ROOT, SOURCES, TEXT, THOUGHT, Held, Reader, get
from tests.dialects.ways import Client, Way, all_ways

WAYS = pytest.mark.parametrize("way", all_ways().values(), ids=all_ways())


@WAYS
def test_cut_anywhere_and_replayed(make_app: MakeApp, way: Way) -> None:
    """Cut behind any byte, a client that comes back when the reply has ended has all of it, whoever asked for it."""
    model = Held()
    client = Client(make_app(provider=model))
    cid = way.create(client)
    client.wait(cid)
    model.hold = 0
    sender = threading.Thread(target=way.send, args=(client, cid, "again"))
    sender.start()
    assert model.reached.wait(10)
    joined = get(client.http, cid)
    model.go_on.set()
    live = joined.data
    sender.join()
    client.wait(cid)
    for cut in range(len(live) + 1):
        reader = Reader()
        reader.read(live[:cut])
        answer = get(client.http, cid, reader.last)
        assert answer.status_code == (204 if cut == len(live) else 200)
        reader.read(answer.data)
        assert reader.is_whole(), (cut, reader)
        if cut % 9 == 0:  # a replay is numbered as the live reply was
            again = Reader()
            again.read(get(client.http, cid, 0).data[:cut])
            again.read(get(client.http, cid, again.last, message_id=reader.message_id).data)
            assert again.is_whole(), (cut, again)


@WAYS
def test_cut_anywhere_and_live(make_app: MakeApp, way: Way) -> None:
    """Wherever the reply is, a client that comes back behind any event of it gets the rest as it comes."""
    model = Held()
    client = Client(make_app(provider=model))
    cid = way.create(client)
    client.wait(cid)
    for hold in range(len(CHUNKS) + 1):
        model.hold = hold
        model.reached.clear()
        model.go_on.clear()
        sender = threading.Thread(target=way.send, args=(client, cid, "again"))
        sender.start()
        assert model.reached.wait(10)
        turn = parts_of(client.app).turns.current(cid)
        assert turn is not None
        number = turn.number()
        assert get(client.http, cid, number + 1).status_code == 400
        streams = [(after, get(client.http, cid, after)) for after in range(number + 1)]
        model.go_on.set()
        for after, stream in streams:
            reader = Reader(after)
            reader.read(stream.data)
            said = THOUGHT + TEXT
            assert reader.thought + reader.text == said[max(0, after - 1) :], (hold, after)
            assert reader.sources == SOURCES
            assert reader.kinds.count("start") == (after == 0)
            assert reader.end["full_content"] == TEXT
        sender.join()
        client.wait(cid)


def test_header_is_as_good(make_app: MakeApp) -> None:
    """What EventSource sends when it connects again goes before the `after` of its URL, and ends in 204."""
    client = make_app(provider=Held()).test_client()
    client.post(f"{ROOT}/c/messages", json={"content": "hi"})
    reader = Reader()
    reader.read(get(client, "c", 0).data)
    for last, status in ((reader.last, 204), (reader.last - 1, 200), (reader.last + 1, 400)):
        answer = client.get(f"{ROOT}/c/stream?after=0", headers={"Last-Event-ID": str(last)})
        assert answer.status_code == status
    assert b"start" not in client.get(f"{ROOT}/c/stream?after=0", headers={"Last-Event-ID": "1"}).data
    for odd in ("", "-1", "x", "1.0", "٣", "9" * 17):
        answer = client.get(f"{ROOT}/c/stream", headers={"Last-Event-ID": odd})
        assert (answer.status_code, "Last-Event-ID" in answer.json["data"]["error"]) == (400, True), odd


@pytest.mark.parametrize("odd", ["-1", "x", "", "1.5", "99999999999999999999", "NaN"])
def test_no_number_is_refused(client: FlaskClient, odd: str) -> None:
    """What is no number that an event could have is 400, and named."""
    client.post(f"{ROOT}/c/messages", json={"content": "hi"})
    answer = get(client, "c", odd)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json["data"]["error"].startswith("after: ")) == (400, True)


def test_beyond_the_end_says_where_that_is(client: FlaskClient) -> None:
    """A number that no event has yet is 400, with the one there is."""
    client.post(f"{ROOT}/c/messages", json={"content": "hi"})  # echo: hi
    assert get(client, "c", 10).status_code == 204
    answer = get(client, "c", 11)
    assert answer.status_code == 400
    assert "10" in answer.json["data"]["error"]


def test_nothing_to_follow(client: FlaskClient) -> None:
    """Where no reply runs and none is last: 404. Without `after` a reply that has ended is not followed, as ever."""
    assert get(client, "c", 0).status_code == 404
    client.post(f"{ROOT}/c/messages", json={"content": "hi"})
    assert get(client, "c").status_code == 404
    assert get(client, "c", 0).status_code == 200
    parts_of(client.application).store.append("c", Message("user", "more"))
    assert get(client, "c", 0).status_code == 404
    parts_of(client.application).store.append("c", Message("assistant", "x"), Message("system", "y"))
    assert get(client, "c", 0).status_code == 404


def test_another_reply_is_a_conflict(make_app: MakeApp) -> None:
    """Whoever names its reply never gets another one's events, running or stored."""
    model = Held()
    client = make_app(provider=model).test_client()
    client.post(f"{ROOT}/c/messages", json={"content": "one"})
    first = Reader()
    first.read(get(client, "c", 0).data)
    assert get(client, "c", 3, message_id=first.message_id).status_code == 200
    model.hold = 3
    sender = threading.Thread(target=client.post, args=(f"{ROOT}/c/messages",), kwargs={"json": {"content": "two"}})
    sender.start()
    assert model.reached.wait(10)
    assert get(client, "c", 3, message_id=first.message_id).status_code == 409
    model.go_on.set()
    sender.join()
    answer = get(client, "c", 3, message_id=first.message_id)
    assert answer.status_code == 409
    assert str(first.message_id + 2) in answer.json["data"]["error"]
    assert get(client, "c", 3, message_id=0).status_code == 400


def test_failed_reply_has_its_end(make_app: MakeApp) -> None:
    """A reply that failed is replayed as what was kept of it; one of which nothing was is not there."""
    app = make_app(script=[Delta("half"), UpstreamError("gone")])
    client = app.test_client()
    live = Reader()
    live.read(client.post(f"{ROOT}/c/messages/stream", json={"content": "hi"}).data)
    assert (live.end["type"], live.last) == ("error", 6)
    again = Reader()
    again.read(get(client, "c", 5).data)
    assert (again.end["full_content"], again.end["incomplete"], again.last) == ("half", True, 6)
    client = make_app(script=[UpstreamError("at once")]).test_client()
    assert client.post(f"{ROOT}/c/messages/stream", json={"content": "hi"}).status_code == 502
    assert get(client, "c", 0).status_code == 404


def test_recovered_reply_has_its_end(client: FlaskClient) -> None:
    """Who had more of a reply than a crash left gets what is left, and knows that it ends there."""
    store = parts_of(client.application).store
    store.create("c", "local")
    store.append("c", Message("user", "q"), Message("assistant", "what is", incomplete=True, error=CUT_OFF))
    for after in (0, 4, 8, 9, 1000):
        reader = Reader(after)
        reader.read(get(client, "c", after).data)
        assert reader.text == "what is"[max(0, after - 1) :]
        assert (reader.end["full_content"], reader.end["incomplete"]) == ("what is", True)
    assert get(client, "c", LAST).status_code == 204


def test_long_reply_comes_in_pieces(make_app: MakeApp) -> None:
    """A stored reply of any length has no event that a network would have to split into many."""
    text = "你" * (3 * PIECE) + "!"
    client = make_app(script=[Delta(text)]).test_client()
    client.post(f"{ROOT}/c/messages", json={"content": "hi"})
    data = get(client, "c", 0).data
    reader = Reader()
    reader.read(data)
    assert reader.text == text
    assert reader.kinds.count("content") == 4


def test_thoughts_between_pieces_move(make_app: MakeApp) -> None:
    """Known limit: reasoning that came after text stands before it in a replay; the whole of both is the same."""
    chunks = [Delta("a"), Delta(reasoning="r"), Delta("b")]
    client = make_app(provider=Held(chunks)).test_client()
    live, replay = Reader(), Reader()
    live.read(client.post(f"{ROOT}/c/messages/stream", json={"content": "hi"}).data)
    replay.read(get(client, "c", 0).data)
    assert (live.text, live.thought, live.last) == (replay.text, replay.thought, replay.last)
    assert live.end == replay.end


def test_alice_has_no_numbers(make_app: MakeApp) -> None:
    """The dialect that shares these events gets them as its document has them."""
    client = make_app(provider=Held()).test_client()
    number = client.post(f"/alice{ROOT}/", json={}).json["id"]  # type: ignore[index]
    data = client.post(f"/alice{ROOT}/{number}/messages/stream", json={"content": "hi"}).data
    assert b"\nid: " not in b"\n" + data.replace(b"id: 7\\n", b"")
    assert b"user_message_id" not in data


def test_shown_branch_is_followed(make_app: MakeApp) -> None:
    """Of several replies to a question the one that is shown is replayed, and no other in its place."""
    model = Held([Delta("one")])
    client = make_app(provider=model).test_client()
    client.post(f"{ROOT}/c/messages", json={"content": "hi"})
    first = Reader()
    first.read(get(client, "c", 0).data)
    model.chunks = [Delta("other")]
    second = Reader()
    data = client.post(f"{ROOT}/c/messages/{first.message_id}/regenerate/stream", json={}).data
    second.read(data[:120])
    second.read(get(client, "c", second.last, message_id=second.message_id).data)
    assert (second.text, second.end["full_content"]) == ("other", "other")
    assert get(client, "c", 2, message_id=first.message_id).status_code == 409
    client.post(f"{ROOT}/c/choose", json={"message_id": first.message_id})
    again = Reader()
    again.read(get(client, "c", 0, message_id=first.message_id).data)
    assert (again.text, again.message_id) == ("one", first.message_id)
