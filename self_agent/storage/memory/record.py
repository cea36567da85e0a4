"""One conversation in memory, with all its branches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from core.errors import NotFound
from self_agent import keys
from self_agent.models import Conversation, Message, first_of, position_of, summary_of
from self_agent.storage.base import NO_MESSAGE
from self_agent.storage.branches import BEGINNING, branch_to
from self_agent.storage.rows import next_after


@dataclass
class Record:
    """A conversation and all its messages, the hidden ones too."""

    conversation: Conversation
    messages: list[Message] = field(default_factory=list)
    parents: dict[int, int] = field(default_factory=dict)  # see `storage.branches`
    lines: dict[int, int] = field(default_factory=dict)  # where each message is, by its id
    keys: dict[str, int] = field(default_factory=dict)  # the line of the last message with each, by its name
    next_position: int = 1
    end: int = BEGINNING  # of the shown branch

    @property
    def shown(self) -> list[Message]:
        """The messages that are shown."""
        return self.branch_to(self.end)

    def branch_to(self, line: int) -> list[Message]:
        """Return the messages of the branch that ends in a line."""
        return self.those(line for run in branch_to(self.parents, line) for line in run)

    def those(self, lines: Iterable[int]) -> list[Message]:
        """Return the messages on some lines that are not deleted."""
        found = (self.messages[line] for line in lines)
        return [message for message in found if not message.is_deleted]

    def line_of(self, message_id: int) -> int:
        """Return where a message is. Raises NotFound."""
        line = self.lines.get(message_id)
        if line is None or self.messages[line].is_deleted:
            raise NotFound(NO_MESSAGE)
        return line

    def add(self, messages: Iterable[Message]) -> None:
        """Add messages; one without a parent follows the end of the shown branch."""
        for message in messages:
            line, parent = len(self.messages), self.end
            if message.parent is not None:
                parent = self.lines[message.parent] if message.parent else BEGINNING
            if parent != line - 1:
                self.parents[line] = parent
            self.messages.append(message)
            self.lines[message.id] = self.end = line
            if message.key:
                self.keys[keys.name_of(message.key)] = line
            self.next_position = max(self.next_position, position_of(message.id) + 1)

    def with_key(self, key: str) -> Message | None:
        """Return the message that was added with a key in the last 24 hours, deleted or not. Raises KeyReused."""
        line = self.keys.get(keys.name_of(key))
        found = self.messages[line] if line is not None else None
        is_known = found is not None and found.timestamp >= keys.oldest() and keys.is_same(found.key or "", key)
        return found if is_known else None

    def take_positions(self, wanted: int) -> int:
        """Take positions that no other message will get; return the first."""
        position, self.next_position = self.next_position, next_after(self.next_position, wanted)
        return position

    def refresh(self, **changes: Any) -> Conversation:
        """Set fields of the conversation, and what it shows of its messages."""
        shown = self.shown
        first = next(filter(None, (first_of(m.role, m.content) for m in shown)), "")
        summary = summary_of(shown[-1].content) if shown else ""
        self.conversation = replace(self.conversation, count=len(shown), first=first, summary=summary, **changes)
        return self.conversation
