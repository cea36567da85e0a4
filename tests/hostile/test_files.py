"""Whatever became of one file, the store opens, shows the others, and loses nothing that could still be read."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotFound
from self_agent.models import Folder as ShelfFolder
from self_agent.models import Message, Shelf, Tag
from self_agent.storage.json_files import JsonFileStore
from tests.hostile.conftest import examples, within
from tests.hostile.damage import HEADER_FIELDS, MESSAGE_FIELDS, ODD, VALUES, Damage, damages, set_field

VICTIM = "conversations/victim.json"
WORDS = ["first 你好", "second\n", "third 😀", "fourth \\u0000", "fifth", "sixth"]
DOCUMENT_FIELDS = [*HEADER_FIELDS, "messages"]
SECONDS = 20.0

Folder = dict[str, bytes]  # what a data folder holds, by the paths in it


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A data folder with a victim between two others, a project, a shelf, a snapshot and a checkpoint."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    store = JsonFileStore(folder)
    project = store.create_project("u", "p")
    for name in ("before", "victim", "zother"):
        store.create(name, "u", title="t", system_prompt="s", project_id=project.id)
        store.append(name, *(Message(("user", "assistant")[n % 2], text) for n, text in enumerate(WORDS)))
    numbers = {found.id: found.number for found in store.conversations("u").items}
    tag = Tag("t", "zother", numbers["zother"], "标签", "2025", "2025")
    store.change_shelf("u", lambda _: Shelf((ShelfFolder("f", "名", numbers, "2025", "2025"),), (tag,)))
    store.close()
    date(folder)
    os.utime(folder / VICTIM, (0, 0))
    store = JsonFileStore(folder)
    store.checkpoint("zother", Message("assistant", "", id=store.reserve("zother")), "half a reply")
    store.close()  # with a snapshot that has these dates
    return contents(folder)


def date(folder: Path) -> None:
    """Give the documents the times that the snapshot knows; the victim's is another, so that it is read.

    All are long past: nobody is writing these files any more.
    """
    for path in (folder / "conversations").iterdir():
        time = 1_750_000_000 + (path.name == "victim.json")
        os.utime(path, (time, time))


def contents(folder: Path) -> Folder:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def laid_out(content: Folder) -> Iterator[Path]:
    """Put a folder on the disk for the length of the block."""
    root = Path(tempfile.mkdtemp())
    try:
        for name, data in content.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        date(root)
        yield root
    finally:
        shutil.rmtree(root)


@contextmanager
def opened(folder: Path) -> Iterator[JsonFileStore]:
    """Open a store, which must neither fail nor hang."""
    store = JsonFileStore(folder)
    within(SECONDS, lambda: store.get("before"))  # one that hangs cannot be closed either
    try:
        yield store
    finally:
        store.close()


def texts(messages: list[Message]) -> list[str]:
    return [message.content for message in messages]


def check_others(store: JsonFileStore) -> None:
    for name in ("before", "zother"):
        assert texts(store.messages(name))[: len(WORDS)] == WORDS
    assert {"before", "zother"} <= {found.id for found in store.conversations("u").items}


def untouched(damaged: bytes, original: bytes) -> list[str]:
    """Return the texts of the original's lines that are still whole, in the order in which they are now."""
    lines = {line.removesuffix(b",") for line in original.split(b"\n")[1:-2]}
    now = [line.removesuffix(b",") for line in damaged.split(b"\n")[1:]]
    return [json.loads(line)["content"] for line in now if line in lines]


def is_in_order(part: list[str], everything: list[str]) -> bool:
    rest = iter(everything)
    return all(text in rest for text in part)


def check_victim(store: JsonFileStore, folder: Path, damaged: bytes, original: bytes) -> None:
    """Everything readable is shown, or the file lies in quarantine; what is shown can go on."""
    expected = untouched(damaged, original)
    if store.get("victim") is None:
        kept = b"".join(contents(folder).values())
        assert all(json.dumps(text, ensure_ascii=False).encode() in kept for text in expected)
        assert damaged.split(b"\n")[0] != original.split(b"\n")[0]
        return
    shown = texts(store.messages("victim"))
    if damaged.split(b"\n")[0] == original.split(b"\n")[0]:
        assert is_in_order(expected, shown)
    assert texts(store.latest("victim", 3)) == shown[-3:]
    assert [store.message(message.id).content for message in store.messages("victim")] == shown
    store.append("victim", Message("user", "and on"))
    assert texts(store.messages("victim")) == [*shown, "and on"]
    json.loads((folder / VICTIM).read_bytes())


