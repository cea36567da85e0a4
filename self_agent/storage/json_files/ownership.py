"""One process owns a data folder: it holds the lock from opening the store until closing it, or its death."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from core import files
from core.errors import StartupError, StorageError
from self_agent.storage.json_files.folder import Layout

_PROBE = ".probe"


class Ownership:
    """The lock on a data folder. The owner's pid lies beside it: `filelock` empties the lock file itself."""

    def __init__(self, layout: Layout, timeout: float) -> None:
        self._layout = layout
        self._lock = FileLock(layout.lock, thread_local=False)  # the thread that closes may be another
        try:
            files.make_folder(layout.folder)
            self._lock.acquire(timeout=timeout)
        except Timeout:
            raise StartupError(
                f"another server (pid {_owner(layout.pid)}) uses the data folder {layout.folder}; "
                "stop it or choose another with --data-dir"
            ) from None
        except (OSError, StorageError) as error:
            raise _unusable(layout.folder, error) from error
        try:
            self._prepare()
        except StorageError as error:
            self.release()
            raise _unusable(layout.folder, error) from error

    def _prepare(self) -> None:
        """Make the folders, and find out now whether they can be written."""
        layout = self._layout
        for folder in (layout.conversations, layout.deleted, layout.quarantine, layout.partial):
            files.make_folder(folder)
            files.start_file(folder / _PROBE, b"\n")
            files.forget_file(folder / _PROBE)
        files.replace_file(layout.pid, [b"%d\n" % os.getpid()])

    def release(self) -> None:
        """Let go of the folder."""
        with suppress(StorageError):  # a name of a process that is gone misleads nobody: the lock is what counts
            files.forget_file(self._layout.pid)
        self._lock.release()


def _owner(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return "unknown"


def _unusable(folder: Path, error: OSError | StorageError) -> StartupError:
    reason = error.message if isinstance(error, StorageError) else error.strerror
    return StartupError(f"the data folder {folder} cannot be used: {reason}")
