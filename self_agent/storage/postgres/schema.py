"""The schema of the database: plain SQL in `migrations/versions`, run by Alembic, and which revision there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from core.errors import StartupError

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))[:4]
COMMAND = "flask --app self_agent database upgrade"

_LOCK = 0x5E1FA6E7  # the number of the advisory lock under which the schema changes

Connection = psycopg.Connection[TupleRow]


def revision(connection: Connection) -> str:
    """Return the revision of a database's schema; "" when it has none yet."""
    [there] = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone() or [False]
    row = connection.execute("SELECT max(version_num) FROM alembic_version").fetchone() if there else None
    return (row and row[0]) or ""


def check(connection: Connection) -> None:
    """Raise StartupError, which says what to do, unless the schema is the one that this version needs."""
    found = revision(connection)
    if not found:
        raise StartupError(f"the database has no tables of self_agent yet; make them with: {COMMAND}")
    if found < HEAD:
        raise StartupError(f"the database is of an older version ({found}, needed is {HEAD}); bring it up: {COMMAND}")
    if found > HEAD:
        raise StartupError(
            f"the database is of a newer version ({found}, this server knows {HEAD}); start the newer self_agent"
        )


def upgrade(url: str) -> tuple[str, str]:
    """Bring a database up to this version's schema, all of it or nothing; return the revisions before and after.

    Of several who do so at once one does, and the others wait. Raises StartupError.
    """
    try:
        from alembic import command
        from alembic.config import Config
        from sqlalchemy import create_engine
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool
    except ImportError as error:
        raise StartupError(f"a package is missing ({error}): pip install -r requirements-postgres.txt") from None
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))

    def connect() -> Any:
        return psycopg.connect(url, connect_timeout=10)

    try:
        with create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool).begin() as connection:
            raw: Connection = connection.connection.driver_connection  # type: ignore[assignment]
            raw.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            before = revision(raw)
            if before > HEAD:
                check(raw)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return before, revision(raw)
    except (psycopg.Error, SQLAlchemyError) as error:
        raise StartupError(f"the database was not changed: {first_line(error)}") from None


def run_file(migration: str) -> None:
    """Run the SQL that lies beside a migration's Python file."""
    from alembic import op

    raw: Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    raw.execute(Path(migration).with_suffix(".sql").read_bytes())


def first_line(error: Exception) -> str:
    """Return what an error says, without the statement and without what is on further lines."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
