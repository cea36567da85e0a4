"""How every store looks for words in what a list shows of a conversation."""

from __future__ import annotations

import unicodedata


def folded(text: str) -> str:
    """Return a text without what is not looked at: the case of letters, full and half width, how an accent is made."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def is_match(wanted: str, title: str | None, first: str) -> bool:
    """Say whether what `folded` made of somebody's words is in a title or in the beginning of the first message."""
    return wanted in folded(first) or (title is not None and wanted in folded(title))
