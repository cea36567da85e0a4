"""Measure the store's durable writes beside raw ones, SQLite, TinyDB and a rewritten file: medians of interleaved runs.

Run with `python -m benchmarks.bench_writes`; it takes some minutes and about 500 MB beside the data folder.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import statistics
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tinydb import TinyDB

from benchmarks.documents import CLOSING, CONTENT, POSITION_BITS, ending, fields, write_document
from benchmarks.measuring import MESSAGE, connect, database, insert, insert_many, medians, throughput, times_row
from benchmarks.servers import scratch
from benchmarks.table import Point, Row, show
from self_agent.storage.json_files import JsonFileStore

Call = Callable[[int], object]

SLOW_ROUNDS = {10: 300, 100: 300, 1000: 200, 10_000: 20, 100_000: 3}  # by size, of what rewrites its whole file
ROUNDS = 2000  # of all other appends
CHANGED = 10_000  # messages of the conversation that is edited and renamed
CHANGES = 200  # rounds of these
THREADS = 16
SECONDS = 4.0  # that each side of the many writers gets


def rows() -> Iterator[Row]:
    """Yield a row for every kind of write, the appends at every size."""
    with scratch() as folder:
        documents = folder / "conversations"
        documents.mkdir()
        for number, size in enumerate(SLOW_ROUNDS, 1):
            write_document(documents, f"c{size}", number, size)
        path = write_document(documents, "changed", len(SLOW_ROUNDS) + 1, CHANGED)
        with contextlib.closing(JsonFileStore(folder)) as store:
            for size in SLOW_ROUNDS:
                yield from append_rows(store, folder, size)
            yield from change_rows(store, path)
    with scratch() as folder:
        yield from writer_rows(folder)


# --- append


def append_rows(store: JsonFileStore, folder: Path, size: int) -> Iterator[Row]:
    """Yield the rows of one size: two interleaved runs, for what rewrites its whole file gets fewer rounds."""
    name = f"c{size}"

    def ours(_: int) -> None:
        store.append(name, MESSAGE)

    with raw_append(folder, size) as raw:
        with sqlite_insert(folder, size) as sqlite:
            mine, theirs, other = medians(ROUNDS, ours, raw, sqlite)
        what = f"durable append at {size:,} messages"
        yield times_row(what, mine, theirs, "raw pwrite + fdatasync", 1.15)._replace(
            points=append_points(size, {"self_agent": mine, "raw pwrite + fdatasync": theirs})
        )
        yield times_row("…", mine, other, f"SQLite WAL FULL{times_raw(other, theirs)}")._replace(
            points=append_points(size, {"SQLite": other})
        )

        with tinydb_insert(folder, size) as (add, remove), rewritten_file(folder, size) as rewrite:
            sides = (ours, raw, add, remove, rewrite)
            medians(1, *sides)  # TinyDB reads its file twice at the first insert
            mine, theirs, tiny, _, rewritten = medians(SLOW_ROUNDS[size], *sides)
        yield times_row("…", mine, tiny, f"TinyDB{times_raw(tiny, theirs)}")._replace(
            points=append_points(size, {"TinyDB": tiny})
        )
        yield times_row("…", mine, rewritten, f"one JSON file rewritten{times_raw(rewritten, theirs)}")._replace(
            points=append_points(size, {"one JSON file rewritten": rewritten})
        )


def append_points(size: int, seconds: dict[str, float]) -> tuple[Point, ...]:
    """Return what the picture shows of appends at one size."""
    return tuple(Point("append", 0, series, size, spent * 1e6) for series, spent in seconds.items())


def times_raw(seconds: float, raw: float) -> str:
    """Return how many times the raw write another side takes, to stand behind its name."""
    factor = seconds / raw
    return f" ({factor:,.{int(factor < 10)}f} × raw)"


@contextlib.contextmanager
def raw_append(folder: Path, size: int) -> Iterator[Call]:
    """Yield the write, to a copy of the document, of the bytes that an append writes."""
    path = folder / f"raw{size}"
    shutil.copy(folder / "conversations" / f"c{size}.json", path)
    data = ending(1, size)
    offsets = itertools.count(path.stat().st_size - len(CLOSING), len(data) - len(CLOSING))
    fd = os.open(path, os.O_RDWR)

    def write(_: int) -> None:
        os.pwrite(fd, data, next(offsets))
        os.fdatasync(fd)

    try:
        yield write
    finally:
        os.close(fd)


@contextlib.contextmanager
def sqlite_insert(folder: Path, size: int) -> Iterator[Call]:
    """Yield an insert that commits by itself, into a table with as many messages."""
    with contextlib.closing(database(folder / f"{size}.db")) as connection:
        insert_many(connection, size, "c")
        yield lambda _: insert(connection, "c")


@contextlib.contextmanager
def tinydb_insert(folder: Path, size: int) -> Iterator[tuple[Call, Call]]:
    """Yield an insert into a TinyDB with as many messages, and what undoes it, so that its size stays."""
    path = folder / f"tiny{size}"
    path.write_text(json.dumps({"_default": {str(n): fields(1, n) for n in range(1, size + 1)}}))
    new = fields(1, size + 1)
    added: list[int] = []
    with TinyDB(path) as base:
        yield lambda _: added.append(base.insert(new)), lambda _: base.remove(doc_ids=[added.pop()])


@contextlib.contextmanager
def rewritten_file(folder: Path, size: int) -> Iterator[Call]:
    """Yield what a server does that keeps the conversation in memory and writes all of it at each message."""
    path, temporary = folder / f"whole{size}", folder / f"whole{size}.new"
    messages = [fields(1, n) for n in range(1, size + 1)]
    new = fields(1, size + 1)

    def rewrite(_: int) -> None:
        messages.append(new)
        with temporary.open("w") as file:
            json.dump({"conversation_id": "c", "messages": messages}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        messages.pop()  # the next round finds the same size

    yield rewrite


# --- edit and rename


def change_rows(store: JsonFileStore, path: Path) -> Iterator[Row]:
    """Yield the rows of an edit and of a rename: both write the document anew."""
    entry = store.get(path.stem)
    assert entry
    middle = entry.number << POSITION_BITS | CHANGED // 2
    contents = (CONTENT, CONTENT[::-1])  # of one length
    calls: dict[str, Call] = {
        "edit": lambda n: store.edit(middle, lambda message: replace(message, content=contents[n % 2])),
        "rename": lambda n: store.update(path.stem, title=f"title {n:06}"),
    }
    for what, call in calls.items():
        call(0)  # adds a field or fills one; from then on the size stays as it is
        data = path.read_bytes()
        ours, raw = medians(CHANGES, call, lambda _, data=data: replace_raw(path.with_suffix(".raw"), data))
        assert path.stat().st_size == len(data)
        beside = f"the same {len(data) / 1e6:.1f} MB written raw with fsync and replace"
        yield times_row(f"{what} in a conversation of {CHANGED:,} messages", ours, raw, beside, 1.5)


def replace_raw(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`, safe from a power cut."""
    temporary = path.with_suffix(".new")
    with temporary.open("xb", buffering=0) as file:
        assert file.write(data) == len(data)
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


