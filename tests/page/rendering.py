"""What the tests of rendering share: a tab with its modules, and Markdown shown in it, whole or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.page.browsing import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.page.conftest import Device

CHUNKINGS = (1, 3, 17, 100_000)  # characters

# `shown` inserts a whole message; `streamed` pushes it in pieces and renders between them, as frames would;
# `settled` waits for colours and formulas; `htmlOf` leaves out white space that a person cannot see.
TOOLS = """async () => {
    const [{ renderMarkdown }, { Blocks }] = await Promise.all([import("/web/render.js"), import("/web/blocks.js")]);
    const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "/web/style/markdown.css" });
    document.head.append(sheet);
    const div = () => {
        const made = document.createElement("div");
        made.className = "markdown";
        document.body.append(made);
        return made;
    };
    const unseen = (node) => !node.data.trim() && !node.parentNode.closest("pre, p, td, th, h1, h2, a");
    const wait = (ms) => new Promise((done) => setTimeout(done, ms));
    Object.assign(window, {
        renderMarkdown, Blocks, div, wait,
        shown(text) { const made = div(); made.append(renderMarkdown(text)); return made; },
        streamed(text, size) {
            const made = div(), blocks = new Blocks(made);
            for (let at = 0; at < text.length; at += size) { blocks.push(text.slice(at, at + size)); blocks.render(); }
            blocks.finish();
            return made;
        },
        async settled(until) {
            for (let tries = 0; tries < 200; tries++) { await wait(20); if (until()) return true; }
            return false;
        },
        htmlOf(root) {
            const copy = root.cloneNode(true);
            const walker = document.createTreeWalker(copy, 4), gone = [];
            while (walker.nextNode()) if (unseen(walker.currentNode)) gone.push(walker.currentNode);
            gone.forEach((node) => node.remove());
            copy.normalize();
            return copy.innerHTML.replace(/ class="math"/g, "");
        },
    });
    // Colours and formulas come when the browser is idle; the structure is compared without them.
    window.different = async (text, sizes) => {
        const bare = (root) => { const html = htmlOf(root); root.remove(); return html; };
        const whole = bare(shown(text));
        return sizes.map((size) => [size, bare(streamed(text, size))]).filter(([, html]) => html !== whole)
            .map(([size, html]) => ({ size, html, whole }));
    };
}"""


@contextmanager
def running(folder: Path) -> Iterator[PageServer]:
    """A server for all tests of a file: none of them changes anything in it."""
    server = PageServer(folder)
    assert server.url, server.output
    yield server
    server.kill()


def open_tools(device: Device, **options: Any) -> Page:
    """Return a tab whose window has the tools; `bypass_csp=True` switches the policy off."""
    page = device(**options).new_page()
    page.goto("/")
    page.evaluate(TOOLS)
    return page
