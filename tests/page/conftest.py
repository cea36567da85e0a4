"""A real browser before a real server: `page` is an empty tab, and its test fails on what the console complains about.

The browser is Debian's Chromium (`apt-get install chromium`), or another that `CHROMIUM` names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from self_agent.libraries import FOLDER, FetchFailed, locked, obtain
from tests.page.browsing import NoBrowser, PageServer, chromium
from tests.upstream import FakeUpstream

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PATIENCE = 10_000  # milliseconds that an expectation is waited for
GRAVE = ("serious", "critical")

Serve = Callable[..., PageServer]
Device = Callable[..., "BrowserContext"]
Axe = Callable[["Page"], list[str]]


class Complaints:
    """What the console of any device said that is an error: also what the policy refused, and what nobody caught."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._allowed: list[str] = []

    def allow(self, *words: str) -> None:
        """Let pass what has one of these words in it, such as "409" for an answer that the test brings about."""
        self._allowed += words

    def left(self) -> list[str]:
        """Return what nobody allowed."""
        return [text for text in self.seen if not any(words in text for words in self._allowed)]


@pytest.fixture(scope="session")
def libraries() -> Path:
    """The folder of the page's libraries, all fetched."""
    try:
        obtain(locked(), os.environ.get("LIBRARIES_REGISTRY", ""))
    except FetchFailed as failure:
        pytest.skip(f"the tests of the page did not run: {failure}")
    return FOLDER


@pytest.fixture(scope="package")
def launched() -> Iterator[Browser | str]:
    """The browser, or why there is none. Not for longer: while it is open, `asyncio.run` fails."""
    try:
        with chromium() as browser:
            yield browser
    except NoBrowser as reason:
        yield str(reason)


@pytest.fixture
def browser(launched: Browser | str, libraries: Path, request: pytest.FixtureRequest) -> Browser:
    """The one browser of all tests."""
    if isinstance(launched, str):
        pytest.skip(f"{request.node.name} did not run: {launched}")
    return launched


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """What the consoles complained about; the test fails on what it does not `allow`."""
    found = Complaints()
    yield found
    assert not found.left()


@pytest.fixture
def serve(libraries: Path, tmp_path: Path) -> Iterator[Serve]:
    """Start a server with any settings, such as `auth_enabled=True`; each has a folder of its own."""
    servers: list[PageServer] = []

    def start(**settings: Any) -> PageServer:
        folder = tmp_path / f"server{len(servers)}"
        folder.mkdir()
        servers.append(PageServer(folder, **settings))
        assert servers[-1].url, servers[-1].output
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """A model's server that answers as the test scripts it; `serve(**asking(upstream))` asks it, see `browsing`."""
    with FakeUpstream() as running:
        yield running


@pytest.fixture
def server(serve: Serve) -> PageServer:
    """A server whose model echoes; a test file that needs another defines a `server` of its own."""
    return serve()


@pytest.fixture
def device(browser: Browser, server: PageServer, complaints: Complaints) -> Iterator[Device]:
    """Open contexts with Playwright's options, each a device of its own: `device(locale="zh-CN").new_page()`."""
    opened: list[BrowserContext] = []

    def switch_on(**options: Any) -> BrowserContext:
        context = browser.new_context(**{"base_url": server.url, "locale": "en-GB", **options})
        opened.append(context)
        context.set_default_timeout(PATIENCE)
        context.on("console", lambda said: complaints.seen.append(said.text) if said.type == "error" else None)
        context.on("weberror", lambda error: complaints.seen.append(str(error.error)))
        return context

    yield switch_on
    for context in opened:
        context.close()


@pytest.fixture
def context(device: Device) -> BrowserContext:
    """A desktop that speaks English."""
    return device()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """An empty tab; `page.goto("/")` opens the chat page."""
    return context.new_page()


@pytest.fixture
def axe(libraries: Path) -> Axe:
    """Return what axe-core finds on a page that is serious or critical, a line for each element."""
    [package] = [package for package in locked() if package.name == "axe-core"]
    source = (libraries / package.folder / "axe.min.js").read_text()

    def violations(page: Page) -> list[str]:
        page.evaluate(source)
        found = page.evaluate("() => axe.run({resultTypes: ['violations']})")
        return [
            f"{rule['impact']}: {rule['id']}: {node['target']}: {node['failureSummary']}"
            for rule in found["violations"]
            if rule["impact"] in GRAVE
            for node in rule["nodes"]
        ]

    return violations
