"""The conversation server; `create_app` is the only place where its parts are put together."""

from __future__ import annotations

from collections.abc import Callable
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


class Application(Flask):
    """Flask, without asking before every call whether the function is a coroutine: none is."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as it is."""
        return func


def create_app(
    settings: Settings | None = None, *, store: Store | None = None, provider: Provider | None = None
) -> Flask:
    """Build the app; without arguments from the environment, on the data folder it names.

    Raises StartupError when it must not start. `close(app)` lets go of what it holds.
    """
    settings = settings or config.load()
    app = Application(__name__, static_folder=None)
    mounts = Mounts(settings.dialects)
    web.install(app, settings, mounts.error_body)
    auth.install(app, settings, local_user=LOCAL_USER, public=PUBLIC)
    mounts.register(app)
    openapi.install(app)
    cli.install(app)
    provider = provider or from_settings(settings)
    store = store or open_store(settings)
    app.extensions["self_agent"] = Conversations(
        store,
        Turns(store),
        provider,
        system_prompt=settings.system_prompt,
        context_tokens=settings.context_tokens,
    )
    app.add_url_rule("/healthz", "healthz", view_func=lambda: healthz(app))
    return app


def conversations_of(app: Flask) -> Conversations:
    """Return the use cases behind an app."""
    service = app.extensions["self_agent"]
    assert isinstance(service, Conversations)
    return service


def close(app: Flask, grace: float = 0.0) -> None:
    """End the app's turns (running replies may go on for `grace` seconds), then its provider and store."""
    service = conversations_of(app)
    service.turns.close(grace)
    service.provider.close()
    service.store.close()


def healthz(app: Flask) -> ViewResult:
    """Say what is ready; answers 200 as long as the server lives."""
    service = conversations_of(app)
    status: dict[str, Any] = {"store": {"ready": service.store.ready()}, "model": service.provider.status()}
    ready = status["store"]["ready"] and status["model"]["state"] == "ready"
    return json_response({"status": "ok" if ready else "starting", **status})
