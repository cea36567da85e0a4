"""Measure what branches cost: reads of and appends to a conversation with 100 of them, beside one without.

Run with `python -m benchmarks.bench_branches`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.measuring import MESSAGE, medians, times_row
from benchmarks.servers import scratch
from benchmarks.table import Row, show
from self_agent.models import Message
from self_agent.storage.base import Store
from self_agent.storage.json_files import JsonFileStore

MESSAGES = 10_000  # that are shown
BRANCHES = 100
REGENERATED = [MESSAGES - 1 - n for n in (1, 3, 5, 7)]  # among the last 20, too


def fill(store: Store, name: str, branches: int) -> None:
    """Make a conversation of so many messages that are shown; replies that were given twice are spread over it."""
    store.create(name, "local")
    spread = {n * MESSAGES // branches + 1 for n in range(branches - len(REGENERATED))} if branches else set()
    twice = sorted((spread | set(REGENERATED)) if branches else ())
    start = 0
    for place in [*twice, MESSAGES]:
        roles = ("assistant" if n % 2 else "user" for n in range(start, place))
        stored = store.append(name, *(Message(role, MESSAGE.content) for role in roles))
        if place < MESSAGES:
            parent = stored[-1].id
            store.append(name, Message("assistant", MESSAGE.content))
            store.append(name, Message("assistant", MESSAGE.content, parent=parent))
        start = place + 1


def rows() -> Iterator[Row]:
    """Yield a row for each read, for an append, and for a second reply."""
    with scratch() as folder, contextlib.closing(JsonFileStore(folder)) as store:
        fill(store, "branched", BRANCHES)
        fill(store, "plain", 0)
        assert store.get("branched").count == store.get("plain").count == MESSAGES  # type: ignore[union-attr]
        assert len(store.siblings("branched")) == 2 * BRANCHES
        beside = "without branches"
        what = f"of {MESSAGES:,} messages shown with {BRANCHES} branches"

        def read(name: str, offset: int, limit: int) -> object:
            return store.messages(name, offset=offset, limit=limit)

        ours, plain = medians(2000, lambda _: store.latest("branched", 20), lambda _: store.latest("plain", 20))
        yield times_row(f"last 20 {what}", ours, plain, beside, 1.2)
        for offset in (0, MESSAGES // 2, MESSAGES - 100):
            page = (lambda _, at=offset: read("branched", at, 100), lambda _, at=offset: read("plain", at, 100))
            ours, plain = medians(500, *page)
            yield times_row(f"page of 100 from {offset:,} on {what}", ours, plain, beside, 1.2)
        append = (lambda _: store.append("branched", MESSAGE), lambda _: store.append("plain", MESSAGE))
        ours, plain = medians(500, *append)
        yield times_row(f"append to one {what}", ours, plain, beside, 1.2)
        question = store.append("branched", MESSAGE)[0].id
        again = replace(MESSAGE, role="assistant", parent=question)
        ours, plain = medians(300, lambda _: store.append("branched", again), append[1])
        yield times_row(f"second reply to one {what}", ours, plain, "append", 2)


if __name__ == "__main__":
    show(rows())
