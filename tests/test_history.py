"""What the model is shown."""

from __future__ import annotations

from self_agent.history import fit
from self_agent.models import Message

TALK = [Message("user", "one"), Message("assistant", "two"), Message("user", "three")]


def newest_first(messages: list[Message]) -> list[Message]:
    return list(reversed(messages))


def test_all_fits_in_order() -> None:
    """What fits is sent oldest first, behind the instructions."""
    assert fit("Be kind.", newest_first(TALK), 4096) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]


def test_no_instructions_no_system() -> None:
    """An empty system message is not sent."""
    assert [m["role"] for m in fit("  ", newest_first(TALK), 4096)] == ["user", "assistant", "user"]


def test_oldest_are_left_out() -> None:
    """When the context is short, the newest messages stay and the first of them is the user's."""
    talk = [Message("user" if n % 2 == 0 else "assistant", f"{n}:" + "x" * 300) for n in range(21)]
    sent = fit("", newest_first(talk), 1024)
    assert sent[-1]["content"].startswith("20:")
    assert sent[0]["role"] == "user"
    assert 3 <= len(sent) <= 7


def test_newest_is_always_sent() -> None:
    """A question longer than the context is sent all the same; the upstream says what it thinks of it."""
    assert len(fit("", [Message("user", "x" * 100_000)], 100)) == 1


def test_reading_stops_when_full() -> None:
    """Only as much of a long conversation is read as fits."""
    read = []

    def messages():  # type: ignore[no-untyped-def]
        for n in range(10_000):
            read.append(n)
            yield Message("user" if n % 2 == 0 else "assistant", "word " * 50)

    fit("", messages(), 2048)
    assert len(read) < 30


def test_same_role_is_joined() -> None:
    """Two questions in a row, the first of which failed, become one."""
    sent = fit("", newest_first([Message("user", "a"), Message("user", "b")]), 4096)
    assert sent == [{"role": "user", "content": "a\n\nb"}]


def test_system_joins_instructions() -> None:
    """Instructions given inside the conversation stand with the others, at the beginning."""
    sent = fit("A", newest_first([Message("user", "q"), Message("system", "B"), Message("user", "r")]), 4096)
    assert sent == [{"role": "system", "content": "A\n\nB"}, {"role": "user", "content": "q\n\nr"}]


def test_blank_is_never_sent() -> None:
    """A blank message that an older backend left does not reach the model."""
    assert fit("", newest_first([Message("assistant", " \n"), Message("user", "hi")]), 4096) == [
        {"role": "user", "content": "hi"}
    ]


def call(call_id: str, content: str = "") -> Message:
    return Message("assistant", content, extra={"calls": [{"call_id": call_id, "name": "f", "arguments": "{}"}]})


def result(call_id: str, content: str = "done") -> Message:
    return Message("user", content, extra={"call_id": call_id})


def tool_call(call_id: str) -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_calls_and_results_go_together() -> None:
    """A call is part of the assistant's message, its result a message of its own; an empty result is one too."""
    talk = [TALK[0], call("a", "Let me see."), call("b"), result("a"), result("b", ""), TALK[2]]
    assert fit("", newest_first(talk), 4096) == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [tool_call("a"), tool_call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": "done"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": "three"},
    ]


def test_calls_without_results_are_left_out() -> None:
    """Models refuse a call that has no result, and a result of no call: an unanswered one, or one that did not fit."""
    talk = [TALK[0], call("a", "Hm."), TALK[1], result("other"), TALK[2]]
    assert fit("", newest_first(talk), 4096) == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Hm.\n\ntwo"},
        {"role": "user", "content": "three"},
    ]
    long = Message("assistant", "x" * 9000, extra=call("a").extra)
    sent = fit("", newest_first([TALK[0], long, result("a"), TALK[2]]), 1024)
    assert sent == [{"role": "user", "content": "three"}]


def test_edited_extras_are_read_with_care() -> None:
    """Whatever somebody made of the calls in a file, the conversation goes on."""
    for extra in ({"calls": 1}, {"calls": [1, {"call_id": 2}]}, {"call_id": 3}, {"asked": []}):
        assert fit("", newest_first([Message("user", "one", extra=extra)]), 4096) == [
            {"role": "user", "content": "one"}
        ]
