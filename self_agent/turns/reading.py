"""The hub's part of a turn: it takes what has come from the model, until there is no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from self_agent.events import Chunk
from self_agent.providers.base import Live
from self_agent.turns.hub import READ, Handler, Hub
from self_agent.turns.turn import Turn


class Reading(Handler):
    """Reads one answer; `finish` is called in a thread that may wait, with the failure if it did not end well."""

    def __init__(self, hub: Hub, answer: Live[Chunk], turn: Turn, finish: Callable[[Exception | None], None]) -> None:
        self._hub = hub
        self._answer = answer
        self._turn = turn
        self._finish = finish
        self._fd = answer.fileno()

    def start(self) -> None:
        """Take what is there already, in the caller's thread, and leave the rest to the hub."""
        try:
            is_wanted = self._turn.take(self._answer.receive())
        except Exception as error:
            self._finish(error)
            return
        if not is_wanted or self._answer.is_over:
            self._finish(self._answer.failure)
            return
        self.deadline = time.monotonic() + self._answer.silence
        self._hub.add(self)
        self._hub.watch(self._fd, self, READ)

    def ready(self) -> None:
        if not self._turn.take(self._answer.receive()) or self._answer.is_over:
            self._leave(self._answer.failure)
        else:
            self.deadline = time.monotonic() + self._answer.silence

    def late(self) -> None:
        self._answer.give_up()
        self._turn.take(self._answer.receive())  # it may have ended all the same, and say so
        self._leave(self._answer.failure)

    def broken(self, error: Exception) -> None:
        self._leave(error)

    def _leave(self, failure: Exception | None) -> None:
        self._hub.unwatch(self._fd)
        self._hub.remove(self)
        finish = partial(self._finish, failure)
        if not self._turn.offer(finish):
            self._hub.run(finish)
