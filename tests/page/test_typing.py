"""The field: keys, input methods, drafts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.page.browsing import PageServer, asking
from tests.page.conftest import Complaints, Device, Serve
from tests.page.steps import answered, ask, field, open_chat, questions, replies
from tests.upstream import HANG, Answer, FakeUpstream, Reply

if TYPE_CHECKING:
    from playwright.sync_api import Page

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

# In Safari's order the composition is over, and its Enter comes behind. Says whether nobody took the key.
LATE = """(field) => field.dispatchEvent(
    new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true, cancelable: true }))"""


@pytest.fixture
def server(serve: Serve, upstream: FakeUpstream) -> PageServer:
    return serve(**asking(upstream))


def test_enter_sends_and_shift_breaks(page: Page) -> None:
    """Shift-Enter breaks the line, Enter sends; nothing but spaces is not sent."""
    page.goto("/")
    field(page).press_sequentially("  ")
    field(page).press("Enter")
    expect(questions(page)).to_have_count(0)
    field(page).fill("")
    field(page).press_sequentially("one")
    field(page).press("Shift+Enter")
    field(page).press_sequentially("two")
    expect(field(page)).to_have_value("one\ntwo")
    field(page).press("Enter")
    answered(page)
    assert questions(page).locator(".bubble").inner_text() == "one\ntwo"


def test_composition_never_sends(page: Page) -> None:
    """The Enter that ends a word of an input method does not send, however the browser orders the events."""
    page.goto("/")
    field(page).focus()
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "你好", "selectionStart": 2, "selectionEnd": 2})
    for code in (13, 229):  # while it composes; the browser gives the key one number or the other
        session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "windowsVirtualKeyCode": code, "key": "Enter"})
    session.send("Input.insertText", {"text": "你好"})
    assert field(page).evaluate(LATE)
    expect(field(page)).to_have_value("你好")
    expect(questions(page)).to_have_count(0)
    field(page).press("Enter")
    answered(page, "你好")
    expect(questions(page).locator(".bubble")).to_have_text(["你好"])


def test_draft_survives_reload(page: Page) -> None:
    """What is typed and not sent is there after a reload, in each chat its own, and gone once it is sent."""
    open_chat(page, "first")
    chat = page.url
    field(page).fill("half a thought")
    page.get_by_role("button", name="New chat").first.click()
    expect(field(page)).to_have_value("")
    field(page).fill("another one")
    page.reload()
    expect(field(page)).to_have_value("another one")
    page.goto(chat)
    expect(field(page)).to_have_value("half a thought")
    field(page).press("Enter")
    expect(replies(page)).to_have_count(2)
    answered(page)
    page.reload()
    expect(questions(page).last.locator(".bubble")).to_have_text("half a thought")
    expect(field(page)).to_have_value("")


def test_refused_question_comes_back(page: Page, upstream: FakeUpstream, complaints: Complaints) -> None:
    """When the model refuses, the reader is told why and what to do, and nothing typed is lost."""
    complaints.allow("Failed to load resource")
    upstream.enqueue(Answer(401, {"error": {"message": "bad key"}}))
    page.goto("/")
    ask(page, "precious words")
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("refuses the API key")
    expect(notice).to_contain_text("OPENAI_API_KEY")
    shown = field(page).input_value() + "".join(questions(page).locator(".bubble").all_inner_texts())
    assert shown == "precious words"
    upstream.enqueue(Reply(["now ", "it works"]))
    again = notice.get_by_role("button", name="Try again")
    again.click() if again.count() else field(page).press("Enter")
    answered(page, "now it works")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_typing_while_it_answers(page: Page, upstream: FakeUpstream) -> None:
    """One can write the next question meanwhile; Enter does not lose it."""
    upstream.enqueue(Reply(["going ", HANG]))
    page.goto("/")
    ask(page, "first")
    expect(replies(page)).to_contain_text("going")
    field(page).fill("second")
    field(page).press("Enter")
    expect(page.get_by_text("A reply is being written")).to_be_visible()
    expect(field(page)).to_have_value("second")
    field(page).press("Escape")
    answered(page)
    field(page).press("Enter")
    expect(questions(page).locator(".bubble")).to_have_text(["first", "second"])


def test_shortcut_for_new_chat(page: Page) -> None:
    """Ctrl K begins a chat from wherever one is, and the field has the focus."""
    open_chat(page, "hello")
    page.locator(".scroll").focus()
    page.keyboard.press("Control+k")
    expect(page).to_have_url("/")
    expect(field(page)).to_be_focused()


def test_phone(device: Device) -> None:
    """On a phone Enter breaks the line and a button sends; the list is a drawer; nothing is wider than the screen."""
    page = device(**PHONE).new_page()
    page.goto("/")
    field(page).fill("one")
    field(page).press("Enter")
    field(page).press_sequentially("two")
    expect(field(page)).to_have_value("one\ntwo")
    page.get_by_role("button", name="Send", exact=True).tap()
    answered(page)
    expect(page.get_by_role("navigation", name="Chats")).to_be_hidden()
    page.get_by_role("button", name="Chats", exact=True).tap()
    expect(page.get_by_role("link", name="one")).to_be_in_viewport()
    page.get_by_role("link", name="one").tap()
    expect(page.get_by_role("navigation", name="Chats")).to_be_hidden()
    page.get_by_role("button", name="Details").tap()
    expect(replies(page).locator(".info")).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert field(page).evaluate("(e) => getComputedStyle(e).fontSize") == "16px"  # else iOS zooms
