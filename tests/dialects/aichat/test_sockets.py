"""The WebSocket: replies reach every socket of a session, whole and in order, and no client can hurt another."""

from __future__ import annotations

import struct
import threading
import time

import jwt
import pytest
from websocket import ABNF, WebSocketBadStatusException

from core.errors import UpstreamError
from self_agent import outlet, parts_of
from self_agent.dialects.aichat import websocket
from self_agent.events import Delta
from self_agent.turns import hub
from tests.dialects.aichat.conftest import WAIT, Serve, Served, text_of, until

SECRET = "a secret of thirty-two bytes or more"
NATIVE = "/api/v1/conversations"


def token(user: str, seconds: float = 60) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + seconds}, SECRET, "HS256")


def contents(served: Served, session_id: str) -> list[str]:
    data = served.client.get(f"{NATIVE}/{session_id}").json["data"]
    return [message["content"] for message in data["messages"]]


# --- replies


@pytest.mark.parametrize("path", ["/ws/s1", "/ws?session_id=s1", "/ws/s1/"])
def test_first_message_creates_session(serve: Serve, path: str) -> None:
    """Websocket通信: a message is answered by one stream, and both are in the history."""
    served = serve()
    connection = served.connect(path)
    connection.say("你好 world")
    reply = connection.reply()
    assert text_of(reply) == "echo: 你好 world"
    assert len(reply) == 5
    assert contents(served, "s1") == ["你好 world", "echo: 你好 world"]
    assert served.client.get("/api/chat/sessions/s1").json["data"]["title"] == "新会话"


def test_reply_reaches_every_socket(serve: Serve) -> None:
    """Whoever asks, over whatever dialect: all sockets of the session get it, and no other."""
    served = serve()
    ours = [served.connect("/ws/s1"), served.connect("/ws?session_id=s1")]
    other = served.connect("/ws/s2")
    served.client.post(f"{NATIVE}/s1/messages", json={"content": "native"})
    session = {"session_id": "s1", "content": "posted", "role": "user"}
    assert served.client.post("/api/chat/message", json=session).json["data"]["content"] == "posted"
    for connection in ours:
        assert text_of(connection.reply()) == "echo: native"
        assert text_of(connection.reply()) == "echo: posted"
    other.say("mine")
    assert text_of(other.reply()) == "echo: mine"


def test_senders_at_once_see_one_order(serve: Serve) -> None:
    """Several senders on one session: every socket sees all replies, whole, in the order of the history."""
    served = serve(script=[Delta("a"), 0.01, Delta("b")])
    connections = [served.connect("/ws/s") for _ in range(3)]
    connections[0].say("first")
    replies = [[connection.reply()] for connection in connections]

    def send(number: int) -> None:
        served.app.test_client().post(f"{NATIVE}/s/messages", json={"content": f"n{number}"})

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for number in range(6):
        connections[number % 3].say(f"w{number}")
    for seen, connection in zip(replies, connections, strict=True):
        seen += [connection.reply() for _ in range(12)]
    for thread in threads:
        thread.join(WAIT)
    assert replies[0] == replies[1] == replies[2]
    assert [text_of(reply) for reply in replies[0]] == ["ab"] * 13
    assert len({reply[0]["stream_id"] for reply in replies[0]}) == 13
    assert contents(served, "s")[1::2] == ["ab"] * 13


def test_late_socket_joins_from_start(serve: Serve) -> None:
    """A socket that opens in the middle of a reply gets all of it, then the replies that were waiting."""
    served = serve(script=[Delta("one "), 1.0, Delta("two")])
    first = served.connect("/ws/s")
    first.say("1")
    first.say("2")
    assert [first.next()["type"], first.next()["content"]] == ["stream_start", "one "]
    turns = parts_of(served.app).turns
    until(lambda: turns.running() == 2)
    late = served.connect("/ws/s")
    assert [text_of(late.reply()), text_of(late.reply())] == ["one two", "one two"]


def test_stop_ends_the_stream(serve: Serve) -> None:
    """A stop ends the reply for everybody and keeps what there is of it."""
    served = serve(script=[Delta("half"), 30.0, Delta("never")])
    connections = [served.connect("/ws/s"), served.connect("/ws/s")]
    connections[0].say("hi")
    assert [connections[0].next()["type"] for _ in range(2)] == ["stream_start", "stream_chunk"]
    connections[1].send({"type": "stop"})
    assert connections[0].next()["type"] == "stream_end"
    assert text_of(connections[1].reply()) == "half"
    assert contents(served, "s") == ["hi", "half"]


