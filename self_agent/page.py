"""The chat page at `/` and `/c/<id>`, and its files below `/web/`; a plain page until its libraries are there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from flask import Flask, Response, request
from werkzeug.http import parse_accept_header

from core.errors import NotFound
from core.logs import SHOWN
from self_agent import welcome
from self_agent.assets import Asset, Assets
from self_agent.document import Sample
from self_agent.libraries import WEB, FetchFailed, locked, obtain

log = logging.getLogger(__name__)

ROOTS = ("/c", "/web")  # no dialect may be below these
VIEWS = ("chat", "page_file")  # show nothing of anybody: the page itself asks for a token
HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-DNS-Prefetch-Control": "off",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}
FETCHING = "The chat page's libraries are being fetched; it comes up here by itself."
MISSING = "The chat page comes up here when its libraries are there: python -m self_agent.libraries fetches them."


class Page:
    """The page's files, once they are all there."""

    def __init__(self, registry: str = "", web: Path = WEB) -> None:
        """`registry` is where missing libraries are fetched from, "" npm's own."""
        self.why_not = MISSING  # for a person, as long as there are no assets
        self._registry = registry
        self._web = web
        self._packages = [package for package in locked(web / "libraries.lock.json") if not package.tests]
        self._assets: Assets | None = None

    def assets(self) -> Assets | None:
        """Return the files; None while libraries are missing, wherever they shall come from."""
        if self._assets is None and all(package.is_in(self._web / "libraries") for package in self._packages):
            self._assets = Assets(self._web, self._packages)
        return self._assets

    def start(self) -> None:
        """Begin to fetch what is missing, in the background."""
        if self.assets() is None:
            self.why_not = FETCHING
            threading.Thread(target=self._fetch, name="page", daemon=True).start()

    def _fetch(self) -> None:
        log.info("page: fetching its libraries, 3 MB", extra=SHOWN)
        try:
            obtain(self._packages, self._registry, self._web / "libraries")
            log.info("page: its libraries are there", extra=SHOWN)
        except FetchFailed as failure:
            self.why_not = f"The chat page is not here: {failure}"
            log.warning("page: %s", failure)
        except Exception:
            self.why_not = MISSING
            log.exception("page: its libraries could not be fetched")


def install(app: Flask, page: Page | None, status: Callable[[], dict[str, Any]]) -> None:
    """Serve the page, or a plain one if there is none; `status` returns what the provider says of itself."""

    def shell() -> Response:
        assets = page.assets() if page else None
        asset = assets.shell() if assets else None
        if assets is None or asset is None:
            return welcome.page(request.url_root, status(), page.why_not if page else "")
        response = _response(asset)
        response.headers["Content-Security-Policy"] = assets.policy
        return response

    @app.get("/", endpoint="welcome")
    def start_page() -> Annotated[Response, Sample("text/html", "<!doctype html>…")]:
        """Show the chat page, or say what runs here, for a person."""
        return shell()

    if page is None:
        return

    def file(name: str) -> Response:
        assets = page.assets()
        asset = assets.get(name) if assets else None
        if asset is None:
            raise NotFound("the page has no such file; reload it if the server has been updated")
        return _response(asset)

    # Without annotations they are no operations of /openapi.json: they are for people. The page itself reads the id.
    app.add_url_rule("/c/<conversation_id>", "chat", lambda conversation_id: shell())
    app.add_url_rule("/web/<path:name>", "page_file", lambda name: file(name))  # noqa: PLW0108


def _response(asset: Asset) -> Response:
    """Send a file packed if the client takes that, and not at all if it has it already."""
    is_packed = asset.packed is not asset.plain and _takes_gzip(request.headers.get("Accept-Encoding", ""))
    etag = f"{asset.etag}-gzip" if is_packed else asset.etag
    is_known = "If-None-Match" in request.headers and request.if_none_match.contains_weak(etag)
    body = b"" if is_known else asset.packed if is_packed else asset.plain
    response = Response(body, 304 if is_known else 200, HEADERS, content_type=asset.content_type)
    response.headers["ETag"] = f'"{etag}"'
    response.headers["Cache-Control"] = asset.cache_control
    if is_packed:
        response.headers["Content-Encoding"] = "gzip"
    return response


@lru_cache(maxsize=32)  # browsers all say the same, and to read it takes as long as the rest of the answer
def _takes_gzip(accepted: str) -> bool:
    return parse_accept_header(accepted).quality("gzip") > 0
