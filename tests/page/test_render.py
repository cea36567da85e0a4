"""Markdown of every kind becomes the elements it stands for; what is not Markdown is shown as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.page.conftest import Axe, Complaints, Device, PageServer
from tests.page.rendering import open_tools, running

if TYPE_CHECKING:
    from playwright.sync_api import Page

HTML = "text => { const root = shown(text); const html = htmlOf(root); root.remove(); return html; }"
LINK = ' target="_blank" rel="noopener noreferrer nofollow"'
EXPECTED = {
    "# One\n\n###### Six": "<h1>One</h1><h6>Six</h6>",
    "Two\n===": "<h1>Two</h1>",
    "*a* _b_ **c** ~~d~~ `e < f`": "<p><em>a</em> <em>b</em> <strong>c</strong> <del>d</del> <code>e &lt; f</code></p>",
    "***a***, snake_case_name, 2*3*4": "<p><em><strong>a</strong></em>, snake_case_name, 2<em>3</em>4</p>",
    "one\ntwo\n\nthree": "<p>one<br>two</p><p>three</p>",
    "- a\n- b\n  1. c\n     continued": "<ul><li>a</li><li>b<ol><li>c<br>continued</li></ol></li></ul>",
    "7. a\n8. b": '<ol start="7"><li>a</li><li>b</li></ol>',
    "- a\n\n- b": "<ul><li><p>a</p></li><li><p>b</p></li></ul>",
    "- [ ] a\n- [x] b": '<ul><li data-task="">☐ a</li><li data-task="">☑ b</li></ul>',
    "> a\n> > b": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>",
    "a\n\n---\n\nb": "<p>a</p><hr><p>b</p>",
    "| a | b | c |\n|:-:|--:|---|\n| 1 | `x|y` |\n": (
        '<div class="table" tabindex="0"><table><thead><tr><th align="center">a</th><th align="right">b</th><th>c</th>'
        '</tr></thead><tbody><tr><td align="center">1</td><td align="right">`x</td><td>y`</td></tr>'
        "</tbody></table></div>"
    ),
    "[a](https://e.org/x?y=1&z=2)": f'<p><a href="https://e.org/x?y=1&amp;z=2" title="e.org"{LINK}>a</a></p>',
    "https://e.org/a_b": f'<p><a href="https://e.org/a_b" title="e.org"{LINK}>https://e.org/a_b</a></p>',
    "<me@e.org>": f'<p><a href="mailto:me@e.org" title="me@e.org"{LINK}>me@e.org</a></p>',
    "[a][b]\n\n[b]: https://e.org": f'<p><a href="https://e.org/" title="e.org"{LINK}>a</a></p>',
    "[paypal.com](https://paypal.com@evil.org)": (
        f'<p><a href="https://paypal.com@evil.org/" title="evil.org"{LINK}>paypal.com</a></p>'
    ),
    "[a](https://раураl.com 'paypal.com')": (
        f'<p><a href="https://xn--l-7sba6dbr.com/" title="xn--l-7sba6dbr.com"{LINK}>a</a></p>'
    ),
    "[a](javascript:x) [b](/api/v1) [c](#d) [e](data:text/html,x) [f](//g.org)": (
        "<p><a>a</a> <a>b</a> <a>c</a> <a>e</a> <a>f</a></p>"
    ),
    "![a](https://e.org/i.png)": f'<p><a data-picture="" href="https://e.org/i.png" title="e.org"{LINK}>a</a></p>',
    "[![a](https://e.org/i.png)](https://ci.org)": (
        f'<p><a href="https://ci.org/" title="ci.org"{LINK}><span data-picture="">a</span></a></p>'
    ),
    "![a](data:image/gif;base64,R0lGODlhAQABAAAAACw=)": (
        '<p><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" alt="a"></p>'
    ),
    "![a](data:image/svg+xml;base64,PHN2Zz4=)": '<p><span data-picture="">a</span></p>',
    "H<sub>2</sub>O x<sup>*2*</sup> <kbd>Ctrl</kbd> <u>u</u> <mark>m</mark>a<br/>b": (
        "<p>H<sub>2</sub>O x<sup><em>2</em></sup> <kbd>Ctrl</kbd> <u>u</u> <mark>m</mark>a<br>b</p>"
    ),
    "<u>a\n\nb": "<p>&lt;u&gt;a</p><p>b</p>",
    '<u class="x">a</u> <b>c</b> <a href="https://e.org">d</a>': (
        '<p>&lt;u class="x"&gt;a&lt;/u&gt; &lt;b&gt;c&lt;/b&gt; &lt;a href="https://e.org"&gt;d&lt;/a&gt;</p>'
    ),
    "<div>\n*a*\n</div>": "<p>&lt;div&gt;<br>*a*<br>&lt;/div&gt;</p>",
    "<code>x</code> &lt;b&gt; & &copy;": "<p>&lt;code&gt;x&lt;/code&gt; &lt;b&gt; &amp; ©</p>",
    "It costs $5 or $6, $HOME/$PATH": "<p>It costs $5 or $6, $HOME/$PATH</p>",
    "中文**粗**。😀": "<p>中文<strong>粗</strong>。😀</p>",
    "a\0b\r\nc\rd": "<p>a\ufffdb<br>c<br>d</p>",
    "": "",
    "  \n\n ": "",
}


@pytest.fixture(scope="module")
def server(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """One server for this file."""
    with running(tmp_path_factory.mktemp("server")) as running_server:
        yield running_server


@pytest.fixture
def page(device: Device) -> Page:
    """A tab with the tools of rendering.py."""
    return open_tools(device)


def test_markdown_becomes_elements(page: Page) -> None:
    """Each kind of Markdown, and what only looks like it."""
    assert {text: page.evaluate(HTML, text) for text in EXPECTED} == EXPECTED


def test_code_has_header(page: Page) -> None:
    """Code keeps its text to the last space, says its language, and is coloured a moment later."""
    page.evaluate(
        '() => { window.root = shown("```python title=x\\ndef f():\\n\\treturn 1 < 2  \\n\\n```\\n\\n    plain"); }'
    )
    assert page.evaluate("() => [...root.querySelectorAll('header > span')].map((x) => x.textContent)") == [
        "python",
        "code",
    ]
    assert page.evaluate("() => settled(() => root.querySelector('.hljs-keyword'))")
    codes = page.evaluate("() => [...root.querySelectorAll('pre > code')].map((code) => code.textContent)")
    assert codes == ["def f():\n\treturn 1 < 2  \n\n", "plain\n"]


def test_languages_have_other_names(page: Page) -> None:
    """A language is known by its usual names; one that is not, or a path, fetches nothing and stays plain."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("""() => {
        for (const name of ["js", "C++", "sh", "html", "../../app", "__proto__", "constructor", "klingon"])
            shown("```" + name + "\\nif (a) { b(); } # <b>\\n```");
    }""")
    expected = {"javascript", "cpp", "bash", "xml", "css"}
    assert page.evaluate("() => settled(() => document.querySelectorAll('[class^=hljs]').length > 3)")
    assert {url.split("/")[-1].removesuffix(".min.js") for url in asked if "languages" in url} == expected


def test_code_is_copied(device: Device) -> None:
    """The button copies the code as it is; where that is not allowed the code is selected, and this is said."""
    page = open_tools(device, permissions=["clipboard-read", "clipboard-write"])
    page.evaluate('() => shown("```\\na < b\\n```")')
    page.get_by_role("button", name="Copy code").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("() => navigator.clipboard.readText()") == "a < b\n"
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.get_by_role("button", name="Copied").click()
    page.get_by_role("status").filter(has_text="Selected").wait_for()
    assert page.evaluate("() => getSelection().toString()").strip() == "a < b"


def test_lines_can_be_wrapped(page: Page) -> None:
    """The other button wraps long lines, and says so; its words are those it was given."""
    page.evaluate(
        """() => div().append(renderMarkdown("```\\n" + "x".repeat(2000) + "\\n```", { wrapLines: "换行" }))"""
    )
    wrap = page.get_by_role("button", name="换行")
    is_wide = "() => { const pre = document.querySelector('pre'); return pre.scrollWidth > pre.clientWidth; }"
    page.wait_for_function(is_wide)
    wrap.click()
    assert wrap.get_attribute("aria-pressed") == "true"
    assert not page.evaluate(is_wide)


FORMULAS = {
    "$a_1$ and $b_1$": "inline inline",
    "\\(x\\) and $$y$$ here": "inline block",
    "text:\n$$\na\n- b\n= c\n$$\nmore": "block",
    "\\[\nx\n\\]": "block",
    "- a\n  $$x$$": "block",
    "| $a$ |\n|---|\n| $b$ |": "inline inline",
    "*a $x*y$ b*": "inline",
    "`$x$` and \\$y\\$ and $ z $": "",
    "$$\na\n\nb\n$$": "",
}


def test_formulas_are_found(page: Page) -> None:
    """Dollars, brackets and parentheses mark formulas, on lines of their own, too; prices and code are none."""
    kinds = """text => { const all = shown(text).querySelectorAll("[data-math]");
        return [...all].map((x) => x.dataset.math).join(" "); }"""
    assert {text: page.evaluate(kinds, text) for text in FORMULAS} == FORMULAS


def test_formulas_are_set(page: Page) -> None:
    """A formula is typeset, with its fonts and MathML for readers; a wrong one stays as it was written."""
    page.evaluate("() => { window.root = shown('$\\\\frac{a}{b}$ and $\\\\wrong{$'); }")
    assert page.evaluate("() => settled(() => root.querySelector('.math .katex math'))")
    assert page.evaluate("() => root.querySelector('[data-math]').textContent") == "$\\wrong{$"
    assert page.evaluate("async () => { await document.fonts.ready; return document.fonts.check('16px KaTeX_Main'); }")


def test_messages_are_accessible(page: Page, axe: Axe) -> None:
    """axe finds nothing serious in a message with everything in it, by day and by night."""
    text = "\n\n".join([*(text for text in EXPECTED if "javascript" not in text and "(data" not in text), *FORMULAS])
    code = '```python\n@x\nclass A(B):  # c\n    """d"""\n    return f(1, "s", None)\n```\n```diff\n- a\n+ b\n```\n'
    page.evaluate("text => { document.body.replaceChildren(); shown(text); }", text + "\n\n" + code)
    assert page.evaluate(
        "() => settled(() => document.querySelector('.hljs-keyword') && document.querySelector('.math'))"
    )
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.evaluate("""() => { document.documentElement.style.colorScheme = "light dark";
            document.body.style.background = "Canvas"; document.body.style.color = "CanvasText"; }""")
        assert axe(page) == []


def test_what_cannot_be_parsed_is_shown(page: Page, complaints: Complaints) -> None:
    """Whatever goes wrong in a parser, the message is there."""
    page.evaluate("""async () => {
        const { DOMPurify } = globalThis;
        const { sanitize } = DOMPurify;
        DOMPurify.sanitize = () => { throw new Error("broken for this test"); };
        window.root = shown("*a* <b>"); window.grown = streamed("*a* <b>\\n\\nc", 2);
        DOMPurify.sanitize = sanitize;
    }""")
    assert page.evaluate("() => [root.textContent, grown.textContent]") == ["*a* <b>", "*a* <b>\n\nc"]
