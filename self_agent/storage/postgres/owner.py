"""One server uses a database at a time: it holds a lock there for as long as its connection lives."""

from __future__ import annotations

import contextlib
import logging
import time

import psycopg

from core.errors import StartupError, StorageError
from self_agent.storage.postgres.database import Connection, Database

log = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds for a server that has just been killed to be noticed by the database
TAKEN = (
    "another self_agent server uses this database; stop it, or set a DATABASE_URL of its own (several servers on one "
    "database are not supported yet)"
)

_LOCK = 0x5E1FA6E8  # the number of the advisory lock


class Owner:
    """The lock of this server; whoever finds it taken raises StartupError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def take(self, connection: Connection) -> None:
        """Take the lock on a connection, which is kept. Raises StartupError when another server has it."""
        deadline = time.monotonic() + PATIENCE
        while not self._database.run(connection, "SELECT pg_try_advisory_lock(%s)", (_LOCK,))[0][0]:
            if time.monotonic() > deadline:
                raise StartupError(TAKEN)
            time.sleep(0.05)
        self._connection = connection

    def keep(self) -> None:
        """See that the lock is still ours, and take it again where the connection has broken.

        Raises StartupError when another server was faster, StorageError while the database does not answer.
        """
        try:
            if self._connection is not None and not self._connection.closed:
                self._database.run(self._connection, "SELECT 1")
                return
        except psycopg.Error:
            log.info("the connection that holds the database is made anew")
        self.release()
        try:
            connection = self._database.connect()
            try:
                self.take(connection)
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            raise StorageError("The database does not answer now.") from error

    def release(self) -> None:
        """Give the lock back."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
