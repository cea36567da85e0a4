"""Whatever a model says runs nothing, loads nothing from elsewhere and leads nowhere by itself, streamed or whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.page import payloads
from tests.page.conftest import Complaints, Device, PageServer
from tests.page.rendering import open_tools, running

if TYPE_CHECKING:
    from playwright.sync_api import Page

# What may stand in a message, formulas apart: KaTeX's own elements are checked for what could act.
BARE = "blockquote br del em h1 h2 h3 h4 h5 h6 hr kbd mark p strong sub sup table tbody thead tr u ul"
ALLOWED: dict[str, list[str]] = {
    **{tag: [] for tag in BARE.split()},
    **{
        "a": ["href", "title", "target", "rel", "data-picture"],
        "img": ["src", "alt"],
        "ol": ["start"],
        "td": ["align"],
        "th": ["align"],
    },
    **{
        "div": ["class", "tabindex", "data-math"],
        "span": ["class", "data-math", "data-picture"],
        "li": ["data-task"],
        "pre": ["tabindex", "class"],
    },
    **{"code": ["data-lang"], "header": [], "button": ["type", "class", "title", "aria-label", "aria-pressed"]},
    **{"svg": ["viewBox", "aria-hidden"], "path": ["d"]},
}
HARMLESS = """([texts, allowed, sizes]) => {
    const events = ["click", "mouseover", "focus", "pointerenter", "toggle", "error", "load", "animationstart"];
    const wrong = [], acting = /script|iframe|object|embed|form|link|meta|base/i;
    const acts = ({ name, value }) => /^on|href|src|action/i.test(name) || /url\\(|script:/i.test(value);
    const look = (root, text) => {
        for (const node of root.querySelectorAll("*")) {
            if (node.closest(".katex")) {
                if ([...node.attributes].some(acts) || acting.test(node.localName)) wrong.push([text, node.outerHTML]);
                continue;
            }
            const names = allowed[node.localName];
            const href = node.getAttribute("href"), src = node.getAttribute("src");
            const isKnown = names && [...node.attributes].every(({ name }) => names.includes(name));
            if (!isKnown) wrong.push([text, node.outerHTML]);
            if (href !== null && !/^(https?:\\/\\/|mailto:|tel:)/.test(href)) wrong.push([text, href]);
            if (src !== null && !/^data:image\\/(png|jpeg|gif|webp|avif);/.test(src)) wrong.push([text, src]);
            const mayAct = !node.href && node.localName !== "button";
            if (mayAct) for (const event of events) node.dispatchEvent(new Event(event));
            if (node.localName === "a" && !node.href) node.click();
        }
    };
    for (const text of texts) {
        for (const size of sizes) {
            const root = size ? streamed(text, size) : shown(text);
            look(root, text);
            if (window.later) later.push([root, text]); else root.remove();
        }
    }
    window.look = look;
    return wrong;
}"""
# Formulas and colours come later; then everything is looked at once more.
LATER = """async () => {
    const wrong = [];
    const number = (selector) => document.querySelectorAll(selector).length;
    const isDone = () => number(".katex") > 5 && number(".hljs-tag") > 50;
    if (!(await settled(isDone))) wrong.push("nothing was set or coloured");
    await wait(300);
    for (const [root, text] of later) look(root, text);
    return wrong;
}"""


@pytest.fixture(scope="module")
def server(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """One server for this file."""
    with running(tmp_path_factory.mktemp("server")) as running_server:
        yield running_server


class Watched:
    """A tab that notes what ran, what was asked of others, and where it went."""

    def __init__(self, device: Device, server: PageServer, **options: Any) -> None:
        self.page: Page = open_tools(device, **options)
        self.far: list[str] = []
        self.went: list[str] = []
        self.page.context.route(lambda url: not url.startswith((server.url, "data:")), self._refuse)
        self.page.on("framenavigated", lambda frame: self.went.append(frame.url))
        self.page.context.on("page", lambda popup: self.went.append(popup.url))
        self.page.on("dialog", lambda dialog: self.went.append(dialog.message))
        self.page.evaluate("() => { window.count = 0; window.ran = () => { count++; }; }")

    def _refuse(self, route: Any) -> None:
        self.far.append(route.request.url)
        route.abort()

    def happened(self) -> tuple[int, list[str], list[str]]:
        """Return how often something ran, what was asked of others, where the tab or a new one went."""
        self.page.wait_for_timeout(300)
        return self.page.evaluate("() => count"), self.far, self.went


@pytest.mark.parametrize("options", [{}, {"bypass_csp": True}], ids=["policy", "no policy"])
def test_nothing_runs(device: Device, server: PageServer, options: dict[str, Any]) -> None:
    """Hundreds of payloads in ten places each, whole and streamed; no policy is needed, and none is violated."""
    watched = Watched(device, server, **options)
    texts = [text for payload in payloads.ALL for text in payloads.placed(payload)]
    assert len(payloads.ALL) > 300
    for at in range(0, len(texts), 500):
        assert watched.page.evaluate(HARMLESS, [texts[at : at + 500], ALLOWED, [0, 23]]) == []
    assert watched.happened() == (0, [], [])


@pytest.mark.parametrize("options", [{}, {"bypass_csp": True}], ids=["policy", "no policy"])
def test_nothing_runs_when_set_and_coloured(device: Device, server: PageServer, options: dict[str, Any]) -> None:
    """Payloads stay harmless when KaTeX and highlight.js have been over them."""
    watched = Watched(device, server, **options)
    watched.page.evaluate("() => { window.later = []; }")
    texts = [text for text in payloads.ALL if text.startswith(("$", "```"))]
    texts += [f"```html\n{text}\n```" for text in payloads.TAGS]
    assert watched.page.evaluate(HARMLESS, [texts, ALLOWED, [0, 7]]) == []
    assert watched.page.evaluate(LATER) == []
    assert watched.happened() == (0, [], [])


def test_payloads_are_live(device: Device, server: PageServer, complaints: Complaints) -> None:
    """Inserted as they are, many of the payloads run, ask others, and lead away: the tests above would see it."""
    complaints.allow("")
    watched = Watched(device, server, bypass_csp=True)
    watched.page.evaluate(
        """texts => { for (const text of texts) { const root = div(); root.innerHTML = text;
            for (const link of root.querySelectorAll("a[href^=javascript]")) link.click(); } }""",
        [text for text in payloads.ALL if "http-equiv" not in text],
    )
    count, far, _ = watched.happened()
    assert count > 30
    assert len({*far}) >= 1
    watched.page.evaluate(
        "html => { div().innerHTML = html; }", f"<meta http-equiv=refresh content='0;url={payloads.FAR}'>"
    )
    watched.page.wait_for_timeout(300)
    assert payloads.FAR in watched.far


BOMBS = {
    "sqrt": "\\sqrt" * 280 + "x",
    "frac": "\\frac1" * 830 + "1",
    "frac in braces": "\\frac{a}" * 499 + "b",
    "braces": "{" * 1900 + "x" + "}" * 1900,
    "powers": "x^{" * 999 + "x" + "}" * 999,
    "left": "\\left(" * 210 + "x" + "\\right)" * 210,
    "macro": r"\def\a{" + "\\sqrt" * 300 + "}" + "\\a" * 100 + "x",
    "newcommand": r"\newcommand\a{" + "\\sqrt" * 300 + "}" + "\\a" * 100 + "x",
    "styles": "\\displaystyle x" * 250,
    "colours": "\\color{red}x" * 300,
    "over": "{a \\over " * 330 + "x" + "}" * 330,
    "environments": "\\begin{matrix}" * 130 + "x" + "\\end{matrix}" * 130,
    "options": "\\sqrt[3]" * 490 + "x",
    "options in options": "\\sqrt[" * 400 + "x" + "]x" * 400,
    "accents": "\\hat" * 990 + "x",
    "texts": "\\text{" * 400 + "x" + "}" * 400,
    "dollars": "\\text{\\(" * 300 + "x" + "\\)}" * 300,
    "choices": "\\mathchoice{a}{b}{c}" * 190 + "x",
    "cells": "\\begin{matrix}" + "&" * 3900 + "\\end{matrix}",
    "long": "x+" * 2001,
}


def test_formula_bombs_stay_source(device: Device, server: PageServer) -> None:
    """Formulas that would crash or freeze a browser are shown as their source; long sane ones are set."""
    page = open_tools(device)
    asked = """async tex => (await import("/web/math.js")).isHarmless(tex)"""
    assert {name: page.evaluate(asked, tex) for name, tex in BOMBS.items()} == dict.fromkeys(BOMBS, False)
    sane = [
        r"\alpha + \beta + \gamma " * 60,
        r"\begin{aligned} "
        + r"\mathbf{x}_{k+1} &= \mathbf{A}\mathbf{x}_k + \hat{\mathbf{w}}_k \\ " * 40
        + r"\end{aligned}",
        r"[0,1) \cup (2,3] " * 60,
        r"\left( \sum_{i=1}^{n} \frac{\partial^2 f}{\partial x_i^2} \right) = \int_0^\infty e^{-x^2} \,dx",
        r"\cfrac{1}{1+\cfrac{1}{1+\cfrac{1}{1+\cfrac{1}{1+\cfrac{1}{1+\cfrac{1}{2}}}}}}",
        r"\text{if } x \in [a, b) \quad \forall \epsilon > 0 \;\exists \delta > 0 : |x - y| < \delta",
    ]
    assert [tex for tex in sane if not page.evaluate(asked, tex)] == []
    text = "\n\n".join(f"$${tex}$$" for tex in [*BOMBS.values(), *sane])
    page.evaluate("text => { window.root = shown(text); streamed(text, 1000); }", text)
    assert page.evaluate("n => settled(() => root.querySelectorAll('.katex').length === n)", len(sane))
    assert page.evaluate("() => root.querySelectorAll('.katex-error').length") == 0


PATHS = {
    "emphasis": "_a**b " * 5000,
    "stars": "*" * 30_000,
    "brackets": "[" * 30_000,
    "links": "[a](" * 7500,
    "ticks": " ".join("`" * n for n in range(240)),
    "tags": "<u>" * 10_000,
    "half tags": '<a b="' * 6000,
    "dollars": "$a " * 10_000,
    "quotes": ">" * 30_000,
    "lists": "- " * 15_000,
    "steps": "\n".join("  " * n + "- a" for n in range(240)),
    "columns": "|a" * 5000 + "|\n" + "|-" * 5000 + "|\n" + "|b" * 5000 + "|",
    "definitions": "".join(f"[{n}]: http://e.org/{n}\n" for n in range(1500)) + "[1][2]" * 1200,
    "fences": "```\n" * 2500,
    "formula marks": "$$\n" * 8000,
    "setext": "a\n" * 10_000 + "===",
    "spaces": " " * 30_000 + "x",
    "one word": "x" * 200_000,
    "base64 in code": "```ts\n" + "x" * 19_000 + "\n```",
    "markup in code": "```html\n" + "<a " * 9000 + "\n```",
}


def test_pathological_texts_are_shown(device: Device) -> None:
    """30 kB made to keep a parser busy are shown, and the same streamed as whole; the time is the test's own limit."""
    page = open_tools(device)
    wrong = page.evaluate(
        """async texts => {
        const found = [];
        for (const [name, text] of Object.entries(texts)) {
            const whole = shown(text), grown = streamed(text, Math.ceil(text.length / 10));
            if (!whole.innerHTML || htmlOf(whole) !== htmlOf(grown)) found.push(name);
            whole.remove(); grown.remove();
            await wait(0);
        }
        return found;
    }""",
        PATHS,
    )
    assert wrong == []


def test_endless_words_stay_plain(device: Device) -> None:
    """Code with a line as long as base64 gets no colours: they would take the square of its length, many seconds."""
    page = open_tools(device)
    code = "size => shown('```ts\\nlet a = 1;\\n' + 'x'.repeat(size) + '\\n```')"
    page.evaluate(f"() => {{ window.long = ({code})(19_000); window.short = ({code})(300); }}")
    assert page.evaluate("() => settled(() => short.querySelector('.hljs-number'))")
    assert page.evaluate("() => long.querySelector('code').childElementCount") == 0
