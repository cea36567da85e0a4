"""The store from opening to closing: waiting for the database, sweeping it; the keys and numbers of conversations."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg import errors

from core import clock
from core.errors import AppError, NotFound, StartupError, StorageError, StoreUnavailable
from self_agent.models import Message
from self_agent.storage.base import CLOSED, NO_CONVERSATION, Store
from self_agent.storage.postgres import recovery, schema
from self_agent.storage.postgres.database import Database
from self_agent.storage.postgres.owner import Owner
from self_agent.storage.postgres.schema import first_line

T = TypeVar("T")

log = logging.getLogger(__name__)

BLOCK = 1000  # numbers that a server takes at once
RETRY_SECONDS = 1.0  # between attempts at a database that cannot be reached
BEAT_SECONDS = 5.0  # between two looks whether the database is still ours
SWEEP_SECONDS = 86_400.0  # between two looks for what was deleted too long ago
MAX_KEYS = 200_000  # conversations whose keys are remembered

_WAITING = "The database cannot be reached yet; try again shortly."
_WRONG = (  # what waiting does not help against
    errors.InvalidCatalogName, errors.InvalidPassword, errors.InvalidAuthorizationSpecification,
    errors.InsufficientPrivilege,
)  # fmt: skip
_WRONG_WORDS = ("password authentication failed", "does not exist", "no password supplied", "no pg_hba.conf entry")


class Opened(Store):
    """A store whose database may not be there yet."""

    def __init__(self, url: str, *, keep_days: float | None = None) -> None:
        """`keep_days`: how long what is deleted can be restored; None is for ever.

        Raises StartupError when the database refuses, or its schema is another version's. One that does not answer is
        waited for by a thread; until then all methods raise StoreUnavailable.
        """
        try:
            self._db = Database(url)
        except ValueError as error:
            raise StartupError(f"DATABASE_URL cannot be read: {error}") from None
        self._owner = Owner(self._db)
        self._keep_days = keep_days
        self._keys: dict[str, tuple[str, int]] = {}  # users and numbers of conversations, by their ids
        self._blocks: dict[str, tuple[int, int]] = {}  # the next number and the end of the block, by its name
        self._block_lock = threading.Lock()
        self._close_lock = threading.Lock()
        self._closing = threading.Event()
        self._refusal: str | None = None  # why no method will ever work
        self._is_open = False
        self._is_waiting = False
        self._try_to_open()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    # --- opening

    def _try_to_open(self) -> None:
        """Open the database if it answers. Raises StartupError when it is not as it must be."""
        try:
            connection = self._db.connect()
            try:
                schema.check(connection)
                self._owner.take(connection)
                recovery.set_clock(connection)
            except BaseException:
                connection.close()
                raise
        except psycopg.OperationalError as error:
            if isinstance(error, _WRONG) or any(words in str(error) for words in _WRONG_WORDS):
                raise StartupError(f"the database refuses: {first_line(error)}; see DATABASE_URL") from None
            if not self._is_waiting:
                log.warning("waiting for the database %s: %s", self._db.name, first_line(error))
            self._is_waiting = True
            return
        except psycopg.Error as error:
            raise StartupError(f"the database cannot be used: {first_line(error)}") from None
        self._db.open()
        self._is_open = True
        try:
            recovery.recover(self._db, self.append)
        except AppError as error:  # it went away again
            log.warning("replies that were cut off are stored at the next start: %s", error.message)
        log.info("the database %s is open", self._db.name)

    def _run(self) -> None:
        """Wait for the database; then now and then sweep away what was deleted long ago."""
        while not self._is_open:
            if self._closing.wait(RETRY_SECONDS):
                return
            try:
                self._try_to_open()
            except StartupError as error:
                log.error("%s", error.message)
                self._refusal = error.message
                return
        swept = -SWEEP_SECONDS
        while True:
            try:
                if self._keep_days is not None and time.monotonic() - swept > SWEEP_SECONDS:
                    self.sweep(clock.days_ago(self._keep_days))
                    swept = time.monotonic()
            except StorageError as error:
                log.warning("what was deleted long ago is still there: %s", error.message)
            if self._closing.wait(BEAT_SECONDS):
                return
            try:
                self._owner.keep()
            except StorageError as error:
                log.warning("%s", error.message)
            except StartupError as error:
                log.error("%s", error.message)
                self._refusal, self._is_open = error.message, False
                return

    # --- the contract

    def ready(self) -> bool:
        return self._is_open

    def failure(self) -> str | None:
        return self._refusal

    def close(self) -> None:
        with self._close_lock:
            if self._closing.is_set():
                return
            self._closing.set()
            self._thread.join()
            self._refusal = CLOSED
            self._is_open = False
            self._db.close()
            self._owner.release()

    # --- for the other parts

    @property
    def _database(self) -> Database:
        """The database when it is open. Raises StorageError when it is not, or not any more."""
        if not self._is_open:
            if self._refusal is not None:
                raise StorageError(self._refusal)
            raise StoreUnavailable(_WAITING, retry_after=1)
        return self._db

    def _number(self, name: str) -> int:
        """Return a number that is given to nobody else."""
        with self._block_lock:
            following, end = self._blocks.get(name, (0, 0))
            if following == end:
                sql = "UPDATE block SET next = next + %s WHERE name = %s RETURNING next"
                [end] = self._database.one(sql, (BLOCK, name)) or [0]
                following = end - BLOCK
            self._blocks[name] = (following + 1, end)
            return following

    def _give_back(self, name: str, number: int) -> None:
        """Take back the number that was given last, if it was not used."""
        with self._block_lock:
            following, end = self._blocks[name]
            if following == number + 1:
                self._blocks[name] = (number, end)

    def _key(self, conversation_id: str, *, is_fresh: bool = False) -> tuple[str, int] | None:
        """Return the user and number of a conversation that is there, or was when we last looked."""
        known = self._keys.get(conversation_id)
        if known is None or is_fresh:
            sql = "SELECT user_id, number FROM directory WHERE id = %s"
            known = self._database.one(sql, (conversation_id,))
            if known is None:
                self._keys.pop(conversation_id, None)
                return None
            if len(self._keys) >= MAX_KEYS:
                self._keys.clear()
            self._keys[conversation_id] = known
        return known

    def _on(self, conversation_id: str, work: Callable[[str, int], T | None]) -> T:
        """Return what `work` does with the user and number of a conversation; None from it: they name none.

        Then another server may have deleted it and made another with its id. Raises NotFound.
        """
        for is_fresh in (False, True):
            key = self._key(conversation_id, is_fresh=is_fresh)
            if key is not None and (result := work(*key)) is not None:
                return result
        raise NotFound(NO_CONVERSATION)

    def append(self, conversation_id: str, *messages: Message) -> list[Message]:
        raise NotImplementedError
