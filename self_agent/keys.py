"""Keys by which a client that heard no answer can send again: the same send is stored and answered once.

What is kept of a key stands in the row of the message that it made, so it is durable with that, in the same write.
"""

from __future__ import annotations

import base64
import hashlib

from core import clock
from core.errors import InvalidRequest, KeyReused

KEPT = 24 * 3600 * 1_000_000  # microseconds for which a key stands for its message; then it is free again
HEADER = "Idempotency-Key"
MAX_KEY = 255  # characters of a client's key
PATTERN = f"^[!-~]{{1,{MAX_KEY}}}$"

_HALF = 16  # characters


def check_key(key: str) -> str:
    """Return a client's key. Raises InvalidRequest for what is none; it does not repeat it."""
    if not (0 < len(key) <= MAX_KEY and all("!" <= character <= "~" for character in key)):
        raise InvalidRequest(f"{HEADER}: use 1 to {MAX_KEY} visible ASCII characters")
    return key


def stored_key(route: str, key: str, body: bytes) -> str:
    """Return what is kept of a client's key: a name made of the route and the key, then a digest of the body."""
    return _digest(f"{route}\n{key}".encode()) + _digest(body)


def name_of(stored: str) -> str:
    """Return the part of a stored key that is the same whatever the body was."""
    return stored[:_HALF]


def is_same(stored: str, key: str) -> bool:
    """Say whether two stored keys are one; False where they have different names. Raises KeyReused: another body."""
    if name_of(stored) != name_of(key):
        return False
    if stored != key:
        raise KeyReused("this Idempotency-Key was used for another message; send this one with a key of its own")
    return True


def oldest() -> str:
    """Return the time before which a key is free again."""
    return clock.from_microseconds(clock.wall() // 1000 - KEPT)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.blake2b(data, digest_size=_HALF * 3 // 4).digest()).decode()
