"""The page speaks the browser's language, and says all it says in each."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from self_agent.libraries import WEB
from tests.page.conftest import Device

KEY = re.compile(r'(?:^|[,{]\s*)(?:"([\w.]+)"|(\w+)): "((?:[^"\\]|\\.)*)"', re.M)


def words(language: str) -> dict[str, str]:
    """The sentences of a language, by name."""
    found = [(quoted or plain, text) for quoted, plain, text in KEY.findall((WEB / f"{language}.js").read_text())]
    assert len(found) == len(dict(found)), "a key stands there twice"
    return dict(found)


def values(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_languages_have_same_keys() -> None:
    """No sentence is missing in a language, and each names the same values."""
    english, chinese = words("en"), words("zh")
    assert len(english) > 100
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert values(text) == values(chinese[key]), key


def test_every_word_is_used_and_there() -> None:
    """What the modules say is in the list, and the list has nothing that nobody says."""
    source = "\n".join(
        path.read_text() for path in [*WEB.glob("*.js"), *WEB.glob("view/*.js")] if path.stem not in ("en", "zh")
    )
    known = words("en")
    said = set(re.findall(r"""say\(\s*"([\w.]+)\"""", source))
    assert said <= known.keys()
    quoted = set(re.findall(r'"([\w.]+)"', source))
    families = ("state.", "error.", "remedy.")
    assert {key for key in known if not key.startswith(families) and not key.endswith(".one")} <= quoted


@pytest.mark.parametrize(
    ("locale", "word", "language"),
    [
        ("zh-CN", "输入消息", "zh-Hans"),
        ("zh-TW", "输入消息", "zh-Hans"),
        ("en-US", "Write a message", "en"),
        ("fr-FR", "Write a message", "en"),
    ],
)
def test_language_of_browser(device: Device, locale: str, word: str, language: str) -> None:
    """Chinese for who reads Chinese, English for all others."""
    page = device(locale=locale).new_page()
    page.goto("/")
    expect(page.get_by_placeholder(word)).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", language)


def test_chinese_throughout(device: Device) -> None:
    """A whole exchange without an English word of ours."""
    page = device(locale="zh-CN").new_page()
    page.goto("/")
    page.get_by_role("textbox", name="消息", exact=True).fill("你好")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="回复")).to_contain_text("echo: 你好")
    expect(page.get_by_role("button", name="重新生成")).to_be_visible()
    expect(page.locator(".chats h2")).to_have_text(["今天"])
    labels = page.evaluate("() => [...document.querySelectorAll('[aria-label]')].map((e) => e.ariaLabel)")
    assert not [label for label in labels if re.search("[a-z]{3}", label) and not label.startswith("模型：")]
