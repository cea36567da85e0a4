"""`catalog.json`: the catalog as it was last saved, so that a start reads only the documents that changed since.

Derived: a missing or broken one costs time at the next start, nothing else.
"""

from __future__ import annotations

import logging
import os
import sys
import zlib
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import orjson

from core import files
from core.errors import StorageError
from self_agent.models import SETTABLE
from self_agent.storage.json_files.catalog import Catalog
from self_agent.storage.json_files.entry import Entry, shared
from self_agent.storage.json_files.folder import file_stem

log = logging.getLogger(__name__)

_FIELDS = tuple(Entry.__dataclass_fields__)[: list(Entry.__dataclass_fields__).index("mtime_ns") + 1]
_OPENING = b'{"fields": %b, "settable": %b, "rows": [\n' % (orjson.dumps(_FIELDS), orjson.dumps([*SETTABLE]))
_CLOSING = b'null], "crc32": %d}\n'  # of the lines, each of which can end with a comma
_row = attrgetter(*_FIELDS)


def save(path: Path, catalog: Catalog) -> None:
    """Write the snapshot."""
    catalog.is_dirty = False
    try:
        files.replace_file(path, _lines(catalog))
    except BaseException:
        catalog.is_dirty = True
        raise


def _lines(catalog: Catalog) -> Iterator[bytes]:
    checksum = 0
    yield _OPENING
    for batch in catalog.batches():
        rows = orjson.dumps([_row(entry) for entry in batch]) + b",\n"
        checksum = zlib.crc32(rows, checksum)
        yield rows
    yield _CLOSING % checksum


def load(path: Path) -> dict[str, Entry]:
    """Return the entries of the last snapshot by the stems of their files; none if it cannot be used."""
    try:
        with os.fdopen(files.open_file(path, files.READ), "rb") as lines:
            if next(lines, b"") != _OPENING:
                raise ValueError("of another version, whose rows are others")
            return {file_stem(entry.id): entry for entry in _entries(lines)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, StorageError) as error:
        log.info("the snapshot of the catalog is not used (%s); reading every conversation", type(error).__name__)
        return {}


def fault(path: Path) -> str | None:
    """Return what is wrong with a snapshot; one of another version, or none, is as good as one."""
    try:
        with os.fdopen(files.open_file(path, files.READ), "rb") as lines:
            if next(lines, b"") == _OPENING:
                for _ in _entries(lines):
                    pass
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        return f"it cannot be used: {error}"
    return None


def _entries(lines: Iterator[bytes]) -> Iterator[Entry]:
    checksum = 0
    for line in lines:
        if line == _CLOSING % checksum:
            return
        checksum = zlib.crc32(line, checksum)
        for row in orjson.loads(line[:-2]):
            entry = Entry(*row)
            entry.user_id = sys.intern(entry.user_id)
            entry.settable = shared(entry.settable)
            yield entry
    raise ValueError("the snapshot is cut off")
