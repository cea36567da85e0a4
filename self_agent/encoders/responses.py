"""OpenAI's events of a response, in the order in which its SDKs read them.

`sequence_number` grows by the characters of a piece, and by one with every other event. So it does not depend on how
the model's server cut its answer: the events of a reply that is read from the store continue those that were live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from self_agent.encoders import openai_objects as objects
from self_agent.encoders.base import Framing
from self_agent.encoders.openai_objects import CALL, MESSAGE, REASONING, Item, name_of
from self_agent.encoders.sse import PING
from self_agent.events import CallDelta, Delta, Done, Event, Failed, Sources, Started
from self_agent.models import Message, calls_of

BEFORE_ALL = -1  # the number in front of the first event
Shell = Callable[[], Mapping[str, Any]]


class ResponseEvents:
    """Encodes one reply for one client: what was said so far stands in the events to come.

    `Started` begins anew, so that the events may be encoded from the first on again. The last event of a reply may
    be encoded twice.
    """

    def __init__(self, shell: Shell, *, after: int = BEFORE_ALL, name: str = "") -> None:
        """`shell` returns what is known when the reply begins: see `openai_objects.response`.

        `name` stands in ids where the reply is not kept."""
        self._shell_of = shell
        self._shell: Mapping[str, Any] = {}
        self._after = after
        self._own_name = name
        self.reached = BEFORE_ALL  # the number of the last event
        self._restart("")

    def _restart(self, name: int | str) -> None:
        self._name = name
        self._number = BEFORE_ALL
        self._items: list[Item] = []  # that are whole
        self._kind = ""  # of the one that is not
        self._said: list[str] = []  # of that
        self._head = b""  # of the events of its pieces
        self._call = {"call_id": "", "name": ""}
        self._calls = 0
        self._place = 0  # of the call, as the model counts
        self._sources: list[Any] = []

    def encode(self, event: Event) -> bytes:
        """Return the bytes of an event."""
        kind = type(event)
        if kind is Delta:
            return self._delta(event)  # type: ignore[arg-type]
        if isinstance(event, CallDelta):
            return self._call_delta(event)
        if isinstance(event, Sources):
            self._sources = event.sources
            return b""
        if isinstance(event, Started):
            self._restart(self._own_name or event.message_id)
            self._shell = self._shell_of()
            begun = objects.response(self._shell, self._name, "in_progress", [])
            return self._frame("response.created", response=begun) + self._frame("response.in_progress", response=begun)
        assert isinstance(event, (Done, Failed))
        kept = dict(self.__dict__, _items=list(self._items))
        try:
            return self._last(event)
        finally:
            kept["reached"] = self._number
            self.__dict__.update(kept)

    @property
    def counted(self) -> int:
        """The number of the last event so far, without the end."""
        return self._number

    # --- what a reply is made of

    def _delta(self, delta: Delta) -> bytes:
        data = b""
        if delta.reasoning and not self._items and self._kind in ("", REASONING):  # what comes later is in the whole
            data = self._opened(REASONING) + self._piece(delta.reasoning)
        if delta.text:
            if self._kind != MESSAGE:
                data += self._opened(MESSAGE)
            return data + self._piece(delta.text)
        return data

    def _call_delta(self, delta: CallDelta) -> bytes:
        data = b""
        if self._kind != CALL or delta.index != self._place:
            data = self._closed()
            name = {"call_id": delta.call_id or f"call_{self._calls}", "name": delta.name}
            self._call, self._place = name, delta.index
            data += self._opened(CALL)
        if not delta.arguments:
            return data
        return data + self._piece(delta.arguments)

    def _piece(self, text: str) -> bytes:
        """Return the event of a piece of the item that is open: each token comes by here, hence the ready head."""
        self._said.append(text)
        before = self._number
        self._number = number = before + len(text)
        if before < self._after:
            text = text[self._after - before :]
        return b'%b%b,"sequence_number":%d}\n\n' % (self._head, orjson.dumps(text), number) if text else b""

    @property
    def _where(self) -> dict[str, Any]:
        return {"item_id": self._item_name, "output_index": len(self._items)}

    @property
    def _item_name(self) -> str:
        return name_of(self._kind, self._name, self._calls if self._kind == CALL else 0)

    # --- items

    def _opened(self, kind: str) -> bytes:
        if self._kind == kind:
            return b""
        data = self._closed()
        self._kind, self._said = kind, []
        delta = f"response.{_DELTAS[kind]}.delta"
        more = {} if kind == CALL else {"content_index": 0, **({"logprobs": []} if kind == MESSAGE else {})}
        fields = orjson.dumps({"type": delta, **self._where, **more})[:-1]
        self._head = b'event: %b\ndata: %b,"delta":' % (delta.encode(), fields)
        added = self._frame("response.output_item.added", output_index=len(self._items), item=self._item("in_progress"))
        return data + added + self._part("response.content_part.added", "")

    def _part(self, kind: str, text: str) -> bytes:
        if self._kind == CALL:
            return b""
        sources = self._sources if text else None
        part = objects.text_part(text, sources) if self._kind == MESSAGE else {"type": "reasoning_text", "text": text}
        return self._frame(kind, **self._where, content_index=0, part=part)

    def _item(self, status: str) -> Item:
        is_begun = status == "in_progress"
        text = "".join(self._said)
        if self._kind == CALL:
            return objects.call_item(self._item_name, {**self._call, "arguments": "" if is_begun else text}, status)
        if self._kind == REASONING:
            return objects.reasoning_item(self._item_name, status, *([] if is_begun else [text]))
        parts = [] if is_begun else [objects.text_part(text, self._sources)]
        return objects.message_item(self._item_name, "assistant", status, *parts)

    def _closed(self, status: str = "completed") -> bytes:
        """End the item that is open."""
        if not self._kind:
            return b""
        text, where = "".join(self._said), self._where
        if self._kind == CALL:
            data = self._frame("response.function_call_arguments.done", **where, arguments=text)
        elif self._kind == MESSAGE:
            data = self._frame("response.output_text.done", **where, content_index=0, text=text, logprobs=[])
        else:
            data = self._frame("response.reasoning_text.done", **where, content_index=0, text=text)
        data += self._part("response.content_part.done", text)
        item = self._item(status)
        data += self._frame("response.output_item.done", output_index=len(self._items), item=item)
        self._calls += self._kind == CALL
        self._items.append(item)
        self._kind = ""
        return data

    # --- the end

    def _last(self, event: Done | Failed) -> bytes:
        message = event.message if isinstance(event, Done) else None
        if message is not None and message.error:  # a client may have had more of it than was kept
            self._number = max(self._number, self._after)
        is_whole = message is not None and not message.incomplete
        data = self._closed("completed" if is_whole else "incomplete")
        if message is not None:
            whole = objects.response_of(self._shell, message, self._own_name)
        elif isinstance(event, Failed):
            whole = objects.response(self._shell, self._name, "failed", self._items, error=event.error.message)
        else:
            whole = objects.response(self._shell, self._name, "cancelled", [])
        return data + self._frame(_ENDS[whole["status"]], response=whole)

    def _frame(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        if self._number <= self._after:
            return b""
        data = orjson.dumps({"type": kind, "sequence_number": self._number, **fields})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


_DELTAS = {MESSAGE: "output_text", REASONING: "reasoning_text", CALL: "function_call_arguments"}
# There is no event for a response that was cancelled: its stream ends as one that is not whole.
_ENDS = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "cancelled": "response.incomplete",
    "failed": "response.failed",
}


def framing(shell: Shell, *, after: int = BEFORE_ALL, name: str = "") -> Framing:
    """Return a framing for one client of one reply; see `ResponseEvents`."""
    return Framing("text/event-stream", ResponseEvents(shell, after=after, name=name).encode, PING)


def last_number(events: Iterable[Event]) -> int:
    """Return the number of the last event that these become."""
    encoder = ResponseEvents(lambda: {"created_at": 0.0})
    for event in events:
        encoder.encode(event)
    return max(encoder.reached, encoder.counted)


def events_of(reply: Message, started: Started) -> list[Event]:
    """Return the events that a stored reply would have been."""
    events: list[Event] = [started]
    if reply.reasoning:
        events.append(Delta("", reply.reasoning))
    if reply.content:
        events.append(Delta(reply.content))
    if reply.sources:
        events.append(Sources(reply.sources))
    for index, call in enumerate(calls_of(reply)):
        events.append(CallDelta(index, call["arguments"], call["call_id"], call["name"]))
    return [*events, Done(reply)]
