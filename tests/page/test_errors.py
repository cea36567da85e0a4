"""Whatever goes wrong is said in words, with what to do; the model's state is shown where one looks for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.page.browsing import PageServer
from tests.page.conftest import Complaints
from tests.page.steps import answered, ask, chats, field, open_chat, questions, replies

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

STATES = [
    ({"name": "qwen", "state": "downloading", "progress": 0.437}, "being fetched: 43 %", "fetched once"),
    ({"name": "qwen", "state": "loading", "progress": 1.0}, "being loaded", "in a moment"),
    (
        {"name": "qwen", "state": "failed", "progress": 0.2, "error": "no room on the disk"},
        "does not run",
        "no room on the disk",
    ),
    ({"name": "none", "state": "none"}, "no model is set up", "Set PROVIDER"),
]
REFUSALS = [
    (400, "did not take this", "send it again"),
    (413, "too long", "in parts"),
    (429, "Too much at once", "Wait a moment"),
    (500, "made a mistake", "its log says more"),
    (502, "does not answer", "its address is right"),
    (503, "cannot answer now", "Try again shortly"),
    (507, "disk is full", "Make room"),
]


def refuse(status: int, words: str = "the reason in the server's words") -> dict[str, Any]:
    body = json.dumps({"data": {"success": False, "error": words}})
    return {"status": status, "content_type": "application/json", "body": body}


@pytest.mark.parametrize(("model", "state", "more"), STATES, ids=[model["state"] for model, *_ in STATES])
def test_state_of_model(page: Page, model: dict[str, Any], state: str, more: str) -> None:
    """The list's foot says how the model is, an empty chat what that means; it changes by itself."""
    page.route(
        "**/healthz", lambda route: route.fulfill(json={"status": "ok", "store": {"ready": True}, "model": model})
    )
    page.goto("/")
    foot = page.locator(".about-model")
    expect(foot).to_contain_text(state)
    expect(page.locator(".greeting")).to_contain_text(more)
    expect(foot.get_by_role("progressbar")).to_have_count(1 if model["state"] == "downloading" else 0)
    if model["state"] != "none":  # which nobody but a restart changes
        page.unroute("**/healthz")
        expect(foot).to_contain_text("ready")
        expect(page.locator(".notready")).to_have_count(0)


@pytest.mark.parametrize(("status", "what", "remedy"), REFUSALS, ids=[str(status) for status, *_ in REFUSALS])
def test_refusal_in_words(page: Page, complaints: Complaints, status: int, what: str, remedy: str) -> None:
    """A refused question comes back into the field, with the reason and the remedy; sent again it goes through."""
    complaints.allow("Failed to load resource")
    page.route("**/messages/stream", lambda route: route.fulfill(**refuse(status)))
    page.goto("/")
    ask(page, "precious words")
    notice = page.get_by_role("alert")
    for words in (what, remedy, "the reason in the server's words"):
        expect(notice).to_contain_text(words)
    expect(field(page)).to_have_value("precious words")
    expect(questions(page)).to_have_count(0)
    page.unroute("**/messages/stream")
    field(page).press("Enter")
    answered(page, "precious words")
    expect(notice).to_have_count(0)


def test_lost_answer_is_not_asked_twice(page: Page, server: PageServer, complaints: Complaints) -> None:
    """When the way back breaks before the first event, the same question is sent with the same key."""
    complaints.allow("net::", "Failed to load")
    keys = []

    def cut_first(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) > 1:
            return route.continue_()
        route.fetch()  # it reaches the server, and its answer reaches nobody
        return route.abort("connectionreset")

    page.route("**/messages/stream", cut_first)
    page.goto("/")
    ask(page, "once only")
    answered(page, "echo: once only")
    assert len(keys) == 2
    assert keys[0] == keys[1]
    page.reload()
    expect(questions(page)).to_have_count(1)
    expect(replies(page)).to_have_count(1)


def test_list_that_cannot_be_loaded(page: Page, complaints: Complaints) -> None:
    """The list says that it could not be loaded, and loads when it is tried again."""
    complaints.allow("Failed to load resource")
    open_chat(page, "hello")
    page.route("**/conversations/?*view=headings*", lambda route: route.fulfill(**refuse(500)))
    page.reload()
    expect(page.get_by_text("The chats could not be loaded.")).to_be_visible()
    page.unroute("**/conversations/?*view=headings*")
    # At once or not at all: news from the server may make it try by itself meanwhile.
    page.evaluate("() => document.querySelector('.chats .about .link')?.click()")
    expect(chats(page)).to_have_text(["hello"])


def test_failed_change_is_taken_back(page: Page, complaints: Complaints) -> None:
    """A name that the server refuses is not shown as if it were kept."""
    complaints.allow("Failed to load resource")
    open_chat(page, "hello")
    page.route(
        "**/conversations/*",
        lambda route: route.fulfill(**refuse(507)) if route.request.method == "PATCH" else route.continue_(),
    )
    page.get_by_role("button", name="More about").last.click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_role("textbox", name="Name").fill("other")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The server's disk is full.")).to_be_visible()
    expect(chats(page)).to_have_text(["hello"])
