"""Things that a store does, each recorded to its last call; whatever of it is on the disk, `Story.allows` judges."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union

from core import clock, files
from self_agent.models import LOCAL_USER, Folder, Message, Shelf, Tag
from self_agent.storage.base import CUT_OFF, Store
from self_agent.storage.json_files import JsonFileStore
from tests.storage.samples import said
from tests.torture.disk import Event, Recorder

Shown = tuple[int, str, str, Union[str, None]]  # id, role, content, error
Heading = tuple[Union[str, None], list[str]]  # the title; names of folders and tags
View = dict[str, tuple[Heading, list[Shown]]]  # the heading and the messages of each conversation

REPLY = "A reply that is checkpointed twice: 你好 😀"
OLD = {
    "conversation_id": "old",
    "name": "Greetings",
    "created_at": "2025-04-30T10:00:00Z",
    "messages": [
        {"role": "user", "content": "你好", "timestamp": "2025-04-30T10:00:01Z"},
        {"role": "assistant", "content": "Hi", "timestamp": "2025-04-30T10:00:02Z"},
    ],
}


class Careless(files.Operations):
    """Does not wait for the disk: for a store that looks at what is left."""

    def sync(self, fd: int) -> None:
        pass

    def sync_folder(self, fd: int) -> None:
        pass


@contextmanager
def through(operations: files.Operations) -> Iterator[None]:
    """Have everything that changes the disk go through these operations."""
    before, files.operations = files.operations, operations
    try:
        yield
    finally:
        files.operations = before


def view(store: Store) -> View:
    """Return all that a store shows."""
    shelf = store.shelf(LOCAL_USER)
    marks = [(cid, folder.name) for folder in shelf.folders for cid in folder.conversations]
    marks += [(tag.conversation_id, tag.tag) for tag in shelf.tags]
    found = store.conversations(LOCAL_USER).items
    assert {cid for cid, _ in marks} <= {each.id for each in found}, "a shelf holds what is not there"
    return {
        each.id: (
            (each.title, sorted(mark for cid, mark in marks if cid == each.id)),
            [(m.id, m.role, m.content, m.error) for m in store.messages(each.id)],
        )
        for each in found
    }


class Session:
    """A store where `c` holds a question and a reply, `d` a bystander, and `e`, the last that was made, nothing.

    `d` and `e` are in a folder, and have a tag.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = JsonFileStore(folder)
        for name in "cde":
            self.store.create(name, LOCAL_USER)
        self.store.append("c", Message("user", "first question"), Message("assistant", "first reply"))
        self.store.append("d", Message("user", "bystander"))
        self.shelve("kept")
        self.reopen()  # so that there is a snapshot

    def reopen(self) -> None:
        """Stop and start; what is torn or cut off is put right."""
        self.store.close()
        self.store = JsonFileStore(self.folder)
        self.store.get("c")  # waits until it is open

    def nothing(self) -> None:
        """Be ready."""

    def append(self, text: str, conversation_id: str = "c") -> None:
        self.store.append(conversation_id, Message("user", text))

    def append_two(self) -> None:
        self.store.append("c", Message("user", "one"), Message("assistant", "two"))

    def branch(self) -> None:
        """Answer the first question once more."""
        question = self.store.messages("c")[0].id
        self.store.append("c", Message("assistant", "second reply", parent=question))

    def choose_first(self) -> None:
        """Show the first reply again."""
        self.store.choose("c", min(self.store.siblings("c")))

    def checkpoint(self) -> Message:
        reply = Message("assistant", "", id=self.store.reserve("c"))
        self.store.checkpoint("c", reply, REPLY[:10])
        self.store.checkpoint("c", reply, REPLY[10:20])
        return reply

    def finish(self) -> None:
        reply = self.checkpoint()
        self.store.append("c", Message("assistant", REPLY, id=reply.id))
        self.store.discard_checkpoint("c")

    def shelve(self, name: str) -> None:
        """Put `e` and `d` into a new folder, and give each a tag."""
        members = {found.id: found.number for cid in "ed" if (found := self.store.get(cid))}
        folder = Folder(name, name, members, "2025", "2025")
        tags = tuple(
            Tag(f"{name} {cid}", cid, number, f"tag {name}", "2025", "2025") for cid, number in members.items()
        )
        self.store.change_shelf(LOCAL_USER, lambda s: Shelf((*s.folders, folder), (*s.tags, *tags)))

    def empty(self) -> None:
        """Take everything off the shelf."""
        self.store.change_shelf(LOCAL_USER, lambda _: Shelf())

    def last_id(self) -> int:
        return self.store.latest("c", 1)[0].id

    def indent(self) -> None:
        """Give a document the shape that an older version, or an editor, gives it."""
        path = self.folder / "conversations" / "c.json"
        files.replace_file(path, [json.dumps(json.loads(path.read_bytes()), indent=2).encode()])

    def delete_two(self) -> None:
        """Have something to restore, and to sweep away."""
        for name in "de":
            self.store.delete(name, keep=True)

    def indent_deleted(self) -> None:
        """Have something to restore that somebody has edited."""
        self.delete_two()
        path = self.folder / "deleted" / "d~2.json"
        files.replace_file(path, [json.dumps(json.loads(path.read_bytes()), indent=2).encode()])

    def put_old(self) -> None:
        """Put a document of an older version there while the store is closed."""
        self.store.close()
        files.replace_file(self.folder / "conversations" / "old.json", [json.dumps(OLD, indent=2).encode()])

    def tear(self) -> None:
        """Leave what an append leaves that the power failed in."""
        self.store.close()
        path = self.folder / "conversations" / "c.json"
        torn = path.read_bytes()[:-4] + b',\n{"id":1048579,"role":"user","content":"torn'
        files.replace_file(path, [torn])


