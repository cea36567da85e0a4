"""The store on PostgreSQL, for more than one machine can hold; its packages are loaded when DATABASE_URL asks for it."""

from __future__ import annotations

from core.config import Settings
from core.errors import StartupError
from self_agent.storage.base import Store

PACKAGES = "pip install -r requirements-postgres.txt"
SCHEMES = ("postgresql://", "postgres://")


def open_store(settings: Settings) -> Store:
    """Open the store in the settings' database. Raises StartupError when that cannot be right."""
    if not settings.database_url.startswith(SCHEMES):
        what = "is not one" if settings.database_url else "is empty"
        raise StartupError(f"DATABASE_URL must be a URL such as postgresql://user:password@host/name; it {what}")
    try:
        from self_agent.storage.postgres.store import PostgresStore
    except ImportError as error:
        raise StartupError(f"DATABASE_URL needs packages that are missing ({error}): {PACKAGES}") from None
    return PostgresStore(settings.database_url, keep_days=settings.keep_deleted_days)
