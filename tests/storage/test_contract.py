"""What every store promises, whatever it keeps its conversations in."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from core.errors import Conflict, NotFound, NotYours, StorageError
from self_agent.models import (
    FIRST_LENGTH,
    MAX_POSITION,
    NAME_LENGTH,
    SUMMARY_LENGTH,
    Folder,
    Message,
    Shelf,
    Tag,
    number_of,
)
from self_agent.storage.base import Store
from tests.storage.samples import full_message, said, settable


def user(text: str) -> Message:
    return Message("user", text)


def texts(messages: list[Message]) -> list[str]:
    return [message.content for message in messages]


def fill(store: Store, count: int, conversation_id: str = "c") -> list[Message]:
    store.create(conversation_id, "u")
    return store.append(conversation_id, *(user(f"m{n}") for n in range(count)))


def test_created_conversation_is_found(store: Store) -> None:
    """What was created is found by its id and by its number, with all that was given."""
    made = store.create("c", "u", title="t", system_prompt="s", model="m", project_id=0)
    assert (made.title, made.system_prompt, made.model, made.user_id) == ("t", "s", "m", "u")
    assert made.created_at == made.updated_at
    assert store.get("c") == store.by_number(made.number) == made


def test_every_settable_field_is_kept(store: Store) -> None:
    """Each field that can be set is kept, set at the creation or later; what cannot be set is a bug."""
    chosen = settable()
    made = store.create("c", "u", **chosen)
    store.create("d", "u")
    for name, value in chosen.items():
        assert getattr(store.update("d", **{name: value}), name) == value
    for conversation_id in "cd":
        found = store.get(conversation_id)
        assert {name: getattr(found, name) for name in chosen} == chosen
    for use in (lambda: store.create("e", "u", count=5), lambda: store.update("c", number=5)):
        with pytest.raises(TypeError):
            use()
    assert (store.get("e"), store.get("c")) == (None, made)


def test_unknown_conversation_is_none(store: Store) -> None:
    """Looking up what is not there is not an error; using it is."""
    assert store.get("c") is None
    assert store.by_number(1) is None
    for use in (store.messages, store.reserve, store.delete, store.update, store.append):
        with pytest.raises(NotFound):
            use("c")
    with pytest.raises(NotFound):
        store.latest("c", 1)
    with pytest.raises(NotFound):
        store.checkpoint("c", Message("assistant", "", id=1), "x")


def test_taken_id_is_conflict(store: Store) -> None:
    """An id that is taken stays with whom it belongs to; ids that differ in case are different."""
    store.create("c", "u")
    with pytest.raises(Conflict):
        store.create("c", "v")
    assert store.create("C", "v").number == 2


def test_append_fills_in_messages(store: Store) -> None:
    """Appended messages come back with ids of their conversation and rising times, and are read as returned."""
    store.create("c", "u")
    full = Message(
        "assistant",
        '🙂 é \u2028 " \\ \n\x00',
        model="m",
        incomplete=True,
        error="e",
        reasoning="r",
        sources=[{"url": "x", "is_deleted": True}],
        usage={"n": 1},
    )
    stored = store.append("c", user("a"), full)
    assert store.messages("c") == stored
    assert [number_of(message.id) for message in stored] == [1, 1]
    assert stored[0].id < stored[1].id
    assert stored[0].timestamp < stored[1].timestamp
    assert stored[1].content == full.content


def test_every_field_is_kept(store: Store) -> None:
    """A message with a value in each field that there is comes back whole, the hidden one with its other fields."""
    parent, _ = fill(store, 2)
    whole = full_message(store.reserve("c"), parent.id)
    assert store.append("c", replace(whole, is_deleted=False)) == [replace(whole, is_deleted=False)]
    assert store.message(whole.id) == replace(whole, is_deleted=False)


def test_appended_hidden_stays_hidden(store: Store) -> None:
    """A message that is hidden when it is appended is stored, and counts for nothing."""
    store.create("c", "u")
    store.append("c", user("shown"), Message("assistant", "hidden", is_deleted=True))
    assert texts(store.messages("c")) == texts(store.latest("c", 5)) == ["shown"]
    found = store.get("c")
    assert found
    assert (found.count, found.summary) == (1, "shown")


def test_append_of_nothing(store: Store) -> None:
    """Appending no messages is harmless."""
    store.create("c", "u")
    assert store.append("c") == []


def test_heading_follows_its_messages(store: Store) -> None:
    """Count, first words, summary and time of update follow what was appended."""
    made = store.create("c", "u")
    store.append("c", Message("system", "s"), user("x" * 100), Message("assistant", "y" * 500))
    found = store.get("c")
    assert found
    assert (found.count, found.first, found.summary) == (3, "x" * FIRST_LENGTH, "y" * SUMMARY_LENGTH)
    assert found.name == "x" * NAME_LENGTH
    assert found.updated_at > made.updated_at


def test_pages_of_messages(store: Store) -> None:
    """Any page of messages is what a slice of all of them is."""
    everything = fill(store, 25)
    for offset in (0, 1, 10, 24, 25, 99):
        for limit in (0, 1, 7, 100, None):
            stop = None if limit is None else offset + limit
            assert store.messages("c", offset=offset, limit=limit) == everything[offset:stop]
    for limit in (0, 1, 7, 25, 100):
        assert store.latest("c", limit) == everything[25 - min(limit, 25) :]


def test_hidden_messages_are_gone(store: Store) -> None:
    """Hidden messages are in no page and not counted; hiding again, or something unknown, counts nothing."""
    stored = fill(store, 10)
    hidden = [stored[0].id, stored[4].id, stored[9].id]
    assert store.hide([*hidden, hidden[0], 7, stored[9].id + 50]) == 3
    assert store.hide(hidden) == 0
    assert texts(store.messages("c")) == ["m1", "m2", "m3", "m5", "m6", "m7", "m8"]
    assert texts(store.messages("c", offset=3, limit=2)) == ["m5", "m6"]
    assert texts(store.latest("c", 3)) == ["m6", "m7", "m8"]
    found = store.get("c")
    assert found
    assert (found.count, found.first, found.summary) == (7, "m1", "m8")
    with pytest.raises(NotFound):
        store.message(hidden[0])
    with pytest.raises(NotFound):
        store.edit(hidden[0], said("x"))


def test_hide_many_over_conversations(store: Store) -> None:
    """One call hides messages of several conversations, and all of one."""
    a = fill(store, 20, "a")
    b = fill(store, 3, "b")
    assert store.hide([message.id for message in a] + [b[1].id]) == 21
    assert store.messages("a") == store.latest("a", 5) == []
    assert texts(store.messages("b")) == ["m0", "m2"]
    assert store.append("a", user("again"))[0].id > a[-1].id


def test_edit_replaces_content(store: Store) -> None:
    """An edited message keeps its id, place and time, and says when it was edited; headings follow."""
    stored = fill(store, 3)
    changed = store.edit(stored[0].id, said("longer than it was before"))
    assert (changed.id, changed.timestamp) == (stored[0].id, stored[0].timestamp)
    assert changed.edited_at
    assert store.message(stored[0].id) == changed
    assert store.messages("c") == [changed, *stored[1:]]
    store.edit(stored[2].id, said("last"))
    found = store.get("c")
    assert found
    assert (found.first, found.summary) == ("longer than it was before", "last")


def test_refused_edit_changes_nothing(store: Store) -> None:
    """What the change raises is passed on, a change of what must stay is a bug, and either leaves all as it was."""
    stored = fill(store, 2)
    before = store.get("c")

    def refuse(message: Message) -> Message:
        assert message == stored[0]
        raise NotYours("no")

    with pytest.raises(NotYours, match="no"):
        store.edit(stored[0].id, refuse)
    for kept in ({"id": stored[1].id}, {"role": "assistant"}, {"timestamp": "2025-04-30T10:00:01.000000Z"}):
        with pytest.raises(ValueError, match="keeps"):
            store.edit(stored[0].id, lambda message, kept=kept: replace(message, **kept))
    assert store.messages("c") == stored
    assert store.get("c") == before


def test_edits_follow_each_other(store: Store) -> None:
    """Of many edits of one message at once none is lost: each is shown what the one before it made."""
    [stored] = fill(store, 1)
    run_all(*[lambda: store.edit(stored.id, lambda m: replace(m, content=m.content + "+"))] * 8)
    assert store.message(stored.id).content == "m0" + "+" * 8


def test_message_by_its_id(store: Store) -> None:
    """A message is found by its id alone; an id that is nobody's is not found."""
    stored = fill(store, 3)
    assert store.message(stored[1].id) == stored[1]
    for unknown in (0, 5, stored[2].id + 1, 99 << 20 | 1):
        with pytest.raises(NotFound):
            store.message(unknown)
        with pytest.raises(NotFound):
            store.edit(unknown, said("x"))


