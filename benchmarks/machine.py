"""Say on what was measured, in words that name no host, no user and no path."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
import sqlite3
from importlib import metadata
from pathlib import Path

PACKAGES = ("flask", "gunicorn", "orjson", "requests", "urllib3", "tinydb")


def sentence(folder: Path) -> str:
    """Return the date, the machine with its memory in GiB, the file system of a folder, and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    numbers = re.match(r"[\d.]*\d", platform.release())  # what follows may be the name somebody gave a kernel
    system = f"{platform.system()} {numbers[0] if numbers else ''}".strip()
    parts = [processor(), f"{os.cpu_count()} cores", f"{memory:.0f} GiB", file_system(folder), system]
    software = [f"Python {platform.python_version()}", *versions(), f"SQLite {sqlite3.sqlite_version}"]
    return f"Measured on {datetime.date.today()} on {', '.join(filter(None, parts))}; {', '.join(software)}."


def processor() -> str:
    """Return the model of the processor, or its architecture where the system does not tell."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on, or nothing where the system does not tell."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    around = {str(path) for path in (folder.resolve(), *folder.resolve().parents)}
    return max((len(point), n, kind) for n, (_, point, kind, *_) in enumerate(mounts) if point in around)[2]


def versions() -> list[str]:
    """Return the packages that the figures depend on, as far as they are installed."""
    found = []
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found