def test_model_failure_is_error_frame(serve: Serve) -> None:
    """A failure before the stream is an error alone, one during it ends it; the next message is answered."""
    before = serve(script=[UpstreamError("refused")]).connect("/ws/s")
    for _ in range(2):
        before.say("hi")
        assert before.reply() == [{"type": "error", "content": "refused"}]
    during = serve(script=[Delta("half"), UpstreamError("cut off")]).connect("/ws/s")
    for _ in range(2):
        during.say("hi")
        types = [frame["type"] for frame in during.reply()]
        assert types == ["stream_start", "stream_chunk", "error"]


def test_client_gone_reply_is_stored(serve: Serve) -> None:
    """A client that leaves in the middle does not stop the reply."""
    served = serve(script=[Delta("one "), 0.2, Delta("two")])
    connection = served.connect("/ws/s")
    connection.say("hi")
    connection.next()
    connection.close()
    until(lambda: contents(served, "s") == ["hi", "one two"])


# --- what clients do wrong


@pytest.mark.parametrize(
    "frame",
    [
        "not json",
        "[1]",
        '"text"',
        '{"type":"user"}',
        '{"type":"user","content":null}',
        '{"type":"user","content":1}',
        '{"type":"user","content":""}',
        '{"type":"user","content":" \\n"}',
        '{"type":"stop"}',
    ],
)
def test_wrong_frame_is_an_error(serve: Serve, frame: str) -> None:
    """A frame that makes no sense is answered with an error; nothing is stored, the socket stays open."""
    served = serve()
    connection = served.connect("/ws/s")
    connection.send(frame)
    answer = connection.next()
    assert (answer["type"], bool(answer["content"])) == ("error", True)
    assert served.client.get(f"{NATIVE}/").json["data"] == []
    connection.say("hi")
    assert text_of(connection.reply()) == "echo: hi"


def test_unknown_type_is_ignored(serve: Serve) -> None:
    """What a later client may say is no error."""
    connection = serve().connect("/ws/s")
    for frame in ({"type": "typing"}, {"type": 3}, {"type": ["user"]}, {}, {"type": "heartbeat_pong"}):
        connection.send(frame)
    connection.socket.ping("x")
    connection.say("hi")
    assert text_of(connection.reply()) == "echo: hi"


def test_huge_message_is_closed_1009(serve: Serve) -> None:
    """A message over the limit ends its connection at once, and the client gets to know why."""
    served = serve()
    connection = served.connect("/ws/s")
    began = time.monotonic()
    connection.say("x" * 20_000_000)
    assert connection.close_code() == 1009
    assert time.monotonic() - began < 5
    pieces = serve(max_body_bytes=1000).connect("/ws/s")
    for opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_CONT, ABNF.OPCODE_CONT):
        pieces.socket.send_frame(ABNF(0, 0, 0, 0, opcode, 1, b"y" * 400))
    assert pieces.close_code() == 1009


def test_largest_message_is_taken(serve: Serve) -> None:
    """A message just under the limit is stored and answered like any other."""
    served = serve()
    connection = served.connect("/ws/s")
    connection.say("文" * 600_000)
    assert len(text_of(connection.reply())) == 600_006


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\x82\x81\0\0\0\0x", 1003), (b"\x83\x80\0\0\0\0", 1002), (b"\x81\x01x", 1002), (b"\x81\x81\0\0\0\0\xff", 1007)],
    ids=["binary", "opcode", "unmasked", "utf8"],
)
def test_broken_frame_is_told(serve: Serve, frame: bytes, code: int) -> None:
    """Bytes that are no text frame close the connection at once, with the code for it; no HTTP follows."""
    began = time.monotonic()
    with serve().raw("/ws/s") as connection:
        connection.sendall(frame)
        answer = b""
        while data := connection.recv(4096):
            answer += data
    assert answer[0] == 0x88
    assert int.from_bytes(answer[2:4], "big") == code
    assert len(answer) == 2 + answer[1]
    assert time.monotonic() - began < websocket.LINGER


