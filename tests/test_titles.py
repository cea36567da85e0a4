"""Titles by the model: when one is asked for, what is made of the answer, and that it disturbs nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flask import Flask

from core.errors import UpstreamError
from self_agent import Parts, close, parts_of
from self_agent import titles as titles_module
from self_agent.events import Chunk, Delta
from self_agent.models import Message
from self_agent.providers.base import Cancellation
from self_agent.providers.echo import Echo
from self_agent.titles import LONGEST, WAITING, excerpt_of, title_in
from tests.conftest import MakeApp
from tests.dialects.test_native_feed import Heard
from tests.dialects.ways import Client, Way, all_ways

WAIT = 10.0


class Model(Echo):
    """Echoes, and gives titles as the test says; `go` lets it answer."""

    follows_instructions = True

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[Any] = []
        self.asking = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def stream(
        self,
        messages: list[dict[str, Any]],
        *,
        model: str | None = None,
        api_key: str | None = None,
        cancel: Cancellation | None = None,
    ) -> Any:
        if not messages[0]["content"].startswith("You name"):
            return super().stream(messages, cancel=cancel)
        assert cancel is not None
        self.asked.append((model, api_key, messages[-1]["content"]))
        self.asking.set()
        return self.answer(cancel)

    def answer(self, cancel: Cancellation) -> Iterable[Chunk]:
        while not self.go.is_set() and not cancel.wait(0.005):
            pass
        if cancel.cancelled:
            return
        answer = self.answers.pop(0) if self.answers else "A title"
        if isinstance(answer, Exception):
            raise answer
        yield from (Delta(char) for char in answer)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def send(app: Flask, cid: str = "c", content: str = "hi", **options: Any) -> None:
    parts_of(app).conversations.send("local", cid, content, new={}, **options).wait()


def title(app: Flask, cid: str = "c") -> str | None:
    found = parts_of(app).store.get(cid)
    assert found is not None
    return found.title


def settled(app: Flask) -> Parts:
    """Wait until nothing is looked at any more."""
    titles = parts_of(app).titles
    until(lambda: not titles._wanted and titles._asking is None)
    return parts_of(app)


def test_first_reply_names_a_chat(make_app: MakeApp) -> None:
    """Asked once, with the chat's model and no caller's key; told; the chat keeps its place in the list."""
    model = Model("Old friends")
    app = make_app(provider=model, auto_title=True)
    heard, service = Heard(app), parts_of(app).conversations
    service.create("local", "c", model="big")
    model.go.clear()
    send(app, content="first words " * 200, api_key="sk-of-the-caller")
    assert model.asking.wait(WAIT)
    service.create("local", "newer", title="Mine")
    send(app, "newer")
    model.go.set()
    until(lambda: title(app) == "Old friends")
    settled(app)
    assert [(name, key) for name, key, _ in model.asked[:1]] == [("big", None)]
    assert "first words" in model.asked[0][2]
    assert "echo: first words" in model.asked[0][2]
    assert len(model.asked[0][2]) < 2200
    assert [found.id for found in service.all("local")] == ["newer", "c"]
    until(lambda: ("changed", "c") in heard.next())
    send(app)
    settled(app)
    assert len(model.asked) == 1


def test_off_unless_it_is_asked_for(make_app: MakeApp) -> None:
    """Neither by default nor of an echo, whose words are no title."""
    model, echo = Model(), Echo()
    for app in (make_app(provider=model), make_app(provider=echo, auto_title=True)):
        send(app)
        assert parts_of(app).titles._thread is None
        assert title(app) is None
    assert not model.asked


@pytest.mark.parametrize("way", all_ways().values(), ids=all_ways())
def test_chats_of_every_dialect(make_app: MakeApp, way: Way) -> None:
    """All but those of aichat and chat_system, whose documents give each session a title at once."""
    client = Client(make_app(provider=Model("Named"), auto_title=True))
    cid = way.create(client)
    client.wait(cid)
    if way.name in ("aichat", "chat_system"):
        settled(client.app)
        assert title(client.app, cid) not in (None, "Named")
    else:
        until(lambda: title(client.app, cid) == "Named")
        assert way.title is None or way.title(client, cid) == "Named"


def test_never_over_a_given_name(make_app: MakeApp) -> None:
    """Not over one from before, nor over one that somebody gives while the model thinks."""
    model = Model()
    app = make_app(provider=model, auto_title=True)
    service = parts_of(app).conversations
    service.create("local", "before", title="Mine")
    send(app, "before")
    settled(app)
    assert not model.asked
    model.go.clear()
    send(app)
    assert model.asking.wait(WAIT)
    service.update("local", "c", {"title": "Given"})
    heard = Heard(app)
    model.go.set()
    settled(app)
    assert title(app) == "Given"
    assert heard.next() == []


def test_a_later_chat_of_that_id_is_another(make_app: MakeApp) -> None:
    """The title of a chat that was deleted meanwhile is nobody's."""
    model = Model()
    app = make_app(provider=model, auto_title=True)
    model.go.clear()
    send(app)
    assert model.asking.wait(WAIT)
    parts_of(app).conversations.delete("local", "c")
    parts_of(app).conversations.create("local", "c")
    model.go.set()
    settled(app)
    assert title(app) is None


