"""A browser and a server with the page, for the tests and for the screenshot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.serving import Server
from tests.upstream import FakeUpstream

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class NoBrowser(Exception):
    """Raised when there is none; its text is the reason and the remedy."""


class PageServer(Server):
    """A server with the page, which can be killed and started again at its port."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._settings = {"page": True, **settings}
        super().__init__(folder, **self._settings)

    def start(self) -> None:
        """Start again, after a `kill`, on the same data and port."""
        super().__init__(self.folder, **{**self._settings, "port": urlsplit(self.url).port})
        assert self.url, self.output


def asking(upstream: FakeUpstream) -> dict[str, str]:
    """Return the settings of a server that asks `upstream`."""
    return {"provider": "openai", "openai_base_url": upstream.base_url, "openai_model": "scripted"}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the Chromium that is installed, or that `CHROMIUM` names. Raises NoBrowser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NoBrowser("there is no Playwright (pip install -r requirements-dev.txt)") from None
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise NoBrowser("there is no Chromium (apt-get install chromium, or set CHROMIUM to one)")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]  # as root, and in a container
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()
