"""Measure an import and an export of a big file, and a copy of the folder that they fill, each in a process of its own.

Run with `python -m benchmarks.bench_transfer [megabytes]`; it takes about three times as much on the disk.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.servers import ROOT, scratch
from benchmarks.table import Row, show
from self_agent.conversations import Conversations
from self_agent.models import LOCAL_USER
from self_agent.providers.none import NoModel
from self_agent.storage.json_files import JsonFileStore
from self_agent.transfer import Transfer
from self_agent.transfer.backup import backup
from self_agent.turns.runner import Turns

MEGABYTES = 500
MOST = 200  # MiB that an import may take
TURNS = 40  # of a chat, each a question and a reply
WORDS = "Die Ruhr entspringt im Sauerland, “fließt” nach Westen\n\nund mündet bei Duisburg in den Rhein. "


def rows(megabytes: int = MEGABYTES) -> Iterator[Row]:
    """Yield a row for an import of ChatGPT's form, an export of all of it, a first copy, and one more."""
    with scratch() as folder:
        source = folder / "conversations.json"
        chats = write_chats(source, megabytes * 1_000_000)
        size = f"{megabytes} MB, {chats:,} chats of {TURNS * 2} messages"
        data = folder / "data"
        for what, step, most in (
            (f"import of {size}", "take_in", MOST),
            ("import of the same once more", "take_in", MOST),
            ("export of all as JSON", "export", MOST),
            ("backup of it", "copy", MOST),
            ("backup of it once more", "copy", MOST),
        ):
            seconds, mebibytes = measured(step, data, source)
            yield Row(what, f"{seconds:.1f} s", note(seconds, megabytes))
            yield Row(
                "… memory of the process", f"{mebibytes:.0f} MiB", goal=f"≤ {most} MiB", reached=mebibytes <= most
            )


def note(seconds: float, megabytes: int) -> str:
    """Return how fast that is."""
    return f"{megabytes / seconds:.0f} MB/s"


def write_chats(path: Path, size: int) -> int:
    """Write a file of about a size as ChatGPT writes it, and return how many chats are in it."""
    count = written = 0
    with path.open("w") as file:
        while written < size:
            written += file.write("[" if not count else ",\n")
            written += file.write(json.dumps(chat(count)))
            count += 1
        file.write("]")
    return count


def chat(number: int) -> dict[str, object]:
    """Return a chat in ChatGPT's form, one reply of which was made anew."""
    mapping = {"root": {"id": "root", "message": None, "parent": None, "children": ["0"]}}
    for place in range(TURNS * 2):
        role = "assistant" if place % 2 else "user"
        mapping[str(place)] = {
            "id": str(place),
            "parent": str(place - 1) if place else "root",
            "children": [str(place + 1)],
            "message": {
                "id": str(place),
                "author": {"role": role, "name": None, "metadata": {}},
                "create_time": 1_700_000_000.5 + number * 1000 + place,
                "content": {"content_type": "text", "parts": [WORDS * (8 if place % 2 else 1)]},
                "status": "finished_successfully",
                "metadata": {"model_slug": "gpt-4o", "citations": [], "message_type": None, "timestamp_": "absolute"},
                "recipient": "all",
            },
        }  # type: ignore[assignment]
    return {
        "title": f"Chat {number}",
        "create_time": 1_700_000_000.5 + number * 1000,
        "update_time": 1_700_000_000.5 + number * 1000 + TURNS * 2,
        "mapping": mapping,
        "current_node": str(TURNS * 2 - 1),
        "conversation_id": f"chat-{number}",
    }


def measured(step: str, data: Path, source: Path) -> tuple[float, float]:
    """Do one step in a process of its own; return its seconds, and its memory at the most in MiB."""
    command = [sys.executable, "-m", "benchmarks.bench_transfer", "--step", step, str(data), str(source)]
    out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    seconds, mebibytes = map(float, out.split())
    return seconds, mebibytes


def take_in(data: Path, source: Path) -> None:
    """Import the file."""

    def work(transfer: Transfer) -> None:
        with source.open("rb") as file:
            outcomes = transfer.take_in(LOCAL_USER, iter(lambda: file.read(1 << 16), b""))
            assert all(outcome.state != "failed" for outcome in outcomes)

    with_store(data, work)


def export(data: Path, source: Path) -> None:
    """Export everything, and keep nothing of it."""

    def work(transfer: Transfer) -> None:
        assert sum(map(len, transfer.export(LOCAL_USER, "json").pieces)) > 0

    with_store(data, work)


def copy(data: Path, source: Path) -> None:
    """Copy the folder."""
    backup(data, data.with_name("copy"))


def with_store(data: Path, work: Callable[[Transfer], None]) -> None:
    """Do something with the use cases over a folder."""
    store = JsonFileStore(data)
    try:
        turns = Turns(store)
        work(Transfer(store, Conversations(store, turns, NoModel())))
        turns.close(0)
    finally:
        store.close()


def main() -> None:
    """Print the table, or in the process that is measured do one step."""
    if sys.argv[1:2] == ["--step"]:
        began = time.perf_counter()
        globals()[sys.argv[2]](Path(sys.argv[3]), Path(sys.argv[4]))
        seconds = time.perf_counter() - began
        print(f"{seconds:.2f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}")
    else:
        show(rows(*map(int, sys.argv[1:2])))


if __name__ == "__main__":
    main()
