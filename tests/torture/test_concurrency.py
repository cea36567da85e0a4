"""Any number of threads, any order of calls: nothing is lost or doubled, and both stores always agree."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core import clock
from core.errors import Conflict, KeyReused, NotFound
from self_agent.models import Conversation, Folder, Message, Shelf, Tag, number_of
from self_agent.storage.base import Store
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.memory import MemoryStore
from tests.storage.samples import said
from tests.torture.stories import Careless, through

THREADS = 64
EACH = 12  # messages a thread appends


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = JsonFileStore(tmp_path / "data")
    yield opened
    opened.close()


def together(use: Callable[[int], object]) -> None:
    """Call `use` in many threads at once, each with its number; raise the first error of any."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(THREADS)

    def run(n: int) -> None:
        barrier.wait()
        try:
            use(n)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("conversations", [1, THREADS])
def test_threads_lose_nothing(store: JsonFileStore, tmp_path: Path, conversations: int) -> None:
    """Everything is there once, each thread's in its order, in one order that a restart does not change."""
    names = [f"c{n % conversations}" for n in range(THREADS)]
    for name in dict.fromkeys(names):
        store.create(name, "u")

    def use(n: int) -> None:
        for step in range(EACH):
            [stored] = store.append(names[n], Message("user", f"{n} {step}"))
            assert stored in store.latest(names[n], THREADS * EACH)

    together(use)
    before = {name: store.messages(name) for name in names}
    messages = [message for found in before.values() for message in found]
    assert len({message.id for message in messages}) == len(messages) == THREADS * EACH
    assert sum(found.count for found in store.conversations("u").items) == len(messages)
    for n, name in enumerate(names):
        mine = [m.content for m in before[name] if m.content.startswith(f"{n} ")]
        assert mine == [f"{n} {step}" for step in range(EACH)]
    store.close()
    again = JsonFileStore(tmp_path / "data")
    assert {name: again.messages(name) for name in names} == before
    again.close()


def test_everything_at_once(store: JsonFileStore) -> None:
    """Appends, edits, deletions of messages and renames of one conversation do not cost each other anything."""
    store.create("c", "u")
    kept: list[int] = []

    def use(n: int) -> None:
        for step in range(4):
            [one, two] = store.append("c", Message("user", f"{n} {step}"), Message("user", "to be hidden"))
            store.edit(one.id, said(f"{n} {step} edited"))
            assert store.hide([two.id]) == 1
            assert store.update("c", title=f"{n}").count >= 1
            assert store.message(one.id).content == f"{n} {step} edited"
            kept.append(one.id)

    together(use)
    assert sorted(message.id for message in store.messages("c")) == sorted(kept)
    assert all(message.content.endswith("edited") for message in store.messages("c"))
    found = store.get("c")
    assert found
    assert found.count == len(kept) == THREADS * 4


def test_one_creation_wins(store: JsonFileStore) -> None:
    """Of many who create the same conversation one does, and it is there for all others."""
    created: list[Conversation] = []

    def use(n: int) -> None:
        try:
            created.append(store.create("c", "u"))
        except Conflict:
            assert store.get("c")

    together(use)
    assert len(created) == 1


def shown(found: Conversation) -> tuple[Any, ...]:
    """Return all of a conversation but its times."""
    return (found.id, found.number, found.user_id, found.title, found.system_prompt, found.model, found.project_id,
            found.pinned, found.archived, found.count, found.name, found.first, found.summary)  # fmt: skip


def essence(message: Message) -> tuple[Any, ...]:
    return (message.id, message.role, message.content, message.incomplete, message.edited_at is not None)


NAMES = st.sampled_from(["a", "B", "con", "x.y"])
TEXTS = st.sampled_from(["", "x", "你好😀", 'a "quoted" line\nand another', "]}\n", "long " * 60])
ROLES = st.sampled_from(["user", "assistant"])
KEYS = st.none() | st.sampled_from(["a" * 32, "a" * 16 + "b" * 16, "c" * 32])  # the first two are of other bodies
PICK = st.integers(0, 1000)


