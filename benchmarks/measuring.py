"""What the benchmarks of the store share: the same message for every side, SQLite, interleaved rounds."""

from __future__ import annotations

import sqlite3
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.documents import CONTENT, TIME
from benchmarks.table import Row
from self_agent.models import Message

MESSAGE = Message("user", CONTENT)  # made once: no side is timed for it
PAUSE = 200e-6  # seconds


# --- SQLite


def connect(path: Path, timeout: float = 5.0) -> sqlite3.Connection:
    """Open a database that is as durable as the store; `timeout` is its busy_timeout in seconds."""
    connection = sqlite3.connect(path, timeout=timeout, check_same_thread=False, isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    return connection


def database(path: Path) -> sqlite3.Connection:
    """Make a database with the tables and indexes that a conversation server would have."""
    connection = connect(path)
    connection.executescript(
        "CREATE TABLE message (id INTEGER PRIMARY KEY, conversation TEXT, role TEXT, content TEXT, timestamp TEXT);"
        "CREATE INDEX by_conversation ON message (conversation);"
        "CREATE TABLE conversation (id TEXT PRIMARY KEY, user TEXT, created TEXT, updated TEXT, title TEXT,"
        " summary TEXT, count INTEGER);"
        "CREATE INDEX by_update ON conversation (user, updated);"
    )
    return connection


def insert(connection: sqlite3.Connection, conversation: str) -> None:
    """Insert the message that the store appends."""
    connection.execute(
        "INSERT INTO message (conversation, role, content, timestamp) VALUES (?, 'user', ?, ?)",
        (conversation, CONTENT, TIME),
    )


def insert_many(connection: sqlite3.Connection, count: int, *conversations: str) -> None:
    """Insert `count` messages into each conversation, in turn, in one transaction."""
    connection.execute("BEGIN")
    for _ in range(count):
        for conversation in conversations:
            insert(connection, conversation)
    connection.execute("COMMIT")


# --- measuring


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


def throughput(call: Callable[[int], object], threads: int, seconds: float) -> float:
    """Return calls a second of all threads together; what ends after `seconds` is not counted."""
    done = [0] * threads
    end = time.perf_counter() + seconds

    def work(n: int) -> None:
        while True:
            call(n)
            if time.perf_counter() >= end:
                return
            done[n] += 1

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / seconds


def times_row(what: str, ours: float, theirs: float, beside: str, at_most: float | None = None) -> Row:
    """Return the row of two times, in seconds, and of their ratio."""
    ratio = ours / theirs
    return Row(
        what,
        f"{ours * 1e6:,.0f} µs",
        f"{theirs * 1e6:,.0f} µs, {beside}",
        f"{ratio:.2f}" if ratio >= 0.01 else f"{ratio:.1g}",
        f"≤ {at_most:g}" if at_most else "",
        ratio <= at_most if at_most else None,
    )