# --- documents


@examples(120)
@given(happened=damages())
def test_damaged_document_costs_little(whole: Folder, happened: list[Damage]) -> None:
    """Lines that are whole are shown in their order, the next message goes in, and a second start finds it all."""
    damaged = whole[VICTIM]
    for damage in happened:
        damaged = damage(damaged)
    with laid_out({**whole, VICTIM: damaged}) as folder:
        with opened(folder) as store:
            check_others(store)
            check_victim(store, folder, damaged, whole[VICTIM])
            shown = {found.id: texts(store.messages(found.id)) for found in store.conversations("u").items}
        set_aside = contents(folder / "quarantine")
        with opened(folder) as store:
            assert {found.id: texts(store.messages(found.id)) for found in store.conversations("u").items} == shown
        assert contents(folder / "quarantine") == set_aside


@pytest.mark.parametrize("field", HEADER_FIELDS)
def test_odd_header_field_costs_little(whole: Folder, field: str) -> None:
    """A header field of any type and value costs no message of its conversation, nor any other's."""
    for value in ODD:
        damaged = set_field(0.0, field, value)(whole[VICTIM])
        with laid_out({**whole, VICTIM: damaged}) as folder, opened(folder) as store:
            check_others(store)
            assert texts(store.messages("victim")) == WORDS
            store.conversations("u")


@pytest.mark.parametrize("field", MESSAGE_FIELDS)
def test_odd_message_field_costs_little(whole: Folder, field: str) -> None:
    """A field of a message costs at most that message."""
    for value in ODD:
        damaged = set_field(0.5, field, value)(whole[VICTIM])
        with laid_out({**whole, VICTIM: damaged}) as folder, opened(folder) as store:
            check_others(store)
            check_victim(store, folder, damaged, whole[VICTIM])


@examples(60)
@given(happened=damages())
def test_damage_while_running(whole: Folder, happened: list[Damage]) -> None:
    """A file that goes bad under a running server is read anew or set aside, never an unforeseen error."""
    damaged = whole[VICTIM]
    for damage in happened:
        damaged = damage(damaged)
    with laid_out(whole) as folder, opened(folder) as store:
        (folder / VICTIM).write_bytes(damaged)
        os.utime(folder / VICTIM, (1_750_000_002, 1_750_000_002))
        try:
            store.append("victim", Message("user", "and on"))
            assert texts(store.messages("victim"))[-1] == "and on"
        except NotFound:
            assert damaged in contents(folder / "quarantine").values() or b"and on" not in damaged
        check_others(store)


