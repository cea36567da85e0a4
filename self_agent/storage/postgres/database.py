"""The connections to the database: a pool of them, how long each may take, and every failure as one of ours."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import psycopg
from psycopg import errors
from psycopg.adapt import Buffer, Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from core.errors import InvalidRequest, StorageError, StorageFull, StoreUnavailable
from self_agent.storage.base import CLOSED, FULL

log = logging.getLogger(__name__)

Connection = psycopg.Connection[TupleRow]
Params = Mapping[str, Any] | Sequence[Any] | None
Row = tuple[Any, ...]

MOST = 16  # connections of one server
# Seconds that a request waits; together, for a connection and then for what a frozen server never says, no more than 5.
_FOR_CONNECTION = 2.0
_FOR_STATEMENT = 2.5
_OVERDUE = 2.75

_SILENT = "The database does not answer now; try again shortly."
_SLOW = "The database took too long; nothing was changed. Try again shortly."
_ODD_TEXT = "a text has a character that cannot be stored (a NUL, or half of a surrogate pair)"

_OPTIONS = {
    "connect_timeout": 3,
    "tcp_user_timeout": 3000,  # milliseconds
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "application_name": "self_agent",
}
# Every statement here has one good plan, by an index: to plan it anew each time costs more than to run it.
_SESSION = "-c TimeZone=UTC -c DateStyle=ISO -c client_encoding=UTF8 -c plan_cache_mode=force_generic_plan"


_WHOLE = len("2025-04-30 10:00:01.123456+00")


class _Moment(Loader):
    """A `timestamptz` as `core.clock` writes times: 2025-04-30 10:00:01.5+00 is 2025-04-30T10:00:01.500000Z."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        if len(text) == _WHOLE:
            return f"{text[:10]}T{text[11:26]}Z"
        time_of_day = text[11:-3]
        return f"{text[:10]}T{time_of_day if len(time_of_day) > 8 else time_of_day + '.':0<15}Z"


class _Json(Loader):
    def load(self, data: Buffer) -> Any:
        return orjson.loads(bytes(data))


def _configure(connection: Connection) -> None:
    connection.adapters.register_loader("timestamptz", _Moment)
    connection.adapters.register_loader("json", _Json)