def test_reserved_id_is_used_later(store: Store) -> None:
    """A reserved id belongs to the reply it was taken for, even when later messages come first."""
    fill(store, 1)
    reserved = store.reserve("c")
    assert store.append("c", user("q"))[0].id > reserved
    reply = store.append("c", Message("assistant", "a", id=reserved))[0]
    assert reply.id == reserved
    assert store.message(reserved) == reply
    assert texts(store.messages("c")) == ["m0", "q", "a"]


def test_invented_id_is_refused(store: Store) -> None:
    """An id that was not reserved is a bug of the caller, and nothing is stored."""
    fill(store, 1)
    with pytest.raises(ValueError, match="reserve"):
        store.append("c", user("x"), Message("assistant", "a", id=(1 << 20) + 9))
    assert texts(store.messages("c")) == ["m0"]


def test_full_conversation_says_so(store: Store) -> None:
    """A conversation that holds as many messages as ids allow refuses another."""
    store.create("c", "u")
    with pytest.raises(StorageError, match="full"):
        store.append("c", *[user("x")] * (MAX_POSITION + 1))
    assert store.messages("c") == []


def test_lists_are_newest_first(store: Store) -> None:
    """A user's conversations come newest update first, in pages, and nobody else's among them."""
    for name in "abcd":
        store.create(name, "u")
    store.create("other", "v")
    store.append("b", user("x"))
    store.update("a", title="t")
    page = store.conversations("u")
    assert [c.id for c in page.items] == ["a", "b", "d", "c"]
    assert page.total == 4
    page = store.conversations("u", offset=1, limit=2)
    assert ([c.id for c in page.items], page.total) == (["b", "d"], 4)
    assert store.conversations("nobody").total == 0


