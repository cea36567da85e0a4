"""Lists of either store: pinned first, archived apart, found by words; and changes only of what is as expected."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from self_agent.models import FIRST_LENGTH, Message
from self_agent.storage import Store

Reopen = Callable[[], Store]


def ids(store: Store, **chosen: object) -> list[str]:
    """Return the ids of a list, which is the same however it is cut into pages."""
    page = store.conversations("u", **chosen)
    found = [each.id for each in page.items]
    assert page.total == len(found)
    for size in (1, 3):
        pages = [store.conversations("u", offset=at, limit=size, **chosen) for at in range(0, len(found) + 1, size)]
        assert [each.id for part in pages for each in part.items] == found
        assert {part.total for part in pages} == {len(found)}
    return found


def test_pinned_first_archived_apart(store: Store) -> None:
    """Each of the lists is pinned ones first, then newest update first, whatever came after what."""
    for name in "abcdefgh":
        store.create(name, "u", pinned=name in "bdf", archived=name in "def")
    assert ids(store) == ["b", "h", "g", "c", "a"]
    assert ids(store, archived=True) == ["f", "d", "e"]
    assert ids(store, archived=None) == ["f", "d", "b", "h", "g", "e", "c", "a"]
    store.append("a", Message("user", "x"))
    store.update("e", pinned=True)
    store.update("h", archived=True)
    assert ids(store) == ["b", "a", "g", "c"]
    assert ids(store, archived=True) == ["e", "f", "d", "h"]
    store.update("b", pinned=False)
    store.update("d", archived=False)
    assert ids(store) == ["d", "b", "a", "g", "c"]
    store.delete("d")
    store.delete("f")
    assert ids(store, archived=None) == ["e", "b", "h", "a", "g", "c"]
    assert store.conversations("v", archived=None).total == 0


def test_pinned_draft_is_in_no_list(store: Store) -> None:
    """What is set on a draft brings it into no list; its first message brings it to its place."""
    store.create("d", "u", is_draft=True)
    store.create("c", "u", pinned=True)
    store.update("d", pinned=True)
    assert ids(store, archived=None) == ["c"]
    store.update("d", archived=True)
    store.append("d", Message("user", "x"))
    assert (ids(store), ids(store, archived=True)) == (["c"], ["d"])


def test_lists_of_projects_have_both(store: Store) -> None:
    """A project's list is in the same order, and leaves out the same."""
    project = store.create_project("u", "p").id
    for name in "abcd":
        store.create(name, "u", project_id=project if name != "d" else 0, pinned=name == "a", archived=name == "b")
    assert ids(store, project_id=project) == ["a", "c"]
    assert ids(store, project_id=project, archived=None) == ["a", "c", "b"]
    assert ids(store, project_id=0) == ["d"]
    assert ids(store, project_id=project, matching="nothing") == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("WALK", ["t"]), ("a walk", ["t"]), ("größe", ["m"]), ("GRÖSSE", ["m"]), ("今天", ["z"]), ("天气怎", ["z"]),
        ("ｗａｌｋ", ["t"]), ("wide", ["w"]), ("e\u0301t\u00e9", ["f"]), ("ÉTÉ", ["f"]), ("ｄｅ X", ["w"]),
        ("under the title", ["t"]), ("%", []), (".*", []), ("\0", []), ("", ["f", "w", "z", "m", "t"]), ("tail", []),
    ],
)  # fmt: skip
def test_words_find_titles_and_first_lines(store: Store, words: str, found: list[str]) -> None:
    """In letters of any case and width, of any language; what is not shown in a list is not looked at."""
    for name, title, text in [
        ("t", "A Walk", "under the title"),
        ("m", None, "Die Größe"),
        ("z", None, "你好世界，今天天气怎么样？"),
        ("w", None, "ＷＩＤＥ " + "x" * FIRST_LENGTH + "tail"),
        ("f", "l'ÉTÉ", "si"),
    ]:
        store.create(name, "u", title=title)
        store.append(name, Message("user", text), Message("assistant", "the tail of walks"))
    store.create("other", "v", title="a walk")
    assert ids(store, matching=words) == found


def test_update_where_as_expected(store: Store) -> None:
    """A field that is another now keeps all as it is; one that is not there to be expected is a bug."""
    made = store.create("c", "u", title=None)
    assert store.update("c", expect={"title": "other"}, title="x") == made == store.get("c")
    changed = store.update("c", expect={"title": None, "archived": False}, title="x", pinned=True)
    assert (changed.title, changed.pinned) == ("x", True)
    assert store.update("c", expect={"title": None}, title="y") == changed == store.get("c")
    with pytest.raises(AttributeError):
        store.update("c", expect={"nonsense": 1}, title="y")


def test_lists_are_the_same_again(reopen: Reopen) -> None:
    """After a start what is pinned is first, what is archived apart, and words find what they found."""
    store = reopen()
    for name in "abcdef":
        store.create(name, "u", pinned=name in "be", archived=name in "cef")
        store.append(name, Message("user", f"first line of {name}\n" + "x" * 200))
    store.update("d", pinned=True)
    store.update("b", pinned=False, archived=True)
    lists: list[dict[str, object]] = [{}, {"archived": True}, {"archived": None}, {"matching": "OF A"}]
    before = [store.conversations("u", **each) for each in lists]
    assert [found.id for found in before[0].items] == ["d", "a"]
    assert before[0].items[0].first_line == "first line of d"
    for _ in range(2):
        store = reopen()
        assert [store.conversations("u", **each) for each in lists] == before
