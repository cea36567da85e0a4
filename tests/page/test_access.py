"""For everybody: axe finds nothing serious in any view, light or dark; keys reach all; nothing moves that must not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.page.browsing import PageServer, asking
from tests.page.conftest import Axe, Device, Serve
from tests.page.steps import answered, ask, field, questions
from tests.upstream import HANG, FakeUpstream, Reply, chunk_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

EVERYTHING = """# Heading

Text with `code`, a [link](https://example.org) and **more**.

```python
for n in range(3):  # a comment
    print("text", n)
```

| a | b |
|---|--:|
| one | 2 |

> quoted

- [x] done
- list
"""


@pytest.fixture
def server(serve: Serve, upstream: FakeUpstream) -> PageServer:
    return serve(**asking(upstream))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe(device: Device, axe: Axe, upstream: FakeUpstream, scheme: str, width: int) -> None:
    """Every view: empty, answered, answering, editing, menus, windows, messages, and the list on a phone."""
    page = device(color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce").new_page()
    found = []

    def look(view: str) -> None:
        found.extend(f"{view}: {line}" for line in axe(page))

    page.goto("/")
    expect(field(page)).to_be_visible()
    expect(page.get_by_role("status").first).to_be_attached()
    look("empty")
    upstream.enqueue(Reply([chunk_of({"reasoning_content": "Hm."}), EVERYTHING]), Reply(["going ", HANG]))
    ask(page, "show everything")
    answered(page)
    expect(page.locator("[class^=hljs]").first).to_be_attached()
    look("answered")
    ask(page, "go")
    expect(page.get_by_text("going")).to_be_visible()
    look("answering")
    page.get_by_role("button", name="Stop").click()
    answered(page)
    field(page).press("ArrowUp")
    look("editing")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="More about “show everything”").last.click()
    look("menu")
    page.get_by_role("menuitem", name="Rename").click()
    look("window")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Instructions").click()
    look("instructions")
    page.keyboard.press("Escape")
    if width < 760:
        page.get_by_role("button", name="Chats", exact=True).click()
        expect(page.get_by_role("link", name="show everything")).to_be_visible()
        look("drawer")
    page.get_by_role("button", name="More about “show everything”").first.click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    look("toast")
    assert found == []


def test_order_of_focus(page: Page) -> None:
    """Tab goes through list, head, messages and field, in this order; the first stop leads past them."""
    page.goto("/")
    expect(field(page)).to_be_focused()
    page.get_by_role("link", name="To the message field").focus()
    order = []
    for _ in range(7):
        order.append(page.evaluate("() => document.activeElement.ariaLabel ?? document.activeElement.textContent"))
        page.keyboard.press("Tab")
    skip, new, search, settings, instructions, messages, message = order[:7]
    assert (skip, new, search) == ("To the message field", "New chat", "Search chats")
    assert (settings, instructions, messages, message) == ("Settings", "Instructions", "Messages", "Message")


def test_instructions_are_kept(page: Page, upstream: FakeUpstream) -> None:
    """What a chat is told before every question can be set before its first one, and reaches the model."""
    page.goto("/")
    page.get_by_role("button", name="Instructions").click()
    page.get_by_role("textbox", name="Instructions").fill("Answer in rhymes.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    ask(page, "hello")
    answered(page)
    assert upstream.asked[-1].body["messages"][0] == {"role": "system", "content": "Answer in rhymes."}
    page.reload()
    expect(questions(page)).to_have_count(1)
    page.get_by_role("button", name="Instructions").click()
    expect(page.get_by_role("textbox", name="Instructions")).to_have_value("Answer in rhymes.")


def test_model_of_chat(page: Page, upstream: FakeUpstream) -> None:
    """The model is chosen for a chat, answers from then on, and is named under its replies."""
    upstream.models = ["fake-model", "llama-3.2-3b"]
    page.goto("/")
    page.get_by_role("button", name="Model:").click()
    page.get_by_role("menuitemradio", name="llama-3.2-3b").click()
    expect(page.get_by_role("button", name="Model: llama-3.2-3b")).to_be_visible()
    ask(page, "hello")
    answered(page)
    assert upstream.asked[-1].body["model"] == "llama-3.2-3b"
    page.reload()
    expect(page.get_by_role("button", name="Model: llama-3.2-3b")).to_be_visible()
