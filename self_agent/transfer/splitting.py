"""A file of any size as its chats, one at a time: only braces and strings are looked at until a chat is whole.

A list of chats, one chat, or one chat a line. A chat that is no JSON costs itself only, and nothing but the chat that
is being read stands in memory; a parser that goes through the whole document ends at its first mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LONGEST = 32 << 20  # bytes of one chat; parsed it takes up to ten times as much

_OUTSIDE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)  # a whole string at once, where it is there
_INSIDE = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)  # of a string, up to its end or that of the bytes
_MARK = b"\xef\xbb\xbf"  # of UTF-8, which some editors put in front
_BETWEEN = b" \t\r\n,"  # what may stand between chats
_OPENING, _QUOTE = b"{[", b'"'


@dataclass(frozen=True)
class Flaw:
    """What stands in the place of a chat that could not be read, and why."""

    reason: str


def split(chunks: Iterable[bytes], longest: int = LONGEST) -> Iterator[bytes | Flaw]:
    """Yield the bytes of each chat of a file, which comes in chunks of any size, and a Flaw for each that has none."""
    return _Splitter(longest).run(chunks)


class _Splitter:
    """Where we are in a file: how deep, in a string or not, and in which chat."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._buffer = bytearray()
        self._at = 0  # up to here the buffer has been looked at
        self._depth = 0
        self._base: int | None = None  # the depth at which chats begin: 1 in a list, else 0
        self._start: int | None = None  # of the chat that is being read
        self._in_string = self._is_too_long = self._is_nonsense = False

    def run(self, chunks: Iterable[bytes]) -> Iterator[bytes | Flaw]:
        for chunk in chunks:
            self._buffer += chunk
            while self._look():
                if (found := self._step()) is not None:
                    yield found
            if (found := self._trim()) is not None:
                yield found
        if self._start is not None or self._in_string or self._depth:
            yield Flaw("the file ends in the middle of a chat, or of the list: it was cut off")
        elif self._is_nonsense or bytes(self._buffer).strip(_BETWEEN + _MARK):
            yield Flaw("there is something between the chats that is none")

    def _look(self) -> bool:
        """Go on to the next byte that counts; False when that is not there yet."""
        buffer = self._buffer
        if self._in_string:
            found = _INSIDE.match(buffer, self._at)
            self._at = found.end() if found else len(buffer)
            return self._at < len(buffer) and buffer[self._at] == _QUOTE[0]  # else half an escape
        search, place = _OUTSIDE.search, self._at
        found = search(buffer, place)
        while found is not None and found.end() - found.start() > 1:
            place = found.end()
            found = search(buffer, place)
        end = found.start() if found else len(buffer)
        if self._start is None and not self._is_nonsense:
            self._is_nonsense = bool(buffer[self._at : end].strip(_BETWEEN + _MARK))
        self._at = end
        return found is not None

    def _step(self) -> bytes | Flaw | None:
        """Take the byte that counts; return a chat that it ends."""
        byte = self._buffer[self._at]
        self._at += 1
        if byte == _QUOTE[0]:
            self._in_string = not self._in_string
            self._is_nonsense = self._is_nonsense or self._start is None
        elif byte in _OPENING:
            if self._base is None:
                self._base = int(byte == b"["[0])
            if self._depth == self._base and self._start is None:
                self._start = self._at - 1
            self._depth += 1
        else:
            self._depth = max(0, self._depth - 1)
            if self._start is not None and self._depth == self._base:
                return self._ended()
        return None

    def _ended(self) -> bytes | Flaw:
        chat = bytes(memoryview(self._buffer)[self._start : self._at])
        is_too_long, self._is_too_long, self._start = self._is_too_long, False, None
        del self._buffer[: self._at]
        self._at = 0
        return self._too_long() if is_too_long else chat

    def _trim(self) -> Flaw | None:
        """Forget what is not needed any more."""
        if self._start is None:
            done = self._at
        elif self._at - self._start > self._longest:
            self._is_too_long, done, self._start = True, self._at, 0
        else:
            done = self._start
            self._start = 0
        del self._buffer[:done]
        self._at -= done
        return None

    def _too_long(self) -> Flaw:
        return Flaw(f"a chat is longer than {self._longest >> 20} MiB, which is more than is read at once")
