"""Where conversations are kept: one contract, a module for each store that keeps it, one test suite over all."""

from __future__ import annotations

import logging
from importlib import import_module
from pkgutil import iter_modules

from core.config import Settings
from core.errors import StartupError
from self_agent.storage.base import Store

__all__ = ["Store", "choices", "chosen", "open_store"]

log = logging.getLogger(__name__)


def choices() -> list[str]:
    """Return the names of the stores there are: of the modules here that have a function `open_store`."""
    names = [module.name for module in iter_modules(__path__)]
    return [name for name in names if hasattr(import_module(f"{__name__}.{name}"), "open_store")]


def open_store(settings: Settings) -> Store:
    """Open the store that the settings name. Raises StartupError when there is none, or it cannot be opened."""
    name = chosen(settings)
    if name not in choices():
        raise StartupError(f"STORE must be one of {', '.join(choices())}, not {name!r}")
    store: Store = import_module(f"{__name__}.{name}").open_store(settings)
    if not store.persistent:
        log.warning("STORE=%s: all conversations are forgotten when the server stops", name)
    return store


def chosen(settings: Settings) -> str:
    """Return the name of the store that the settings choose: a DATABASE_URL takes the place of the default."""
    return "postgres" if settings.database_url and settings.store == Settings.store else settings.store
