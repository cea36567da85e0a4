"""A reply that grows: joined, stopped, cut off, read while it comes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.page.browsing import PageServer, asking
from tests.page.conftest import Complaints, Device, Serve
from tests.page.steps import WORDS, answered, ask, chats, field, held, open_chat, questions, replies
from tests.upstream import HANG, FakeUpstream, Reply, chunk_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

FROM_END = "(e) => e.scrollHeight - e.scrollTop - e.clientHeight"
LISTEN = """() => {
    const spoken = document.querySelector("[aria-live]");
    window.heard = [];
    const note = () => window.heard.push(spoken.textContent);
    new MutationObserver(note).observe(spoken, { childList: true, characterData: true, subtree: true });
}"""
WHOLE = re.compile(r"^\s*" + r"\s+".join(f"word{number}" for number in range(1, WORDS + 1)) + r"\s*$")


@pytest.fixture
def server(serve: Serve, upstream: FakeUpstream) -> PageServer:
    return serve(**asking(upstream))


def whole_once(page: Page) -> None:
    """The slow reply is there with every word, and each of them once."""
    answered(page)
    expect(replies(page)).to_have_count(1)
    expect(replies(page).last.locator(".markdown")).to_have_text(WHOLE)
    expect(questions(page)).to_have_count(1)


def test_reload_mid_stream(page: Page, upstream: FakeUpstream) -> None:
    """Who reloads in the middle of a reply misses nothing of it."""
    go_on = held(upstream)
    page.goto("/")
    ask(page, "count")
    expect(replies(page)).to_contain_text("word20")
    page.reload()
    expect(replies(page)).to_contain_text("word20")
    expect(replies(page)).to_have_attribute("aria-busy", "true")
    go_on.set()
    whole_once(page)


def test_second_tab_joins(page: Page, upstream: FakeUpstream) -> None:
    """A second tab shows the reply as it grows, and what is asked in one is seen in the other."""
    go_on = held(upstream)
    page.goto("/")
    ask(page, "count")
    expect(replies(page)).to_contain_text("word20")
    other = page.context.new_page()
    other.goto(page.url)
    expect(replies(other)).to_contain_text("word20")
    go_on.set()
    whole_once(other)
    whole_once(page)
    upstream.enqueue(Reply(["and ", "more"]))
    ask(other, "go on")
    answered(page, "and more")
    expect(questions(page).last).to_contain_text("go on")


def test_two_devices(device: Device, upstream: FakeUpstream) -> None:
    """What begins on one device is in the other's list, marked while it is being answered, and is read there."""
    desk, phone = device().new_page(), device(viewport={"width": 390, "height": 844}).new_page()
    phone.goto("/")
    expect(phone.get_by_text("Chats appear here")).to_be_attached()
    go_on = held(upstream)
    desk.goto("/")
    ask(desk, "From the desk")
    phone.get_by_role("button", name="Chats", exact=True).click()
    expect(chats(phone)).to_have_text(["From the desk"])
    expect(phone.get_by_role("img", name="answering")).to_be_visible()
    chats(phone).click()
    expect(replies(phone)).to_contain_text("word20")
    go_on.set()
    whole_once(phone)
    whole_once(desk)
    expect(phone.get_by_role("img", name="answering")).to_have_count(0)


@pytest.mark.parametrize("stop", [
    lambda page: page.get_by_role("button", name="Stop").click(),
    lambda page: page.keyboard.press("Escape"),
], ids=["button", "Esc"])  # fmt: skip
def test_stop(page: Page, upstream: FakeUpstream, stop: Callable[[Page], None]) -> None:
    """A stop keeps what there is, says that it is not all, and one can go on at once."""
    upstream.enqueue(Reply(["so ", "far", HANG]))
    page.goto("/")
    ask(page, "begin")
    expect(replies(page)).to_contain_text("so far")
    stop(page)
    answered(page, "so far")
    expect(replies(page).last).to_contain_text("not complete")
    upstream.enqueue(Reply(["again"]))
    ask(page, "again?")
    answered(page, "again")


