"""Other replies, other questions, other chats: nothing that was said is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.page.browsing import PageServer, asking
from tests.page.conftest import Serve
from tests.page.steps import answered, chats, field, open_chat, questions, replies
from tests.upstream import FakeUpstream, Reply

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def server(serve: Serve, upstream: FakeUpstream) -> PageServer:
    return serve(**asking(upstream))


def test_regenerate_and_leaf(page: Page, upstream: FakeUpstream) -> None:
    """A reply made anew is the second of two; the first can be leafed back to and is still chosen after a reload."""
    upstream.enqueue(Reply(["heads"]), Reply(["tails"]))
    open_chat(page, "toss")
    replies(page).last.get_by_role("button", name="Regenerate").click()
    answered(page, "tails")
    expect(replies(page)).to_have_count(1)
    expect(replies(page).last.locator(".leaf")).to_contain_text("2 / 2")
    page.get_by_role("button", name="Earlier version").click()
    expect(replies(page).last).to_contain_text("heads")
    expect(replies(page).last.locator(".leaf")).to_contain_text("1 / 2")
    expect(page.get_by_role("button", name="Earlier version")).to_be_disabled()
    page.reload()
    expect(replies(page).last).to_contain_text("heads")
    page.get_by_role("button", name="Later version").click()
    expect(replies(page).last).to_contain_text("tails")
    expect(questions(page)).to_have_count(1)


def test_edit_and_send_again(page: Page) -> None:
    """A question sent otherwise begins another branch; what followed the old one is kept as the other."""
    open_chat(page, "one", "two")
    questions(page).first.hover()
    questions(page).first.get_by_role("button", name="Edit and send again").click()
    edit = page.get_by_role("textbox", name="Edit the question")
    expect(edit).to_be_focused()
    expect(edit).to_have_value("one")
    edit.fill("uno")
    edit.press("Enter")
    answered(page, "reply 1: uno")
    expect(questions(page).locator(".bubble")).to_have_text(["uno"])
    expect(questions(page).first.locator(".leaf")).to_contain_text("2 / 2")
    page.get_by_role("button", name="Earlier version").click()
    expect(questions(page).locator(".bubble")).to_have_text(["one", "two"])
    expect(replies(page).last).to_contain_text("reply 2: two")


def test_edit_of_last_with_up(page: Page) -> None:
    """Up in an empty field edits the last question; Esc leaves it as it was."""
    open_chat(page, "one", "two")
    field(page).press("ArrowUp")
    edit = page.get_by_role("textbox", name="Edit the question")
    expect(edit).to_have_value("two")
    edit.fill("changed")
    edit.press("Escape")
    expect(questions(page).locator(".bubble")).to_have_text(["one", "two"])
    expect(field(page)).to_be_focused()
    field(page).press("ArrowUp")
    edit.fill("deux")
    edit.press("Enter")
    answered(page, "reply 2: deux")
    expect(questions(page).locator(".bubble")).to_have_text(["one", "deux"])


def test_fork(page: Page) -> None:
    """A fork is a chat of its own with all up to that message; the first one stays as it is."""
    open_chat(page, "one", "two")
    before = page.url
    replies(page).first.get_by_role("button", name="Fork from here").click()
    expect(questions(page).locator(".bubble")).to_have_text(["one"])
    expect(replies(page)).to_have_count(1)
    assert page.url != before
    expect(chats(page)).to_have_count(2)
    page.go_back()
    expect(questions(page).locator(".bubble")).to_have_text(["one", "two"])
