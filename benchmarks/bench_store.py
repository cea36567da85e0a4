"""Measure the store's reads and lists beside SQLite's, medians of interleaved runs, and its start and its memory.

Run with `python -m benchmarks.bench_store [conversations]`; it takes about 1 GB beside the data folder.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.documents import CONTENT, TIME, write_document
from benchmarks.measuring import MESSAGE, database, insert_many, medians, times_row
from benchmarks.servers import ROOT, scratch
from benchmarks.table import Row, show
from self_agent.models import Message
from self_agent.storage.json_files import JsonFileStore

MESSAGES = 100_000  # of the conversation that is read
CONVERSATIONS = 100_000  # of the store that is started and listed


def rows(conversations: int = CONVERSATIONS) -> Iterator[Row]:
    """Yield a row for each read, for the start of a full store, its memory, and a list of it."""
    with scratch() as folder:
        yield from read_rows(folder)
    with scratch() as folder:
        documents = folder / "conversations"
        documents.mkdir()
        for number in range(1, conversations + 1):
            write_document(documents, f"conv_{number:06}", number, 10)
        yield from start_rows(folder, conversations)
        yield from list_rows(folder, conversations)


# --- reads


def read_rows(folder: Path) -> Iterator[Row]:
    """Yield the rows of the last messages and of a page in the middle of a long conversation."""
    (folder / "conversations").mkdir()
    write_document(folder / "conversations", "long", 1, MESSAGES)
    middle = MESSAGES // 2
    query = "SELECT id, role, content, timestamp FROM message WHERE conversation = ? ORDER BY id "
    with (
        contextlib.closing(JsonFileStore(folder)) as store,
        contextlib.closing(database(folder / "reads.db")) as connection,
    ):
        insert_many(connection, MESSAGES, "long", "other")

        def latest(_: int) -> None:
            as_messages(connection.execute(query + "DESC LIMIT 20", ("long",)).fetchall())

        def page(_: int) -> None:
            as_messages(connection.execute(query + "LIMIT 100 OFFSET ?", ("long", middle)).fetchall())

        ours, theirs = medians(2000, lambda _: store.latest("long", 20), latest)
        yield times_row(f"last 20 of {MESSAGES:,} messages", ours, theirs, "SQLite", 0.5)
        store.messages("long", offset=middle, limit=100)  # learns where the lines are
        ours, theirs = medians(500, lambda _: store.messages("long", offset=middle, limit=100), page)
        yield times_row(f"page of 100 in the middle of {MESSAGES:,}", ours, theirs, "SQLite with OFFSET", 1)


def as_messages(found: list[tuple[int, str, str, str]]) -> list[Message]:
    """Make of SQLite's rows what a store has to return."""
    return [Message(role, content, key, timestamp) for key, role, content, timestamp in found]


# --- a full store


def start_rows(folder: Path, count: int) -> Iterator[Row]:
    """Yield the rows of the start and of the memory, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_store", "--start", str(folder)]
    for what, goal in (("no snapshot", 6), ("with the snapshot of the last end", 1)):
        out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
        seconds, mebibytes = map(float, out.split())
        start = f"start with {count:,} conversations of 10 messages, {what}"
        yield Row(start, f"{seconds:.2f} s", goal=f"≤ {goal} s", reached=seconds <= goal)
        memory = "… memory above that of an empty process"
        yield Row(memory, f"{mebibytes:.0f} MiB", goal="≤ 100 MiB", reached=mebibytes <= 100)


def start(folder: Path) -> None:
    """Open the store and print how many seconds and MiB that took."""
    before = resident()
    began = time.perf_counter()
    with contextlib.closing(JsonFileStore(folder)) as store:
        store.get("none")
        seconds = time.perf_counter() - began
        print(f"{seconds:.3f} {resident() - before:.1f}")


def resident() -> float:
    """Return the memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


def list_rows(folder: Path, count: int) -> Iterator[Row]:
    """Yield the row of the first page of all conversations, when another one comes first each time."""
    query = "SELECT * FROM conversation WHERE user = 'local' ORDER BY updated DESC LIMIT 20"
    with (
        contextlib.closing(JsonFileStore(folder)) as store,
        contextlib.closing(database(folder / "lists.db")) as connection,
    ):
        connection.execute("PRAGMA synchronous=OFF")  # the bump's durability is not what is compared here
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO conversation VALUES (?, 'local', ?, ?, NULL, ?, 10)",
            ((f"conv_{n:06}", TIME, TIME, CONTENT[:200]) for n in range(1, count + 1)),
        )
        connection.execute("COMMIT")

        def bump(n: int) -> None:
            name = f"conv_{n * 37 % count + 1:06}"
            store.append(name, MESSAGE)
            connection.execute("UPDATE conversation SET updated = ? WHERE id = ?", (f"2026-{n:06}", name))

        _, ours, theirs = medians(
            1000,
            bump,
            lambda _: store.conversations("local", limit=20),
            lambda _: connection.execute(query).fetchall(),
        )
    yield times_row(f"list 20 of {count:,} conversations, one bumped each time", ours, theirs, "SQLite's index", 2)


def main() -> None:
    """Print the table, or in the process that is measured start the store."""
    if sys.argv[1:2] == ["--start"]:
        start(Path(sys.argv[2]))
    else:
        show(rows(*map(int, sys.argv[1:2])))


if __name__ == "__main__":
    main()
