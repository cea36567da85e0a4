"""The conversation server; `create_app` is the only place where its parts are put together."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from flask import Flask
from typing_extensions import NotRequired, TypedDict

from core import auth, config, web
from core.config import Settings
from core.web import Json, json_response
from self_agent import cli, metrics, openapi, page, readiness
from self_agent.conversations import Conversations
from self_agent.dialects import Mounts
from self_agent.feed import Feed
from self_agent.models import LOCAL_USER
from self_agent.page import Page
from self_agent.providers import Provider, from_settings
from self_agent.shelves import Shelves
from self_agent.storage import Store, open_store
from self_agent.titles import Titles
from self_agent.transfer import Transfer
from self_agent.turns.runner import Turns

PUBLIC = ("/", "/healthz", "/readyz", "/docs", "/openapi.json")


@dataclass(frozen=True)
class Parts:
    """What an app is made of."""

    store: Store
    turns: Turns
    provider: Provider
    conversations: Conversations
    shelves: Shelves
    feed: Feed
    titles: Titles
    transfer: Transfer
    settings: Settings
    page: Page | None
    metrics: metrics.Metrics
    draining: threading.Event  # set once the server is to stop


def create_app(
    settings: Settings | None = None, *, store: Store | None = None, provider: Provider | None = None
) -> Flask:
    """Build the app; without arguments from the environment, on the data folder it names.

    Raises StartupError when it must not start. `close(app)` lets go of what it holds.
    """
    settings = settings or config.load()
    app = Flask(__name__, static_folder=None)
    mounts = Mounts(settings.dialects)
    if settings.page:
        mounts.keep_free(*page.ROOTS)
    measured = metrics.Metrics()
    web.install(app, settings, mounts.error_body, measured.answered if settings.metrics else None)
    public_views = page.VIEWS if settings.page else ()
    auth.install(app, settings, local_user=LOCAL_USER, public=PUBLIC, public_views=public_views)
    web.install_body(app)
    mounts.register(app)
    openapi.install(app, mounts.error_body, auth=settings.auth_enabled)
    cli.install(app)
    provider = provider or from_settings(settings)
    if store is None:
        store = cli.later(partial(open_store, settings)) if cli.is_running() else open_store(settings)
    feed = Feed()
    titles = Titles(store, provider, feed.tell, is_on=settings.auto_title)
    if settings.metrics and not cli.is_running():
        measured.watch(store)
    turns = Turns(store, most=settings.max_reply_bytes, tell=titles.tell, ended=measured.ended)
    use_cases = Conversations(
        store,
        turns,
        provider,
        system_prompt=settings.system_prompt,
        context_tokens=settings.context_tokens,
        tell=feed.tell,
        keep_deleted_days=settings.keep_deleted_days,
    )
    shelves, transfer = Shelves(store, use_cases, feed.tell), Transfer(store, use_cases, feed.tell)
    chat_page = Page(settings.libraries_registry) if settings.page else None
    draining = threading.Event()
    parts = Parts(
        store, turns, provider, use_cases, shelves, feed, titles, transfer, settings, chat_page, measured, draining
    )
    app.extensions["self_agent"] = parts
    install_health(app, parts)
    readiness.install(app, store, provider, draining.is_set)
    if settings.metrics:
        metrics.install(app, partial(measured.page, turns), auth=settings.auth_enabled)
    page.install(app, chat_page, provider.status)
    return app


def parts_of(app: Flask) -> Parts:
    """Return what an app was put together from."""
    parts = app.extensions["self_agent"]
    assert isinstance(parts, Parts)
    return parts


def start(app: Flask) -> None:
    """Begin with what may take long, in the background: the model, and the libraries of the page."""
    parts = parts_of(app)
    parts.provider.start()
    if parts.page:
        parts.page.start()


def close(app: Flask, grace: float = 0.0) -> None:
    """End the app's turns (running replies may go on for `grace` seconds), then its provider and store."""
    parts = parts_of(app)
    parts.turns.close(grace)
    parts.titles.close()
    parts.feed.close()
    parts.provider.close()
    parts.store.close()


class Ready(TypedDict):
    """Whether something is ready, and why it never will be."""

    ready: bool
    error: NotRequired[str]


class Model(TypedDict):
    """Which model answers, and how far it is: `ready`, `none`, or a step on the way of the embedded one."""

    name: str
    state: str
    progress: NotRequired[Any]
    source: NotRequired[str]
    error: NotRequired[str]


class Health(TypedDict):
    """What is ready; `status` is `ok`, `starting` or `failed`."""

    status: str
    store: Ready
    model: Model


def install_health(app: Flask, parts: Parts) -> None:
    """Serve `/healthz`."""

    @app.get("/healthz")
    def healthz() -> Json[Health]:
        """Say what is ready, or why the store never will be; answers 200 as long as the server lives."""
        failure, model = parts.store.failure(), cast(Model, parts.provider.status())
        store: Ready = {"ready": False, "error": failure} if failure else {"ready": parts.store.ready()}
        status = "ok" if store["ready"] and model["state"] == "ready" else "starting"
        return json_response({"status": "failed" if failure else status, "store": store, "model": model})
