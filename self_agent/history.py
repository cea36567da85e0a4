"""What of a conversation the model is shown: the instructions, then the newest messages that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from self_agent.models import Message, calls_of, result_of
from self_agent.providers.base import ChatMessage

FIRST_READ = 64  # messages read before asking for more
BYTES_PER_TOKEN = 3  # English has about 4 bytes a token, Chinese 3 or more: no text is underestimated by much
TOKENS_PER_MESSAGE = 8  # what a chat template puts around each message
REPLY_SHARE = 4  # a quarter of the context is left for the reply


def tokens(text: str) -> int:
    """Estimate how many tokens a message takes; no model's own tokenizer is at hand for every upstream."""
    return len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE


def newest_first(latest: Callable[[int], list[Message]]) -> Iterator[Message]:
    """Read a conversation backwards, as far as the caller goes on asking; `latest` returns so many last messages."""
    seen, size = 0, FIRST_READ
    while True:
        block = latest(size)
        yield from reversed(block[: len(block) - seen])
        if len(block) < size:
            return
        seen, size = len(block), size * 4


def fit(system_prompt: str, newest_first: Iterable[Message], context_tokens: int) -> list[ChatMessage]:
    """Choose the newest messages that fit beside the system prompt, oldest first.

    The newest message is always sent, however long. None is empty, user and assistant alternate (neighbours
    of one role are joined), the first after the instructions is the user's. System messages inside the
    conversation join the instructions: many chat templates accept only one, at the beginning. Of calls of functions
    those are sent that have a result, and the results of these: models refuse one without the other.
    """
    room = context_tokens - context_tokens // REPLY_SHARE - tokens(system_prompt)
    chosen: list[Message] = []
    for message in newest_first:
        room -= tokens(message.content)
        if message.extra:
            room -= sum(tokens(call["arguments"]) for call in calls_of(message))
        if chosen and room < 0:
            break
        if message.content.strip() or message.extra:
            chosen.append(message)
    chosen.reverse()
    instructions = [system_prompt, *(m.content for m in chosen if m.role == "system")]
    talk = _alternate(m for m in chosen if m.role != "system")
    while len(talk) > 1 and talk[0]["role"] != "user":
        talk.pop(0)
    head = "\n\n".join(text for text in instructions if text.strip())
    return [{"role": "system", "content": head}, *talk] if head else talk


def _alternate(messages: Iterable[Message]) -> list[ChatMessage]:
    messages = list(messages)
    talk: list[ChatMessage] = []
    called: set[str] = set()
    with_result = {result_of(message) for message in messages if message.extra}
    for message in messages:
        calls = [call for call in calls_of(message) if call["call_id"] in with_result] if message.extra else []
        if (result := result_of(message)) is not None:
            if result in called:
                talk.append({"role": "tool", "tool_call_id": result, "content": message.content})
        elif message.content.strip() or calls:
            _add(talk, message, [_tool_call(call) for call in calls])
            called.update(call["call_id"] for call in calls)
    return talk


def _add(talk: list[ChatMessage], message: Message, calls: list[dict[str, Any]]) -> None:
    """Add a message, to the last one if that is of the same role."""
    if talk and talk[-1]["role"] == message.role:
        texts = (talk[-1]["content"], message.content)
        talk[-1]["content"] = "\n\n".join(text for text in texts if text)
    else:
        talk.append({"role": message.role, "content": message.content})
    if calls:
        talk[-1].setdefault("tool_calls", []).extend(calls)


def _tool_call(call: dict[str, str]) -> dict[str, Any]:
    return {
        "id": call["call_id"],
        "type": "function",
        "function": {"name": call["name"], "arguments": call["arguments"]},
    }
