"""An HTTP/1.1 answer is taken apart, its head and what its body is wrapped in, wherever it was cut; no I/O (RFC 9112).

urllib3 would read it only in a thread that may block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

LARGEST_HEAD = 64 * 1024  # bytes
LONGEST_LINE = 4096  # bytes of a chunk's size line or of a trailer

_SIZE, _BREAK, _TRAILER = "size", "line break", "trailer"
_SIZE_LINE = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,16}")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: .*)?")


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the body. `headers` have names in lower case."""

    status: int
    headers: Mapping[str, str]
    is_persistent: bool = True  # another request may follow on the connection


def read_head(data: bytes) -> tuple[Head, bytes] | None:
    """Return the head that `data` begins with, and what is behind it; None if it is not whole yet.

    Raises ValueError for what is no head.
    """
    while end := _HEAD_END.search(data[:LARGEST_HEAD]):
        head = _parsed(data[: end.start()])
        data = data[end.end() :]
        if head.status >= 200:
            return head, data
        if head.status == 101:  # nobody asked for another protocol
            raise ValueError("a change of protocol")
    if len(data) >= LARGEST_HEAD:
        raise ValueError("a head without end")
    return None


def _parsed(data: bytes) -> Head:
    first, *lines = data.split(b"\n")
    status = _STATUS.fullmatch(first.rstrip(b"\r"))
    if status is None:
        raise ValueError("no status line")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.strip() != name:
            raise ValueError("a header without a name")
        key, text = name.decode("latin-1").lower(), value.strip().decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    is_persistent = status[1] == b"1" and "close" not in headers.get("connection", "").lower()
    return Head(int(status[2]), headers, is_persistent)


def body_of(head: Head) -> Body:
    """Return what takes the content out of the body behind a head. Raises ValueError if there is no knowing."""
    coding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
    if head.status in (204, 304):
        return Counted(0)
    if coding is not None:
        if coding.lower() != "chunked":
            raise ValueError("a transfer coding that nobody asked for")
        return Dechunker()
    if length is None:
        return Counted(None)
    if not (length.isascii() and length.isdigit()):  # two lengths, too
        raise ValueError("a length that is no number")
    return Counted(int(length))


class Counted:
    """A body of so many bytes; without a number it ends with its connection."""

    fault = ""

    def __init__(self, length: int | None) -> None:
        self.ended = length == 0
        self.rest = b""  # once it has ended, what is not of this body
        self.ends_on_close = length is None
        self._left = length

    def feed(self, data: bytes) -> bytes:
        """Return the content that `data` brings."""
        if self._left is None:
            return data
        content, self.rest = data[: self._left], data[self._left :]
        self._left -= len(content)
        self.ended = not self._left
        return content


class Dechunker:
    """A body in the chunked coding (section 7.1)."""

    ends_on_close = False

    def __init__(self) -> None:
        self.ended = False
        self.fault = ""  # what ended it, if that was no chunked body
        self.rest = b""  # of a line that is not whole yet; once it has ended, what is not of this body
        self._left = 0  # bytes of the chunk still to come
        self._next = _SIZE  # what the next line is

    def feed(self, data: bytes) -> bytes:
        """Return the content that `data` brings."""
        data = self.rest + data
        content = []
        at = 0
        while not self.ended:
            if self._next is _SIZE and (line := _SIZE_LINE.match(data, at)):
                start, end = line.end(), line.end() + int(line[1], 16)
                if data[end : end + 2] == b"\r\n":  # the whole chunk is here, as nearly always
                    content.append(data[start:end])
                    at = end + 2
                    continue
            if self._left:
                piece = data[at : at + self._left]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            end = data.find(b"\n", at)
            if end < 0:
                break
            self._line(data[at:end].rstrip(b"\r"))
            at = end + 1
        self.rest = data[at:]
        if len(self.rest) > LONGEST_LINE and not self.ended:
            self._break_off("a chunk's size line without end")
        return b"".join(content)

    def _line(self, line: bytes) -> None:
        if self._next is _TRAILER:
            self.ended = not line
        elif self._next is _BREAK:
            self._next = _SIZE
            if line:
                self._break_off("a chunk longer than its size")
        elif _HEX.fullmatch(size := line.partition(b";")[0].strip()):
            self._left = int(size, 16)
            self._next = _BREAK if self._left else _TRAILER
        else:
            self._break_off("a chunk without its size")

    def _break_off(self, fault: str) -> None:
        self.fault, self.ended = fault, True


Body = Union[Counted, Dechunker]