class BothStores(RuleBasedStateMachine):
    """Does the same to both stores, and compares what they answer and show."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory(prefix="torture-")
        self.folder = Path(self.temporary.name)
        self.context = through(Careless())  # what a power cut does is not the question here
        self.context.__enter__()
        self.json = JsonFileStore(self.folder)
        self.memory = MemoryStore()
        self.ids: list[int] = []

    def teardown(self) -> None:
        self.json.close()
        self.context.__exit__(None, None, None)
        self.temporary.cleanup()

    def both(self, use: Callable[[Store], Any]) -> Any:
        """Return what both answer, which is the same; an error is an answer, too."""
        first, second = (answer(use, store) for store in (self.json, self.memory))
        assert first == second
        return first

    def picked(self, pick: int) -> int:
        """Return the id of some message that was there once, or of none."""
        return self.ids[pick % len(self.ids)] if self.ids else 7 << 20 | 1

    @rule(name=NAMES, title=st.none() | TEXTS, project=st.integers(0, 3), draft=st.booleans())
    def create(self, name: str, title: str | None, project: int, draft: bool) -> None:
        known = project if self.memory.project(project) else 0
        self.both(lambda s: shown(s.create(name, "u", title=title, project_id=known, is_draft=draft)))

    @rule(name=NAMES, messages=st.lists(st.tuples(ROLES, TEXTS), min_size=1, max_size=4))
    def append(self, name: str, messages: list[tuple[str, str]]) -> None:
        stored = self.both(lambda s: [essence(m) for m in s.append(name, *(Message(*each) for each in messages))])
        self.ids += [each[0] for each in stored] if isinstance(stored, list) else []

    @rule(name=NAMES, text=TEXTS, key=KEYS)
    def begin(self, name: str, text: str, key: str | None) -> None:
        def use(store: Store) -> Any:
            begun = store.begin("u", name, Message("user", text, key=key), new={})
            return begun.question.id, begun.reply_id, begun.is_repeat, begun.reply and essence(begun.reply)

        begun = self.both(use)
        if isinstance(begun, tuple) and not begun[2]:
            self.ids.append(begun[0])

    @rule(name=NAMES, pick=PICK, messages=st.lists(TEXTS, min_size=1, max_size=3), begins=st.booleans())
    def branch(self, name: str, pick: int, messages: list[str], begins: bool) -> None:
        first, *rest = messages
        parent = 0 if begins else self.picked(pick)
        new = (Message("user", first, parent=parent), *(Message("assistant", text) for text in rest))
        stored = self.both(lambda s: [essence(m) for m in s.append(name, *new)])
        self.ids += [each[0] for each in stored] if isinstance(stored, list) else []

    @rule(name=NAMES, pick=PICK)
    def choose(self, name: str, pick: int) -> None:
        self.both(lambda s: shown(s.choose(name, self.picked(pick))))

    @rule(name=NAMES, pick=PICK, limit=st.integers(0, 12))
    def read_branch(self, name: str, pick: int, limit: int) -> None:
        self.both(lambda s: [essence(m) for m in s.latest(name, limit, self.picked(pick))])

    @rule(name=NAMES, copy=NAMES)
    def copy(self, name: str, copy: str) -> None:
        everything = self.both(lambda s: [(*essence(m), m.parent) for m in s.everything(name)])
        if isinstance(everything, list):
            made = self.both(lambda s: shown(s.create(copy, "u", messages=s.everything(name))))
            if isinstance(made, tuple):
                self.ids += [m.id for m in self.memory.everything(copy)]

    @rule(name=NAMES, late=st.booleans())
    def reserve_and_append(self, name: str, late: bool) -> None:
        reserved = self.both(lambda s: s.reserve(name))
        if not isinstance(reserved, int):
            return
        if late:
            self.append(name, [("user", "overtakes")])
        reply = Message("assistant", "reserved", id=reserved, incomplete=True)
        self.both(lambda s: [essence(m) for m in s.append(name, reply)])
        self.ids.append(reserved)

    @rule(name=NAMES, limit=st.integers(0, 12), offset=st.integers(0, 20))
    def read(self, name: str, limit: int, offset: int) -> None:
        self.both(lambda s: [essence(m) for m in s.latest(name, limit)])
        self.both(lambda s: [essence(m) for m in s.messages(name, offset=offset, limit=limit)])

    @rule(pick=PICK)
    def read_one(self, pick: int) -> None:
        self.both(lambda s: essence(s.message(self.picked(pick))))

    @rule(pick=PICK, text=TEXTS)
    def edit(self, pick: int, text: str) -> None:
        self.both(lambda s: essence(s.edit(self.picked(pick), said(text))))

    @rule(picks=st.lists(PICK, max_size=12))
    def hide(self, picks: list[int]) -> None:
        self.both(lambda s: s.hide([self.picked(pick) for pick in picks]))

    @rule(name=NAMES, title=st.none() | TEXTS, model=st.none() | TEXTS, flags=st.tuples(st.booleans(), st.booleans()))
    def update(self, name: str, title: str | None, model: str | None, flags: tuple[bool, bool]) -> None:
        pinned, archived = flags
        self.both(lambda s: shown(s.update(name, title=title, model=model, pinned=pinned, archived=archived)))

    @rule(name=NAMES, expected=st.none() | TEXTS)
    def update_as_expected(self, name: str, expected: str | None) -> None:
        self.both(lambda s: shown(s.update(name, expect={"title": expected}, title="as expected")))

    @rule(name=NAMES, keep=st.booleans())
    def delete(self, name: str, keep: bool) -> None:
        self.both(lambda s: s.delete(name, keep=keep))

    @rule(name=NAMES, user_id=st.sampled_from("uuuv"))
    def restore(self, name: str, user_id: str) -> None:
        self.both(lambda s: shown(s.restore(user_id, name)))

    @rule(early=st.booleans())
    def sweep(self, early: bool) -> None:
        before = "2025-04-30T10:00:00.000000Z" if early else clock.now()
        self.both(lambda s: s.sweep(before))

    @rule(words=TEXTS, archived=st.none() | st.booleans(), limit=st.integers(0, 3))
    def search(self, words: str, archived: bool | None, limit: int) -> None:
        def found(store: Store) -> Any:
            page = store.conversations("u", matching=words[:5], archived=archived, limit=limit)
            return [shown(each) for each in page.items], page.total

        self.both(found)

    @rule(name=NAMES, folder_id=st.sampled_from("fg"))
    def shelve(self, name: str, folder_id: str) -> None:
        found = self.memory.get(name)
        if found is None:
            return
        number = found.number

        def change(shelf: Shelf) -> Shelf:
            before = [folder for folder in shelf.folders if folder.id == folder_id] or [
                Folder(folder_id, "", {}, "", "")
            ]
            after = replace(before[0], conversations={**before[0].conversations, name: number})
            others = [folder for folder in shelf.folders if folder.id != folder_id]
            return Shelf((*others, after), (*shelf.tags, Tag(str(len(shelf.tags)), name, number, "x", "", "")))

        self.both(lambda s: s.change_shelf("u", change))

    @rule(name=TEXTS)
    def create_project(self, name: str) -> None:
        self.both(lambda s: s.create_project("u", name).id)

    @rule(project=st.integers(1, 4), name=TEXTS)
    def rename_project(self, project: int, name: str) -> None:
        self.both(lambda s: s.rename_project(project, name).name)

    @rule(project=st.integers(1, 4))
    def delete_project(self, project: int) -> None:
        self.both(lambda s: s.delete_project(project))

    @precondition(lambda self: self.ids)
    @rule(with_catalog=st.booleans())
    def reopen(self, with_catalog: bool) -> None:
        self.json.close()
        if not with_catalog:
            (self.folder / "catalog.json").unlink(missing_ok=True)
        self.json = JsonFileStore(self.folder)
        for found in self.memory.conversations("u", archived=None).items:
            ids = [self.json.reserve(found.id), self.memory.reserve(found.id)]
            while ids[0] != ids[1]:  # without its snapshot a store leaves a gap behind a question, for its reply
                behind = ids.index(min(ids))
                ids[behind] = (self.json, self.memory)[behind].reserve(found.id)

    @invariant()
    def agree(self) -> None:
        page = self.both(lambda s: [shown(found) for found in s.conversations("u", archived=None).items])
        for name, number, *_ in page:
            messages = self.both(lambda s, name=name: [essence(m) for m in s.messages(name)])
            assert all(number_of(message[0]) == number for message in messages)
            self.both(lambda s, name=name: s.siblings(name))
            self.both(lambda s, name=name: [(*essence(m), m.parent) for m in s.everything(name)])
            for opened in (self.json, self.memory):
                times = [message.timestamp for message in opened.messages(name)]
                assert times == sorted(times)
        self.both(lambda s: [(p.id, p.name) for p in s.projects("u")])
        self.both(lambda s: s.shelf("u"))


def answer(use: Callable[[Store], Any], store: Store) -> Any:
    try:
        return use(store)
    except (Conflict, KeyReused, NotFound) as error:
        return type(error)


TestBothStores = BothStores.TestCase
TestBothStores.settings = settings(
    derandomize=True,  # what fails in CI fails here
    database=None,
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
