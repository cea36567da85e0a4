"""Running replies are checkpointed in a thread of their own, so that writing them never delays a token."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from core.errors import AppError
from self_agent.storage.base import Store
from self_agent.turns.turn import Turn

log = logging.getLogger(__name__)

AT_ONCE = 8  # checkpoints written one right behind the other


class Checkpoints:
    """Writes what came of each running reply, about every `seconds`."""

    def __init__(
        self, store: Store, running: Callable[[], list[Turn]], closing: threading.Event, seconds: float
    ) -> None:
        """`running` returns the turns that run now; after `closing` it goes on until there are none."""
        self._store = store
        self._running = running
        self._closing = closing
        self._seconds = seconds
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless that was done."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
                self._thread.start()

    def join(self) -> None:
        """Wait for the end."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self._seconds / 2) or self._running():
            self._write_all(self._running())
            if self._closing.is_set():
                time.sleep(0.05)

    def _write_all(self, turns: list[Turn]) -> None:
        """Write some at a time, evenly over half the time there is: a burst of them would hold tokens up."""
        starts = range(0, len(turns), AT_ONCE)
        for start in starts:
            for turn in turns[start : start + AT_ONCE]:
                self._write(turn)
            self._closing.wait(self._seconds / 2 / len(starts))

    def _write(self, turn: Turn) -> None:
        with turn.checkpointing:
            if turn.is_claimed or not turn.is_kept:
                return
            try:
                if text := turn.since_checkpoint():
                    self._store.checkpoint(turn.conversation_id, turn.reply, text)
            except AppError as error:
                log.warning("turn %s is not checkpointed: %s", turn.id, error.message, extra=turn.log_fields)
