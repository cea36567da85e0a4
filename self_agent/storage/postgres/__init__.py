"""The store on PostgreSQL; its packages are loaded only where DATABASE_URL asks for it."""

from __future__ import annotations

from urllib.parse import urlsplit

from core.config import Settings
from core.errors import StartupError
from self_agent.storage.base import Store

PACKAGES = "pip install -r requirements-postgres.txt"
SCHEMES = ("postgresql://", "postgres://")


def open_store(settings: Settings) -> Store:
    """Open the store in the settings' database. Raises StartupError when that cannot be right."""
    url = _url(settings)
    try:
        from self_agent.storage.postgres.store import PostgresStore
    except ImportError as error:
        raise _missing(error) from None
    return PostgresStore(url, keep_days=settings.keep_deleted_days)


def upgrade(settings: Settings) -> tuple[str, str]:
    """Bring the settings' database up to this version; return the revisions before and after. Raises StartupError."""
    url = _url(settings)
    try:
        from self_agent.storage.postgres import schema
    except ImportError as error:
        raise _missing(error) from None
    return schema.upgrade(url)


def place(settings: Settings) -> str:
    """Return where the database is, without user and password."""
    found = urlsplit(settings.database_url)
    return f"PostgreSQL at {found.netloc.rpartition('@')[2]}{found.path}"


def _url(settings: Settings) -> str:
    if not settings.database_url.startswith(SCHEMES):
        what = "is something else" if settings.database_url else "is not set"
        raise StartupError(f"DATABASE_URL must be a URL such as postgresql://user:password@host/name; it {what}")
    return settings.database_url


def _missing(error: ImportError) -> StartupError:
    return StartupError(f"PostgreSQL needs packages that are missing ({error}): {PACKAGES}")