def test_draft_waits_for_its_message(store: Store) -> None:
    """A draft is found by its id and in no list, whatever is set, until it has a message; then it stays."""
    store.create("listed", "u")
    store.create("c", "u", is_draft=True)
    store.create("d", "v", is_draft=True)
    store.update("c", model="m")
    assert [c.id for c in store.conversations("u").items] == ["listed"]
    assert store.conversations("u", project_id=0).total == store.conversations("u").total == 1
    assert store.conversations("v").total == 0
    store.begin("u", "c", user("x"))
    assert [c.id for c in store.conversations("u").items] == ["c", "listed"]
    store.hide([store.append("d", user("x"))[0].id])
    assert store.conversations("v").total == 1
    store.update("listed", is_draft=True)
    assert [c.id for c in store.conversations("u").items] == ["c"]
    store.delete("listed")
    store.delete("c")
    assert store.conversations("u").total == 0


def test_update_may_leave_place_in_lists(store: Store) -> None:
    """With `moves` False a conversation is another, but no newer than it was."""
    for name in ("old", "new"):
        store.create(name, "u")
    before = store.get("old")
    assert before is not None
    changed = store.update("old", moves=False, expect={"title": None, "number": before.number}, title="named")
    assert (changed.title, changed.updated_at) == ("named", before.updated_at)
    assert store.update("old", expect={"title": None}, title="again") == store.get("old") == changed
    assert [found.id for found in store.conversations("u").items] == ["new", "old"]


