"""Measure the store on PostgreSQL beside the JSON store and raw writes: medians of interleaved runs.

Run with `python -m benchmarks.bench_postgres`; it starts a durable PostgreSQL of its own, on the disk of the temporary
folder (TMPDIR), and needs about 500 MB there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.documents import CONTENT, ending
from benchmarks.measuring import MESSAGE, medians, throughput, times_row
from benchmarks.table import Row, show
from core.config import Settings
from self_agent.models import Message
from self_agent.storage import Store, open_store
from self_agent.storage.json_files import JsonFileStore
from tests.postgres import Server

MANY = 100_000  # messages of the conversation that is read, and conversations of the list
ROUNDS = 2000
THREADS = 16
SECONDS = 4.0

DURABLE = {"shared_buffers": "256MB", "max_connections": "50"}  # all else, fsync above all, as PostgreSQL has it


def rows() -> Iterator[Row]:
    """Yield the rows of an append, of many writers, and of reads."""
    from self_agent.storage.postgres import schema

    with tempfile.TemporaryDirectory(prefix="self_agent-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        server = Server(**DURABLE)
        stack.callback(server.remove)
        schema.upgrade(server.url)
        ours = stack.enter_context(contextlib.closing(open_store(Settings(database_url=server.url))))
        files = stack.enter_context(contextlib.closing(JsonFileStore(folder / "json")))
        yield from append_rows(ours, files, server.folder)
        yield from writer_rows(ours, files)
        for store in (ours, files):
            store.create("long", "u", messages=[Message("user", CONTENT)] * MANY)
        yield from read_rows(ours, files)
        fill_list(server, files)
        yield from list_rows(ours, files)


def append_rows(ours: Store, files: Store, folder: Path) -> Iterator[Row]:
    """Yield the rows of one durable append."""
    for store in (ours, files):
        store.create("c", "u")
    data, offsets = ending(1, 1), itertools.count(0, len(ending(1, 1)))
    fd = os.open(folder / "raw", os.O_RDWR | os.O_CREAT)

    def raw(_: int) -> None:
        os.pwrite(fd, data, next(offsets))
        os.fdatasync(fd)

    mine, theirs, other = medians(
        ROUNDS, lambda _: ours.append("c", MESSAGE), raw, lambda _: files.append("c", MESSAGE)
    )
    os.close(fd)
    yield times_row("durable append on PostgreSQL", mine, theirs, "raw pwrite + fdatasync", 2.5)
    yield times_row("…", mine, other, "the JSON store")


def writer_rows(ours: Store, files: Store) -> Iterator[Row]:
    """Yield the row of many writers, each with a conversation of its own."""

    def writing(store: Store) -> Callable[[int], object]:
        for n in range(THREADS):
            store.create(f"w{n}", "u")
        return lambda n: store.append(f"w{n}", MESSAGE)

    calls = [writing(ours), writing(files)]
    found = [[throughput(call, THREADS, SECONDS / 2) for call in calls] for _ in range(2)]
    mine, other = (sum(pair) / len(pair) for pair in zip(*found, strict=True))
    what = f"{THREADS} writers on PostgreSQL, each its own conversation"
    yield Row(what, f"{mine:,.0f}/s", f"{other:,.0f}/s, the JSON store", f"{mine / other:.2f}")


def read_rows(ours: Store, files: Store) -> Iterator[Row]:
    """Yield the rows of the last messages and of a page in the middle of a long conversation."""
    for what, read, goal in (
        (f"last 20 of {MANY:,} messages", lambda store: store.latest("long", 20), 120),
        ("page of 100 in the middle", lambda store: store.messages("long", offset=MANY // 2, limit=100), None),
    ):
        mine, other = medians(ROUNDS, lambda _: read(ours), lambda _: read(files))  # noqa: B023 - called at once
        yield limited(what, mine, other, goal)


def fill_list(server: Server, files: JsonFileStore) -> None:
    """Make as many conversations as a list can be long; those in files have nothing in them."""
    server.run("ALTER TABLE conversation DISABLE TRIGGER conversation_counted")  # so many updates of one row
    server.run(
        f"""INSERT INTO conversation (user_id, number, id, created_at, updated_at, total, count, first, summary)
        SELECT 'many', 10000000 + n, 'conv_' || n, now(), now() + n * interval '1 microsecond', 1, 1,
        repeat('x', 40), repeat('y', 200) FROM generate_series(1, {MANY}) n"""
    )
    server.run("ALTER TABLE conversation ENABLE TRIGGER conversation_counted")
    server.run(f"INSERT INTO account VALUES ('many', {MANY}, 0)")
    server.run("VACUUM ANALYZE")


def list_rows(ours: Store, files: Store) -> Iterator[Row]:
    """Yield the row of the first page of a long list."""
    mine, one = medians(ROUNDS, lambda _: ours.conversations("many", limit=20), lambda _: ours.get("c"))
    yield limited(f"list of 20 of {MANY:,} conversations", mine, one, 200, "one conversation by its id")
    mine, one = medians(20, lambda _: ours.conversations("many", matching="nothing", limit=20), lambda _: ours.get("c"))
    yield limited(f"words that none of {MANY:,} has", mine, one, None, "one conversation by its id")


def limited(what: str, mine: float, other: float, most: int | None, beside: str = "the JSON store") -> Row:
    """Return the row of two times, in seconds; the goal is in µs."""
    return times_row(what, mine, other, beside)._replace(
        goal=f"≤ {most} µs" if most else "", reached=mine * 1e6 <= most if most else None
    )


if __name__ == "__main__":
    show(rows())
