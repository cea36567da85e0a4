"""The catalog in memory, its snapshot, and the tables of lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import StorageError
from self_agent.models import MAX_NUMBER, SETTABLE, Message
from self_agent.storage.json_files import JsonFileStore
from self_agent.storage.json_files.catalog import Catalog
from self_agent.storage.json_files.entry import Entry, pack
from self_agent.storage.json_files.outline import Outlines

Open = Callable[[], JsonFileStore]


def entry(name: str, number: int, updated: str = "") -> Entry:
    return Entry(name, number, "u", tuple(SETTABLE.values()), updated, pack("2025-04-30T10:00:01.000000Z", "", ""))


def test_late_update_finds_its_place() -> None:
    """An entry whose update is older than others' goes behind them."""
    catalog = Catalog()
    entries = [entry(name, n, f"{n}") for n, name in enumerate("abcd", 1)]
    catalog.load({found.number: found for found in reversed(entries)})
    assert [c.id for c in catalog.page("u", False, None, 0, None).items] == ["d", "c", "b", "a"]
    catalog.update(entries[0], {}, updated_at="2")
    catalog.update(entries[1], {}, updated_at="35")
    assert [c.id for c in catalog.page("u", False, None, 0, None).items] == ["d", "b", "c", "a"]


def test_numbers_run_out_clearly() -> None:
    """When ids would leave what JavaScript can hold, creating says so."""
    catalog = Catalog()
    catalog.raise_numbers(MAX_NUMBER)
    with pytest.raises(StorageError, match="no numbers left"), catalog.creating("c"):
        pass


def filled(open_store: Open) -> JsonFileStore:
    store = open_store()
    for name in ("a", "B", "con"):
        store.create(name, "u", title=name, model="m", system_prompt="s")
        store.append(name, Message("user", "x" * 20))
    return store


def test_good_snapshot_reads_no_document(open_store: Open, folder: Path) -> None:
    """With a snapshot that fits, no document is read at the start: not even what it hides is noticed."""
    before = filled(open_store).conversations("u")
    open_store().close()
    path = folder / "conversations" / "a.json"
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b"x" * 20, b"y" * 20))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert open_store().conversations("u") == before


def test_changed_files_are_read(open_store: Open, folder: Path) -> None:
    """Only what differs from the snapshot by size or time is read again; files that are gone are gone."""
    filled(open_store).close()
    path = folder / "conversations" / "a.json"
    path.write_bytes(path.read_bytes().replace(b"x" * 20, b"y" * 21))
    (folder / "conversations" / "+con.json").unlink()
    page = open_store().conversations("u")
    assert {c.id: c.summary for c in page.items} == {"a": "y" * 21, "B": "x" * 20}


@pytest.mark.parametrize("damage", ["missing", "cut", "garbage", "version", "row", "folder"])
def test_bad_snapshot_costs_nothing(open_store: Open, folder: Path, damage: str) -> None:
    """Without its snapshot the catalog is the same."""
    before = filled(open_store).conversations("u")
    open_store().close()
    path = folder / "catalog.json"
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(
            {
                "cut": data[: len(data) // 2],
                "garbage": b"\0" * 100,
                "version": data.replace(b'"title"', b'"older"'),
                "row": data.replace(b'["B",', b"["),
            }[damage]
        )
    assert open_store().conversations("u") == before


def test_snapshot_keeps_reserved_ids(open_store: Open) -> None:
    """A clean stop remembers the ids that were reserved and not used."""
    store = filled(open_store)
    reserved = store.reserve("a")
    assert open_store().reserve("a") == reserved + 1


def test_unsaved_snapshot_is_no_error(open_store: Open, folder: Path) -> None:
    """When the snapshot cannot be written the store still closes, and nothing is lost."""
    store = filled(open_store)
    (folder / "catalog.json").mkdir()
    store.close()
    assert open_store().conversations("u").total == 3


def test_outlines_stay_bounded(tmp_path: Path) -> None:
    """Outlines are forgotten, the least recently used first, when there are too many lines."""
    path = tmp_path / "lines"
    lines = [b'{"id":%d,"content":"x"}' % n for n in range(1, 11)]
    path.write_bytes(b"header\n" + b",\n".join(lines) + b"\n]}\n")
    fd = os.open(path, os.O_RDONLY)
    size = path.stat().st_size
    outlines = Outlines(max_lines=25)
    first = outlines.get(1, fd, size)
    assert (first.starts[0], first.starts[-1], list(first.ids)) == (7, size - 3, list(range(1, 11)))
    second = outlines.get(2, fd, size)
    assert outlines.get(1, fd, size) is first
    outlines.get(3, fd, size)
    assert outlines.get(1, fd, size) is first
    assert outlines.get(2, fd, size) is not second
    outlines.drop(2)
    outlines.drop(2)
    outlines.extend(2, 0, [1], [{"id": 11}])
    assert outlines.lines == 11
    os.close(fd)
