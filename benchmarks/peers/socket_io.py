"""Open WebUI's stored replies as they come over Socket.IO: one question at a time, or many streams at once."""

from __future__ import annotations

import json
import re
import select
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import websocket

from benchmarks.answers import Kind, token
from benchmarks.load import Client as Http
from benchmarks.route import LIMIT, check, request, settled
from benchmarks.stream_load import QUESTION, Client, Received, Target, read

if TYPE_CHECKING:
    from benchmarks.peers.open_webui import OpenWebUI

COMPLETIONS = "/api/chat/completions"
DELTA = re.compile(r'"delta":"( t\d{4})"')
PACED = re.compile(rb'"delta":"(\d{4}):(\d{12}) "')
MESSAGE = re.compile(rb'"message_id":"([^"]+)"')
DONE = '"done":true'
PING, PONG = "2", "3"  # of Engine.IO, the server's every 25 s


class Connection:
    """A socket of the page: what the server says of the user's chats comes here."""

    def __init__(self, peer: OpenWebUI) -> None:
        url = f"ws://127.0.0.1:{peer.running.port}/ws/socket.io/?EIO=4&transport=websocket"
        self.socket = websocket.create_connection(url, timeout=LIMIT)
        self.socket.recv()
        self.socket.send("40" + json.dumps({"token": peer.headers["Authorization"].split()[-1]}))
        self.session = str(json.loads(self.socket.recv()[2:])["sid"])

    def next(self) -> str:
        """Return the next event."""
        while (said := str(self.socket.recv())) == PING:
            self.socket.send(PONG)
        return said

    def close(self) -> None:
        """Leave."""
        self.socket.close()


class SocketRoute:
    """Asks as `benchmarks.route.Route` does; the chats are those of the peer, by the name of a conversation."""

    def __init__(self, peer: OpenWebUI) -> None:
        self.peer = peer
        self.connection = peer.connected()  # one for all: each further one would get every token too
        self.http = Http(peer.running.port, lambda: self.data)
        self.data = b""

    def ask(self, kind: Kind, conversation: str) -> float:
        """Ask for an answer and check it; return the seconds to its first token."""
        chat, parent = self.peer.chats.get(conversation, (None, None))
        body, reply = self.peer.turn(chat, parent, kind.word, session_id=self.connection.session)
        self.data = request(COMPLETIONS, body, self.peer.headers)
        first, found, wanted, accepted, done = 0.0, [], token(0), False, False
        self.http.revive()
        begun = time.perf_counter()
        self.http.send()
        while not (accepted and done):
            ready = select.select([self.http.socket, self.connection.socket.sock], [], [], LIMIT)[0]
            if not ready:
                raise RuntimeError(f"{len(found)} of {kind.tokens} tokens came within {LIMIT:g} s")
            if self.http.socket in ready:
                accepted = self.http.answered()
            if self.connection.socket.sock in ready:
                said = self.connection.next()
                if reply not in said:  # the end of the answer before
                    continue
                if not first and wanted in said:
                    first = time.perf_counter() - begun
                found += DELTA.findall(said)
                done = done or DONE in said
        chat = json.loads(self.http.received.partition(b"\r\n\r\n")[2])["chat_id"]
        self.peer.chats[conversation] = (chat, reply)
        check(found, kind)
        return first

    def settled(self) -> float:
        """Wait until the server rests; return the processor seconds it has used so far."""
        return settled(self.peer.running.pid)


class SocketClient(Client):
    """Many chats of one user whose replies come over one socket: kinder to the server than a socket for each."""

    def __init__(self, target: Target, peer: OpenWebUI) -> None:
        super().__init__(target)
        self.peer = peer
        self.connection = Connection(peer)
        self.replies: list[str] = []
        self.ended, self.last = 0, b""

    def open_all(self, count: int) -> None:
        """Make the chats one after another; the upstream waits for the last before it sends a token."""
        http = Http(self.target.port, lambda: data)
        for _ in range(count):
            body, reply = self.peer.turn(None, None, QUESTION, session_id=self.connection.session)
            data = request(COMPLETIONS, body, self.peer.headers)
            self.replies.append(reply)
            http.send()
            while not http.answered():
                pass
        descriptor = self.connection.socket.sock.fileno()
        self.open[descriptor] = self.connection.socket.sock
        self.poll.register(descriptor, select.EPOLLIN)

    def receive(self, timeout: float) -> bool:
        """Note what has come, and whether all replies have ended."""
        seen = len(self.pieces)
        came = super().receive(timeout)
        for _, _, data in self.pieces[seen:]:
            tail = self.last[-len(DONE) + 1 :]
            self.ended += (tail + data).count(DONE.encode())
            self.last = data
        if self.ended >= len(self.replies):
            self.open.clear()
        return came

    def received(self) -> list[Received]:
        """Sort the events by the replies that they belong to."""
        streams: dict[str, list[tuple[float, bytes]]] = {reply: [] for reply in self.replies}
        for moment, event in payloads((moment, data) for _, moment, data in self.pieces):
            found = MESSAGE.search(event)
            if found and found[1].decode() in streams:
                streams[found[1].decode()].append((moment, event))
        self.connection.close()
        return [read(pieces, PACED) for pieces in streams.values()]


def payloads(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """Find the WebSocket frames in what came when; yield what is in each with the time of its last byte."""
    buffer = bytearray()
    for moment, data in pieces:
        buffer += data
        while len(buffer) >= 2:
            long = {126: 2, 127: 8}.get(buffer[1], 0)
            length = int.from_bytes(buffer[2 : 2 + long], "big") if long else buffer[1]
            if len(buffer) < 2 + long + length:
                break
            yield moment, bytes(buffer[2 + long : 2 + long + length])
            del buffer[: 2 + long + length]
