"""Where things lie: names of files that no two ids share on any file system."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from self_agent.storage.json_files.folder import deleted_number, file_stem, id_of_stem

IDS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", fullmatch=True)


@pytest.mark.parametrize(
    ("conversation_id", "stem"),
    [
        ("conv_123", "conv_123"),
        ("Ab", "ab+1"),
        ("aB", "ab+2"),
        ("con", "+con"),
        ("con.x", "+con.x"),
        ("Con", "con+1"),
        ("Nul.x", "+nul.x+1"),
        ("com1", "+com1"),
        ("com10", "com10"),
        ("X" * 128, "x" * 128 + "+" + "f" * 32),
    ],
)
def test_ids_have_their_spelling(conversation_id: str, stem: str) -> None:
    """The spelling is as documented, in both directions."""
    assert file_stem(conversation_id) == stem
    assert id_of_stem(stem) == conversation_id


@given(IDS)
def test_any_id_comes_back(conversation_id: str) -> None:
    """Every id is spelt in small letters, briefly enough for a file name, and read back: so none share a name."""
    stem = file_stem(conversation_id)
    assert stem == stem.lower()
    assert len(stem) <= 162
    assert id_of_stem(stem) == conversation_id


@pytest.mark.parametrize("stem", ["Ab", "a b", "ab+", "ab+0", "ab+zz", "ab+4", "+a", "con", ".a", "", "a+1+1"])
def test_other_names_spell_nothing(stem: str) -> None:
    """A name that `file_stem` does not make is no id's."""
    assert id_of_stem(stem) is None


def test_deleted_names_keep_numbers() -> None:
    """The number is read from the name; a name without one counts for nothing."""
    assert deleted_number("ab+1~17") == 17
    assert deleted_number("ab") == deleted_number("ab~x") == 0
