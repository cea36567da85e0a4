"""Measure a list with headings beside the list of ids, out of many conversations, in one interleaved run.

    python -m benchmarks.bench_lists [conversations]

Takes half a minute. Linux only.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Iterator

import requests

from benchmarks import servers
from benchmarks.documents import write_document
from benchmarks.load import Client
from benchmarks.route import request, rotated
from benchmarks.servers import CONVERSATIONS, Running
from benchmarks.table import Row, show

COUNT = 10_000
ROUNDS = 1000
MARKED = 300  # of the conversations, with folders and tags
LISTS = {
    "ids": "?size=20",
    "headings": "?size=20&view=headings",
    "page 250": "?size=20&view=headings&page=250",
    "found": "?size=20&view=headings&q=0123",
}


def rows(count: int = COUNT) -> Iterator[Row]:
    """Yield the rows of the lists."""
    with servers.scratch() as folder:
        documents = folder / "data" / "conversations"
        documents.mkdir(parents=True)
        for number in range(1, count + 1):
            write_document(documents, f"conv_{number:06}", number, 2)
        with servers.self_agent(folder) as server:
            mark(server, count)
            yield from list_rows(server, count)


def mark(server: Running, count: int) -> None:
    """Give what a user gives to the conversations that are shown first, and to some others: names, folders, tags."""
    root = f"http://127.0.0.1:{server.port}"
    with requests.Session() as session:
        for number in range(count - MARKED, count):
            body = {"conversation_id": f"conv_{number:06}"}
            session.patch(f"{root}{CONVERSATIONS}/{body['conversation_id']}", json={"name": f"A name {number}"})
            session.post(f"{root}/api/v1/folders/default/add", json=body)
            session.post(f"{root}/api/v1/conversation_tags", json={**body, "tag": "work"}).raise_for_status()


def list_rows(server: Running, count: int) -> Iterator[Row]:
    """Yield each list beside that of the ids: medians of one client's requests, all lists taking turns."""
    times: dict[str, list[float]] = {name: [] for name in LISTS}
    with contextlib.ExitStack() as stack:
        clients: dict[str, Client] = {}
        for name, query in LISTS.items():
            data = request(f"{CONVERSATIONS}/{query}", None, method="GET")
            clients[name] = Client(server.port, lambda data=data: data)
            stack.callback(clients[name].socket.close)
        for name in [name for number in range(ROUNDS) for name in rotated(list(LISTS), number)]:
            begun = time.perf_counter()
            clients[name].send()
            while not clients[name].answered():
                pass
            times[name].append(time.perf_counter() - begun)
    median = {name: statistics.median(each) for name, each in times.items()}
    ids = f"{median['ids'] * 1e3:.2f} ms, the list of ids"
    for name, what, goal in [
        ("headings", f"list headings: 20 of {count:,} conversations", 1.3),
        ("page 250", "… the 250th page of them", None),
        ("found", "… those that have a word, which is looked for in all", None),
    ]:
        ratio = median[name] / median["ids"]
        mark = (f"≤ {goal}", ratio <= goal) if goal else ("", None)
        yield Row(what, f"{median[name] * 1e3:.2f} ms", ids, f"{ratio:.2f}", *mark)


def main() -> None:
    """Print the table."""
    show(rows(*map(int, sys.argv[1:2])))


if __name__ == "__main__":
    main()