def test_update_sets_fields(store: Store) -> None:
    """Only the fields that are named change, and `None` takes a value away."""
    made = store.create("c", "u", title="t", system_prompt="s", model="m")
    changed = store.update("c", title="new", model=None)
    assert (changed.title, changed.system_prompt, changed.model) == ("new", "s", None)
    assert changed.updated_at > made.updated_at
    assert store.get("c") == changed


@pytest.mark.parametrize("keep", [False, True])
def test_deleted_conversation_frees_id(store: Store, keep: bool) -> None:
    """A deleted conversation is nowhere; its id can be used again, its number and message ids never are."""
    stored = fill(store, 3)
    store.hide([stored[0].id])
    assert store.delete("c", keep=keep) == 2
    assert store.get("c") is None
    assert store.by_number(1) is None
    assert store.conversations("u").total == 0
    with pytest.raises(NotFound):
        store.message(stored[1].id)
    assert store.hide([stored[1].id]) == 0
    assert store.create("c", "u").number == 2
    assert store.messages("c") == []


def test_projects_come_and_go(store: Store) -> None:
    """Projects are a user's own; deleting one leaves its conversations in none; its id is not used again."""
    first = store.create_project("u", "one")
    second = store.create_project("u", "two")
    store.create_project("v", "other")
    store.create("c", "u", project_id=second.id)
    store.create("d", "u")
    assert [p.name for p in store.projects("u")] == ["one", "two"]
    assert [c.id for c in store.conversations("u", project_id=second.id).items] == ["c"]
    assert store.conversations("u", project_id=0).total == 1
    assert store.rename_project(first.id, "uno") == store.project(first.id)
    store.delete_project(second.id)
    assert store.project(second.id) is None
    found = store.get("c")
    assert found
    assert found.project_id == 0
    assert store.create_project("u", "three").id == 4
    for use in (store.delete_project, lambda key: store.rename_project(key, "x")):
        with pytest.raises(NotFound):
            use(second.id)


def shelved(store: Store, user_id: str, *conversation_ids: str) -> Shelf:
    """Put conversations into one folder, and give each a tag."""
    found = [c for c in map(store.get, conversation_ids) if c]
    folder = Folder("f", "名", {c.id: c.number for c in found}, "2025", "2026")
    tags = tuple(Tag(f"t{c.number}", c.id, c.number, "x", "2025", "2026") for c in found)
    return store.change_shelf(user_id, lambda _: Shelf((folder,), tags))


def test_shelf_is_changed_as_a_whole(store: Store) -> None:
    """A user's shelf is empty until it is changed, and then what the change made of it; nobody else's changes."""
    for name in "abc":
        store.create(name, "u")
    assert store.shelf("u") == Shelf()
    made = shelved(store, "u", "b", "a")
    assert made == store.shelf("u")
    assert list(made.folders[0].conversations) == ["b", "a"]
    assert store.shelf("v") == Shelf()
    seen: list[Shelf] = []
    assert store.change_shelf("u", lambda shelf: seen.append(shelf) or shelf) == made  # type: ignore[func-returns-value]
    assert seen == [made]
    assert store.change_shelf("u", lambda shelf: replace(shelf, tags=())).tags == ()


def test_refused_change_of_shelf_changes_nothing(store: Store) -> None:
    """What the change raises is passed on."""
    store.create("a", "u")
    made = shelved(store, "u", "a")

    def refuse(shelf: Shelf) -> Shelf:
        raise NotYours("no")

    with pytest.raises(NotYours, match="no"):
        store.change_shelf("u", refuse)
    assert store.shelf("u") == made


