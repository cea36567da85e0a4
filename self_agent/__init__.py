"""The conversation server; `create_app` is the only place where its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Flask

from core import auth, config, web
from core.config import Settings
from core.web import ViewResult, json_response
from self_agent import cli, openapi
from self_agent.conversations import Conversations
from self_agent.dialects import Mounts
from self_agent.models import LOCAL_USER
from self_agent.providers import Provider, from_settings
from self_agent.storage import Store, open_store
from self_agent.turns.runner import Turns

PUBLIC = ("/healthz", "/docs", "/openapi.json")


@dataclass(frozen=True)
class Parts:
    """What an app is made of."""

    store: Store
    turns: Turns
    provider: Provider
    conversations: Conversations


def create_app(
    settings: Settings | None = None, *, store: Store | None = None, provider: Provider | None = None
) -> Flask:
    """Build the app; without arguments from the environment, on the data folder it names.

    Raises StartupError when it must not start. `close(app)` lets go of what it holds.
    """
    settings = settings or config.load()
    app = Flask(__name__, static_folder=None)
    mounts = Mounts(settings.dialects)
    web.install(app, settings, mounts.error_body)
    auth.install(app, settings, local_user=LOCAL_USER, public=PUBLIC)
    web.install_body(app)
    mounts.register(app)
    openapi.install(app)
    cli.install(app)
    provider = provider or from_settings(settings)
    store = store or open_store(settings)
    turns = Turns(store)
    use_cases = Conversations(
        store, turns, provider, system_prompt=settings.system_prompt, context_tokens=settings.context_tokens
    )
    parts = app.extensions["self_agent"] = Parts(store, turns, provider, use_cases)
    app.add_url_rule("/healthz", "healthz", view_func=lambda: healthz(parts))
    return app


def parts_of(app: Flask) -> Parts:
    """Return what an app was put together from."""
    parts = app.extensions["self_agent"]
    assert isinstance(parts, Parts)
    return parts


def close(app: Flask, grace: float = 0.0) -> None:
    """End the app's turns (running replies may go on for `grace` seconds), then its provider and store."""
    parts = parts_of(app)
    parts.turns.close(grace)
    parts.provider.close()
    parts.store.close()


def healthz(parts: Parts) -> ViewResult:
    """Say what is ready, or why the store never will be; answers 200 as long as the server lives."""
    failure = parts.store.failure()
    store: dict[str, Any] = {"ready": False, "error": failure} if failure else {"ready": parts.store.ready()}
    status: dict[str, Any] = {"store": store, "model": parts.provider.status()}
    ready = store["ready"] and status["model"]["state"] == "ready"
    return json_response({"status": "failed" if failure else "ok" if ready else "starting", **status})
