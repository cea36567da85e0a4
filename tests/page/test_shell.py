"""What the browser makes of the shell: libraries, policy, addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from tests.page.browsing import PageServer
from tests.page.conftest import Axe, Complaints

if TYPE_CHECKING:
    from playwright.sync_api import Page

SHOWN = "() => document.getElementById('app').childElementCount > 0"
EVERYTHING = """async () => {
    const map = JSON.parse(document.querySelector("script[type=importmap]").textContent).imports;
    const found = {};
    for (const name of Object.keys(map).filter((name) => !name.endsWith("/") && !name.endsWith(".css")))
        found[name] = Object.keys(await import(name)).length;
    found["dompurify/purify.min.js"] = Number(globalThis.DOMPurify.isSupported);  // it exports nothing
    return found;
}"""

HIGHLIGHTED = """async () => {
    const core = (await import("highlight.js/core")).default;
    const python = (await import("highlight.js/languages/python.min.js")).default;
    return python(core).name;
}"""
MATH = """async () => {
    const map = JSON.parse(document.querySelector("script[type=importmap]").textContent).imports;
    const sheet = document.createElement("link");
    const loaded = new Promise((resolve, reject) => Object.assign(sheet, { onload: resolve, onerror: reject }));
    document.head.append(Object.assign(sheet, { rel: "stylesheet", href: map["katex/katex.css"] }));
    await loaded;
    return (await document.fonts.load("16px KaTeX_Main", "x")).length;
}"""
ATTEMPTS = {
    "document.body.innerHTML = '<img src=x onerror=\"window.ran = 1\">'": "TypeError",
    "eval('window.ran = 1')": "EvalError",
    "new Function('window.ran = 1')()": "EvalError",
    "document.body.append(Object.assign(document.createElement('script'), { text: 'window.ran = 1' }))": "TypeError",
    "trustedTypes.createPolicy('mine', { createHTML: (text) => text })": "TypeError",
    "await fetch('http://127.0.0.1:9/')": "TypeError",
}
# Later, for what the debugger itself evaluates may evaluate in turn.
LATER = """() => new Promise((done) => setTimeout(async () => {{
    try {{ {}; done("it was let through"); }} catch (error) {{ done(error.name); }}
}}))"""


def test_shell_loads(page: Page) -> None:
    """The page comes up at both of its addresses, and the console has nothing to say."""
    for path in ("/", "/c/some-chat"):
        page.goto(path)
        page.wait_for_function(SHOWN)


def test_every_import_resolves(page: Page) -> None:
    """Whatever the import map names is there, and is a module with something in it; there is one Preact."""
    page.goto("/")
    found = page.evaluate(EVERYTHING)
    assert {"preact", "preact/hooks", "htm/preact", "@preact/signals", "marked", "katex"} <= set(found)
    assert all(count > 0 for count in found.values()), found
    assert page.evaluate("async () => (await import('htm/preact')).h === (await import('preact')).h")
    assert page.evaluate(HIGHLIGHTED) == "Python"


def test_math_has_style_and_fonts(page: Page) -> None:
    """KaTeX's sheet is where the import map says, and its fonts come from beside it."""
    page.goto("/")
    assert page.evaluate(MATH) == 1


def test_policy_is_in_force(page: Page, complaints: Complaints) -> None:
    """Neither markup with a handler, nor code from text, nor another host gets anywhere."""
    complaints.allow("Content Security Policy", "TrustedHTML", "TrustedScript", "TrustedTypePolicy")
    page.goto("/")
    for attempt, refusal in ATTEMPTS.items():
        assert page.evaluate(LATER.format(attempt)) == refusal, attempt
    assert not page.evaluate("() => window.ran")
    assert len(complaints.seen) >= len(ATTEMPTS) - 1


def test_axe_sees_what_is_wrong(page: Page, axe: Axe) -> None:
    """The fixture finds a button without a name, and nothing on the page as it is."""
    page.goto("/")
    page.wait_for_function(SHOWN)
    assert axe(page) == []
    page.evaluate("() => document.getElementById('app').append(document.createElement('button'))")
    assert any("button-name" in line for line in axe(page))


def test_first_paint_is_small(page: Page, server: PageServer) -> None:
    """What must be there before something shows has less than 100 kB as it is sent; Markdown comes behind it."""
    sizes: dict[str, int] = {}
    page.on("response", lambda got: sizes.__setitem__(got.url, int(got.headers.get("content-length", 0))))
    page.goto("/")
    page.wait_for_function(SHOWN)
    needed = page.evaluate(
        """() => [document.URL, ...[...document.querySelectorAll('link[rel=modulepreload], link[rel=stylesheet]')]
            .map((link) => link.href), ...[...document.scripts].map((script) => script.src).filter(Boolean)]"""
    )
    assert len(needed) > 10
    assert sum(sizes[url] for url in set(needed)) < 100_000, sizes
    assert not [url for url in needed if "dompurify" in url or "marked" in url]
    assert not [url for url in sizes if "katex" in url or "cdn-assets" in url]


def test_server_comes_back(server: PageServer) -> None:
    """What the other tests kill is started again at the same port, with its chats."""
    server.send("kept", "hello")
    server.kill()
    before = server.url
    server.start()
    assert server.url == before
    assert [message["content"] for message in server.messages("kept")] == ["hello", "echo: hello"]
    assert requests.get(server.url, timeout=10).text.startswith("<!doctype html>")