@pytest.mark.parametrize("keep", [False, True])
def test_deleted_conversation_is_on_no_shelf(store: Store, keep: bool) -> None:
    """Nor is another with its id, or one of another user's; a change is shown what is there."""
    for name in "ab":
        store.create(name, "u")
    store.create("v", "v")
    shelved(store, "u", "a", "b", "v")
    store.delete("a", keep=keep)
    store.create("a", "u")
    seen: list[Shelf] = []
    for shelf in (store.shelf("u"), store.change_shelf("u", lambda s: seen.append(s) or s), *seen):  # type: ignore[func-returns-value]
        assert list(shelf.folders[0].conversations) == ["b"]
        assert [tag.conversation_id for tag in shelf.tags] == ["b"]


def test_changes_of_a_shelf_follow_each_other(store: Store) -> None:
    """Of many changes at once none is lost."""

    def add(n: int) -> Shelf:
        return store.change_shelf("u", lambda s: replace(s, folders=(*s.folders, Folder(f"{n}", "", {}, "", ""))))

    run_all(*(lambda n=n: add(n) for n in range(16)))
    assert sorted(int(folder.id) for folder in store.shelf("u").folders) == list(range(16))


def test_checkpoints_leave_no_trace(store: Store) -> None:
    """A reply that was checkpointed and then appended is there once."""
    fill(store, 1)
    reply = Message("assistant", "", id=store.reserve("c"))
    store.checkpoint("c", reply, "par")
    store.checkpoint("c", reply, "tial")
    store.append("c", Message("assistant", "partial", id=reply.id))
    store.discard_checkpoint("c")
    store.discard_checkpoint("c")
    assert texts(store.messages("c")) == ["m0", "partial"]


def test_turn_begins_and_ends(store: Store) -> None:
    """A question is stored with the id of its reply, in a conversation that is made for it or was there."""
    _, question, reply_id, *_ = store.begin("u", "c", user("q"), new={"title": "t"})
    assert reply_id == question.id + 1
    assert store.latest("c", 1) == [question]
    reply = store.finish("c", Message("assistant", "a", id=reply_id))
    begun = store.begin("u", "c", user("more"))
    assert begun.conversation == store.get("c")
    assert (begun.conversation.title, begun.conversation.count) == ("t", 3)
    assert store.messages("c") == [question, reply, begun.question]
    store.checkpoint("c", Message("assistant", "", id=begun.reply_id), "x")
    assert store.finish("c", None) is None
    assert [m.id for m in store.append("c", user("next"))] > [begun.reply_id]
    assert texts(store.messages("c")) == ["q", "a", "more", "next"]


def test_turn_begins_behind_others(store: Store) -> None:
    """What is said with a question is stored in front of it, and the first of it may follow any message."""
    begun = store.begin("u", "c", Message("system", "s"), user("p"), user("q"), new={})
    assert texts(store.messages("c")) == ["s", "p", "q"]
    assert begun.question == store.latest("c", 1)[0]
    store.finish("c", Message("assistant", "a", id=begun.reply_id))
    first = store.messages("c")[0]
    store.begin("u", "c", Message("user", "P", parent=first.id), user("Q"))
    assert texts(store.messages("c")) == ["s", "P", "Q"]
    assert texts(store.latest("c", 9, until=begun.reply_id)) == ["s", "p", "q", "a"]


def test_turn_needs_its_conversation(store: Store) -> None:
    """Nothing is stored for a conversation that is not there, or is another user's."""
    with pytest.raises(NotFound) as unknown:
        store.begin("u", "c", user("x"))
    with pytest.raises(TypeError):
        store.begin("u", "c", user("x"), new={"count": 5})
    assert store.get("c") is None
    fill(store, 1)
    for new in (None, {"title": "t"}):
        with pytest.raises(NotYours) as others:
            store.begin("v", "c", user("x"), new=new)
        assert others.value.message == unknown.value.message
    assert texts(store.messages("c")) == ["m0"]


