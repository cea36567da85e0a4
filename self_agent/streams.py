"""How a reply leaves: through the hub, so that no thread waits for a token or for a client.

A server that lends its connections (`LEND` in the WSGI environment; `gunicorn_server` does) gets them back when the
answer is out. With any other server the request's thread writes what there is, and sleeps in between.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from flask import Request

from core.errors import ClientGone, InvalidRequest
from self_agent.encoders.base import Framing
from self_agent.events import Failed
from self_agent.outlet import FIRST_PING, PING, Body, Follower, Lent, Relay, has_hung_up
from self_agent.providers.base import Live
from self_agent.turns.hub import Hub
from self_agent.turns.turn import Turn

log = logging.getLogger(__name__)

LEND = "self_agent.lend"  # the key of a function that returns a `Lent`
FIRST_WRITE = 1 << 14  # bytes that any connection takes at once, before the hub looks after it

Stream = tuple[Iterator[bytes], int, dict[str, str]]


class HandedOver(BrokenPipeError):
    """Raised in the place of the rest of an answer: the connection is the hub's now.

    A broken pipe, because a WSGI server then lets go of a request without another word, in the log too.
    """

    def __init__(self) -> None:
        super().__init__(errno.EPIPE, "handed over")


def event_stream(hub: Hub, request: Request, turn: Turn, framing: Framing) -> Stream:
    """Answer with a reply; the headers wait for the first event that has bytes.

    Raises the AppError of a reply that failed before: it can still be answered with a status.
    """
    data, position = _opening(turn, framing)
    return _follow(hub, lender(request), turn, framing, data, position), 200, framing.headers


def relayed(hub: Hub, request: Request, body: Iterable[bytes]) -> Iterator[bytes]:
    """Return what a view has to return to pass a body on."""
    lend = lender(request)
    if lend is None or not isinstance(body, Live):
        return iter(body)

    def pieces() -> Iterator[bytes]:
        yield b""
        Relay(hub, lend(), body).start()
        raise HandedOver

    return pieces()


def taken_over(request: Request, open_on: Callable[[Lent], None]) -> Iterator[bytes]:
    """Return what a view has to return to have its connection for itself, of which nothing is written then.

    Where the server cannot lend it, this thread waits until it is over. Raises InvalidRequest where nobody can.
    """
    over = threading.Event()
    lend, sock = request.environ.get(LEND), request.environ.get("werkzeug.socket")
    if sock is not None:
        lend = partial(Lent, sock, lambda _: over.set())
    elif lend is None:
        raise InvalidRequest("this server cannot open a WebSocket")

    def pieces() -> Iterator[bytes]:
        open_on(lend())
        if sock is not None:
            over.wait()
        yield from ()
        raise HandedOver

    return pieces()


def check_client(request: Request) -> Callable[[], None] | None:
    """Return a function that raises ClientGone once the client of a request has hung up, where that can be seen."""
    sock = request.environ.get("gunicorn.socket")
    if sock is None:
        return None

    def check() -> None:
        if has_hung_up(sock):
            raise ClientGone("nobody waits for this answer any more")

    return check


def lender(request: Request) -> Callable[[], Lent] | None:
    """Return the function that lends the connection of a request, if its answer goes out in chunks."""
    is_chunked = request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and request.method != "HEAD"
    return request.environ.get(LEND) if is_chunked else None


def _opening(turn: Turn, framing: Framing) -> tuple[bytes, int]:
    """Return the bytes of the first events, and how many these are.

    Where a failure has a place in the stream, nothing is waited for behind the first.
    """
    turn.wait_started()
    data, position = b"", 0
    for batch in turn.follow():
        last = batch[-1]
        data = b"".join(map(framing.encode, batch))
        if isinstance(last, Failed) and framing.is_cut_off(last):  # which breaks the answer, behind its headers
            if not data:
                raise last.error
            return data, position + len(batch) - 1
        position += len(batch)
        if data or framing.ping:
            break
    return data, position


def _follow(
    hub: Hub, lend: Callable[[], Lent] | None, turn: Turn, framing: Framing, data: bytes, position: int
) -> Iterator[bytes]:
    if lend is not None and not turn.is_over:
        is_much = len(data) > FIRST_WRITE
        yield b"" if is_much else data
        outlet = Body(hub, lend(), framing.ping)
        outlet.start()
        if is_much:
            outlet.send(data)
        Follower(turn, framing, outlet, position=position).start()
        raise HandedOver
    yield data
    for batch in turn.follow(position, first_silence=FIRST_PING, silence=PING):
        if data := b"".join(map(framing.encode, batch)) if batch else framing.ping:
            yield data
        if batch and framing.is_cut_off(batch[-1]):
            raise BrokenPipeError(errno.EPIPE, "the reply was cut off")
