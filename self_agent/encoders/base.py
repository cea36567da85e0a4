"""What an encoder exports: how the events of a reply become bytes on one client's connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from self_agent.events import Failed

LIVE = {
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # a proxy such as nginx must not hold anything back
}


@dataclass(frozen=True)
class Framing:
    """A way to write a reply.

    `encode` returns the bytes of an event, none for one that is not shown. A failure without bytes breaks the
    connection: the one sign that is left for it. `ping` is written after a silence, to see whether the client is
    still there; a framing without a place for it has none.
    """

    content_type: str
    encode: Callable[[Any], bytes]  # of an `Event`, or of a `Change` where those are framed
    ping: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an answer in this framing."""
        return {"Content-Type": self.content_type, **LIVE}

    def is_cut_off(self, event: Any) -> bool:
        """Say whether this is a failure without bytes."""
        return isinstance(event, Failed) and not self.encode(event)
