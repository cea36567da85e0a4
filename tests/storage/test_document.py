"""A document as bytes."""

from __future__ import annotations

import pytest

from self_agent.models import Message
from self_agent.storage.json_files.entry import reader
from self_agent.storage.json_files.lines import (
    CLOSING,
    Facts,
    Irregular,
    dump,
    ending,
    find_line,
    find_lines,
    header_line,
    load,
    parse_header,
    survey,
    with_lines,
)
from self_agent.storage.json_files.outline import Outline
from self_agent.storage.json_files.salvage import regular, salvage
from self_agent.storage.rows import from_rows
from tests.storage.samples import message_line

TIME = "2025-04-30T10:00:01.000000Z"
ID = 1 << 20 | 1


def line(position: int, content: str = "x", **fields: object) -> bytes:
    return message_line(Message("user", content, 1 << 20 | position, TIME, **fields))  # type: ignore[arg-type]


def made(*lines: bytes) -> bytes:
    body = ending(lines, first=True) if lines else CLOSING
    return header_line({"number": 1}) + body


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            Message("user", "你好", ID, TIME),
            '{"id":1048577,"role":"user","content":"你好","timestamp":"2025-04-30T10:00:01.000000Z"}',
        ),
        (
            Message("assistant", "", ID, TIME, model="m", incomplete=True, sources=[], is_deleted=True),
            '{"id":1048577,"role":"assistant","content":"","timestamp":"2025-04-30T10:00:01.000000Z",'
            '"model":"m","incomplete":true,"sources":[],"is_deleted":true}',
        ),
    ],
)
def test_line_of_a_message(message: Message, expected: str) -> None:
    """A line holds what the message has, unescaped, and is read back as the same message."""
    assert message_line(message).decode() == expected
    assert from_rows([load(expected.encode())]) == [message]


def test_odd_values_are_kept_somehow() -> None:
    """What JSON cannot hold is replaced; halves of a surrogate pair are joined."""
    odd = {"a": ["\ud83d\ude00", "\ud800", 1 << 70, (1,), None, True, 1.5], 2: object}
    stored = load(dump(odd))
    assert stored["a"] == ["😀", "\ufffd", float(1 << 70), [1], None, True, 1.5]
    assert "object" in stored["2"]


def test_unknown_fields_are_skipped() -> None:
    """A field that a later version added does not keep a message from being read."""
    assert from_rows([{"role": "user", "content": "x", "later": 1}]) == [Message("user", "x")]


def test_survey_of_a_document() -> None:
    """The catalog's facts are those of the lines, whatever the order of the ids."""
    data = made(line(3, "first"), line(2, "hidden", is_deleted=True))
    header, end = parse_header(data)
    assert header == {"number": 1}
    assert survey(data, 1, end) == Facts(2, 1, 5, "first", "first", TIME)
    assert survey(made(), 1, len(made()) - 4) == Facts()


def test_question_keeps_an_id_for_its_reply() -> None:
    """After a question that has no reply the next id is left out: a client may know it as the reply's."""
    question, reply = line(1), line(2).replace(b'"user"', b'"assistant"')
    for lines in ([question], [question, reply]):
        data = made(*lines)
        assert survey(data, 1, data.index(b"\n")).next_position == 3


@pytest.mark.parametrize(
    "data",
    [
        made(line(1)).removesuffix(b"\n"),
        made(line(1), line(1)),
        made(line(1) + b",\n " + line(2)),
        made(line(1) + b"," + line(2)),
        made(b'{"id":1048577,\n"role":"user","content":"x","timestamp":"' + TIME.encode() + b'"}'),
        made(b'{"id":1048577}'),
        made(b"1"),
        made(line(1).replace(b"1048577", b"2097153")),
        made(line(1).replace(TIME.encode(), b"2025")),
        made(b"{bad"),
    ],
)
def test_irregular_documents_are_noticed(data: bytes) -> None:
    """Anything but the line form is noticed, be it valid JSON or not."""
    with pytest.raises(Irregular):
        survey(data, 1, parse_header(data)[1])


@pytest.mark.parametrize("data", [b"", b"{}\n", b'[1,"messages": [\n]}\n', b'{"a":1}, "messages": [', b"\n\n"])
def test_bad_headers_are_noticed(data: bytes) -> None:
    """A first line that is no header is noticed."""
    with pytest.raises(Irregular):
        parse_header(data)


def test_long_bodies_are_parsed_in_pieces() -> None:
    """A document of several pieces is read as one."""
    lines = [line(n, "x" * 100_000) for n in range(1, 41)]
    data = made(*lines)
    assert survey(data, 1, parse_header(data)[1]).total == 40


@pytest.mark.parametrize("many", [3, 20])
def test_lines_are_found_by_id(many: int) -> None:
    """Lines are found one by one and in one pass alike; text that looks like a line is not taken for one."""
    lines = [line(n, 'text \n{"id":1048580,') for n in range(1, 31)]
    data = made(*lines)
    spans = find_lines(data, [1 << 20 | n for n in range(1, many + 1)] + [5])
    assert [data[start:end] for start, end in spans] == lines[:many]
    assert find_line(data, 1 << 20 | 30) == (len(data) - 4 - len(lines[-1]), len(data) - 4)


def test_changed_lines_leave_others() -> None:
    """Changing lines keeps the bytes of the others."""
    data = made(line(1), line(2), line(3))
    spans = find_lines(data, [1 << 20 | 3, 1 << 20 | 1])
    changed = with_lines(data, {spans[0]: line(3, "c"), spans[1]: line(1, "longer")})
    assert changed == made(line(1, "longer"), line(2), line(3, "c"))
    assert Outline(changed).names(reader(changed)) == ("longer", "c")
    assert Outline(made()).names(reader(made())) == ("", "")


def test_torn_append_keeps_whole_lines() -> None:
    """Cut at every byte of an append, with zeros behind the cut or not, what was there before survives."""
    before = made(line(1), line(2))
    lines = [line(3, "x]}"), line(4)]
    for start, known in ((before, 2), (made(), 0)):
        new = ending(lines, first=known == 0)
        end = len(start) - len(CLOSING)
        for cut in range(len(new) + 1):
            torn = start[:end] + new[:cut] + start[end + cut :]
            for data in (torn, torn + b"\0" * 50):
                found = salvage(data)
                contents = [fields["content"] for fields in found.messages]
                assert contents[:known] == ["x"] * known
                assert contents[known:] == ["x]}", "x"][: len(contents) - known]
                assert not found.lost or b"x]}" in new[:cut]
                again = b"".join(regular(found, "c", 1))
                assert survey(again, 1, parse_header(again)[1]).total == len(contents)


def test_broken_line_loses_only_itself() -> None:
    """A line that a person broke costs that line, and the loss is reported."""
    for lines in ([line(1), b"{oops", line(3)], [line(1), line(3), b'{"role":"user"'], [b"0", line(1), line(3)]):
        found = salvage(made(*lines))
        assert len(found.messages) == 2
        assert found.lost


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"[]", b'{"messages": 1}', b'{"conversation_id": "c"', b"\xff"])
def test_hopeless_files_are_refused(data: bytes) -> None:
    """A file without a header that can be read is not a document."""
    with pytest.raises(Irregular):
        salvage(data)
