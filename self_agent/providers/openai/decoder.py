"""Server-sent events come in as bytes cut anywhere and go out as the data of whole events; no I/O.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

MAX_EVENT = 8 * 1024 * 1024  # bytes; a chat chunk has some hundred, one with citations some thousand
_BOM = b"\xef\xbb\xbf"


class SSEDecoder:
    """Collects a stream of events piece by piece; an event the stream's end cuts off is never returned."""

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._rest = bytearray()  # of the event that is not whole yet, with \n for every kind of line end
        self._after_cr = False  # the last byte was a CR, so a LF that follows belongs to it
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that `chunk` completes.

        Raises ValueError when an event is larger than `max_event`.
        """
        if (
            chunk.find(b"\n") == len(chunk) - 2 <= self._max_event
            and (chunk[:6], chunk[-1:]) == (b"data: ", b"\n")
            and chunk.find(b"\r") < 0
            and self._started
            and not (self._rest or self._after_cr)
        ):
            return [chunk[6:-2]]  # one event on one line: as they come, as long as each comes alone
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_lf(chunk)
        if not self._started:
            chunk = self._without_bom(chunk)
        if b"\n\n" not in chunk and not (chunk.startswith(b"\n") and self._rest.endswith(b"\n")):
            self._rest += chunk  # not joined and searched again: that would be quadratic in the event's size
            self._check(self._rest)
            return []
        blocks = b"".join((self._rest, chunk)).split(b"\n\n")
        self._rest = bytearray(blocks.pop())
        self._check(max(blocks, key=len))
        self._check(self._rest)
        events = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:  # what chat APIs send, nearly always
                events.append(block[6:])
            elif (data := _data_of(block)) is not None:
                events.append(data)
        return events

    def _check(self, event: bytes | bytearray) -> None:
        if len(event) > self._max_event:
            raise ValueError(f"an event of more than {self._max_event} bytes")

    def _with_lf(self, chunk: bytes) -> bytes:
        if not chunk:
            return chunk
        after_cr, self._after_cr = self._after_cr, chunk.endswith(b"\r")
        if after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_bom(self, chunk: bytes) -> bytes:
        start = bytes(self._rest) + chunk
        if len(start) < len(_BOM) and _BOM.startswith(start):
            return chunk  # too little to tell: it waits in the rest, as any other incomplete line
        self._started = True
        self._rest.clear()
        return start.removeprefix(_BOM)


def _data_of(block: bytes) -> bytes | None:
    """Join the data lines of one event; None if it has none, as a comment that keeps the line alive."""
    lines = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
