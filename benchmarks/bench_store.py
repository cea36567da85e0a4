"""Measure the JSON store beside a raw write and beside SQLite: ratios of medians from one interleaved run.

Run with `.venv/bin/python benchmarks/bench_store.py [conversations]`; it needs about 1 GB beside this file's folder.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from self_agent.models import Message  # noqa: E402
from self_agent.storage.document import CLOSING, SEPARATOR, header_line, message_line  # noqa: E402
from self_agent.storage.json_files import JsonFileStore  # noqa: E402

CONTENT = "0123456789 " * 32  # with the other fields of its line about 440 bytes
PAUSE = 200e-6  # seconds
TIME = "2025-04-30T10:00:01.000000Z"


def header(name: str, number: int) -> bytes:
    return header_line(
        {
            "conversation_id": name,
            "number": number,
            "user_id": "local",
            "name": None,
            "system_prompt": None,
            "model": None,
            "project_id": 0,
            "created_at": TIME,
            "updated_at": TIME,
        }
    )


def write_document(folder: Path, name: str, number: int, messages: int) -> None:
    lines = (
        message_line(Message("user" if n % 2 else "assistant", CONTENT, number << 20 | n, TIME))
        for n in range(1, messages + 1)
    )
    (folder / f"{name}.json").write_bytes(header(name, number) + b"\n" + SEPARATOR.join(lines) + CLOSING)


def medians(rounds: int, *calls: Callable[[int], object]) -> list[float]:
    """Return the median seconds of each call, called in turn, each after the same pause.

    Without the pause the call that comes first after another's sync gains: a disk that is still awake is faster.
    """
    times: list[list[float]] = [[] for _ in calls]
    for n in range(rounds):
        for call, spent in zip(calls, times, strict=True):
            awake = time.perf_counter() + PAUSE
            while time.perf_counter() < awake:
                pass
            start = time.perf_counter()
            call(n)
            spent.append(time.perf_counter() - start)
    return [statistics.median(spent) for spent in times]


def row(what: str, ours: str, theirs: str, ratio: str, goal: str) -> None:
    print(f"| {what} | {ours} | {theirs} | {ratio} | {goal} |", flush=True)


def ratio_row(what: str, ours: float, theirs: float, goal: str) -> None:
    row(what, f"{ours * 1e6:,.0f} µs", f"{theirs * 1e6:,.0f} µs", f"{ours / theirs:.2f}", goal)


def database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "CREATE TABLE message (id INTEGER PRIMARY KEY, conversation TEXT, role TEXT, content TEXT, timestamp TEXT);"
        "CREATE INDEX by_conversation ON message (conversation);"
        "CREATE TABLE conversation (id TEXT PRIMARY KEY, user TEXT, created TEXT, updated TEXT, title TEXT,"
        " summary TEXT, count INTEGER);"
        "CREATE INDEX by_update ON conversation (user, updated);"
    )
    return connection


def insert(connection: sqlite3.Connection, conversation: str) -> None:
    connection.execute(
        "INSERT INTO message (conversation, role, content, timestamp) VALUES (?, 'user', ?, ?)",
        (conversation, CONTENT, TIME),
    )


def as_messages(rows: list[tuple[int, str, str, str]]) -> list[Message]:
    return [Message(role, content, key, timestamp) for key, role, content, timestamp in rows]


def bench_append(folder: Path) -> None:
    sizes = (10, 1000, 10_000, 100_000)
    (folder / "conversations").mkdir(parents=True)
    for number, size in enumerate(sizes, 1):
        write_document(folder / "conversations", f"c{size}", number, size)
    store = JsonFileStore(folder)
    line = message_line(Message("user", CONTENT, 1 << 20 | 11, TIME)) + CLOSING
    for size in sizes:
        path = folder / f"raw{size}"
        shutil.copy(folder / "conversations" / f"c{size}.json", path)
        fd = os.open(path, os.O_RDWR)
        end = os.fstat(fd).st_size

        def raw(n: int, fd: int = fd, end: int = end) -> None:
            os.pwrite(fd, line, end + n * len(line))
            os.fdatasync(fd)

        name = f"c{size}"
        ours, theirs = medians(2000, lambda _, name=name: store.append(name, Message("user", CONTENT)), raw)
        ratio_row(f"durable append at {size:,} messages / raw pwrite+fdatasync", ours, theirs, "≤ 1.15")
        os.close(fd)
    bench_reads(store, folder)
    store.close()


def bench_reads(store: JsonFileStore, folder: Path) -> None:
    connection = database(folder / "reads.db")
    connection.execute("BEGIN")
    for _ in range(100_000):
        insert(connection, "c100000")
        insert(connection, "other")
    connection.execute("COMMIT")
    query = "SELECT id, role, content, timestamp FROM message WHERE conversation = ? ORDER BY id "

    def latest(_: int) -> None:
        as_messages(connection.execute(query + "DESC LIMIT 20", ("c100000",)).fetchall())

    def page(_: int) -> None:
        as_messages(connection.execute(query + "LIMIT 100 OFFSET 50000", ("c100000",)).fetchall())

    ours, theirs = medians(2000, lambda _: store.latest("c100000", 20), latest)
    ratio_row("last 20 of 100,000 / SQLite", ours, theirs, "≤ 0.5")
    store.messages("c100000", offset=50_000, limit=100)
    ours, theirs = medians(500, lambda _: store.messages("c100000", offset=50_000, limit=100), page)
    ratio_row("page of 100 at 50,000 of 100,000 / SQLite with OFFSET", ours, theirs, "≤ 1.0")
    connection.close()


def bench_many(folder: Path, count: int) -> None:
    documents = folder / "conversations"
    documents.mkdir(parents=True)
    for number in range(1, count + 1):
        write_document(documents, f"conv_{number:06}", number, 10)
    for what, goal in (("without a snapshot", "≤ 6 s"), ("with a snapshot", "≤ 1 s")):
        out = subprocess.run([sys.executable, __file__, "--start", str(folder)], capture_output=True, check=True)
        seconds, mebibytes = out.stdout.decode().split()
        row(f"start with {count:,} conversations {what}", f"{seconds} s", "", "", goal)
        row(f"… memory above an empty process {what}", f"{mebibytes} MiB", "", "", "≤ 100 MiB")
    bench_lists(folder, count)


def bench_lists(folder: Path, count: int) -> None:
    store = JsonFileStore(folder)
    connection = database(folder / "lists.db")
    connection.execute("PRAGMA synchronous=OFF")  # the bump's durability is not what is compared here
    connection.executemany(
        "INSERT INTO conversation VALUES (?, 'local', ?, ?, NULL, ?, 10)",
        ((f"conv_{n:06}", TIME, TIME, CONTENT[:200]) for n in range(1, count + 1)),
    )
    rows = "SELECT * FROM conversation WHERE user = 'local' ORDER BY updated DESC LIMIT 20"
    ours: list[float] = []
    theirs: list[float] = []
    for n in range(1000):
        name = f"conv_{n * 37 % count + 1:06}"
        store.append(name, Message("user", CONTENT))
        connection.execute("UPDATE conversation SET updated = ? WHERE id = ?", (f"2026-{n:06}", name))
        for spent, call in (
            (ours, lambda: store.conversations("local", limit=20)),
            (theirs, lambda: connection.execute(rows).fetchall()),
        ):
            start = time.perf_counter()
            call()
            spent.append(time.perf_counter() - start)
    ratio_row(
        f"list 20 of {count:,}, one bumped each time / SQLite",
        statistics.median(ours),
        statistics.median(theirs),
        "≤ 2",
    )
    connection.close()
    store.close()


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


def start(folder: Path) -> None:
    before = resident()
    began = time.perf_counter()
    store = JsonFileStore(folder)
    store.get("none")
    seconds = time.perf_counter() - began
    print(f"{seconds:.2f} {resident() - before:.0f}")
    store.close()


def bench_writers(folder: Path, threads: int = 16, seconds: float = 4.0) -> None:
    store = JsonFileStore(folder / "writers")
    connection = database(folder / "writers.db")
    lock = threading.Lock()
    for n in range(threads):
        store.create(f"w{n}", "local")

    def ours(n: int) -> None:
        store.append(f"w{n}", Message("user", CONTENT))

    def theirs(n: int) -> None:
        with lock:
            insert(connection, f"w{n}")

    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(3):
        rates["ours"].append(throughput(ours, threads, seconds / 3))
        rates["theirs"].append(throughput(theirs, threads, seconds / 3))
    mine, other = (statistics.median(rates[name]) for name in ("ours", "theirs"))
    row(f"{threads} writers / SQLite WAL FULL", f"{mine:,.0f}/s", f"{other:,.0f}/s", f"{mine / other:.1f}", "≥ 15")
    connection.close()
    store.close()


def throughput(call: Callable[[int], object], threads: int, seconds: float) -> float:
    done = [0] * threads
    end = time.perf_counter() + seconds

    def work(n: int) -> None:
        while time.perf_counter() < end:
            call(n)
            done[n] += 1

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / seconds


def main() -> None:
    if sys.argv[1:2] == ["--start"]:
        start(Path(sys.argv[2]))
        return
    print("| what | store | other | ratio | goal |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "data") as name:
        bench_append(Path(name) / "append")
        bench_writers(Path(name))
        bench_many(Path(name) / "many", int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)


if __name__ == "__main__":
    main()
