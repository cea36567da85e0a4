"""From the address that the server prints to a reply, and what is there when one comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.page.steps import answered, ask, chats, field, open_chat, questions, replies

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_first_reply(page: Page) -> None:
    """One opens the page, types, and reads; the chat has its own address and is in the list."""
    page.goto("/")
    expect(field(page)).to_be_focused()
    expect(page.get_by_text("Chats appear here")).to_be_visible()
    page.keyboard.type("Hello **there**")
    page.keyboard.press("Enter")
    answered(page, "echo: Hello there")
    expect(replies(page).last.locator("strong")).to_have_text("there")
    expect(questions(page).last.locator(".bubble")).to_have_text("Hello **there**")
    expect(chats(page)).to_have_text(["Hello **there**"])
    expect(page).to_have_url("/c/" + page.url.rsplit("/", 1)[1])
    expect(page).to_have_title("Hello **there** · self_agent")
    expect(field(page)).to_have_value("")


def test_reload_shows_same(page: Page) -> None:
    """What was said is there again, in the same order, and can be gone on with."""
    open_chat(page, "one", "two")
    page.reload()
    expect(questions(page).locator(".bubble")).to_have_text(["one", "two"])
    expect(replies(page).locator(".markdown")).to_have_text(["echo: one", "echo: two"])
    ask(page, "three")
    answered(page, "echo: three")
    expect(replies(page)).to_have_count(3)


def test_new_chat_and_back(page: Page) -> None:
    """The pencil begins a chat, the browser's back button leaves it, and nothing is loaded anew."""
    open_chat(page, "first")
    page.evaluate("() => (window.same = true)")
    page.get_by_role("button", name="New chat").first.click()
    expect(page).to_have_url("/")
    expect(questions(page)).to_have_count(0)
    ask(page, "second")
    answered(page, "echo: second")
    expect(chats(page)).to_have_text(["second", "first"])
    chats(page).nth(1).click()
    expect(replies(page).last).to_contain_text("echo: first")
    page.go_back()
    expect(replies(page).last).to_contain_text("echo: second")
    assert page.evaluate("() => window.same")


def test_details_of_reply(page: Page) -> None:
    """Under a reply stand when it came and what can be done with it; a copy is its source, not its look."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_chat(page, "a **bold** word")
    reply = replies(page).last
    expect(reply.locator(".info")).to_contain_text(
        page.evaluate("() => new Date().toLocaleTimeString('en-GB').slice(0, 3)")
    )
    reply.get_by_role("button", name="Copy message").click()
    expect(reply.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == "echo: a **bold** word"
