"""What this server measures of itself, and `/metrics`, where Prometheus reads it."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from functools import cache, wraps
from typing import Annotated, Any

from flask import Flask, Response, request

from core.errors import AppError, Forbidden, StorageError
from core.metrics import LONG, QUICK, USUAL, Count, Now, Page, Times
from core.web import OTHER
from self_agent.document import Sample
from self_agent.storage import Store
from self_agent.turns.runner import Turns
from self_agent.turns.turn import Turn

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUSY = "(busy)"  # the route of a request that no thread was left for
TIMED = {
    "append": "append",
    "begin": "begin",
    "finish": "finish",
    "checkpoint": "checkpoint",
    "messages": "read",
    "latest": "read",
    "conversations": "list",
}  # methods of a store, by what they count as
FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
TOKENS = ("prompt_tokens", "completion_tokens")
MOST_TOKENS = 10**9  # of one reply: what claims more is no count
NOT_HERE = "metrics are for this computer: ask on it, without a proxy, or turn AUTH_ENABLED on and send a token"


class Metrics:
    """All that is counted, from the first request to the last."""

    def __init__(self) -> None:
        self._requests = Count("self_agent_requests", "Answers, by route.", ("method", "route", "status"))
        self._seconds = Times("self_agent_request_seconds", "From a request's head to its answer.", ("route",), USUAL)
        self._replies = Times("self_agent_reply_seconds", "From a send to the end of its reply.", ("outcome",), LONG)
        self._first = Times("self_agent_first_token_seconds", "From a send to its reply's first piece.", (), LONG)
        self._tokens = Count("self_agent_tokens", "Tokens, as far as models say.", ("kind",))
        self._store = Times("self_agent_store_seconds", "How long the store takes.", ("operation",), QUICK)
        self._failures = Count("self_agent_store_failures", "What the store could not do.", ("operation",))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.add((method, route, str(status)))
        self._seconds.add((route,), seconds)

    def refused(self) -> None:
        """Count an answer that says that all threads are busy."""
        self._requests.add((OTHER, BUSY, "503"))

    def ended(self, turn: Turn, outcome: str) -> None:
        """Count a reply, however it ended."""
        self._replies.add((outcome,), time.monotonic() - turn.began)
        if turn.first:
            self._first.add((), turn.first - turn.began)
        usage = turn.reply.usage if isinstance(turn.reply.usage, dict) else {}
        for kind in TOKENS:
            if type(count := usage.get(kind)) is int and 0 < count <= MOST_TOKENS:
                self._tokens.add((kind.removesuffix("_tokens"),), count)

    def watch(self, store: Store) -> None:
        """Measure what a store does from now on."""
        for method, operation in TIMED.items():
            setattr(store, method, self._timed(getattr(store, method), (operation,)))

    def _timed(self, method: Callable[..., Any], operation: tuple[str]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*arguments, **options)
            except Exception as error:
                if isinstance(error, StorageError) or not isinstance(error, AppError):
                    self._failures.add(operation)
                raise
            finally:
                self._store.add(operation, time.perf_counter() - began)

        return call

    def page(self, turns: Turns) -> Page:
        """Return the page of all this, and of what runs now."""

        def states() -> dict[tuple[str, ...], int]:
            running, both = len(turns.queues.running()), turns.running()
            return {("running",): running, ("waiting",): max(0, both - running)}

        def hub() -> dict[tuple[str, ...], int]:
            return {(): turns.hub.count()}

        counted = (self._requests, self._seconds, self._replies, self._first, self._tokens, self._store, self._failures)
        return Page(
            (
                *counted,
                Now("self_agent_turns", "Questions without their whole reply.", ("state",), states),
                Now("self_agent_hub_connections", "Models and clients that the hub waits for.", (), hub),
            )
        )


def install(app: Flask, make_page: Callable[[], Page], *, auth: bool) -> None:
    """Serve `/metrics`; with `auth` the token was looked at before, without it only this computer is answered."""
    page = cache(make_page)

    @app.get("/metrics")
    def metrics() -> Annotated[Response, Sample(CONTENT_TYPE, "# HELP …")]:
        """Say how the server does, for Prometheus: to this computer, or to whoever has a token."""
        if not auth:
            check_local(request.remote_addr)
        return Response(page().text(), headers={"Cache-Control": "no-store"}, content_type=CONTENT_TYPE)


def check_local(address: str | None) -> None:
    """Raise Forbidden unless the current request comes from this computer itself, and not through a proxy on it.

    No header can let anybody in; that of a proxy keeps out whoever is behind it.
    """
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:  # a socket without addresses: who is at its other end is not known
        raise Forbidden(NOT_HERE) from None
    found = getattr(found, "ipv4_mapped", None) or found
    if not found.is_loopback or any(name in request.headers for name in FORWARDED):
        raise Forbidden(NOT_HERE)