# --- many writers


def writer_rows(folder: Path) -> Iterator[Row]:
    """Yield the throughput of many writers beside that of SQLite and of the disk."""
    with contextlib.ExitStack() as stack:
        ours = store_writers(stack, folder / "store")
        sides = {
            "SQLite WAL FULL, one connection behind a lock": sqlite_writers_with_lock(stack, folder / "one.db"),
            "SQLite WAL FULL, a connection a writer, busy_timeout 60 s": sqlite_writers(stack, folder / "each.db"),
            f"raw pwrite + fdatasync, {THREADS} threads and files": raw_writers(stack, folder),
        }
        calls = (ours, *sides.values())
        rates = [[throughput(call, THREADS, SECONDS / 3) for call in calls] for _ in range(3)]
    mine, *others = (statistics.median(column) for column in zip(*rates, strict=True))
    what = f"{THREADS} writers on {THREADS} conversations"
    for beside, other in zip(sides, others, strict=True):
        has_goal = "SQLite" in beside  # raw writes are there to show what the disk can give
        yield Row(
            what,
            f"{mine:,.0f}/s",
            f"{other:,.0f}/s, {beside}",
            f"{mine / other:.2f}",
            "≥ 15" if has_goal else "",
            mine / other >= 15 if has_goal else None,
        )
        what = "…"


def store_writers(stack: contextlib.ExitStack, folder: Path) -> Call:
    """Return an append to the conversation of a writer."""
    store = stack.enter_context(contextlib.closing(JsonFileStore(folder)))
    for n in range(THREADS):
        store.create(f"w{n}", "local")
    return lambda n: store.append(f"w{n}", MESSAGE)


def sqlite_writers_with_lock(stack: contextlib.ExitStack, path: Path) -> Call:
    """Return an insert through the one connection."""
    connection = stack.enter_context(contextlib.closing(database(path)))
    lock = threading.Lock()

    def call(n: int) -> None:
        with lock:
            insert(connection, f"w{n}")

    return call


def sqlite_writers(stack: contextlib.ExitStack, path: Path) -> Call:
    """Return an insert through a writer's own connection, which waits for the others up to 60 s."""
    database(path).close()
    connections = [stack.enter_context(contextlib.closing(connect(path, timeout=60))) for _ in range(THREADS)]
    return lambda n: insert(connections[n], f"w{n}")


def raw_writers(stack: contextlib.ExitStack, folder: Path) -> Call:
    """Return the durable write of an append's bytes to the end of a writer's own file."""
    data = ending(1, 1)
    descriptors = [os.open(folder / f"raw{n}", os.O_RDWR | os.O_CREAT) for n in range(THREADS)]
    for fd in descriptors:
        stack.callback(os.close, fd)
    offsets = [itertools.count(0, len(data) - len(CLOSING)) for _ in range(THREADS)]

    def call(n: int) -> None:
        os.pwrite(descriptors[n], data, next(offsets[n]))
        os.fdatasync(descriptors[n])

    return call


def main() -> None:
    """Print the table."""
    show(rows())


if __name__ == "__main__":
    main()
