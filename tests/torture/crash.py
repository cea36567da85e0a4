"""A server killed at random moments under load, again and again on one folder, loses nothing that it acknowledged.

python -m tests.torture.crash --kills 1000 --seconds 3600 --seed 7
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.serving import Server
from tests.torture.belief import Belief
from tests.torture.branches import Brancher, Forest
from tests.torture.checks import Problem, check
from tests.torture.clients import CLIENTS, Client
from tests.upstream import Answer, FakeUpstream, Reply

FEW = 20  # problems are enough to stop for
TOKEN_DELAY = 0.003  # seconds; a reply of 500 words takes longer than the second between two checkpoints


class Parrot(FakeUpstream):
    """Answers the last message alone, also when the server joined it to those that a kill left unanswered."""

    def __init__(self) -> None:
        super().__init__(delay=TOKEN_DELAY)
        self.requests = deque(maxlen=1)  # type: ignore[assignment] # there will be tens of thousands

    def next_answer(self, body: Any) -> Reply | Answer:
        last = body["messages"][-1]
        last["content"] = last["content"].rpartition("\n\n")[2]
        return super().next_answer(body)


@dataclass
class Tally:
    """What came of it."""

    kills: int = 0
    acknowledged: int = 0
    repeated: int = 0
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = Counter(problem.kind for problem in self.problems)
        counts = " ".join(f"{kind} {kinds[kind]}" for kind in ("lost", "duplicated", "unreadable", "broken", "wrong"))
        pace = self.kills / self.seconds * 60 if self.seconds else 0
        done = f"kills {self.kills} acknowledged {self.acknowledged} repeated {self.repeated}"
        return f"{done} {counts} ({pace:.0f} kills/min)"


def torture(folder: Path, *, kills: int, seconds: float, seed: int, report: int = 0) -> Tally:
    """Kill a server on this folder so often, or for so long; with `report`, say every so often how it goes."""
    chance = random.Random(seed)
    belief, forest = Belief(), Forest()
    tally = Tally()
    began = time.monotonic()
    with Parrot() as upstream:
        server = start(folder, upstream)
        try:
            while tally.kills < kills and tally.seconds < seconds and len(tally.problems) < FEW:
                tally.problems += check(server.url, folder / "data", belief, forest)
                server = one_kill(server, folder, upstream, belief, forest, chance)
                tally.kills += 1
                tally.acknowledged = belief.acknowledged + forest.operations
                tally.repeated = belief.repeated + forest.repeated
                tally.seconds = time.monotonic() - began
                if report and tally.kills % report == 0:
                    print(tally, flush=True)
            tally.problems += check(server.url, folder / "data", belief, forest)
        finally:
            server.kill()
    return tally


def start(folder: Path, upstream: FakeUpstream) -> Server:
    server = Server(folder, provider="openai", openai_base_url=upstream.base_url, openai_model="m", log_level="WARNING")
    assert server.url, server.output
    return server


def one_kill(
    server: Server, folder: Path, upstream: FakeUpstream, belief: Belief, forest: Forest, chance: random.Random
) -> Server:
    """Put a server under load, kill it, and return the one that is there afterwards."""
    stop = threading.Event()
    clients: list[threading.Thread] = [
        Client(f"c{n}", server.url, belief, chance.getrandbits(32), stop, folder / "data" / "conversations")
        for n in range(CLIENTS)
        if chance.random() < 0.9
    ]
    clients.append(Brancher(server.url, forest, chance.getrandbits(32), stop))
    for client in clients:
        client.start()
    # Some die while they still read their folder, some before a first checkpoint, some after one.
    time.sleep(chance.choice([0.0, chance.uniform(0, 0.3), chance.uniform(0.2, 0.8), chance.uniform(0.8, 1.8)]))
    stop.set()
    only_worker = chance.random() < 0.25 and kill_worker(server, folder)
    if not only_worker:
        server.kill()
    for client in clients:
        client.join()
    return server if only_worker else start(folder, upstream)


def kill_worker(server: Server, folder: Path) -> bool:
    """Kill only the process that owns the folder; False if it cannot be told for certain which that is."""
    with suppress(OSError, ValueError, IndexError):
        pid = int((folder / "data" / ".lock.pid").read_text().split()[0])
        if pid != server.process.pid and os.getpgid(pid) == server.process.pid:
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description="kill a server under load, and count what it lost")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        tally = torture(Path(folder), kills=options.kills, seconds=options.seconds, seed=options.seed, report=25)
    for problem in tally.problems:
        print(f"{problem.kind}: {problem.what}")
    print(tally)
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
