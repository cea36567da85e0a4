"""Bare text: the reply and nothing else, so a failure has no words here and leaves as an exception."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from self_agent.events import Delta, Event, Failed

HEADERS = {
    "Content-Type": "text/plain; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # a proxy such as nginx must not hold text back
}


def chunks(batches: Iterable[list[Event]]) -> Iterator[bytes]:
    """Yield the text of each batch that has any; there can be no ping, it would be part of the reply.

    Raises the AppError of a reply that failed, after all its text.
    """
    for batch in batches:
        if text := "".join(event.text for event in batch if isinstance(event, Delta)):
            yield text.encode()
        for event in batch:
            if isinstance(event, Failed):
                raise event.error