def test_new_id_is_one_users(store: Store) -> None:
    """Of two users who begin the same new conversation at once one has it, with all that is in it."""
    for n in range(10):
        begun: list[str] = []

        def begin(user_id: str, name: str, begun: list[str] = begun) -> None:
            try:
                for _ in range(3):
                    store.begin(user_id, name, user(user_id), new={})
                begun.append(user_id)
            except NotYours:
                pass

        run_all(*(lambda u=u, name=f"c{n}": begin(u, name) for u in "uvuv"))
        found = store.get(f"c{n}")
        assert found
        assert begun == [found.user_id] * 2
        assert texts(store.messages(found.id)) == [found.user_id] * 6


def test_many_threads_one_conversation(store: Store) -> None:
    """Sixteen writers of one conversation lose nothing, and each finds its own messages in its own order."""
    store.create("c", "u")

    def write(name: int) -> None:
        for n in range(20):
            store.append("c", user(f"{name}:{n}"))

    run_all(*(lambda name=name: write(name) for name in range(16)))
    stored = store.messages("c")
    assert len({message.id for message in stored}) == len(stored) == 320
    for name in range(16):
        mine = [message.content for message in stored if message.content.startswith(f"{name}:")]
        assert mine == [f"{name}:{n}" for n in range(20)]


def test_only_one_creates(store: Store) -> None:
    """Of many threads that create the same conversation one does, and the others hear of it."""
    outcomes: list[str] = []

    def create() -> None:
        try:
            store.create("c", "u")
            outcomes.append("made")
        except Conflict:
            outcomes.append("taken")

    run_all(*[create] * 8)
    assert sorted(outcomes) == ["made"] + ["taken"] * 7


def test_delete_wins_over_append(store: Store) -> None:
    """An append that comes after a delete finds nothing, and brings nothing back."""
    for n in range(20):
        store.create(f"c{n}", "u")

        def write(name: str = f"c{n}") -> None:
            try:
                for _ in range(20):
                    store.append(name, user("x"))
            except NotFound:
                pass

        run_all(write, lambda name=f"c{n}": store.delete(name))
        assert store.get(f"c{n}") is None
        assert store.create(f"c{n}", "u").count == 0


def test_lists_stay_sorted_under_load(store: Store) -> None:
    """However writers overtake each other, a list is sorted by the times it shows."""
    for n in range(8):
        store.create(f"c{n}", "u")
    run_all(*(lambda name=f"c{n}": [store.append(name, user("x")) for _ in range(20)] for n in range(8)))
    times = [c.updated_at for c in store.conversations("u").items]
    assert times == sorted(times, reverse=True)


def test_closed_store_refuses(store: Store) -> None:
    """After closing, which may be done twice, nothing works and everything says so."""
    fill(store, 1)
    assert store.ready()
    store.close()
    store.close()
    for use in (
        lambda: store.get("c"),
        lambda: store.append("c", user("x")),
        lambda: store.projects("u"),
        lambda: store.shelf("u"),
    ):
        with pytest.raises(StorageError):
            use()


def run_all(*calls: object) -> None:
    """Run calls at the same time, and wait for them."""
    threads = [threading.Thread(target=call) for call in calls]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_gone_project_is_none(store: Store) -> None:
    """A conversation that is put into a project that was deleted is in none, though its caller did not know."""
    project = store.create_project("u", "p")
    store.create("c", "u", project_id=project.id)
    store.delete_project(project.id)
    assert store.update("c", project_id=project.id).project_id == 0
    assert store.create("d", "u", project_id=project.id).project_id == 0
    assert store.conversations("u", project_id=project.id).total == 0


def test_move_and_deletion_exclude_each_other(store: Store) -> None:
    """However a move into a project and its deletion overlap, no conversation names a project that is gone."""
    for n in range(30):
        project = store.create_project("u", "p")
        store.create(f"c{n}", "u")
        run_all(
            lambda name=f"c{n}", key=project.id: store.update(name, project_id=key),
            lambda name=f"d{n}", key=project.id: store.create(name, "u", project_id=key),
            lambda key=project.id: store.delete_project(key),
        )
    assert {found.project_id for found in store.conversations("u").items} == {0}