Step = Callable[[Session], object]
STORIES: dict[str, tuple[Step, Step]] = {  # what happened before, and what the power fails in
    "append": (Session.nothing, lambda s: s.append("你好, a short line")),
    "append long": (Session.nothing, lambda s: s.append("many blocks " * 150)),
    "append first": (Session.nothing, lambda s: s.append("the first of its conversation", "e")),
    "append two": (Session.nothing, Session.append_two),
    "append to indented": (Session.indent, lambda s: s.append("a new line")),
    "take in old": (Session.put_old, Session.reopen),
    "repair": (Session.tear, Session.reopen),
    "edit": (Session.nothing, lambda s: s.store.edit(s.last_id(), said("edited"))),
    "hide": (Session.nothing, lambda s: s.store.hide([s.last_id()])),
    "rename": (Session.nothing, lambda s: s.store.update("c", title="a name")),
    "create": (Session.nothing, lambda s: s.store.create("f", LOCAL_USER)),
    "begin": (Session.nothing, lambda s: s.store.begin(LOCAL_USER, "c", Message("user", "second question"))),
    "begin with key": (
        Session.nothing,
        lambda s: s.store.begin(LOCAL_USER, "c", Message("user", "second question", key="k" * 32)),
    ),
    "branch": (Session.nothing, Session.branch),
    "choose": (Session.branch, Session.choose_first),
    "continue chosen": (lambda s: (s.branch(), s.choose_first()), lambda s: s.append("third question")),
    "begin anew": (
        Session.nothing,
        lambda s: s.store.begin(LOCAL_USER, "f", Message("user", "a first"), new={"title": "t"}),
    ),
    "shelve": (Session.nothing, lambda s: s.shelve("more")),
    "empty shelf": (Session.nothing, Session.empty),
    "delete": (Session.nothing, lambda s: s.store.delete("e")),
    "delete softly": (Session.nothing, lambda s: s.store.delete("e", keep=True)),
    "restore": (Session.delete_two, lambda s: s.store.restore(LOCAL_USER, "d")),
    "restore edited": (Session.indent_deleted, lambda s: s.store.restore(LOCAL_USER, "d")),
    "sweep": (Session.delete_two, lambda s: s.store.sweep(clock.now())),
    "checkpoint": (Session.nothing, Session.checkpoint),
    "finish": (Session.nothing, Session.finish),
    "recover": (Session.checkpoint, Session.reopen),
}


class Story:
    """What was recorded: the log, where its last step begins, and what was shown before and after that."""

    def __init__(self, folder: Path, name: str) -> None:
        prepare, act = STORIES[name]
        self.seen: set[object] = set()  # what was looked at already
        recorder = Recorder(folder)
        with through(recorder):
            session = Session(folder)
            before = view(session.store)
            prepare(session)
            if prepare in (Session.delete_two, Session.indent_deleted):
                before = {name: shown for name, shown in before.items() if name not in "de"}
            if name in ("choose", "continue chosen"):
                before = view(session.store)
            self.begin = len(recorder.log)
            act(session)
            self.log: list[Event] = list(recorder.log)
            self.after = without_cut_off(view(session.store))
            session.store.close()
        # A start acknowledges nothing: it shows the same however often it is tried.
        self.before = self.after if name == "take in old" else before

    def allows(self, found: View, *, acknowledged: bool) -> bool:
        """Say whether this may be shown after the power failed; of several messages some may be there.

        A disk may keep the block that ends with the second message and not the one where the first begins.
        """
        whole = without_cut_off(found)
        ids = [message[0] for _, messages in found.values() for message in messages]
        if len(set(ids)) != len(ids) or not all(REPLY.startswith(text) and text for text in cut_off(found)):
            return False
        return whole == self.after or (not acknowledged and (whole == self.before or self._is_between(whole)))

    def _is_between(self, found: View) -> bool:
        return found.keys() == self.after.keys() and all(
            found[name][1] == [message for message in messages if message in found[name][1]]
            and all(message in found[name][1] for message in self.before.get(name, self.after[name])[1])
            and found[name][0] == title
            for name, (title, messages) in self.after.items()
        )


def without_cut_off(found: View) -> View:
    """Return a view without replies that are marked as cut off."""
    return {name: (title, [m for m in messages if m[3] != CUT_OFF]) for name, (title, messages) in found.items()}


def cut_off(found: View) -> list[str]:
    """Return the texts of the replies that are marked as cut off."""
    return [m[2] for _, messages in found.values() for m in messages if m[3] == CUT_OFF]
