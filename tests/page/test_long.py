"""A chat of 10,000 messages opens as a short one does, and does not jump while one reads up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from core.config import Settings
from self_agent.models import LOCAL_USER, Message
from self_agent.storage.json_files import open_store
from tests.page.browsing import PageServer
from tests.page.conftest import Serve
from tests.page.steps import answered, ask, questions, replies

if TYPE_CHECKING:
    from playwright.sync_api import Page

COUNT = 10_000
TEXT = (
    "Reply {}.\n\n"
    + "Some words about it. " * 20
    + "\n\n```python\nprint({})\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
)
# Scrolls up step by step; returns how far what is in the middle of the window has moved besides, at most, in pixels.
CLIMB = """async (steps) => {
    const scroller = document.querySelector(".scroll");
    const frame = () => new Promise(requestAnimationFrame);
    let worst = 0;
    for (let step = 0; step < steps; step++) {
        while (scroller.scrollTop < 400 && document.querySelector(".older")) await frame();
        const seen = document.elementFromPoint(innerWidth / 2, innerHeight / 2)?.closest("article");
        const top = seen?.getBoundingClientRect().top;
        scroller.scrollTop -= 300;
        await frame(); await frame(); await frame();
        if (seen?.isConnected) worst = Math.max(worst, Math.abs(seen.getBoundingClientRect().top - top - 300));
    }
    return worst;
}"""


@pytest.fixture
def server(serve: Serve) -> PageServer:
    """A server with the chats `long` and `short`, which were there before it started."""
    server = serve()
    server.kill()
    store = open_store(Settings(data_dir=server.folder / "data"))
    for name, count in (("long", COUNT), ("short", 50)):
        messages = [
            Message(
                "assistant" if number % 2 else "user",
                TEXT.format(number, number) if number % 2 else f"Question {number}",
            )
            for number in range(count)
        ]
        store.create(name, LOCAL_USER, messages=messages)
    store.close()
    server.start()
    return server


def test_long_chat_opens_like_short_one(page: Page) -> None:
    """It takes the same requests, and the page is hardly larger; the newest message is in sight."""
    counts = {}
    for name, last in (("short", 49), ("long", COUNT - 1)):
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(f"/c/{name}")
        expect(replies(page).last).to_contain_text(f"Reply {last}.")
        expect(page.get_by_text(f"print({last})")).to_be_in_viewport()
        page.wait_for_load_state("load")
        reads = [url for url in asked if "view=full" in url]
        counts[name] = page.evaluate("() => document.querySelectorAll('article').length"), len(reads) <= 4
    assert counts["long"][0] <= counts["short"][0] + 25
    assert counts["long"][1]


def test_reading_up_does_not_jump(page: Page) -> None:
    """While older messages come in above, what one reads stays where it is; the question at the end can be asked."""
    page.goto("/c/long")
    expect(replies(page).last).to_contain_text(f"Reply {COUNT - 1}.")
    assert page.evaluate(CLIMB, 60) <= 2
    assert page.locator("article").count() > 50
    expect(questions(page).first).not_to_contain_text(f"Question {COUNT - 30}")
    ask(page, "Still there?")
    answered(page, "echo: Still there?")
    expect(replies(page).last).to_be_in_viewport()