def test_bug_does_not_spill(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error nobody foresaw is an error frame; it names the request and nothing else."""
    served = serve()
    connection = served.connect("/ws/s")
    monkeypatch.setattr(parts_of(served.app).conversations, "send", lambda *_, **__: 1 / 0)
    connection.say("hi")
    answer = connection.next()
    assert answer["type"] == "error"
    assert "internal error" in answer["content"]
    assert "division" not in answer["content"]


# --- clients that are not there any more


def test_silent_client_is_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats come on time; a client that answers them stays, one that does not is closed."""
    monkeypatch.setattr(hub, "LOOK", 0.02)
    monkeypatch.setattr(websocket, "HEARTBEAT", 0.1)
    monkeypatch.setattr(websocket, "SILENCE", 0.5)
    served = serve()
    silent, alive = served.connect("/ws/s"), served.connect("/ws/s")
    for _ in range(8):
        assert alive.next() == {"type": "heartbeat_ping"}
        alive.send({"type": "heartbeat_pong"})
    assert silent.next() == {"type": "heartbeat_ping"}
    assert silent.close_code() == 1008
    alive.say("hi")
    assert alive.reply()[-1]["type"] == "stream_end"


def test_heartbeats_come_during_replies(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long reply does not keep the heartbeats back."""
    monkeypatch.setattr(hub, "LOOK", 0.02)
    monkeypatch.setattr(websocket, "HEARTBEAT", 0.1)
    connection = serve(script=[step for _ in range(30) for step in (Delta("x"), 0.02)]).connect("/ws/s")
    connection.say("hi")
    types = [frame["type"] for frame in connection.reply()]
    assert types.count("stream_chunk") == 30
    assert types.count("heartbeat_ping") >= 2


def test_stalled_client_hurts_nobody(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stops reading is dropped; the others get everything meanwhile."""
    monkeypatch.setattr(hub, "LOOK", 0.1)
    monkeypatch.setattr(outlet, "STALL", 1.0)
    served = serve(script=[Delta("x" * 100_000) for _ in range(200)], max_reply_bytes=10**8)
    alive = served.connect("/ws/s")
    with served.raw("/ws/s") as stalled:
        began = time.monotonic()
        alive.say("hi")
        assert len(text_of(alive.reply())) == 20_000_000
        assert time.monotonic() - began < 5
        listeners = parts_of(served.app).turns.queues._listeners
        until(lambda: len(listeners["s"]) == 1)  # the stalled connection is given up
        assert stalled.fileno() > 0
    alive.say("again")
    assert len(text_of(alive.reply())) == 20_000_000


def test_gone_clients_leave_nothing(serve: Serve) -> None:
    """Connections that end, however they end, leave no thread and no listener."""
    served = serve()
    for _ in range(10):
        served.connect("/ws/s").close()
        with served.raw("/ws/s") as connection:
            connection.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: closing resets
    until(lambda: not parts_of(served.app).turns.queues._listeners)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("turn")]
    until(lambda: not parts_of(served.app).turns.hub._handlers)


# --- who may connect


def refused(served: Served, path: str, **options: object) -> int:
    with pytest.raises(WebSocketBadStatusException) as caught:
        served.connect(path, **options)
    assert b'"data":null' in caught.value.resp_body
    return caught.value.status_code


def test_foreign_page_is_refused(serve: Serve) -> None:
    """A page of another site cannot open the socket; a local one can."""
    served = serve()
    assert refused(served, "/ws/s", origin="https://evil.example") == 403
    assert refused(served, "/ws/s", host="evil.example", origin="http://evil.example") == 403
    connection = served.connect("/ws/s", origin="http://localhost:5173")
    connection.say("hi")
    assert text_of(connection.reply()) == "echo: hi"


def test_token_opens_own_sessions(serve: Serve) -> None:
    """With auth on the token comes in the header or the query; another user's session does not exist."""
    served = serve(auth_enabled=True, jwt_secret=SECRET)
    assert refused(served, "/ws/s") == 401
    assert refused(served, "/ws/s?token=nonsense") == 401
    mine = served.connect(f"/ws/s?token={token('ada')}")
    mine.say("hi")
    assert text_of(mine.reply()) == "echo: hi"
    assert refused(served, f"/ws/s?token={token('eve')}") == 404
    again = served.connect("/ws/s", header={"Authorization": f"Bearer {token('ada')}"})
    again.say("more")
    assert text_of(again.reply()) == "echo: more"


def test_socket_ends_with_its_token(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket does not outlive the token that opened it; until then it works."""
    monkeypatch.setattr(hub, "LOOK", 0.02)
    served = serve(auth_enabled=True, jwt_secret=SECRET)
    connection = served.connect(f"/ws/s?token={token('ada', 2)}")
    connection.say("hi")
    assert text_of(connection.reply()) == "echo: hi"
    assert connection.close_code() == 1008


def test_waiting_stranger_hears_nothing(serve: Serve) -> None:
    """Who waits at an id that becomes another user's session hears nothing of it, and cannot write to it."""
    served = serve(auth_enabled=True, jwt_secret=SECRET)
    eve = served.connect(f"/ws/s?token={token('eve')}")
    ada = served.connect(f"/ws/s?token={token('ada')}")
    ada.say("secret")
    assert text_of(ada.reply()) == "echo: secret"
    eve.say("let me in")
    answer = eve.next()
    assert answer["type"] == "error"
    assert "does not exist" in answer["content"]
    ada.say("still mine")
    assert text_of(ada.reply()) == "echo: still mine"


@pytest.mark.parametrize("path", ["/ws", "/ws/.hidden", "/ws?session_id=a%2Fb", "/ws/" + "x" * 129])
def test_wrong_session_id_is_400(serve: Serve, path: str) -> None:
    """An id that cannot be one is refused before the socket opens."""
    assert refused(serve(), path) == 400


def test_plain_request_is_told(serve: Serve) -> None:
    """Without a whole handshake the answer is an envelope."""
    served = serve()
    for headers in ({}, {"Connection": "Upgrade", "Upgrade": "websocket"}):
        for path in ("/ws/s", "/ws?session_id=s"):
            answer = served.client.get(path, headers=headers)
            assert (answer.status_code, answer.json["code"], answer.json["data"]) == (400, 400, None)
            assert "WebSocket" in answer.json["message"]
    assert served.client.post("/ws/s", json={}).json["code"] == 405
    assert served.client.get("/ws/a/b").json["code"] == 404


# --- keys


def test_frame_with_a_key_is_sent_once(serve: Serve) -> None:
    """`idempotency_key` in a message: a repeat shows the reply again to who asks, and to nobody else."""
    served = serve()
    first, other = served.connect("/ws/s1"), served.connect("/ws?session_id=s1")
    message = {"type": "user", "content": "hi", "idempotency_key": "k1"}
    first.send(message)
    assert text_of(first.reply()) == text_of(other.reply()) == "echo: hi"
    other.send(message)
    assert text_of(other.reply()) == "echo: hi"
    other.send({**message, "content": "else"})
    assert "another message" in other.next()["content"]
    assert contents(served, "s1") == ["hi", "echo: hi"]
    first.send({**message, "idempotency_key": None, "content": "next"})
    assert text_of(first.reply()) == text_of(other.reply()) == "echo: next"


def test_frame_joins_the_running_reply(serve: Serve) -> None:
    """A repeat while the reply is running, over the same or a new connection, gets it once."""
    served = serve(script=[Delta("a"), 0.3, Delta("b")])
    message = {"type": "user", "content": "hi", "idempotency_key": "k1"}
    first = served.connect("/ws/s1")
    first.send(message)
    assert first.next()["type"] == "stream_start"
    second = served.connect("/ws/s1")
    first.send(message)
    second.send(message)
    assert [frame["type"] for frame in first.reply()] == ["stream_chunk", "stream_chunk", "stream_end"]
    assert text_of(second.reply()) == "ab"
    first.send({"type": "user", "content": "next"})
    assert text_of(first.reply()) == text_of(second.reply()) == "ab"
    assert contents(served, "s1") == ["hi", "ab", "next", "ab"]


@pytest.mark.parametrize("key", ["", 5, "x" * 256, "a b", ["k"]])
def test_frame_with_what_is_no_key(serve: Serve, key: object) -> None:
    """What is no key is said to be none, and nothing is sent."""
    served = serve()
    connection = served.connect("/ws/s1")
    connection.send({"type": "user", "content": "hi", "idempotency_key": key})
    assert "1 to 255 visible ASCII" in connection.next()["content"]
    assert contents(served, "s1") == []
