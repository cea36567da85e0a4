"""What is said of a turn's end, to its readers and to the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from core.errors import AppError
from self_agent.events import Chunk
from self_agent.turns.turn import Turn

log = logging.getLogger(__name__)


def presentable(error: BaseException | None, turn: Turn) -> AppError | None:
    """Return the error that readers may see; what nobody foresaw goes to the log."""
    if error is None or isinstance(error, AppError):
        return error
    log.error("turn %s failed", turn.id, exc_info=error, extra=turn.log_fields)
    return AppError("the server failed while the reply was generated; the log says why")


def log_end(turn: Turn, error: AppError | None) -> None:
    """Log that a turn has ended, how and after how long; `error` is what it failed with."""
    spent = time.monotonic() - turn.began
    if error:
        words = f"{type(error).__name__}: {error.message}"
        log.warning(
            "turn %s of %s failed after %.3f s: %s", turn.id, turn.conversation_id, spent, words, extra=turn.log_fields
        )
    else:
        log.info("turn %s of %s ended after %.3f s", turn.id, turn.conversation_id, spent, extra=turn.log_fields)


def let_go(answer: Iterable[Chunk]) -> None:
    """Close the answer, whatever it is; the turn has ended, so what goes wrong here is for the log alone."""
    try:
        getattr(answer, "close", lambda: None)()
    except Exception:
        log.exception("an upstream could not be let go")
