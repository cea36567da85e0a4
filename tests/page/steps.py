"""What a person does on the page and sees there, in short."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from playwright.sync_api import Locator, expect

from tests.upstream import FakeUpstream, Reply, Step

if TYPE_CHECKING:
    from playwright.sync_api import Page

WORDS = 60


def held(upstream: FakeUpstream, end: str = " ") -> threading.Event:
    """Let the next reply be `word1 word2 …`, which stops after the twentieth word until the event is set."""
    go_on = threading.Event()
    words = [f"word{number}{end}" for number in range(1, WORDS + 1)]

    def steps() -> Iterator[str]:
        yield from words[:20]
        while not go_on.wait(0.02) and not upstream.stopping.is_set():
            pass
        yield from words[20:]

    upstream.enqueue(Reply(cast("list[Step]", steps())))
    return go_on


def field(page: Page) -> Locator:
    """Where one types."""
    return page.get_by_role("textbox", name="Message", exact=True)


def ask(page: Page, text: str) -> None:
    """Type a question and send it."""
    field(page).fill(text)
    field(page).press("Enter")


def replies(page: Page) -> Locator:
    """The replies that are shown, growing ones too."""
    return page.get_by_role("article", name="Reply")


def questions(page: Page) -> Locator:
    """The questions that are shown."""
    return page.get_by_role("article", name="You")


def answered(page: Page, text: str | None = None) -> None:
    """Wait until no reply grows and there is one, whose text has `text` in it if that is given."""
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=20_000)
    expect(replies(page).last.get_by_role("button", name="Regenerate")).to_be_visible()
    if text is not None:
        expect(replies(page).last).to_contain_text(text)


def open_chat(page: Page, *exchanges: str) -> None:
    """Begin a chat and ask these questions, each answered."""
    page.goto("/")
    for number, question in enumerate(exchanges, start=1):
        ask(page, question)
        expect(replies(page)).to_have_count(number)
        answered(page)


def chats(page: Page) -> Locator:
    """The chats in the list."""
    return page.locator(".chats a")


def menu_of(page: Page, name: str, item: str) -> None:
    """Choose an item from the menu of a chat in the list."""
    row = page.locator(".chats .row").filter(has_text=name)
    row.hover()
    row.get_by_role("button", name="More about").click()
    page.get_by_role("menuitem", name=item, exact=True).click()
