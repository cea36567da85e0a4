"""The name of the model that answers where none is asked for, known at once or asked for in the background."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from core.errors import AppError
from self_agent.providers.base import Provider

PATIENCE = 1.0  # seconds that a view waits for a name that has to be asked for: it is only shown
AGAIN_AFTER = 60.0  # seconds until an upstream is asked again that did not say


class DefaultModel:
    """What `Provider.default_model` knows, or comes to know once the upstream has listed its models."""

    def __init__(self, provider: Provider, *, patience: float = PATIENCE) -> None:
        self._provider = provider
        self._patience = patience
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._ask, daemon=True)  # of which there is never more than one
        self._ask_at = 0.0

    def name(self) -> str | None:
        """Return the name, or None while it is not known or nothing can answer; waits a moment at most."""
        known = self._provider.default_model()
        if known is not None:
            return known
        with self._lock:
            if time.monotonic() >= self._ask_at and not self._thread.is_alive():
                self._ask_at = time.monotonic() + AGAIN_AFTER
                self._thread = threading.Thread(target=self._ask, name="default-model", daemon=True)
                self._thread.start()
            asking = self._thread
        asking.join(self._patience)
        return self._provider.default_model()

    def _ask(self) -> None:
        with suppress(AppError):  # a send will say what is wrong
            self._provider.models()
