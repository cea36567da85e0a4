"""Turns whose question was sent before: joined, shown again, or asked again, whatever comes between."""

from __future__ import annotations

import threading

import pytest

from core.errors import Conflict, KeyReused
from self_agent.events import Delta, Done, Sources, Started
from self_agent.keys import stored_key
from self_agent.models import Message
from self_agent.storage.base import Sent
from self_agent.turns.turn import Turn
from tests.turns.test_turns import Model, World, events


def asked(content: str = "hi", key: str = "k") -> Message:
    return Message("user", content, key=stored_key("/r", key, content.encode()))


@pytest.fixture
def world() -> World:
    return World(Model())


def submit(world: World, question: Message | None = None, user: str = "local") -> Turn:
    return world.turns.submit(user, "c", question or asked(), world.model)


def test_waiting_turn_is_joined(world: World) -> None:
    """A turn is joined while it waits too; another user's, another key's and one without a key are others."""
    first, waiting = submit(world, asked("a", "k1")), submit(world, asked("b", "k2"))
    assert submit(world, asked("a", "k1")) is first
    assert submit(world, asked("b", "k2")) is waiting
    assert submit(world, asked("b", "k3")) not in (first, waiting)
    assert submit(world, asked("b", "k2"), user="eve") is not waiting
    last = submit(world, Message("user", "b"))
    assert last is not waiting
    with pytest.raises(KeyReused):
        submit(world, asked("c", "k2"))
    for _ in range(4):
        world.model.say("x", None)
    last.wait()
    assert [content for role, content in world.talk() if role == "user"] == ["a", "b", "b", "b"]


def test_repeat_that_came_too_late_to_join(world: World) -> None:
    """One that missed the reply by a moment is shown the stored one; no event is missing, the model is not asked."""
    world.model.say(Delta(reasoning="r"), Sources([{"n": 1}]), "a", "b", None)
    first = submit(world).wait().message
    world.model.asked.clear()
    again = submit(world)
    assert again.wait().message == first
    assert first is not None
    assert events(again) == [
        Started(again.id, "c", first.id - 1, first.id), Delta(reasoning="r"), Sources([{"n": 1}]), Delta("ab"),
        Done(first),
    ]  # fmt: skip
    assert not world.model.asked.is_set()
    assert world.turns.current("c") is None
    assert world.talk() == [("user", "hi"), ("assistant", "ab")]
    assert world.turns.stop(again) is False


def test_next_turn_begins_behind_a_repeat(world: World) -> None:
    """Whoever waits behind a turn that is only shown again gets the model."""
    world.model.say("a", None)
    submit(world).wait()
    world.model.say("b", None)
    running = submit(world, asked("q2", "k2"))
    again, behind = submit(world), submit(world, asked("q3", "k3"))
    world.model.say("c", None)
    assert [turn.wait().message.content for turn in (running, again, behind)] == ["b", "a", "c"]  # type: ignore[union-attr]
    assert [content for role, content in world.talk() if role == "user"] == ["hi", "q2", "q3"]


def test_question_without_reply_that_is_not_last(world: World) -> None:
    """Behind which a message has come since it was stored: not asked again, and not stored again."""
    world.store.begin("local", "c", asked())
    world.store.append("c", Message("system", "more"))
    with pytest.raises(Conflict, match="use another key"):
        submit(world).wait()
    assert world.turns.repeated("local", "c", asked().key or "") is None
    assert world.talk() == [("user", "hi"), ("system", "more")]


def test_repeats_of_what_was_deleted(world: World) -> None:
    """The reply or the question hidden, it is no repeat that could be answered, whichever way it is found."""
    world.model.say("a", None)
    submit(world).wait()
    question, reply = world.store.messages("c")
    for message in (reply, question):
        world.store.hide([message.id])
        with pytest.raises(Conflict, match="deleted"):
            submit(world).wait()
        with pytest.raises(Conflict, match="deleted"):
            world.turns.repeated("local", "c", question.key or "")
    assert world.talk() == []


def test_many_at_once_ask_once(world: World) -> None:
    """Of many threads with one key the question is stored once and the model asked once."""
    world.model.say("a", None)
    together = threading.Barrier(10)
    found: list[str] = []

    def send() -> None:
        together.wait()
        message = submit(world).wait().message
        found.append(message.content if message else "")

    threads = [threading.Thread(target=send) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["a"] * 10
    assert world.talk() == [("user", "hi"), ("assistant", "a")]


def test_stored_turn_is_over() -> None:
    """A turn that is made of a question and a reply has ended, and was never anybody's news."""
    question, reply = Message("user", "q", id=1), Message("assistant", "a", id=2, incomplete=True)
    turn = Turn.finished("local", "c", question, reply)
    assert (turn.is_over, turn.is_stored, turn.claim(), turn.number()) == (True, True, False, 3)
    assert turn.wait().message == reply
    assert turn.wait_stored() == question
    assert Sent(question, reply).reply == reply