class Database:
    """A pool of connections, each of which commits by itself what is not in a transaction."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for a URL that is none; connects to nothing yet."""
        given = _checked(url)
        options = f"{_SESSION} -c statement_timeout={_FOR_STATEMENT * 1000:.0f} {given.get('options', '')}".strip()
        self.name = f"{given.get('host', 'localhost')}/{given.get('dbname', given.get('user', ''))}"
        self._arguments: dict[str, Any] = {**_OPTIONS, "options": options, "autocommit": True, "prepare_threshold": 0}
        self._url = url
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            url, min_size=1, max_size=MOST, timeout=_FOR_CONNECTION, open=False, configure=_configure,
            kwargs=self._arguments, reconnect_timeout=0.0, max_idle=600, name="database",
        )  # fmt: skip
        self._due: dict[int, tuple[float, Connection]] = {}  # what is under way, and until when, by thread
        self._watch: threading.Thread | None = None
        self._is_closed = threading.Event()
        self._is_checking = threading.Lock()

    def connect(self) -> Connection:
        """Return a connection that is nobody else's. Raises psycopg.Error."""
        connection = psycopg.connect(self._url, **self._arguments)
        _configure(connection)
        return connection

    def open(self) -> None:
        """Begin to connect."""
        self._pool.open()
        self._watch = threading.Thread(target=self._leave_overdue, name="database-watch", daemon=True)
        self._watch.start()

    def close(self) -> None:
        """Let go of all connections."""
        self._is_closed.set()
        self._pool.close(timeout=2)

    # --- statements

    def all(self, sql: str, params: Params = None) -> list[Row]:
        """Run one statement and return its rows."""
        with self.connection() as connection:
            return self.run(connection, sql, params)

    def one(self, sql: str, params: Params = None) -> Row | None:
        """Run one statement and return its first row, or None."""
        rows = self.all(sql, params)
        return rows[0] if rows else None

    def run(self, connection: Connection, sql: str, params: Params = None) -> list[Row]:
        """Run a statement on a connection that was taken; return its rows, if it gives any."""
        me = threading.get_ident()
        self._due[me] = (time.monotonic() + _OVERDUE, connection)
        try:
            cursor = connection.execute(sql, params)
            return cursor.fetchall() if cursor.description else []
        finally:
            del self._due[me]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Take a connection on which all is done or nothing."""
        with self.connection() as connection:
            transaction = Transaction(self, connection)
            transaction.all("BEGIN")
            try:
                yield transaction
                transaction.all("COMMIT")
            except BaseException:
                with contextlib.suppress(psycopg.Error):
                    transaction.all("ROLLBACK")
                raise

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """Take a connection, and turn what it fails with into an error of ours."""
        try:
            with self._pool.connection() as connection:
                try:
                    yield connection
                finally:
                    if connection.broken or connection.closed:
                        self._check_others()
        except PoolClosed:
            raise StorageError(CLOSED) from None
        except PoolTimeout:
            raise StoreUnavailable(_SILENT, retry_after=1) from None
        except psycopg.Error as error:
            raise _translated(error) from error
        except UnicodeEncodeError as error:
            raise InvalidRequest(_ODD_TEXT) from error

    # --- connections that do not work

    def _check_others(self) -> None:
        """Look at the connections that nobody uses: when one has broken, mostly all have."""
        if self._is_checking.acquire(blocking=False):
            threading.Thread(target=self._check, name="database-check", daemon=True).start()

    def _check(self) -> None:
        try:
            self._pool.check()
        except psycopg.Error:
            log.info("connections to the database are made anew")
        finally:
            self._is_checking.release()

    def _leave_overdue(self) -> None:
        """Cut connections whose server neither answers nor hangs up, as one that was frozen does."""
        while not self._is_closed.wait(0.25):
            now = time.monotonic()
            for due, connection in list(self._due.values()):
                if due < now:
                    with contextlib.suppress(OSError, psycopg.Error):
                        cut(connection)


class Transaction:
    """Statements that are done together."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self.connection = connection

    def all(self, sql: str, params: Params = None) -> list[Row]:
        """Run a statement and return its rows."""
        return self._database.run(self.connection, sql, params)

    def one(self, sql: str, params: Params = None) -> Row | None:
        """Run a statement and return its first row, or None."""
        rows = self.all(sql, params)
        return rows[0] if rows else None


def cut(connection: Connection) -> None:
    """Hang up on a connection, so that whoever waits for it wakes."""
    with socket.socket(fileno=os.dup(connection.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)


def _checked(url: str) -> dict[str, Any]:
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ValueError(str(error).strip()) from None
    if not all(port.isdecimal() for port in str(given.get("port", 5432)).split(",") if port):
        raise ValueError(f"{given['port']!r} is no port")
    return given


def _translated(error: psycopg.Error) -> Exception:
    """Return an error of the database as one of ours; one of its own that nothing but a bug explains stays."""
    if isinstance(error, (errors.DiskFull, errors.OutOfMemory, errors.ConfigurationLimitExceeded)):
        log.error("the database has no room: %s", error)
        return StorageFull("The database has no room left; nothing was changed.")
    if error.sqlstate == "SA001":
        return StorageError(FULL)
    if error.sqlstate == "SA002" or isinstance(error, errors.UniqueViolation):
        return ValueError("the id of a message that is appended must come from reserve()")
    if isinstance(error, errors.QueryCanceled):
        return StoreUnavailable(_SLOW, retry_after=1)
    if isinstance(error, (errors.DeadlockDetected, errors.SerializationFailure)):
        return StoreUnavailable("Others change the same now; nothing was changed. Try again.", retry_after=1)
    if isinstance(error, psycopg.DataError):
        log.info("the database refused a value: %s", type(error).__name__)
        return InvalidRequest(_ODD_TEXT)
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)):
        log.warning("the database does not answer: %s", error)
        return StoreUnavailable(_SILENT, retry_after=1)
    return error
