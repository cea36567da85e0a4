"""A reply that grows ends as what a whole render shows, and nothing that is finished is touched on the way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.page.conftest import Device, PageServer
from tests.page.rendering import CHUNKINGS, open_tools, running

if TYPE_CHECKING:
    from playwright.sync_api import Page

DIFFERENT = "([text, sizes]) => different(text, sizes)"
DOCUMENTS = {
    "everything": """# Title *em*

Text **bold** and `code`, a<br>b, <u>un *der*</u>, H<sub>2</sub>O, [link](https://e.org), $x_1$ and $5.
- a
- b
  - c

    ```py
    x
    ```
- [x] d

1. one

2. two
after

```python
def f():
    return 1

```
| a | b |
|---|--:|
| 1 | **2** |
| `x` | $y$ |

$$
a
- b
= c
$$
\\[ x \\]
> quote
lazy
> - l

<div onclick="x()">
*raw*
</div>
<!-- never

closed
""",
    "windows": "# a\r\n\r\nb\r\nc\r\n\r\n```\r\nd\r\n\r\n```\r\ne\r\n",
    "old mac": "a\rb\r\rc\r",
    "half a fence": "text\n```py\nx = 1\n",
    "fence in one line": "```py",
    "fence of four": "````md\n```py\nx\n```\n````\nend",
    "tildes": "~~~\n```\n~~~ no\n~~~\nend",
    "indented fence": "   ```py\n   a\n     b\n  c\n   ```\nend",
    "fence at once after text": "text:\n```\na\n```\ntext\n```\nb\n```",
    "empty fences": "```\n```\n\n```\n\n```\n",
    "table without rows": "| a | b |\n|---|---|\n",
    "table that ends": "| a |\n|---|\n| b |\nc\n\n| d |\n",
    "table ended by heading": "a | b\n- | -\n1 | 2\n# h\n3 | 4",
    "no table": "| a | b |\n|---|\n| c |",
    "loose at the end": "- a\n- b\n- c\n\n- d\n",
    "lists of two kinds": "- a\n* b\n+ c\n1. d\n1) e",
    "lazy emphasis": "- a\n*b* c\n- d",
    "setext": "a\nb\n===\nc\n---\n",
    "definition behind": "See [a][x], [x] and `[x]`.\n\n- [x]\n\n```\n[x]\n```\n\n[x]: https://e.org 'y'\n",
    "definition twice": "[x]: https://a.org\n[x]: https://b.org\n\n[x]",
    "open formula": "$$\na\n- b\n- c\n\nd\n",
    "formula with a fence": "\\[\na\n```\nb\n\\]\n",
    "nothing": "",
    "blank": "\n\n \n",
    "no newline": "a",
    "deep": "\n".join("  " * level + "- x" for level in range(90)),
    "deeper": ">" * 300 + " x\n\n" + "- " * 300 + "x",
    "emphasis": "_a**b " * 5000,
    "emoji": "😀" * 50 + "👩‍👩‍👧‍👦\n\n" + "中文，*字*。" * 20,
}
PIECES = """# h|text|*e* `c` <u>u</u>||||- a|- b *c*|  - n|  more|1. x|2. y|   ```py|   ```
```js|let a = 1|```|````|~~~|    ind|\tt
¦ a ¦ b ¦|¦---¦---¦|¦ 1 ¦ `x` ¦|> q|> - l|>|---|===|***|$$|a = b|\\[|\\]|$x$ and $y|<div>|</div>|<!-- c|-->|<u>|<br>
[r]: https://e.org/x|[r] [t][r]|![i](https://e.org/i.png)|* s|*e* s|-|- |1)|**|`|a ¦ b|-¦-|- [ ] t
<pre>|&amp;<|$$x$$|😀""".replace("\n", "|").split("|")


@pytest.fixture(scope="module")
def server(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """One server for this file."""
    with running(tmp_path_factory.mktemp("server")) as running_server:
        yield running_server


@pytest.fixture
def page(device: Device) -> Page:
    """A tab with the tools of rendering.py."""
    return open_tools(device)


def test_streamed_equals_whole(page: Page) -> None:
    """By 1, 3, 17 characters or all at once, the end is what `renderMarkdown` makes of the whole."""
    sizes = {name: CHUNKINGS if len(text) < 5000 else (997,) for name, text in DOCUMENTS.items()}
    found = {name: page.evaluate(DIFFERENT, [text, sizes[name]]) for name, text in DOCUMENTS.items()}
    assert {name: different for name, different in found.items() if different} == {}


def test_random_streams_equal_whole(page: Page) -> None:
    """So do 300 texts of lines that begin, end or interrupt something, in any order."""
    chance = random.Random(11)
    for _ in range(300):
        lines = (chance.choice(PIECES).replace("¦", "|") for _ in range(chance.randint(2, 14)))
        text = "".join(line + chance.choice(["\n", "\n", "\n", "\n\n", "\r\n", ""]) for line in lines)
        assert page.evaluate(DIFFERENT, [text, [1, 2, 5, 17]]) == [], repr(text)


def test_finished_blocks_are_not_touched(page: Page) -> None:
    """What a reader selects stays selected: paragraphs, items, rows and code are the same nodes to the end."""
    touched = page.evaluate(
        """text => {
        const root = div(), blocks = new Blocks(root), kept = new Map();
        const wanted = "p, li, td, pre > code, h1", gone = [];
        for (let at = 0; at < text.length; at += 5) {
            blocks.push(text.slice(at, at + 5)); blocks.render();
            // All but the last three of each kind are behind the block that is open.
            const nodes = [...root.querySelectorAll(wanted)].slice(0, -6);
            for (const node of nodes) if (!kept.has(node)) kept.set(node, node.textContent);
        }
        blocks.finish(text);
        for (const [node, said] of kept) if (!node.isConnected || node.textContent !== said) gone.push(said);
        return [kept.size > 60, gone];
    }""",
        "# t\n\n"
        + "a *b* c\n\n" * 5
        + "- item `c`\n" * 30
        + "\n```\nx\n```\n\n| a | b |\n|---|---|\n"
        + "| 1 | 2 |\n" * 30
        + "\nend\n\nend",
    )
    assert touched == [True, []]


def test_code_grows_by_lines(page: Page) -> None:
    """Open code is one text node that lines are added to; it is coloured when its fence closes."""
    page.evaluate("""() => { window.root = div(); window.blocks = new Blocks(root);
        blocks.push("```python\\ndef f():\\n    ret"); blocks.render(); window.code = root.querySelector("code"); }""")
    assert page.evaluate("() => code.textContent") == "def f():\n"
    page.evaluate("() => { blocks.push('urn 1\\n'); blocks.render(); }")
    assert page.evaluate("() => [code.isConnected, code.textContent, code.childNodes.length]") == [
        True,
        "def f():\n    return 1\n",
        1,
    ]
    page.evaluate("() => { blocks.push('```\\n'); blocks.render(); }")
    assert page.evaluate("() => settled(() => code.querySelector('.hljs-keyword'))")
    assert page.evaluate("() => code.isConnected")


def test_pushes_are_shown_at_frames(page: Page) -> None:
    """Nothing but `push` is needed: what was pushed is shown soon, many pushes at once."""
    at_once = page.evaluate("""() => { window.root = div(); window.blocks = new Blocks(root); window.changes = 0;
        new MutationObserver(() => changes++).observe(root, { childList: true, subtree: true, characterData: true });
        for (const character of "one *two* three") blocks.push(character);
        return root.childNodes.length; }""")
    assert at_once == 0
    assert page.evaluate("() => settled(() => root.textContent === 'one two three')")
    assert page.evaluate("() => changes") == 1
    assert page.evaluate("() => root.className") == "markdown"


def test_finish_shows_what_was_stored(page: Page) -> None:
    """A stored text that differs replaces what was streamed, in the middle of a fence, too."""
    html = page.evaluate("""() => { const root = div(), blocks = new Blocks(root);
        blocks.push("```\\nabc"); blocks.render(); blocks.finish("**all**"); return htmlOf(root); }""")
    assert html == "<p><strong>all</strong></p>"


def test_long_table_streams(page: Page) -> None:
    """A table of 5,000 tokens and half a code fence behind it arrive whole."""
    rows = "".join(f"| item {n} | **{n}** | `v{n}` |\n" for n in range(700))
    text = "| a | b | c |\n|---|---|---|\n" + rows + "\n```py\nx = 1\n``"
    assert page.evaluate(DIFFERENT, [text, [4]]) == []
    assert page.evaluate("text => streamed(text, 4).querySelectorAll('tbody tr').length", text) == 700