def test_server_killed_and_back(page: Page, upstream: FakeUpstream, server: PageServer, complaints: Complaints) -> None:
    """A lost connection is said and mended by itself; what had come is there when the server is back."""
    complaints.allow("net::", "400", "404", "Failed to load")
    upstream.enqueue(Reply([*(f"word{n} " for n in range(1, 9)), 1.5, HANG]))
    page.goto("/")
    ask(page, "count")
    expect(replies(page)).to_contain_text("word8")
    page.wait_for_timeout(1300)  # until it has been written down
    server.kill()
    expect(page.get_by_text("The connection is lost")).to_be_visible()
    expect(replies(page)).to_contain_text("word8")
    server.start()
    answered(page, "word8")
    expect(page.get_by_text("The connection is lost")).to_have_count(0)
    expect(replies(page)).to_contain_text("not complete")
    upstream.enqueue(Reply(["here ", "again"]))
    ask(page, "there?")
    answered(page, "here again")


def test_question_waits_for_server(
    page: Page, upstream: FakeUpstream, server: PageServer, complaints: Complaints
) -> None:
    """A question sent while the server is away is kept, and sent once when it is back."""
    complaints.allow("net::", "Failed to load")
    open_chat(page, "first")
    server.kill()
    ask(page, "second")
    expect(page.get_by_text("The connection is lost")).to_be_visible()
    expect(questions(page).last).to_contain_text("second")
    server.start()
    upstream.enqueue(Reply(["it ", "came"]))
    expect(replies(page).last).to_contain_text("it came", timeout=20_000)
    page.reload()
    expect(questions(page).locator(".bubble")).to_have_text(["first", "second"])


def test_reasoning_is_folded(page: Page, upstream: FakeUpstream) -> None:
    """What the model thinks is folded away, before and after a reload, and opens."""
    thoughts = [chunk_of({"reasoning_content": part}) for part in ("Let me ", "think *hard*.")]
    upstream.enqueue(Reply([*thoughts, 0.2, "Done."]))
    page.goto("/")
    ask(page, "think")
    answered(page, "Done.")
    expect(page.get_by_text("Let me think")).to_be_hidden()
    page.get_by_text("Thought for").click()
    expect(page.get_by_text("Let me think hard")).to_be_visible()
    page.reload()
    page.get_by_text("Reasoning").click()
    expect(page.locator(".thoughts em")).to_have_text("hard")


def from_end(page: Page) -> float:
    """How far the reader is from the end, in pixels."""
    return page.locator(".scroll").evaluate(FROM_END)


def test_reader_stays_where_they_are(page: Page, upstream: FakeUpstream) -> None:
    """Who reads further up is not dragged down by what comes; a button leads to the newest, which is followed then."""
    go_on = held(upstream, end="\n\n")
    page.goto("/")
    ask(page, "long")
    expect(replies(page)).to_contain_text("word20")
    assert from_end(page) < 80  # it was followed
    page.locator(".scroll").hover()
    page.mouse.wheel(0, -60)  # a little is enough
    page.wait_for_function(f"() => ({FROM_END})(document.querySelector('.scroll')) > 50")
    read = replies(page).get_by_text("word10", exact=True)
    before = read.bounding_box()
    go_on.set()
    answered(page, "word60")
    assert read.bounding_box() == before
    page.get_by_role("button", name="To the newest message").click()
    expect(page.get_by_role("button", name="To the newest message")).to_be_hidden()
    assert from_end(page) < 2


def test_finished_blocks_stay(page: Page, upstream: FakeUpstream) -> None:
    """The nodes of a reply are kept at its end, so that what is selected in them stays selected."""
    upstream.enqueue(Reply(["First paragraph.\n\n", "Second ", "one.\n\n", 0.5, "Third."]))
    page.goto("/")
    ask(page, "three")
    expect(replies(page)).to_contain_text("Second one.")
    page.evaluate("() => getSelection().selectAllChildren(document.querySelector('.theirs .markdown p'))")
    answered(page, "Third.")
    assert page.evaluate("() => String(getSelection())") == "First paragraph."


def test_end_is_announced_once(page: Page, upstream: FakeUpstream) -> None:
    """A screen reader hears the reply when it is complete, and not every word of it."""
    held(upstream).set()
    page.goto("/")
    page.evaluate(LISTEN)
    ask(page, "count")
    answered(page)
    assert [text[:30] for text in page.evaluate("() => heard")] == ["The reply is complete: word1 w"]
    expect(field(page)).to_be_focused()