@pytest.mark.parametrize("answer", [UpstreamError("refused"), ValueError("a bug"), "", "<think>so long"])
def test_failure_is_a_line_in_the_log(make_app: MakeApp, caplog: pytest.LogCaptureFixture, answer: Any) -> None:
    """The chat has its first words, as without; the next one gets its title."""
    app = make_app(provider=Model(answer, "Next"), auto_title=True)
    send(app)
    settled(app)
    assert title(app) is None
    assert "got no title" in caplog.text
    send(app, "next")
    until(lambda: title(app, "next") == "Next")


def test_first_whole_reply_counts(make_app: MakeApp) -> None:
    """One that failed or was stopped names nothing, the whole one after it does, those after that do not."""
    app = make_app(provider=Model("Whole"), auto_title=True)
    parts_of(app).conversations.send("local", "c", "/fail", new={}).wait_over()
    settled(app)
    assert title(app) is None
    send(app)
    until(lambda: title(app) == "Whole")
    question, reply = Message("user", "q"), Message("assistant", "a")
    assert excerpt_of([question, reply])
    assert excerpt_of([question, reply, question, reply]) is None
    assert excerpt_of([reply]) is None
    assert excerpt_of([question]) is None


def test_close_waits_for_no_title(make_app: MakeApp) -> None:
    """The question is cancelled, and no other is asked."""
    model = Model()
    app = make_app(provider=model, auto_title=True)
    model.go.clear()
    send(app)
    assert model.asking.wait(WAIT)
    send(app, "waits")
    thread = parts_of(app).titles._thread
    close(app)
    assert thread is not None
    thread.join(WAIT)
    assert not thread.is_alive()
    assert len(model.asked) == 1


def test_embedded_model_answers_people_first(make_app: MakeApp) -> None:
    """Where there is no room beside them, a title gives way to a question, and is asked for when all is quiet."""
    model = Model()
    model.has_room = False
    app = make_app(provider=model, auto_title=True)
    model.go.clear()
    send(app)
    assert model.asking.wait(WAIT)
    model.asking.clear()
    turn = parts_of(app).conversations.send("local", "other", "/slow two", new={}, attend=False)
    turn.wait_stored()
    until(lambda: parts_of(app).titles._asking is None)
    assert not model.asking.is_set()
    parts_of(app).conversations.stop("local", "other")
    model.go.set()
    until(lambda: title(app) == "A title")
    assert title(app, "other") is None


def test_what_takes_too_long_or_says_too_much_is_left(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that never ends holds up no other title."""
    model = Model("word " * 100_000, "Next")
    app = make_app(provider=model, auto_title=True)
    send(app)
    settled(app)
    assert title(app) is None
    assert len(model.answers) == 1
    monkeypatch.setattr(titles_module, "SECONDS", 0.02)
    model.go.clear()
    send(app, "slow")
    settled(app)
    until(lambda: len(model.asked) == 2)
    settled(app)
    model.go.set()
    monkeypatch.undo()
    send(app, "next")
    until(lambda: title(app, "next") == "Next")
    assert title(app, "slow") is None


def test_a_flood_of_chats_waits_in_bounds(make_app: MakeApp) -> None:
    """So many wait, the others go without."""
    model = Model()
    app = make_app(provider=model, auto_title=True)
    model.go.clear()
    for number in range(WAITING + 20):
        send(app, f"c{number}")
    assert len(parts_of(app).titles._wanted) == WAITING


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("A walk in the park", "A walk in the park"),
        ('"A walk."\n\nThis title says…', "A walk"),
        ("**Title: «A walk»**", "A walk"),
        ("# A walk", "A walk"),
        ("- `A walk`", "A walk"),
        ("1. A walk", "A walk"),
        ("标题：《公园散步》。", "公园散步"),
        ("<think>hm\nA thought</think>\n\nA walk", "A walk"),
        ("<THINK>hm", None),
        ("A\twalk\x00 in\u2028the\x1b[31m park", "A walk in"),
        ("C++ and #hashtags", "C++ and #hashtags"),
        ("2024 in review", "2024 in review"),
        ("", None),
        ("\n \n", None),
        ('"…"', None),
        ("🙂🙂", None),
    ],
)
def test_answers_become_titles(answer: str, title: str | None) -> None:
    """One line, without what models put around it; nothing is nothing."""
    assert title_in(answer) == title


def test_long_titles_are_cut() -> None:
    """At a word where there are words, and never over the limit."""
    words = title_in("many words " * 50)
    assert words is not None
    assert len(words) <= LONGEST
    assert words.endswith("words…") or words.endswith("many…")
    one = title_in("字" * 500)
    assert one == "字" * (LONGEST - 1) + "…"
    assert title_in("字" * LONGEST) == "字" * LONGEST
