"""The list of chats: found, named, put away, deleted and taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.page.browsing import PageServer
from tests.page.conftest import Complaints
from tests.page.steps import chats, menu_of, open_chat, questions

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_rename(page: Page, server: PageServer) -> None:
    """A chat is renamed in the list, in its head and on the server; a reload shows the new name."""
    open_chat(page, "hello")
    menu_of(page, "hello", "Rename")
    name = page.get_by_role("textbox", name="Name")
    expect(name).to_be_focused()
    expect(name).to_have_value("hello")
    name.fill("Greeting")
    name.press("Enter")
    expect(chats(page)).to_have_text(["Greeting"])
    expect(page.get_by_role("heading", level=1)).to_have_text("Greeting")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Greeting")


def test_delete_and_undo(page: Page) -> None:
    """A deleted chat is gone at once, and comes back whole when one changes one's mind."""
    open_chat(page, "keep me")
    menu_of(page, "keep me", "Delete")
    expect(chats(page)).to_have_count(0)
    expect(page).to_have_url("/")
    expect(page.get_by_text("is deleted")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(chats(page)).to_have_text(["keep me"])
    expect(questions(page).locator(".bubble")).to_have_text(["keep me"])
    page.reload()
    expect(questions(page).locator(".bubble")).to_have_text(["keep me"])


def test_deleted_elsewhere(page: Page) -> None:
    """Who has a chat open that is deleted in another tab is told, and can take it back."""
    open_chat(page, "shared")
    other = page.context.new_page()
    other.goto(page.url)
    expect(chats(other)).to_have_text(["shared"])
    menu_of(other, "shared", "Delete")
    expect(page).to_have_url("/")
    page.get_by_role("button", name="Undo").click()
    expect(questions(page).locator(".bubble")).to_have_text(["shared"])
    expect(chats(other)).to_have_text(["shared"])


def test_broken_address(page: Page, complaints: Complaints) -> None:
    """An address that names nothing shows what there is, or says what is wrong with it."""
    complaints.allow("400")
    page.goto("/c/%25zz%25")
    expect(page.get_by_role("alert")).to_contain_text("did not take this")
    page.goto("/c/no-such-chat")
    expect(page.get_by_text("What would you like to know?")).to_be_visible()


def test_pin(page: Page, server: PageServer) -> None:
    """What is pinned stands first, under its own heading, whatever is newer."""
    server.send("old", "the old one")
    server.send("new", "the new one")
    page.goto("/")
    expect(chats(page)).to_have_text(["the new one", "the old one"])
    menu_of(page, "the old one", "Pin")
    expect(chats(page)).to_have_text(["the old one", "the new one"])
    expect(page.locator(".chats h2")).to_have_text(["Pinned", "Today"])
    menu_of(page, "the old one", "Unpin")
    expect(page.locator(".chats h2")).to_have_text(["Today"])


def test_archive(page: Page, server: PageServer) -> None:
    """What is archived leaves the list, is found in the archive, and comes back from there."""
    server.send("done", "done with")
    server.send("open", "still open")
    page.goto("/")
    menu_of(page, "done with", "Archive")
    expect(chats(page)).to_have_text(["still open"])
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("menuitem", name="Archived chats").click()
    expect(chats(page)).to_have_text(["done with"])
    menu_of(page, "done with", "Take out of the archive")
    expect(page.get_by_text("Nothing is archived")).to_be_visible()
    page.get_by_role("button", name="Back to all chats").click()
    expect(chats(page)).to_have_count(2)


def test_search(page: Page, server: PageServer) -> None:
    """What is typed finds chats in any case; Esc shows all again."""
    for name, text in (("a", "Soup from the fridge"), ("b", "Regular expressions"), ("c", "用 Python 读取文件")):
        server.send(name, text)
    page.goto("/")
    expect(chats(page)).to_have_count(3)
    search = page.get_by_role("searchbox", name="Search chats")
    search.fill("SOUP")
    expect(chats(page)).to_have_text(["Soup from the fridge"])
    search.fill("读取")
    expect(chats(page)).to_have_text(["用 Python 读取文件"])
    search.fill("nothing like it")
    expect(page.get_by_text("No chat matches")).to_be_visible()
    search.press("Escape")
    expect(chats(page)).to_have_count(3)


def test_endless_list(page: Page, server: PageServer) -> None:
    """The list goes on as long as one scrolls, each chat once."""
    for number in range(90):
        server.send(f"chat-{number}", f"chat number {number}")
    page.goto("/")
    expect(chats(page).first).to_contain_text("chat number 89")
    assert chats(page).count() < 90
    page.locator(".chats").hover()
    for _ in range(20):
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(60)
    expect(chats(page)).to_have_count(90)
    assert len(set(chats(page).all_text_contents())) == 90


def test_change_elsewhere_is_seen(page: Page, server: PageServer) -> None:
    """A chat that begins elsewhere comes into the list by itself, and its new name too."""
    page.goto("/")
    expect(page.get_by_text("Chats appear here")).to_be_visible()
    server.send("other", "from elsewhere")
    expect(chats(page)).to_have_text(["from elsewhere"])


def test_list_by_keys(page: Page) -> None:
    """All of it can be done without a mouse: the menu opens, is walked through and gives the focus back."""
    open_chat(page, "hello")
    chats(page).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Pin")).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("menuitem", name="Delete")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("menu")).to_have_count(0)
    expect(page.get_by_role("button", name="More about").first).to_be_focused()


def test_export_and_import(page: Page) -> None:
    """All chats are saved as one file; what has been deleted since comes back with it."""
    open_chat(page, "take me along")
    page.get_by_role("button", name="Settings").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Export all chats").click()
    menu_of(page, "take me along", "Delete")
    expect(chats(page)).to_have_count(0)
    page.get_by_role("button", name="Settings").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("menuitem", name="Import chats").click()
    chooser.value.set_files(download.value.path())
    expect(page.get_by_text("1 chat is imported")).to_be_visible()
    expect(chats(page)).to_have_text(["take me along"])


def test_export_one(page: Page) -> None:
    """One chat is saved as Markdown, named after itself."""
    open_chat(page, "what/ever: it is")
    page.get_by_role("button", name="More about").last.click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Export as Markdown").click()
    assert download.value.suggested_filename == "what ever it is.md"
    assert "echo: what/ever: it is" in download.value.path().read_text()
