"""`/readyz`: whether a balancer should send requests here. `/healthz` says whether the server lives."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask
from typing_extensions import NotRequired, TypedDict

from core import errors
from core.errors import AppError
from core.web import Json, json_response
from self_agent.providers import Provider
from self_agent.storage import Store

DRAINING = "the server is stopping: send new requests to another"
OPENING = "the conversations are still being opened; try again shortly"


class Refusal(TypedDict):
    """The words of an error, where those who know the envelope look for them."""

    success: bool
    error: str


class Readiness(TypedDict):
    """Whether requests can be served, and if not, every reason; then with status 503, and an error's envelope."""

    ready: bool
    reasons: list[str]
    data: NotRequired[Refusal]


def install(app: Flask, store: Store, provider: Provider, is_draining: Callable[[], bool]) -> None:
    """Serve `/readyz`."""

    @app.get("/readyz")
    def readyz() -> Json[Readiness]:
        """Say whether requests can be served: the store is open, the model answers, the server is not stopping."""
        if not (found := reasons(store, provider, draining=is_draining())):
            return json_response({"ready": True, "reasons": []})
        refused: Readiness = {"ready": False, "reasons": found, "data": {"success": False, "error": "; ".join(found)}}
        return json_response(refused, errors.ModelUnavailable.status)


def reasons(store: Store, provider: Provider, *, draining: bool) -> list[str]:
    """Return why requests cannot be served now.

    A server that was told to have no model is ready without one: it keeps and shows conversations. Asking has an
    embedded model that failed tried again, as a question would: behind a balancer none comes as long as this says no.
    """
    found = [DRAINING] if draining else []
    if failure := store.failure():
        found.append(failure)
    elif not store.ready():
        found.append(OPENING)
    if provider.status()["state"] != "none" and not draining:
        try:
            provider.check()
        except AppError as error:
            found.append(error.message)
    return found