@examples(80)
@given(document=st.binary(max_size=200) | VALUES | st.dictionaries(st.sampled_from(DOCUMENT_FIELDS), VALUES))
def test_any_file_is_taken_or_set_aside(whole: Folder, document: Any) -> None:
    """Bytes or JSON of any shape under any conversation's name hide nothing and stay somewhere."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    with laid_out({**whole, VICTIM: data}) as folder, opened(folder) as store:
        check_others(store)
        if store.get("victim") is None:
            assert data in contents(folder / "quarantine").values()
        else:
            store.append("victim", Message("user", "and on"))
            assert texts(store.messages("victim"))[-1] == "and on"


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"conversation_id":"victim","messages":' + b"[" * 100_000,
        b'{"conversation_id":"victim","later":%b,"messages": [\n]}\n' % (b"[" * 400 + b"]" * 400),
        b'{"conversation_id":"victim","later":%b,"x":NaN,"messages": []}' % (b"9" * 400),
        b'{"conversation_id":"victim","messages": [{"role":"user","content":"x","timestamp":"0025-04-30T10:00:01Z"}]}',
    ],
    ids=["deep", "deep messages", "deep field", "huge number", "the year 25"],
)
def test_odd_document_hides_nothing(whole: Folder, data: bytes) -> None:
    """What no JSON writer would write is taken over or set aside, and nothing else is different."""
    with laid_out({**whole, VICTIM: data}) as folder, opened(folder) as store:
        check_others(store)
        assert store.get("victim") or data in contents(folder / "quarantine").values()


# --- what else is in the folder


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["dangling", "loop", "folder", "pipe", "bytes", "long"])
def test_odd_names_hide_nothing(whole: Folder, kind: str) -> None:
    """A link to nowhere, a pipe, a folder or an unspeakable name among the conversations is no reason to fail."""
    with laid_out(whole) as folder:
        place = os.fsencode(folder / "conversations")
        make = {
            "dangling": lambda: os.symlink("/nowhere/at/all", place + b"/odd.json"),
            "loop": lambda: os.symlink(b"odd.json", place + b"/odd.json"),
            "folder": lambda: os.mkdir(place + b"/odd.json"),
            "pipe": lambda: os.mkfifo(place + b"/odd.json"),
            "bytes": lambda: Path(os.fsdecode(place + b"/\xff\xfe.json")).write_bytes(b"{}"),
            "long": lambda: Path(os.fsdecode(place + b"/" + b"x" * 250 + b".json")).write_bytes(b"{}"),
        }
        make[kind]()
        with opened(folder) as store:
            check_others(store)
            assert texts(store.messages("victim")) == WORDS


@pytest.mark.parametrize("name", ["store.json", "shelves.json", "checkpoints/zother.jsonl"])
def test_odd_bookkeeping_hides_nothing(whole: Folder, name: str) -> None:
    """Fields of other types beside the documents cost a project, a shelf or half a reply, and no message."""
    first, _, rest = whole[name].partition(b"\n") if name.startswith("checkpoints") else (whole[name], b"", b"")
    content = json.loads(first)
    shelves = content.get("shelves", {})
    on_shelves = [row for shelf in shelves.values() for row in (shelf, *shelf["folders"], *shelf["tags"])]
    numbers = [folder["conversations"] for shelf in shelves.values() for folder in shelf["folders"]]
    holders = [content, shelves, *on_shelves, *numbers, *content.get("projects", [])]
    for fields, key in [(each, key) for each in holders for key in each]:
        right = fields[key]
        for value in ODD:
            fields[key] = value
            with laid_out({**whole, name: json.dumps(content).encode() + b"\n" + rest}) as folder:
                check_bookkeeping(folder)
        fields[key] = right


def check_bookkeeping(folder: Path) -> None:
    with opened(folder) as store:
        check_others(store)
        assert texts(store.messages("victim")) == WORDS
        assert all({type(project.name), type(project.created_at)} == {str} for project in store.projects("u"))
        new = store.create("new", "u")
        shelf = store.shelf("u")
        assert {type(folder.name) for folder in shelf.folders} | {type(tag.tag) for tag in shelf.tags} <= {str}
        assert new.number not in [number for folder in shelf.folders for number in folder.conversations.values()]
        folder = ShelfFolder("g", "g", {"new": new.number}, "2025", "2025")
        assert store.change_shelf("u", lambda s: replace(s, folders=(folder,))).folders == (folder,)


def test_damaged_snapshot_is_not_believed(whole: Folder) -> None:
    """A snapshot with one wrong bit, although it is JSON still, changes nothing that is shown."""
    idle = {name: data for name, data in whole.items() if not name.startswith("checkpoints")}
    snapshot = idle["catalog.json"]
    with laid_out(idle) as folder, opened(folder) as store:
        right = store.conversations("u")
    for at in range(0, len(snapshot), 5):
        damaged = snapshot[:at] + bytes([snapshot[at] ^ 1]) + snapshot[at + 1 :]
        with laid_out({**idle, "catalog.json": damaged}) as folder, opened(folder) as store:
            assert store.conversations("u") == right


@examples(80)
@given(
    name=st.sampled_from(["catalog.json", "store.json", "shelves.json", "checkpoints/zother.jsonl"]), happened=damages()
)
def test_damaged_bookkeeping_hides_nothing(whole: Folder, name: str, happened: list[Damage]) -> None:
    """What lies beside the documents and went bad costs time, a project, a shelf or half a reply, and no message."""
    damaged = whole[name]
    for damage in happened:
        damaged = damage(damaged)
    with laid_out({**whole, name: damaged}) as folder:
        check_bookkeeping(folder)
