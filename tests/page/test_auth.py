"""With auth on: a token is asked for, kept for this tab only, and nothing is lost when it expires."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jwt
import pytest
from playwright.sync_api import expect

from tests.page.browsing import PageServer
from tests.page.conftest import Complaints, Serve
from tests.page.steps import answered, ask, chats, field

if TYPE_CHECKING:
    from playwright.sync_api import Page

SECRET = "a secret that is long enough for HS256"


@pytest.fixture
def server(serve: Serve, complaints: Complaints) -> PageServer:
    complaints.allow("401")
    return serve(auth_enabled=True, jwt_secret=SECRET)


def token(user: str = "ann", seconds: float = 3600) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + seconds}, SECRET, algorithm="HS256")


def give(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Token").fill(text)
    page.keyboard.press("Enter")


def test_token_is_asked_for(page: Page) -> None:
    """A wrong one is said to be wrong, a right one opens the page, a reload needs none, another tab its own."""
    page.goto("/")
    expect(page.get_by_role("dialog")).to_contain_text("A token is needed")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_visible()
    give(page, "nonsense")
    expect(page.get_by_role("alert")).to_contain_text("not accepted")
    give(page, token())
    expect(page.get_by_role("dialog")).to_have_count(0)
    ask(page, "who am I?")
    answered(page, "echo: who am I?")
    page.reload()
    expect(chats(page)).to_have_text(["who am I?"])
    assert page.evaluate("() => JSON.stringify(localStorage)").count("eyJ") == 0
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("dialog")).to_contain_text("A token is needed")


def test_draft_survives_expired_token(page: Page) -> None:
    """When a token expires as one sends, it is asked for, and the question goes on its way with the new one."""
    page.goto("/")
    give(page, token(seconds=4))
    expect(page.get_by_role("dialog")).to_have_count(0)
    field(page).fill("precious words")
    page.wait_for_timeout(4500)
    field(page).press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    give(page, token())
    answered(page, "echo: precious words")


def test_forget_the_token(page: Page) -> None:
    """Whoever leaves can forget the token, and the next one sees nothing of theirs."""
    page.goto("/")
    give(page, token("ann"))
    ask(page, "private")
    answered(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("menuitem", name="Forget the token").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(chats(page)).to_have_count(0)
    give(page, token("bob"))
    expect(page.get_by_text("Chats appear here")).to_be_visible()
    expect(chats(page)).to_have_count(0)
