"""What the kernel says of another process and of all that it started: processor time, memory, switches. Linux only."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path


def family(pid: int) -> list[int]:
    """Return a process and its descendants, a parent before its children."""
    # A thread may start a process, and may be gone before its list is read.
    children = [int(child) for task in _tasks(pid) for child in _read(task / "children").split()]
    return [pid, *(member for child in children for member in family(child))]


def cpu(pid: int) -> float:
    """Return the processor seconds of a process and its descendants, ended threads included, to the nanosecond."""
    return cpu_of(family(pid))


def cpu_of(members: list[int]) -> float:
    """Return the processor seconds of some processes: quicker than to look for the family each time."""
    total = 0.0
    for member in members:
        # The clock is the one of clock_getcpuclockid(3), since /proc counts in ticks of 10 ms.
        with contextlib.suppress(OSError):  # it may have ended by now
            total += time.clock_gettime((~member << 3) | 2)
    return total


def memory_of(members: list[int], field: str = "VmRSS") -> float:
    """Return the resident MiB of some processes together, or with `VmHWM` the sum of their peaks."""
    return sum(_field(Path(f"/proc/{member}"), field) for member in members) / 1024


class Switches:
    """Counts how often the threads of a process and its descendants gave the processor away to wait.

    The kernel forgets a thread's count when it ends, so `look` now and then: what a thread did since the last look
    before its end is lost.
    """

    def __init__(self, pid: int) -> None:
        self.members = family(pid)
        self.begun: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self.look()
        self.begun = dict(self.seen)

    def look(self) -> int:
        """Return the count since the beginning."""
        for member in self.members:
            for task in _tasks(member):
                if count := _field(task, "voluntary_ctxt_switches"):
                    self.seen[task.name] = count
        return sum(count - self.begun.get(name, 0) for name, count in self.seen.items())


def _tasks(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def _field(folder: Path, field: str) -> int:
    return next((int(line.split()[1]) for line in _read(folder / "status").splitlines() if line.startswith(field)), 0)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):  # who ended has no files any more
        return path.read_text()
    return ""
